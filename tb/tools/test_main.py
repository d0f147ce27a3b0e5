"""The command line: what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw.config import PRESETS, preset
from hw.memory.fetch import Fetch
from hw.tools import __main__ as tools


@pytest.mark.parametrize("command", ["verilog", "area"])
def test_an_unknown_preset_is_one_line_and_status_2(command: str) -> None:
    done = CliRunner().invoke(tools.main, [command, "--preset", "huge"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == f"error: preset must be one of {', '.join(PRESETS)}, not 'huge'\n"


def test_a_missing_liberty_file_is_named_with_status_2(tmp_path: Path) -> None:
    missing, output = str(tmp_path / "no.lib"), str(tmp_path / "area")
    arguments = ["area", "--preset", "tiny", "--output", output, "--liberty", missing]
    done = CliRunner().invoke(tools.main, arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"error: there is no Liberty file {missing}"


def test_area_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The memory path stands for the core, which takes minutes.
    monkeypatch.setitem(tools.CORES, "attention_core", Fetch)
    done = CliRunner(env={"COLUMNS": "120"}).invoke(
        tools.main, ["area", "--preset", "tiny", "--output", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "tiny.json").read_text())
    assert facts["preset"] == "tiny"
    assert facts["config_hash"] == f"0x{preset('tiny').config_hash:08x}"
    assert facts["liberty"] is None
    assert [module["name"] for module in facts["modules"]] == [
        "attention_core",
        "attention_core.buffer",
    ]
    assert facts["memory_bits"] == 256 * 130
    assert "256 x 130" in done.output
    assert f"logic          {facts['logic'] / 1000:.2f} kGE" in done.output
    assert f"{facts['total_with_memories'] / 1000:.2f} kGE (memories modelled)" in done.output
