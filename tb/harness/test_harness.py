"""The harness finds what it is there to find: every check has a component that must fail it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from amaranth.hdl import signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from hw.tools.check_system import advice, missing_packages
from tb.harness import (
    BuildError,
    ExtraItems,
    Hang,
    PortError,
    Run,
    SimulationError,
    StreamRuleBroken,
    build,
    pack,
    run,
    simulate,
    unpack,
)
from tb.harness.elaborate import elaborate
from tb.harness.examples import DROPPED_ITEM, Fault, Passage, Splitter
from tb.harness.toolchain import ToolchainError

Play: TypeAlias = Callable[..., Run]

WIDTH = 12
ITEMS = [(7 * index + 3) % (1 << WIDTH) for index in range(40)]


@pytest.fixture(scope="module")
def play() -> Play:
    """Return a function that runs a `Passage` on `ITEMS`, with a fault and other arguments."""
    passage = Passage(width=WIDTH)

    def run_passage(fault: Fault = Fault.NONE, **changes: Any) -> Run:
        arguments: dict[str, Any] = {
            "name": "passage",
            "inputs": {"items": ITEMS},
            "outputs": {"passed": len(ITEMS)},
            "settings": {"mask": 0},
            "stall": 0.4,
            "max_cycles": 2000,
        }
        arguments |= changes
        arguments["settings"] = {"fault": fault.value} | arguments["settings"]
        return simulate(passage, **arguments)

    return run_passage


@pytest.mark.parametrize("stall", [0.0, 0.5, {"items": 0.9}, {"passed": 0.9}, 0.9])
def test_items_pass_in_order(play: Play, stall: Any) -> None:
    result = play(stall=stall, observe=["count"])
    assert result.outputs == {"passed": ITEMS}
    assert result.observed == {"count": len(ITEMS)}
    assert result.extra_items == {}


def test_full_rate_without_stalls_and_exact_latency(play: Play) -> None:
    result = play(stall=0.0)
    assert result.first_output_cycle == {"passed": 3}
    assert result.cycles == 3 + len(ITEMS)


def test_stalls_cost_cycles_and_follow_the_seed(play: Play) -> None:
    first, again, other = play(seed=5), play(seed=5), play(seed=6)
    assert first.cycles == again.cycles
    assert first.cycles != other.cycles
    assert first.cycles > play(stall=0.0).cycles


def test_settings_are_constant_and_default_to_their_initial_value(play: Play) -> None:
    assert play(settings={"mask": 5}).outputs["passed"] == [item ^ 5 for item in ITEMS]
    assert play(settings={}).outputs["passed"] == [item ^ 1 for item in ITEMS]


def test_wide_payload() -> None:
    width = 5001
    items = [(0x9E3779B97F4A7C15 * (index + 1)) << (width - 80) | index for index in range(20)]
    result = simulate(
        Passage(width=width),
        name="passage_wide",
        inputs={"items": items},
        outputs={"passed": len(items)},
        settings={"mask": 0},
        stall=0.5,
    )
    assert result.outputs["passed"] == items


def test_negative_items_are_twos_complement(play: Play) -> None:
    result = play(inputs={"items": [-1, -2048]}, outputs={"passed": 2})
    assert result.outputs["passed"] == [0xFFF, 0x800]


def test_reset_in_flight_starts_again(play: Play) -> None:
    result = play(reset_at=25, observe=["count"])
    assert result.outputs["passed"] == ITEMS
    assert result.observed["count"] == len(ITEMS)


def test_state_that_survives_reset_shows(play: Play) -> None:
    result = play(reset_at=25, observe=["kept_count"])
    assert result.observed["kept_count"] > len(ITEMS)


def test_reset_after_the_end_is_an_error(play: Play) -> None:
    with pytest.raises(SimulationError, match="before the reset at cycle 1500"):
        play(reset_at=1500)


def test_combinational_component_with_stream_array() -> None:
    items = [0xAB, 0x12, 0xFF]
    result = simulate(
        Splitter(width=8),
        name="splitter",
        inputs={"items": items},
        outputs={"lane__0": 3, "lane__1": 3},
        stall=0.3,
    )
    assert result.outputs == {"lane__0": [0xB, 0x2, 0xF], "lane__1": [0xA, 0x1, 0xF]}


def test_dropped_item_is_named(play: Play) -> None:
    with pytest.raises(Hang, match=r"output 'passed' gave 39 of 40 items"):
        play(Fault.DROP)
    shorter = play(Fault.DROP, outputs={"passed": 39})
    assert shorter.outputs["passed"] == ITEMS[:DROPPED_ITEM] + ITEMS[DROPPED_ITEM + 1 :]


def test_extra_items_are_counted(play: Play) -> None:
    with pytest.raises(ExtraItems, match=r"'passed' \d+"):
        play(outputs={"passed": 30}, stall=0.0, drain=64)
    allowed = play(outputs={"passed": 30}, allow_extra=True)
    assert allowed.extra_items == {"passed": 10}
    assert allowed.outputs["passed"] == ITEMS[:30]


def test_repeated_item_is_an_extra_item(play: Play) -> None:
    with pytest.raises(ExtraItems, match=r"sent items too many: 'passed'"):
        play(Fault.REPEAT)


def test_silence_can_be_asked_for(play: Play) -> None:
    assert play(inputs={"items": []}, outputs={"passed": 0}).outputs == {"passed": []}


def test_withdrawn_valid_is_named(play: Play) -> None:
    with pytest.raises(StreamRuleBroken, match=r"withdrew valid of 'passed' before ready, in"):
        play(Fault.WITHDRAW)


def test_changed_payload_is_named(play: Play) -> None:
    with pytest.raises(StreamRuleBroken, match=r"changed the payload of 'passed' before ready"):
        play(Fault.CHANGE)


def test_hang_names_both_sides(play: Play) -> None:
    message = "output 'passed' gave 0 of 40 items; input 'items' took 0 of 40 items"
    with pytest.raises(Hang, match=message):
        play(Fault.DEAF)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {}}, "nothing is said about the input stream 'items'"),
        ({"outputs": {"out": 1}}, "has no output stream 'out'; it has: passed"),
        ({"settings": {"k": 1}}, "has no setting 'k'; it has: fault, mask"),
        ({"settings": {"mask": 16}}, "setting 'mask': 0x10 does not fit in 4 bits"),
        ({"observe": ["mask"]}, "has no observed signal 'mask'; it has: count, kept_count"),
        ({"inputs": {"items": [1 << WIDTH]}}, "item of 'items': 0x1000 does not fit in 12 bits"),
        ({"stall": 1.0}, "stall of 'items' must be from 0 to 0.99, not 1.0"),
        ({"stall": {"result": 0.1}}, "has no stream 'result' to stall"),
        ({"reset_at": 0}, "reset_at must be at least 1, not 0"),
    ],
)
def test_bad_requests(play: Play, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PortError, match=message):
        play(**changes)


def test_undriven_output_is_refused() -> None:
    with pytest.raises(PortError, match="output 'parity' of splitter is never driven"):
        elaborate(Splitter(width=8, drive_parity=False), "splitter")


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (stream.Signature(8, always_valid=True), "'items' is always valid"),
        (stream.Signature(0), "'items' has a payload of 0 bits"),
    ],
)
def test_streams_that_cannot_be_played(signature: stream.Signature, message: str) -> None:
    with pytest.raises(PortError, match=message):
        elaborate(wiring.Component({"items": In(signature)}), "unplayable")


def counter_build(tmp_path: Path, body: str) -> Any:
    """Build a module with a clock and the given body under the name ``counter``."""
    source = tmp_path / "counter.sv"
    source.write_text(f"module counter (input logic clk);\n{body}\nendmodule\n")
    return build("", [source], top="counter", name="counter", public=["clk"])


def test_build_error_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="syntax error"):
        counter_build(tmp_path, "this is not Verilog")


def test_build_is_reused(tmp_path: Path) -> None:
    assert counter_build(tmp_path, "").directory == counter_build(tmp_path, "").directory
    assert counter_build(tmp_path, "").reused
    assert counter_build(tmp_path, "").directory != counter_build(tmp_path, "wire a;").directory


@pytest.mark.parametrize(
    ("test_code", "message"),
    [
        ("@cocotb.test()\nasync def fails(dut):\n    assert False, 'as planned'\n", "as planned"),
        ("", "0 of 0 cocotb tests|without a result"),
    ],
)
def test_failed_or_missing_cocotb_test_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_code: str, message: str
) -> None:
    (tmp_path / "driver_for_counter.py").write_text("import cocotb\n\n" + test_code)
    monkeypatch.syspath_prepend(tmp_path)
    made = counter_build(tmp_path, "")
    with pytest.raises(SimulationError, match=message):
        run(made, "driver_for_counter", directory=tmp_path / "run")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(SimulationError, match=message):
        run(made, "driver_for_counter", directory=tmp_path / "run")


@pytest.mark.slow
def test_waves_are_recorded(play: Play) -> None:
    missing = missing_packages("waves")
    if missing:
        with pytest.raises(ToolchainError, match=missing[0]):
            play(waves=True)
        pytest.skip(advice(missing))
    result = play(waves=True)
    assert result.directory is not None
    assert (result.directory / "dump.fst").stat().st_size > 0


def test_pack_and_unpack() -> None:
    layout = data.StructLayout({"offset": signed(5), "lanes": data.ArrayLayout(8, 2), "last": 1})
    fields: dict[str, Any] = {"offset": -3, "lanes": [1, 255], "last": 1}
    assert pack(layout, fields) == 0b1_11111111_00000001_11101
    assert unpack(layout, pack(layout, fields)) == fields


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"offset": 1}, "expected the fields"),
        ({"offset": 16, "last": 0}, "16 does not fit"),
        ({"offset": -17, "last": 0}, "-17 does not fit"),
        ({"offset": [1], "last": 0}, "expected a number"),
        (3, "expected the fields"),
    ],
)
def test_pack_refuses(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(data.StructLayout({"offset": signed(5), "last": 1}), value)
