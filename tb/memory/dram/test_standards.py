"""The tables of the standards, the address map and the port."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.memory.dram import (
    FAMILIES,
    AddressMap,
    Command,
    DramStandard,
    Location,
    StandardError,
    load_standard,
    parse_standard,
    standard_names,
)
from hw.memory.dram.loader import standard_text
from hw.memory.dram.port import dram_port, locate_value, slot_layout
from tb.memory.dram.device import MODELS, TIMING_ORDER

DDR4 = load_standard("ddr4-3200")
HBM3 = load_standard("hbm3-6400")
#: 4 bank groups of 2 banks, 8 rows of 8 bursts.
SMALL = replace(DDR4, banks_per_group=2, rows=8, row_bytes=512)
#: Fewer row bits than bank bits, and two stacks.
TINY = replace(HBM3, bank_groups=4, rows=2, row_bytes=128)

# --- tables --------------------------------------------------------------------------------------


def test_there_are_four_standards() -> None:
    assert standard_names() == ("ddr4-3200", "hbm2-2000", "hbm3-6400", "lpddr5-6400-x16")


@pytest.mark.parametrize(
    ("name", "burst", "cycles", "columns", "banks", "mebibytes", "sets", "share"),
    [
        ("ddr4-3200", 64, 4, 128, 16, 8192, 1, 0.955),
        ("hbm2-2000", 32, 2, 32, 16, 1024, 16, 0.910),
        ("hbm3-6400", 32, 2, 32, 32, 512, 32, 0.910),
        ("lpddr5-6400-x16", 32, 2, 64, 16, 1024, 8, 0.946),
    ],
)
def test_derived_quantities(
    name: str,
    burst: int,
    cycles: int,
    columns: int,
    banks: int,
    mebibytes: int,
    sets: int,
    share: float,
) -> None:
    standard = load_standard(name)
    assert standard.peak_bytes_per_cycle == 16
    assert standard.burst_bytes == burst
    assert standard.burst_cycles == cycles
    assert standard.columns == columns
    assert standard.banks == banks
    assert standard.bytes == mebibytes << 20
    assert standard.refresh_sets == sets
    assert standard.all_bank_refresh_share == pytest.approx(share, abs=0.001)
    assert standard == standard.with_timing()
    assert hash(standard) == hash(standard.with_timing())


@pytest.mark.parametrize("name", standard_names())
def test_every_value_has_a_source(name: str) -> None:
    standard = load_standard(name)
    assert set(standard.timing) <= set(standard.sources)
    assert all(len(source) > 10 for source in standard.sources.values())


def changed(pattern: str, replacement: str) -> str:
    """Return the table of DDR4 with one change."""
    text, number = re.subn(pattern, replacement, standard_text("ddr4-3200"), flags=re.MULTILINE)
    assert number == 1
    return text


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"^tRCDRD.*\n", "", "timing must have tRCDRD, which is missing"),
        (r"^tRC = \{ value = 74", "tRC = { value = 0", "tRC must be an integer from 1 to 65536"),
        (r"^tRC = \{ value = 74", 'tRC = { value = "74"', "tRC must be an integer .* not '74'"),
        (r"^tRC = .*", "tRC = 74", "tRC must be a table with 'value' and 'source', not 74"),
        (
            r'^(tRC = .*)source = "ramulator"',
            r'\1source = "memory"',
            "the source of tRC must be one of .*, not 'memory'",
        ),
        (r"^\[timing\]", '[timing]\ntFOO = { value = 1, source = "jedec" }', "not have 'tFOO'"),
        (r"^\[protocol\]", "[protocol]\nfoo = 1", "protocol must not have 'foo'; it has"),
        (r"^\[protocol\]", "[foo]", "the table must not have 'foo'; it has name"),
        (r'^family = "ddr4"', 'family = "ddr9"', "family must be one of .*, not 'ddr9'"),
        (r'^family = "ddr4"', "family = 4", "family must be a string, not 4"),
        (r'^family = "ddr4"', "", "the table must have 'family', which is missing"),
        (r'^family = "ddr4"', "family =", "a standard must be a TOML text"),
        (r"^rows = .*", "", "organisation must have 'rows', which is missing"),
        (r"^rows = \{ value = 65536", "rows = { value = 65535", "rows must be a power of two"),
        (
            r"^banks_per_refresh = \{ value = 0",
            "banks_per_refresh = { value = 1",
            "banks_per_refresh must be 0 for ddr4, not 1",
        ),
        (r"^row_bytes = \{ value = 8192", "row_bytes = { value = 32", "row_bytes must be"),
        (
            r"^burst_length = \{ value = 8",
            "burst_length = { value = 2",
            "burst_length must be an integer from 4",
        ),
        (r"^stacks = \{ value = 1", "stacks = { value = 8", "stacks must be an integer"),
        (
            r"^activate_reference = \{ value = 0",
            "activate_reference = { value = 1",
            "activate_reference must be an integer from 0 to 0, not 1",
        ),
        (r"^tRTW = \{ value = 12", "tRTW = { value = 9", r"tRTW must be at least 10 \(tCL"),
        (r"^tREFI = \{ value = 12480", "tREFI = { value = 560", "tREFI must be at least 561"),
        (r"^tCCD_L = \{ value = 8", "tCCD_L = { value = 3", "tCCD_L must be at least 4"),
        (r"^jedec = .*", "", "the source of postponed_refreshes must be one of"),
        (r"^\[sources\]", '[sources]\nunused = "x"', "source 'unused' must be used"),
    ],
)
def test_messages(pattern: str, replacement: str, message: str) -> None:
    with pytest.raises(StandardError, match=message):
        parse_standard(changed(pattern, replacement))


def test_unknown_name() -> None:
    with pytest.raises(StandardError, match=r"standard must be one of ddr4-3200, .*, not 'ddr5'"):
        load_standard("ddr5")


def test_contradictions() -> None:
    with pytest.raises(StandardError, match="bank_groups must be a multiple of the 2 stacks"):
        replace(HBM3, bank_groups=1)
    with pytest.raises(StandardError, match="burst_length must be at least the 8 transfers"):
        replace(load_standard("lpddr5-6400-x16"), burst_length=4)
    with pytest.raises(StandardError, match="banks_per_refresh must be 1 or 2 for hbm, not 0"):
        replace(HBM3, banks_per_refresh=0)


def test_the_model_has_the_same_codes() -> None:
    text = (MODELS / "dram_package.sv").read_text()
    commands = dict(re.findall(r"^\s+(\w+)\s+= (\d+),?$", text, flags=re.MULTILINE))
    assert {name: int(code) for name, code in commands.items()} == {
        command.name: int(command) for command in Command
    }
    listed = text[text.index("tCL,") : text.index("COMMAND,")]
    assert tuple(re.findall(r"\w+", listed)) == TIMING_ORDER
    assert {name for family in FAMILIES.values() for name in family.timing} <= set(TIMING_ORDER)


# --- address map ---------------------------------------------------------------------------------


def all_locations(standard: DramStandard) -> set[Location]:
    """Return every burst of a small device."""
    return {
        Location(group, bank, row, column)
        for group in range(standard.bank_groups)
        for bank in range(standard.banks_per_group)
        for row in range(standard.rows)
        for column in range(standard.columns)
    }


@pytest.mark.parametrize("standard", [SMALL, TINY], ids=["small", "tiny"])
@pytest.mark.parametrize("visit_bursts", [1, 2, 4])
def test_the_map_is_a_bijection(standard: DramStandard, visit_bursts: int) -> None:
    address_map = AddressMap(standard, visit_bursts)
    addresses = range(0, standard.bytes, standard.burst_bytes)
    located = {address_map.locate(address): address for address in addresses}
    assert set(located) == all_locations(standard)
    assert all(address_map.address(where) == address for where, address in located.items())
    # Every byte of a burst lies where its first byte does.
    assert address_map.locate(standard.burst_bytes + 5) == address_map.locate(standard.burst_bytes)


@pytest.mark.parametrize("name", standard_names())
def test_the_map_is_a_bijection_at_random(name: str, seed: int) -> None:
    standard, generator = load_standard(name), random.Random(seed)
    address_map = AddressMap(standard)
    sizes = {
        "bank_group": standard.bank_groups,
        "bank": standard.banks_per_group,
        "row": standard.rows,
        "column": standard.columns,
    }
    for _ in range(2000):
        address = generator.randrange(standard.bytes // standard.burst_bytes)
        address *= standard.burst_bytes
        assert address_map.address(address_map.locate(address)) == address
        where = Location(**{field: generator.randrange(size) for field, size in sizes.items()})
        assert address_map.locate(address_map.address(where)) == where


@pytest.mark.parametrize("name", standard_names())
def test_a_request_spreads_over_bank_groups(name: str) -> None:
    standard = load_standard(name)
    address_map = AddressMap(standard, visit_bursts=4)
    groups = standard.groups_per_stack
    bursts = [address_map.locate(i * standard.burst_bytes) for i in range(4 * groups)]
    assert all(a.bank_group != b.bank_group for a, b in itertools.pairwise(bursts))
    banks = [(burst.bank_group, burst.bank, burst.row) for burst in bursts]
    assert len(set(banks)) == groups
    assert all(banks.count(bank) == 4 for bank in banks)


def test_rows_at_a_power_of_two_spread_over_the_banks() -> None:
    address_map = AddressMap(DDR4)
    stride = DDR4.banks * DDR4.row_bytes
    places = {
        (where.bank_group, where.bank)
        for where in (address_map.locate(i * stride) for i in range(DDR4.banks))
    }
    assert len(places) == DDR4.banks


def test_map_messages() -> None:
    for wrong in (0, 3, 256, True):
        with pytest.raises(StandardError, match="visit_bursts must be a power of two from 1 to"):
            AddressMap(DDR4, wrong)
    address_map = AddressMap(DDR4)
    with pytest.raises(ValueError, match="address must be from 0 to 0x1ffffffff, not 0x200000000"):
        address_map.locate(DDR4.bytes)
    with pytest.raises(ValueError, match="bank must be from 0 to 3, not 4"):
        address_map.address(Location(0, 4, 0, 0))
    with pytest.raises(StandardError, match="index must have 27 bits, not 5"):
        locate_value(address_map, Const(0, 5))


class Locator(wiring.Component):
    """The map as hardware."""

    def __init__(self, address_map: AddressMap) -> None:
        self._map = address_map
        self.index = Signal(address_map.index_bits)
        super().__init__({name: Out(len(bits)) for name, bits in address_map.equations.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, value in locate_value(self._map, self.index).items():
            m.d.comb += getattr(self, name).eq(value)
        return m


@pytest.mark.parametrize("name", standard_names())
def test_hardware_maps_as_software_does(name: str, seed: int) -> None:
    standard, generator = load_standard(name), random.Random(seed)
    address_map = AddressMap(standard)
    dut = Locator(address_map)

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for _ in range(300):
            index = generator.randrange(1 << address_map.index_bits)
            ctx.set(dut.index, index)
            await ctx.delay(1e-9)
            found = Location(**{field: ctx.get(getattr(dut, field)) for field in sizes})
            assert found == address_map.locate(index * standard.burst_bytes)

    sizes = address_map.equations
    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


# --- port ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "slot", "slots", "phases"),
    [
        ("ddr4-3200", 4 + 1 + 2 + 2 + 16 + 7, 1, 1),
        ("hbm2-2000", 4 + 1 + 2 + 2 + 16 + 5, 2, 2),
        ("hbm3-6400", 4 + 1 + 3 + 2 + 14 + 5, 2, 2),
        ("lpddr5-6400-x16", 4 + 1 + 2 + 2 + 15 + 6, 1, 1),
    ],
)
@pytest.mark.parametrize("gear", [1, 2])
def test_port_widths(name: str, slot: int, slots: int, phases: int, gear: int) -> None:
    standard = load_standard(name)
    assert slot_layout(standard).size == slot
    port = dram_port(standard, gear).create()
    assert port.command.as_value().shape().width == gear * slots * slot
    assert port.write_data.as_value().shape().width == gear * phases * 128
    assert port.write_mask.as_value().shape().width == gear * phases * 16
    assert port.read_data.as_value().shape().width == gear * phases * 128
    assert len(port.read_valid) == gear * phases


@pytest.mark.parametrize("gear", [0, 3, True])
def test_gear_message(gear: int) -> None:
    with pytest.raises(StandardError, match=f"gear must be 1 or 2, not {gear!r}"):
        dram_port(DDR4, gear)
