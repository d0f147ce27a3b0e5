"""Addresses and contents of table entries, in hardware."""

from amaranth.hdl import Array, Cat, Const, Value
from amaranth.lib import data

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import ENTRY_BYTES, ENTRY_VALID_BIT, PAGE_BITS, Region

ENTRY_BITS = 8 * ENTRY_BYTES
_ENTRY_SHIFT = ENTRY_BYTES.bit_length() - 1


def region_constant(region: object, values: dict[Region, int]) -> Value:
    """The one of ``values`` that belongs to ``region``; 0 for a region of no name."""
    return Value.cast(Array(Const(values[r]) for r in Region)[Value.cast(region)])


def entry_address(config: MmuConfig, place: data.View) -> Value:
    """Byte address of the table entry of ``place`` (`place_layout`)."""
    first = {region: config.first_entry(region) for region in Region}
    table = Cat(
        Const(0, (config.table_stride - 1).bit_length()),
        place.kv_head,
        place.layer,
        place.sequence,
    )
    entry = (region_constant(place.region, first) + place.index) << _ENTRY_SHIFT
    return config.table_address + table + entry


def entry_page(config: MmuConfig, entry: Value) -> tuple[Value, Value]:
    """Whether ``entry`` names a page whose number fits its bits, and the page."""
    reserved = 1 << (ENTRY_VALID_BIT - PAGE_BITS)
    fits = entry[config.page_bits : PAGE_BITS] == 0
    return (entry[PAGE_BITS:] == reserved) & fits, entry[: config.page_bits]


def page_entry(page: Value) -> Value:
    """The entry that names ``page``."""
    return Cat(page, Const(0, ENTRY_VALID_BIT - len(page)), Const(1, 1))
