"""CommandBus: turns of pseudo-channels, slots that are taken, the fields of a slot."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.memory.dram import Command, load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.command_bus import CommandBus


def simulate(name: str, gear: int, clocks: int, drive: Any) -> list[tuple[int, int, list[Any]]]:
    """Return per clock the grants of rows and columns, and the slots that they lead to."""
    config = ControllerConfig(standard=load_standard(name), gear=gear)
    bus = CommandBus(config)
    seen: list[tuple[int, int, list[Any]]] = []

    async def bench(ctx: Any) -> None:
        drive(ctx, bus)
        for _ in range(clocks):
            rows, columns = ctx.get(bus.row_grants), ctx.get(bus.column_grants)
            await ctx.tick()
            seen.append((rows, columns, list(ctx.get(bus.command))))

    simulator = Simulator(bus)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def test_pseudo_channels_take_turns() -> None:
    def drive(ctx: Any, bus: CommandBus) -> None:
        for i in range(2):
            ctx.set(bus.rows[i].command, Command.PRE)
            ctx.set(bus.rows[i].bank, 5 + i)
            ctx.set(bus.columns[i], Command.RDA)
            ctx.set(bus.bursts[i].bank, 9 + i)
            ctx.set(bus.bursts[i].column, 3 + i)

    seen = simulate("hbm2-2000", 1, 8, drive)
    for clock, (rows, columns, (row, column)) in enumerate(seen):
        channel = clock % 2 == 0  # the higher one first
        assert (rows, columns) == (1 << channel, 1 << channel)
        assert (row.command, row.pseudo_channel) == (Command.PRE.value, channel)
        assert (row.bank_group, row.bank) == divmod(5 + channel, 4)
        assert (column.command, column.pseudo_channel) == (Command.RDA.value, channel)
        assert (column.bank_group, column.bank) == divmod(9 + channel, 4)
        assert column.column == 3 + channel


def test_one_pseudo_channel_gets_every_cycle() -> None:
    def drive(ctx: Any, bus: CommandBus) -> None:
        ctx.set(bus.rows[1].command, Command.PRE)
        ctx.set(bus.columns[1], Command.RD)

    assert {(r, c) for r, c, _ in simulate("hbm2-2000", 1, 6, drive)} == {(2, 2)}


@pytest.mark.parametrize(("gear", "grants"), [(1, [1, 0, 1, 0, 1, 0]), (2, [1] * 6)])
def test_activation_takes_two_cycles(gear: int, grants: list[int]) -> None:
    def drive(ctx: Any, bus: CommandBus) -> None:
        ctx.set(bus.rows[0].command, Command.ACT)
        ctx.set(bus.rows[0].row, 77)

    seen = simulate("hbm2-2000", gear, 6, drive)
    assert [rows for rows, _, _ in seen] == grants
    for rows, _, slots in seen:
        assert slots[0].command == (Command.ACT.value if rows else Command.NOP.value)
        assert not rows or slots[0].row == 77


def test_columns_of_gear_2_have_a_phase_each() -> None:
    def drive(ctx: Any, bus: CommandBus) -> None:
        for i in range(2):
            ctx.set(bus.columns[i], Command.RD)

    for _, columns, slots in simulate("hbm2-2000", 2, 4, drive):
        assert columns == 3
        assert [slot.command for slot in slots] == [0, Command.RD.value] * 2
        assert [slots[1].pseudo_channel, slots[3].pseudo_channel] == [0, 1]


def test_column_goes_before_row_in_a_shared_slot() -> None:
    def drive(ctx: Any, bus: CommandBus) -> None:
        ctx.set(bus.rows[0].command, Command.PRE)
        ctx.set(bus.columns[0], Command.WR)

    for rows, columns, slots in simulate("ddr4-3200", 1, 4, drive):
        assert (rows, columns, slots[0].command) == (0, 1, Command.WR.value)
    for rows, columns, slots in simulate("ddr4-3200", 2, 4, drive):
        assert (rows, columns) == (1, 1)
        assert [slot.command for slot in slots] == [Command.PRE.value, Command.WR.value]


def test_announcement_goes_before_row() -> None:
    def drive(ctx: Any, bus: CommandBus) -> None:
        ctx.set(bus.rows[0].command, Command.PRE)
        ctx.set(bus.columns[0], Command.WR)
        ctx.set(bus.announcements[0], Command.CAS_WR)

    for rows, columns, slots in simulate("lpddr5-6400-x16", 2, 4, drive):
        assert (rows, columns) == (0, 1)
        assert [slot.command for slot in slots] == [Command.CAS_WR.value, Command.WR.value]
