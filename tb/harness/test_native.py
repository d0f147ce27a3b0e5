"""The native driver gives what cocotb gives: the same results, the same error for each fault."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tb.harness import (
    DRIVERS,
    Build,
    BuildError,
    Driver,
    DriverError,
    ExtraItems,
    Hang,
    Run,
    SimulationError,
    Speed,
    StreamRuleBroken,
    build,
    run_native,
    simulate,
)
from tb.harness.driver import check_driver
from tb.harness.examples import Fault, Passage, Splitter

WIDTH = 12
ITEMS = [(7 * index + 3) % (1 << WIDTH) for index in range(40)]
#: Around the sizes of the C++ types that hold a port.
WIDTHS = (1, 8, 9, 32, 33, 64, 65, 129)


class Mirror(wiring.Component):
    """Shows each of its settings a clock later; nested, so that the names have two underscores.

    Members
    -------
    items : In(stream), passed : Out(stream)
        A wire, to have something to wait for.
    inner.given_<width> : In(width), inner.seen_<width> : Out(width)
        What is set and what is shown.
    """

    def __init__(self) -> None:
        inner: dict[str, Any] = {f"given_{width}": In(width) for width in WIDTHS}
        inner |= {f"seen_{width}": Out(width) for width in WIDTHS}
        super().__init__(
            {
                "items": In(stream.Signature(WIDTH)),
                "passed": Out(stream.Signature(WIDTH)),
                "inner": Out(wiring.Signature(inner)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect the wire and the registers."""
        del platform
        m = Module()
        m.d.comb += [
            self.passed.payload.eq(self.items.payload),
            self.passed.valid.eq(self.items.valid),
            self.items.ready.eq(self.passed.ready),
        ]
        for width in WIDTHS:
            shown = Signal(width, name=f"shown_{width}")
            m.d.sync += shown.eq(getattr(self.inner, f"given_{width}"))
            m.d.comb += getattr(self.inner, f"seen_{width}").eq(shown)
        return m


@cache
def passage() -> Passage:
    return Passage(width=WIDTH)


def play(driver: Driver, fault: Fault = Fault.NONE, **changes: Any) -> Run:
    """Run a `Passage` on `ITEMS`, with a fault and other arguments."""
    arguments: dict[str, Any] = {
        "name": "passage",
        "inputs": {"items": ITEMS},
        "outputs": {"passed": len(ITEMS)},
        "settings": {"mask": 0},
        "observe": ["count", "kept_count"],
        "stall": 0.4,
        "max_cycles": 2000,
    }
    arguments |= changes
    arguments["settings"] = {"fault": fault.value} | arguments["settings"]
    return simulate(passage(), driver=driver, **arguments)


def failure(driver: Driver, fault: Fault, changes: dict[str, Any]) -> tuple[type, str]:
    """Return the class of the error of a run and what its message says before naming files."""
    with pytest.raises(SimulationError) as caught:
        play(driver, fault, **changes)
    return type(caught.value), str(caught.value).partition(", files in ")[0].partition("; end")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"stall": 0.0},
        {"stall": 0.9},
        {"stall": {"passed": 0.6}, "settings": {}},
        {"reset_at": 25},
        {"fault": Fault.REPEAT, "allow_extra": True},
        {"inputs": {"items": []}, "outputs": {"passed": 0}},
        {"fast": True, "settings": {"mask": 5}},
    ],
    ids=str,
)
def test_same_result_as_cocotb(changes: dict[str, Any], seed: int) -> None:
    first, second = (play(driver, seed=seed, **changes) for driver in DRIVERS)
    assert first == second
    assert (first.driver, second.driver) == DRIVERS
    assert first.speed.cycles == second.speed.cycles
    wanted = changes.get("outputs", {"passed": len(ITEMS)})["passed"]
    assert len(first.outputs["passed"]) == wanted


def test_results_follow_the_seed() -> None:
    assert play("native", seed=5) == play("native", seed=5)
    assert play("native", seed=5).cycles != play("native", seed=6).cycles


def test_combinational_component_with_stream_array() -> None:
    runs = [
        simulate(
            Splitter(width=8),
            name="splitter",
            inputs={"items": [0xAB, 0x12, 0xFF]},
            outputs={"lane__0": 3, "lane__1": 3},
            observe=["parity"],
            stall=0.3,
            driver=driver,
        )
        for driver in DRIVERS
    ]
    assert runs[0] == runs[1]
    assert runs[1].outputs == {"lane__0": [0xB, 0x2, 0xF], "lane__1": [0xA, 0x1, 0xF]}


@pytest.mark.parametrize("driver", DRIVERS)
def test_settings_and_observed_values_of_every_width(driver: Driver) -> None:
    # High and low bit of every word, and different for each width.
    values = {width: (1 << width - 1 | 0x9E3779B97F4A7C15 << width // 2 | 1) for width in WIDTHS}
    values = {width: value % (1 << width) for width, value in values.items()}
    result = simulate(
        Mirror(),
        name="mirror",
        inputs={"items": [1, 2]},
        outputs={"passed": 2},
        settings={f"inner__given_{width}": value for width, value in values.items()},
        observe=[f"inner__seen_{width}" for width in WIDTHS],
        driver=driver,
    )
    assert result.observed == {f"inner__seen_{width}": value for width, value in values.items()}


@pytest.mark.parametrize(
    ("fault", "changes", "kind", "words"),
    [
        (Fault.DROP, {}, Hang, "gave 39 of 40 items"),
        (Fault.DEAF, {}, Hang, "input 'items' took 0 of 40 items"),
        (Fault.NONE, {"max_cycles": 20}, Hang, "was not done after 2"),
        (Fault.REPEAT, {}, ExtraItems, "sent items too many: 'passed'"),
        (Fault.NONE, {"outputs": {"passed": 30}}, ExtraItems, "sent items too many: 'passed' 10"),
        (Fault.WITHDRAW, {}, StreamRuleBroken, "withdrew valid of 'passed' before ready"),
        (Fault.CHANGE, {}, StreamRuleBroken, "changed the payload of 'passed' before ready"),
        (Fault.NONE, {"reset_at": 1500}, SimulationError, "before the reset at cycle 1500"),
    ],
)
def test_same_error_as_cocotb(
    fault: Fault, changes: dict[str, Any], kind: type, words: str
) -> None:
    first, second = (failure(driver, fault, changes) for driver in DRIVERS)
    assert first == second
    assert first[0] is kind
    assert words in first[1]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_fatal_error_of_a_model_is_shown(driver: Driver) -> None:
    # The first of two plusargs of a name counts: the player runs out of items and stops.
    with pytest.raises(SimulationError, match="item 40 of 41 is missing") as caught:
        play(driver, plusargs=["+items_items=41"])
    assert caught.type is SimulationError


def bench(tmp_path: Path, body: str) -> Build:
    """Build a module with clock, ``done`` and the given body for the native driver."""
    source = tmp_path / "ticker.sv"
    ports = "input logic clk, input logic [3:0] limit, output logic done"
    source.write_text(f"module ticker ({ports});\n{body}\nendmodule\n")
    names = ["clk", "limit", "done"]
    return build("", [source], top="ticker", name="ticker", public=names, driver="native")


COUNT = """
    logic [3:0] count = 0;
    initial done = 0;
    always_ff @(posedge clk) begin
        count <= count + 1;
        if (count == limit) done <= 1;
    end
"""


def test_a_bench_of_its_own(tmp_path: Path) -> None:
    result = tmp_path / "status.json"
    made = bench(tmp_path, COUNT)
    run_native(made, directory=tmp_path, settings={"limit": 9}, result=result)
    assert set(json.loads(result.read_text())) == {"wall_ns", "cpu_ns"}


@pytest.mark.parametrize(
    ("body", "settings", "message"),
    [
        ("always_ff @(posedge clk) $finish;", {"limit": 1}, "ticker ended without a result"),
        (
            COUNT + 'always_ff @(posedge clk) if (count == 2) $fatal(1, "as planned");',
            {"limit": 5},
            r"(?s)ticker ended without a result.*as planned",
        ),
        (COUNT, {"limits": 1}, "the bench has no port limits"),
        (
            COUNT + 'always_ff @(posedge clk) if (count == 2) $error("as planned");',
            {"limit": 5},
            r"(?s)the simulator of ticker reported an error.*as planned",
        ),
    ],
)
def test_what_stops_the_simulator_is_an_error(
    tmp_path: Path, body: str, settings: dict[str, int], message: str
) -> None:
    made = bench(tmp_path, body)
    with pytest.raises(SimulationError, match=message):
        run_native(
            made,
            directory=tmp_path,
            settings=settings,
            result=tmp_path / "status.json",
            # One error alone does not stop the simulation then.
            plusargs=["+verilator+error+limit+9"],
        )


def test_build_error_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="syntax error"):
        bench(tmp_path, "this is not Verilog")


def test_only_what_there_is_can_be_asked_for() -> None:
    with pytest.raises(DriverError, match=r"'native' records no waves: take 'cocotb'"):
        play("native", waves=True)
    with pytest.raises(DriverError, match=r"no driver 'cpp'; there are: cocotb, native"):
        check_driver("cpp", waves=False)


def test_speed() -> None:
    speed = Speed(cycles=3000, seconds=0.5, cpu_seconds=0.25)
    assert speed.cycles_per_second == 6000
    assert speed.cycles_per_cpu_second == 12000
    for driver in DRIVERS:
        measured = play(driver).speed
        assert measured.cycles > len(ITEMS)
        assert measured.cpu_seconds > 0
        assert 0 < measured.seconds < 60
