"""Performance counters: declaration, addresses, counting, clearing, the end of the range."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from hw.config import FORMAT_VERSION, preset
from hw.counters import COUNTER_MAX, Counter, CounterBank

CONFIG = preset("tiny")
Process: TypeAlias = Callable[[Any, "Unit", CounterBank], Awaitable[None]]


class Unit(wiring.Component):
    """Owns two counters and drives their events from its ports."""

    def __init__(self) -> None:
        self.counters = (
            Counter("beats", "beats that came", unit="beats"),
            Counter("bytes", "bytes that came", unit="bytes", event_bits=16),
        )
        super().__init__({"beat": In(1), "bytes": In(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats, size = self.counters
        m.d.comb += [beats.event.eq(self.beat), size.event.eq(self.bytes)]
        return m


def simulate_bank(process: Process) -> None:
    """Run ``process`` on a bank that counts the events of one unit."""
    m = Module()
    m.submodules.unit = unit = Unit()
    m.submodules.bank = bank = CounterBank(CONFIG, counters={"unit": unit.counters})
    simulator = Simulator(m)
    simulator.add_clock(1e-9)

    async def testbench(ctx: Any) -> None:
        await process(ctx, unit, bank)

    simulator.add_testbench(testbench)
    simulator.run()


async def read(ctx: Any, bank: CounterBank, address: int) -> int:
    """Read one register; one cycle passes."""
    ctx.set(bank.address, address)
    await ctx.tick()
    return int(ctx.get(bank.read_data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Beats", "text"), "name must be a lower-case identifier, not 'Beats'"),
        (("two words", "text"), "name must be a lower-case identifier, not 'two words'"),
        (("beats", ""), "description of counter 'beats' must not be empty"),
    ],
)
def test_declaration_errors(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Counter(*arguments)


def test_unit_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match=r"^unit of counter 'beats' must not be empty$"):
        Counter("beats", "text", unit="")


@pytest.mark.parametrize("bits", [0, 17])
def test_event_bits_are_checked(bits: int) -> None:
    with pytest.raises(
        ValueError, match=f"^event_bits of counter 'n' must be 1 to 16, not {bits}$"
    ):
        Counter("n", "text", event_bits=bits)


def test_an_owner_names_its_counters_once() -> None:
    counters = [Counter("beats", "one"), Counter("beats", "two")]
    CounterBank(CONFIG, counters={"a": counters[:1], "b": counters[1:]})
    with pytest.raises(ValueError, match=r"^a has two counters named 'beats'$"):
        CounterBank(CONFIG, counters={"a": counters})


def test_description_and_widths() -> None:
    unit = Unit()
    bank = CounterBank(CONFIG, counters={"first": unit.counters, "second": unit.counters[:1]})
    rows = bank.describe()
    assert [(row["address"], row["owner"], row["name"], row["unit"]) for row in rows] == [
        (0, "core", "config_hash", ""),
        (1, "core", "format_version", ""),
        (2, "first", "beats", "beats"),
        (3, "first", "bytes", "bytes"),
        (4, "second", "beats", "beats"),
    ]
    assert {row["width"] for row in rows} == {32}
    assert rows[2]["description"] == "beats that came"
    assert len(bank.address) == 3
    assert len(bank.read_data) == 32


def test_identity_registers() -> None:
    async def process(ctx: Any, unit: Unit, bank: CounterBank) -> None:
        ctx.set(unit.beat, 1)
        await ctx.tick().repeat(5)
        assert await read(ctx, bank, 0) == CONFIG.config_hash
        assert await read(ctx, bank, 1) == FORMAT_VERSION

    simulate_bank(process)


def test_a_register_is_read_one_cycle_after_its_address() -> None:
    async def process(ctx: Any, unit: Unit, bank: CounterBank) -> None:
        ctx.set(bank.address, 1)
        await ctx.tick()
        ctx.set(bank.address, 0)
        assert ctx.get(bank.read_data) == FORMAT_VERSION
        await ctx.tick()
        assert ctx.get(bank.read_data) == CONFIG.config_hash

    simulate_bank(process)


def test_an_address_beyond_the_last_reads_zero() -> None:
    unit = Unit()
    m = Module()
    m.submodules.unit = unit
    m.submodules.bank = bank = CounterBank(CONFIG, counters={"unit": unit.counters[:1]})
    simulator = Simulator(m)
    simulator.add_clock(1e-9)

    async def process(ctx: Any) -> None:
        assert await read(ctx, bank, 1) == FORMAT_VERSION
        assert await read(ctx, bank, 3) == 0

    simulator.add_testbench(process)
    simulator.run()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counts_against_a_model(seed: int) -> None:
    rng = random.Random(seed)

    async def process(ctx: Any, unit: Unit, bank: CounterBank) -> None:
        # What the registers hold after each cycle, from the events of the cycle before.
        beats = size = 0
        pending = (0, 0)
        for _ in range(400):
            beat, chunk, clear = rng.getrandbits(1), rng.getrandbits(16), rng.random() < 0.02
            address = rng.choice((2, 3))
            expected = (beats, size)[address - 2]
            ctx.set(unit.beat, beat)
            ctx.set(unit.bytes, chunk)
            ctx.set(bank.clear, clear)
            ctx.set(bank.address, address)
            await ctx.tick()
            assert ctx.get(bank.read_data) == expected
            beats, size = (0, 0) if clear else (beats + pending[0], size + pending[1])
            pending = (beat, chunk)

    simulate_bank(process)


def test_a_counter_stays_at_its_end() -> None:
    async def process(ctx: Any, unit: Unit, bank: CounterBank) -> None:
        step, fits = 0xFFFE, COUNTER_MAX // 0xFFFE
        ctx.set(unit.bytes, step)
        ctx.set(bank.address, 3)
        # An event reaches the counter in the cycle after it, the read data one cycle later.
        await ctx.tick().repeat(2 + fits)
        assert ctx.get(bank.read_data) == fits * step
        await ctx.tick()
        assert ctx.get(bank.read_data) == COUNTER_MAX
        await ctx.tick().repeat(10)
        assert ctx.get(bank.read_data) == COUNTER_MAX
        ctx.set(bank.clear, 1)
        await ctx.tick()
        ctx.set(bank.clear, 0)
        await ctx.tick()
        assert ctx.get(bank.read_data) == 0
        await ctx.tick()
        assert ctx.get(bank.read_data) == step

    simulate_bank(process)
