"""The accelerator on the command line: its Verilog passes lint, its files agree."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from click.testing import CliRunner

from hw.accelerator_config import AXI4, DEFAULT_STANDARD, choose_system, system_core
from hw.config import preset
from hw.memory.axi.port import axi_port
from hw.memory.kv_mmu.formats import CommandStatus, Opcode
from hw.tools.__main__ import main
from hw.tools.lint import CORE_RULES, SYSTEM_RULES, waivers
from hw.tools.ports import find_streams
from tb.tools.lint import lint

TINY = preset("tiny")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "slices", "controllers"),
    [("hbm2-2000", 2, 1), ("lpddr5-6400-x16", 2, 2), (AXI4, 2, 0)],
)
def test_the_accelerator_passes_lint(
    memory: str, slices: int, controllers: int, tmp_path: Path
) -> None:
    options = ["--top", "accelerator", "--memory", memory, "--slices", str(slices)]
    arguments = ["verilog", "--preset", "tiny", *options, "--output", str(tmp_path)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / f"accelerator-tiny-{memory}-{slices}"
    top = folder / "accelerator.v"
    package, control = folder / "accelerator_pkg.sv", folder / "accelerator.vlt"
    assert lint([control, package, top], "accelerator") == ""
    text = top.read_text()
    assert len(re.findall(r"^module attention_slice\(", text, re.M)) == 1
    assert len(re.findall(r"^  attention_slice +slice_\d \(", text, re.M)) == slices
    assert len(re.findall(r"^  dram_controller +controller_\d \(", text, re.M)) == controllers

    facts = json.loads((folder / "accelerator.json").read_text())
    assert facts["config"] == system_core(TINY).describe()
    assert facts["system"] == choose_system(TINY, memory=memory, slices=slices).describe()
    assert facts["opcode"]["ALLOCATE"] == Opcode.ALLOCATE
    assert facts["command_status"]["BUSY"] == CommandStatus.BUSY
    ports = {port["name"]: (port["direction"], port["width"]) for port in facts["ports"]}
    header = text[text.index("module accelerator(") :].partition("endmodule")[0]
    declared = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", header, re.M)
    assert ports == {name: (way, int(high or 0) + 1) for way, high, name in declared}
    axi = {name for name in ports if name.startswith("axi__")}
    expected = {f"axi__{i}__{name}" for i in range(slices) for name in axi_port(4, 1)}
    assert axi == (expected if memory == AXI4 else set())
    assert {f"command__{i}" for i in range(slices)} < facts["streams"].keys()
    assert package.read_text().count("} command_t;") == 1
    registers = [row["name"] for row in facts["registers"] if row["owner"] == "axi"]
    assert ("read_strays" in registers) == (memory == AXI4)
    if memory == "hbm2-2000":
        # What is off beyond the rules of a core is needed.
        for rule in SYSTEM_RULES.keys() - CORE_RULES:
            few = tmp_path / "few.vlt"
            few.write_text(waivers({top.name: {r: "" for r in SYSTEM_RULES if r != rule}}))
            assert rule in lint([few, top], "accelerator")


@pytest.mark.slow
def test_a_slot_area_passes_lint(tmp_path: Path) -> None:
    """A core that writes caches of constant size; the sidecar says where they are."""
    config = replace(TINY, name="slots", slots=32, slot_caches=64)
    file = tmp_path / "slots.toml"
    lines = (f"{name} = {json.dumps(value)}" for name, value in config.describe().items())
    file.write_text("\n".join(lines) + "\n")
    options = ["--top", "accelerator", "--config", str(file), "--writes", "--pages", "64"]
    arguments = ["verilog", *options, "--output", str(tmp_path)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / f"accelerator-slots-{DEFAULT_STANDARD}-1-writes"
    files = [folder / name for name in ("accelerator.vlt", "accelerator_pkg.sv", "accelerator.v")]
    assert lint(files, "accelerator") == ""
    system = json.loads((folder / "accelerator.json").read_text())["system"]
    area = choose_system(config, writes=True, pages=64).mmu.slot_area
    assert (system["slot_address"], system["slot_stride"]) == (area.address, 4096)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "hbm9"], "standard must be one of ddr4-3200, .*, axi4, not 'hbm9'"),
        (["--slices", "3"], r"slices must be one of \(1, 2, 4\), not 3"),
        (["--memory", AXI4, "--refresh", "all_bank"], "refresh must be None with axi4"),
        (["--axi-id-bits", "4"], "axi_id_bits must be None with hbm2-2000, not 4"),
        (["--pages", "1"], "pages must be an integer from 2 to"),
        (["--channel-bytes", str(1 << 32)], "channel_bytes must be at most"),
    ],
)
def test_illegal_systems_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["verilog", "--preset", "tiny", "--top", "accelerator", *options]
    done = CliRunner().invoke(main, [*arguments, "--output", str(tmp_path)])
    assert done.exit_code == 2
    assert re.match(f"error: {message}", done.output), done.output
    assert not list(tmp_path.iterdir())


def test_options_of_a_system_need_one(tmp_path: Path) -> None:
    arguments = ["verilog", "--slices", "2", "--output", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.output) == (2, "error: slices goes with --top accelerator only\n")


def test_streams_of_an_array() -> None:
    port = wiring.Signature(
        {"request": Out(stream.Signature(3)), "answer": In(stream.Signature(4))}
    )
    found = list(find_streams(wiring.Signature({"x": In(port).array(2), "y": Out(1)})))
    assert [(f.name, f.direction, f.kind) for f in found] == [
        ("x__0__request", "input", "x__request"),
        ("x__0__answer", "output", "x__answer"),
        ("x__1__request", "input", "x__request"),
        ("x__1__answer", "output", "x__answer"),
    ]
