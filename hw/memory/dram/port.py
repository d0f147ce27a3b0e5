"""The DRAM port: command slots and data between a controller and a device (docs/dram.md)."""

from amaranth.hdl import Cat, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.address_map import AddressMap
from hw.memory.dram.standard import DramStandard, StandardError

COMMAND_BITS = 4
GEARS = (1, 2)


def field_bits(count: int) -> int:
    """Bits of a port field that tells ``count`` things apart; at least 1."""
    return max(1, (count - 1).bit_length())


def slot_layout(standard: DramStandard) -> data.StructLayout:
    """One command slot: the command's code, then what it addresses."""
    return data.StructLayout(
        {
            "command": COMMAND_BITS,
            "pseudo_channel": field_bits(standard.pseudo_channels),
            "bank_group": field_bits(standard.bank_groups),
            "bank": field_bits(standard.banks_per_group),
            "row": field_bits(standard.rows),
            "column": field_bits(standard.columns),
        }
    )


def dram_port(standard: DramStandard, gear: int) -> wiring.Signature:
    """The port from the controller's side.

    Parameters
    ----------
    standard
        The standard.
    gear
        DRAM clocks in one clock of the logic: 1 or 2.

    Raises
    ------
    StandardError
        The gear is illegal.
    """
    if isinstance(gear, bool) or gear not in GEARS:
        raise StandardError(f"gear must be 1 or 2, not {gear!r}")
    phases = gear * standard.pseudo_channels
    beat = standard.peak_bytes_per_cycle
    slots = data.ArrayLayout(slot_layout(standard), gear * standard.protocol.buses)
    return wiring.Signature(
        {
            "command": Out(slots),
            "write_data": Out(data.ArrayLayout(8 * beat, phases)),
            "write_mask": Out(data.ArrayLayout(beat, phases)),
            "read_data": In(data.ArrayLayout(8 * beat, phases)),
            "read_valid": In(phases),
        }
    )


def locate_value(address_map: AddressMap, index: Value) -> dict[str, Value]:
    """Return the fields of a location from the number of a burst, as Amaranth values.

    Parameters
    ----------
    address_map
        The map.
    index
        Byte address over the bytes of a burst, ``address_map.index_bits`` wide.
    """
    if len(index) != address_map.index_bits:
        raise StandardError(f"index must have {address_map.index_bits} bits, not {len(index)}")
    fields = address_map.fields([index[i] for i in range(len(index))])
    return {name: Cat(*bits) for name, bits in fields.items()}
