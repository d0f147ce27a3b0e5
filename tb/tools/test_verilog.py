"""Emitted Verilog, sidecar and register map; the whole core passes Verilator's lint."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from click.testing import CliRunner

from hw.config import AttentionConfig, preset
from hw.cores.payloads import BEAT
from hw.counters import CounterBank
from hw.formats import KVFormat, Status
from hw.memory.fetch import SEGMENT_LAYOUT, Fetch
from hw.memory.port import memory_port
from hw.tools import GENERATOR, VERSION
from hw.tools.__main__ import main
from hw.tools.lint import CORE_RULES, waivers
from hw.tools.verilog import describe, emit
from tb.harness.files import REPOSITORY
from tb.tools.lint import lint

TINY = preset("tiny")


class Sample(wiring.Component):
    """A small core: the memory path and its counters."""

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        self._fetch = Fetch(config)
        self._bank = CounterBank(config, counters={"fetch": self._fetch.counters})
        super().__init__(
            {
                "segments": In(stream.Signature(SEGMENT_LAYOUT)),
                "memory": Out(memory_port(config)),
                "beats": Out(stream.Signature(BEAT)),
                "address": In(3),
                "read_data": Out(32),
            }
        )

    @property
    def counters(self) -> list[dict[str, object]]:
        return self._bank.describe()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetch = self._fetch
        m.submodules.bank = self._bank
        connect(m, flipped(self.segments), self._fetch.segments)
        connect(m, self._fetch.memory, flipped(self.memory))
        connect(m, self._fetch.beats, flipped(self.beats))
        m.d.comb += [
            self._bank.address.eq(self.address),
            self.read_data.eq(self._bank.read_data),
        ]
        return m


@cache
def sample() -> dict[str, str]:
    return emit(Sample(TINY), "sample")


def test_version_is_the_project_s() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == (GENERATOR, VERSION)


def test_files_and_header() -> None:
    assert set(sample()) == {
        "sample.v",
        "sample_pkg.sv",
        "sample.vlt",
        "sample.json",
        "register_map.md",
    }
    header, _, _ = sample()["sample.v"].partition("\nmodule ")
    assert all(line.startswith("//") or not line for line in header.splitlines())
    assert f"{GENERATOR} {VERSION}" in header
    assert f"Config hash 0x{TINY.config_hash:08x}" in header
    for key, value in TINY.describe().items():
        assert re.search(rf"^//   {key} +{value}$", header, re.M)


def test_names_are_plain() -> None:
    text = sample()["sample.v"]
    modules = ["sample", "sample_bank", "sample_fetch", "sample_fetch_buffer"]
    assert re.findall(r"^module (\S+?) ?\(", text, re.M) == modules
    for module in modules[1:]:
        assert re.search(rf"^  {module} +{module.rpartition('_')[2]} \($", text, re.M)
    assert "$auto$" not in text
    assert "at_time_zero" in text


def test_zeroed_memories_are_folded() -> None:
    text = sample()["sample.v"]
    assert f"for (i = 0; i < 256; i = i + 1) ring[i] = 130'h{'0' * 33};" in text
    assert not re.search(r"ring\[\d+\] =", text)


class Collision(Sample):
    """Two modules whose names differ in a dot and an underscore only."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.submodules.fetch_buffer = Fetch(self.config)
        return m


def test_colliding_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^modules of sample have the same name once dots are"):
        emit(Collision(TINY), "sample")


def test_text_is_reproducible_and_holds_no_path() -> None:
    code = (
        "import sys; from tb.tools.test_verilog import sample;"
        "sys.stdout.write(''.join(sample().values()))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "".join(sample().values())
    assert not re.search(r"[\w.]*/[\w.]+/", "".join(sample().values()))


def test_sidecar() -> None:
    facts = json.loads(sample()["sample.json"])
    assert facts["generator"] == {"name": GENERATOR, "version": VERSION}
    assert facts["config"] == TINY.describe()
    assert facts["config_hash"] == f"0x{TINY.config_hash:08x}"
    assert facts["records"]["chunk_bytes"] == KVFormat(TINY).chunk_bytes
    assert facts["status"]["MEMORY_ERROR"] == Status.MEMORY_ERROR
    assert [row["address"] for row in facts["registers"]] == list(range(5))
    ports = {port["name"]: (port["direction"], port["width"]) for port in facts["ports"]}
    declared = re.findall(
        r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$",
        sample()["sample.v"].partition("endmodule")[0],
        re.M,
    )
    assert ports == {name: (way, int(high or 0) + 1) for way, high, name in declared}
    streams = facts["streams"]
    assert {name: entry["direction"] for name, entry in streams.items()} == {
        "segments": "input",
        "memory__request": "output",
        "memory__response": "input",
        "beats": "output",
    }
    assert streams["memory__response"]["fields"] == [
        {"name": "data", "offset": 0, "width": 128, "signed": False},
        {"name": "tag", "offset": 128, "width": 4, "signed": False},
        {"name": "beat", "offset": 132, "width": 5, "signed": False},
        {"name": "error", "offset": 137, "width": 1, "signed": False},
    ]


def test_fields_of_nested_payloads() -> None:
    from hw.cores.attention_core import AttentionCore

    streams = describe(AttentionCore(TINY), "attention_core")["streams"]
    fields = {field["name"]: field for field in streams["completion"]["fields"]}
    # After the job id, the status and the first row's maximum.
    offset = 16 + max(Status).bit_length() + 13
    expected = {"name": "maximum[1]", "offset": offset, "width": 13, "signed": True}
    assert fields["maximum[1]"] == expected
    for name, facts in streams.items():
        bits = 0
        for field in facts["fields"]:
            assert field["offset"] == bits, name
            bits += field["width"]


def test_register_map_lists_every_register() -> None:
    text = sample()["register_map.md"]
    assert "| 2 | fetch | requests | 32 | requests | requests that the memory took |" in text
    assert len(re.findall(r"^\| \d+ \|", text, re.M)) == 5


def test_lint_finds_a_latch_and_a_loop(tmp_path: Path) -> None:
    file = tmp_path / "broken.v"
    file.write_text(
        "module broken(input a, input b, output reg c, output d);\n"
        "  always @* if (a) c = b;\n"
        "  wire e; assign e = d ^ a; assign d = e & b;\n"
        "endmodule\n"
    )
    found = lint([file], "broken")
    assert "LATCH" in found
    assert "UNOPTFLAT" in found


@pytest.mark.parametrize("name", ["tiny", pytest.param("lm", marks=pytest.mark.slow)])
def test_the_core_passes_lint(name: str, tmp_path: Path) -> None:
    arguments = ["verilog", "--preset", name, "--output", str(tmp_path)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / name
    core = folder / "attention_core.v"
    assert {file.name for file in folder.iterdir()} == {
        core.name,
        "attention_core_pkg.sv",
        "attention_core.vlt",
        "attention_core.json",
        "register_map.md",
    }
    assert f"config hash 0x{preset(name).config_hash:08x}" in done.output
    assert lint([core.with_suffix(".vlt"), core], "attention_core") == ""
    if name == "tiny":
        # Only what the control file names is off, and all of it is needed.
        for rule in CORE_RULES:
            few = tmp_path / "few.vlt"
            few.write_text(waivers({core.name: {r: "" for r in CORE_RULES if r != rule}}))
            assert rule in lint([few, core], "attention_core")
