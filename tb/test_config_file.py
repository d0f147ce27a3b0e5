"""Configurations from TOML files: their meaning, every message, the commands that take them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hw.config import PRESETS, AttentionConfig, ConfigError, preset
from hw.config_file import DEFAULT_PRESET, choose_config, load_config
from hw.tools import __main__ as tools
from tb import run as bench
from tb.harness.files import REPOSITORY

TINY, LM = preset("tiny"), preset("lm")

#: As messages list them.
NAMES = ", ".join(PRESETS)


def write(directory: Path, text: str, name: str = "mine.toml") -> Path:
    file = directory / name
    file.write_text(text)
    return file


def refusal(file: Path) -> str:
    """The message of ``load_config`` behind the file's path, with which it must begin."""
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value).removeprefix(f"{file}: ")


def test_fields_left_out_have_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == AttentionConfig(name="mine")
    assert load_config(write(tmp_path, "rows = 4")) == AttentionConfig(name="mine", rows=4)


def test_fields_left_out_have_the_values_of_the_base_preset(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, 'preset = "tiny"\nrows = 1\ngroup_combine = "mean"'))
    assert config == replace(TINY, name="mine", rows=1, group_combine="mean")


def test_every_field_can_be_given(tmp_path: Path) -> None:
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in asdict(TINY).items())
    config = load_config(write(tmp_path, text))
    assert config == TINY
    assert config.config_hash == TINY.config_hash


@pytest.mark.parametrize(
    ("stem", "name"), [("a_b-1", "a_b-1"), ("a.b c", "a-b-c"), ("größe", "gr--e")]
)
def test_the_name_comes_from_the_file(tmp_path: Path, stem: str, name: str) -> None:
    assert load_config(write(tmp_path, "", f"{stem}.toml")).name == name
    assert load_config(write(tmp_path, 'name = "other"', f"{stem}.toml")).name == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head_dims = 64", "there is no field 'head_dims'; did you mean 'head_dim'?"),
        ("Budget = 64", "there is no field 'Budget'; did you mean 'budget'?"),
        ("pre_set = 'lm'", "there is no field 'pre_set'; did you mean 'preset'?"),
        ("memory_tag = 2", "there is no field 'memory_tag'; did you mean 'memory_tags'?"),
        ("[rows]\nx = 1", "rows must be an integer from 1 to 8, not {'x': 1}"),
        ("preset = 'huge'", f"preset must be one of {NAMES}, not 'huge'"),
        ("preset = 5", f"preset must be one of {NAMES}, not 5"),
        ("preset = ['lm']", f"preset must be one of {NAMES}, not ['lm']"),
        ("name = 5", "name must be a string, not 5"),
        ("name = ''", "name must be letters, digits, - and _, not ''"),
        ("name = 'a b'", "name must be letters, digits, - and _, not 'a b'"),
        ("name = 'lm'\nrows = 1", "name must not be that of a preset with other parameters"),
        ("head_dim = 63", "head_dim must be one of 32, 64, 96, 128, 192, 256, not 63"),
        ("head_dim = '64'", "head_dim must be one of 32, 64, 96, 128, 192, 256, not '64'"),
        ("head_dim = 64.0", "head_dim must be an integer, not 64.0"),
        ("window = 64.0", "window must be an integer, not 64.0"),
        ("rows = 2.0", "rows must be an integer from 1 to 8, not 2.0"),
        ("rows = true", "rows must be an integer from 1 to 8, not True"),
        ("rows = 9", "rows must be an integer from 1 to 8, not 9"),
        ("budget = 100", "budget must be an integer from 24 to 512 and a multiple of 8, not 100"),
        ("preset = 'tiny'\nkey_keep = 9", "key_keep must be an integer from 1 to 8, not 9"),
        ("group_combine = 1", "group_combine must be one of 'max', 'mean', not 1"),
        ("rows =", "must be a TOML file: Invalid value (at end of document)"),
        ("rows = 1\nrows = 2", "must be a TOML file: Cannot overwrite a value"),
    ],
)
def test_messages(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(write(tmp_path, text)).startswith(message)


def test_a_field_like_no_other_lists_all(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "[zzz]\nrows = 1"))
    known = ", ".join(["preset", *asdict(TINY)])
    assert message == f"there is no field 'zzz'; the fields are {known}"


def test_a_file_may_repeat_a_preset_under_its_name(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, 'preset = "lm"', "lm.toml")) == LM


def test_unreadable_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml") == "cannot be read: No such file or directory"
    assert refusal(tmp_path) == "cannot be read: Is a directory"
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert refusal(binary).startswith("must be a TOML file: 'utf-8' codec can't decode")


def test_preset_or_file(tmp_path: Path) -> None:
    file = write(tmp_path, "rows = 1")
    assert choose_config(None, None) == preset(DEFAULT_PRESET)
    assert choose_config("tiny", None) == TINY
    assert choose_config(None, file) == AttentionConfig(name="mine", rows=1)
    both = f"give a preset or a configuration file, not both ('tiny' and '{file}')"
    with pytest.raises(ConfigError, match=re.escape(both)):
        choose_config("tiny", file)
    with pytest.raises(ConfigError, match=f"preset must be one of {NAMES}, not ''"):
        choose_config("", None)


def test_tools_take_a_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Elaborating a core takes seconds; here only the way of the configuration matters.
    monkeypatch.setitem(tools.CORES, "attention_core", lambda config: config)
    monkeypatch.setattr(tools, "emit", lambda config, name, **_: {f"{name}.txt": repr(config)})
    file = write(tmp_path, "memory_tags = 2\nreorder_beats = 64")
    arguments = ["verilog", "--config", str(file), "--output", str(tmp_path)]
    done = CliRunner().invoke(tools.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    expected = AttentionConfig(name="mine", memory_tags=2, reorder_beats=64)
    assert (tmp_path / "mine" / "attention_core.txt").read_text() == repr(expected)
    assert done.stdout.splitlines()[-1] == f"config hash 0x{expected.config_hash:08x}"


@pytest.mark.parametrize(
    ("program", "argument"),
    [(tools.main, "verilog"), (tools.main, "area"), (bench.main, "attention_fused")],
)
def test_commands_refuse_in_one_line_with_status_2(
    tmp_path: Path, program: click.Command, argument: str
) -> None:
    file = write(tmp_path, "row = 1")
    for arguments, message in (
        (["--config", str(file)], f"{file}: there is no field 'row'; did you mean 'rows'?"),
        (["--preset", "huge"], f"preset must be one of {NAMES}, not 'huge'"),
        (
            ["--preset", "lm", "--config", str(file)],
            f"give a preset or a configuration file, not both ('lm' and '{file}')",
        ),
    ):
        done = CliRunner().invoke(program, [argument, *arguments])
        assert done.exit_code == 2
        assert done.stdout == ""
        assert done.stderr == f"error: {message}\n"


@pytest.mark.parametrize("command", ["sim", "verilog", "area"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["PRESET=tiny"], ["--preset", "tiny"]),
        (["CONFIG=my file.toml"], ["--config", "my file.toml"]),
        (["CONFIG=a.toml", "PRESET=lm"], ["--preset", "lm", "--config", "a.toml"]),
    ],
)
def test_make_hands_its_values_on(command: str, given: list[str], expected: list[str]) -> None:
    """A dry run shows the command line; values of an outer make must play no part."""
    outer = ["PRESET", "CONFIG", "KV", "MODE", "MEMORY", "SLICES", "DRIVER", "SRAM"]
    outer += ["ARGS", "TEST", "SEED", "WAVES"]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in outer and not name.startswith(("MAKE", "MFLAGS"))
    }
    kv = ["KV=k v.safetensors", "MODE=dense8", "MEMORY=ideal"] if command == "sim" else []
    shown = subprocess.run(
        ["make", "--dry-run", command, *given, *kv],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    (line,) = (line for line in shown.splitlines() if " -m " in line)
    words = shlex.split(line)[3:]
    if command == "sim":
        tensors = ["--kv", "k v.safetensors"]
        others = ["--mode", "dense8", "--memory", "ideal", "--slices", "1", "--seed", "1"]
        others += ["--driver", "cocotb"]
        assert words == ["attention_fused", *expected, *tensors, *others]
    else:
        assert words == [command, *expected]
