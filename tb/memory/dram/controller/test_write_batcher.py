"""WriteBatcher: what starts a batch of writes, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.sim import Simulator

from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.write_batcher import IDLE_CLOCKS, WriteBatcher

CONFIG = ControllerConfig(
    standard=load_standard("lpddr5-6400-x16"), write_buffer=32, write_batch=8, write_age=50
)


def clocks_until(wanted: int, drive: Callable[[Any, WriteBatcher, int], None], limit: int) -> int:
    """Return the clock from which on ``take_writes`` has a value after it had the other one."""
    batcher = WriteBatcher(CONFIG)
    found: list[int] = []

    async def bench(ctx: Any) -> None:
        before = 0
        for clock in range(limit):
            drive(ctx, batcher, clock)
            now = ctx.get(batcher.take_writes)
            if now == wanted and before != wanted:
                found.append(clock)
            before = now
            await ctx.tick()

    simulator = Simulator(batcher)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return found[0] if found else limit


def driver(pending: int, reads: int) -> Callable[[Any, WriteBatcher, int], None]:
    """Return inputs that do not change."""

    def drive(ctx: Any, batcher: WriteBatcher, clock: int) -> None:
        ctx.set(batcher.pending, pending)
        ctx.set(batcher.reads_wait, reads)

    return drive


def test_enough_writes_interrupt_reads() -> None:
    assert clocks_until(1, driver(8, 1), 200) == 1


def test_old_writes_interrupt_reads() -> None:
    assert clocks_until(1, driver(7, 1), 200) == CONFIG.write_age + 1


def test_writes_use_the_time_without_reads() -> None:
    assert clocks_until(1, driver(1, 0), 200) == IDLE_CLOCKS + 1


def test_nothing_to_write() -> None:
    assert clocks_until(1, driver(0, 0), 200) == 200


def test_a_batch_ends_with_the_writes_or_after_the_size_of_the_buffer() -> None:
    def launch(ctx: Any, batcher: WriteBatcher, clock: int) -> None:
        driver(8, 1)(ctx, batcher, clock)
        ctx.set(batcher.launch, ctx.get(batcher.take_writes))

    # Writes come without end: as many as the buffer holds, then reads.
    assert clocks_until(0, launch, 200) == 1 + CONFIG.write_buffer + 1

    def drained(ctx: Any, batcher: WriteBatcher, clock: int) -> None:
        driver(8 if clock < 10 else 0, 1)(ctx, batcher, clock)

    assert clocks_until(0, drained, 200) == 11

    def without_reads(ctx: Any, batcher: WriteBatcher, clock: int) -> None:
        launch(ctx, batcher, clock)
        ctx.set(batcher.reads_wait, 0)

    assert clocks_until(0, without_reads, 200) == 200
