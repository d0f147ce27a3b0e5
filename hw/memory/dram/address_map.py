"""Which bank, row and column an address lies in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import xor
from typing import Any

from hw.memory.dram.standard import DramStandard, StandardError


@dataclass(frozen=True)
class Location:
    """A burst in the device: the fields of a command at the DRAM port."""

    bank_group: int
    bank: int
    row: int
    column: int


@dataclass(frozen=True)
class AddressMap:
    """Map of the bursts of one pseudo-channel; a bijection.

    From the burst up an address holds: the bank group (within a stack), the lower bits of the
    column, the bank, the stack ID, the other bits of the column, the row. The bank group and the
    bank are XORed with the lowest bits of the row, so that rows that lie a power of two apart
    spread over the banks. Consecutive bursts thus alternate between bank groups, and
    ``visit_bursts`` of them lie in each row that a request touches.

    Everything is derived from `equations`, so software and hardware share one description.

    Parameters
    ----------
    standard
        The standard.
    visit_bursts
        Bursts of a bank before the next bank begins: a power of two, up to the columns of a row.

    Raises
    ------
    StandardError
        ``visit_bursts`` is illegal.
    """

    standard: DramStandard
    visit_bursts: int = 4

    def __post_init__(self) -> None:
        bursts = self.visit_bursts
        if isinstance(bursts, bool) or bursts not in {1 << i for i in range(_bits(self.columns))}:
            raise StandardError(
                f"visit_bursts must be a power of two from 1 to {self.columns}, not {bursts!r}"
            )

    @property
    def columns(self) -> int:
        """Bursts of a row."""
        return self.standard.columns

    @property
    def offset_bits(self) -> int:
        """Bits of a byte address within a burst."""
        return _bits(self.standard.burst_bytes) - 1

    @property
    def index_bits(self) -> int:
        """Bits of a burst's number within the pseudo-channel."""
        return _bits(self.standard.bytes) - 1 - self.offset_bits

    @cached_property
    def equations(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """Per field and bit of it, from bit 0, the bits of the burst's number to be XORed.

        The first of each is the bit that is the field's own; the others are bits of the row.
        """
        standard = self.standard
        widths = {
            "group": _bits(standard.groups_per_stack) - 1,
            "column_low": _bits(self.visit_bursts) - 1,
            "bank": _bits(standard.banks_per_group) - 1,
            "stack": _bits(standard.stacks) - 1,
            "column_high": _bits(standard.columns) - _bits(self.visit_bursts),
            "row": _bits(standard.rows) - 1,
        }
        own: dict[str, list[tuple[int, ...]]] = {}
        position = 0
        for name, width in widths.items():
            own[name] = [(position + i,) for i in range(width)]
            position += width
        rows = [bits[0] for bits in own["row"]]
        hashed = [*own["group"], *own["bank"]]
        # A small device may have fewer row bits than bank bits: the rest stays as it is.
        mixed = [(*bits, *rows[i : i + 1]) for i, bits in enumerate(hashed)]
        groups = widths["group"]
        return {
            "bank_group": (*mixed[:groups], *own["stack"]),
            "bank": tuple(mixed[groups:]),
            "row": tuple(own["row"]),
            "column": (*own["column_low"], *own["column_high"]),
        }

    def fields(self, bits: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the fields of a location as lists of bits, from those of the burst's number.

        A bit is anything that knows ``^``: a Python integer, an array of them, an Amaranth value.
        """
        return {
            name: [reduce(xor, (bits[i] for i in terms)) for terms in equation]
            for name, equation in self.equations.items()
        }

    def locate(self, address: int) -> Location:
        """Return where the burst at a byte address lies."""
        if not 0 <= address < self.standard.bytes:
            raise ValueError(
                f"address must be from 0 to {self.standard.bytes - 1:#x}, not {address:#x}"
            )
        index = address >> self.offset_bits
        bits = [index >> i & 1 for i in range(self.index_bits)]
        fields = {name: _number(values) for name, values in self.fields(bits).items()}
        return Location(**fields)

    def address(self, location: Location) -> int:
        """Return the byte address of a burst: the inverse of `locate`."""
        given = {name: getattr(location, name) for name in self.equations}
        bits: dict[int, int] = {}
        # The row first: it is what the others are XORed with.
        for name in ("row", "column", "bank", "bank_group"):
            equation = self.equations[name]
            if not 0 <= given[name] < 1 << len(equation):
                raise ValueError(
                    f"{name} must be from 0 to {(1 << len(equation)) - 1}, not {given[name]}"
                )
            for i, (own, *others) in enumerate(equation):
                bits[own] = reduce(xor, (bits[other] for other in others), given[name] >> i & 1)
        return _number([bits[i] for i in range(self.index_bits)]) << self.offset_bits


def _bits(number: int) -> int:
    return number.bit_length()


def _number(bits: Sequence[int]) -> int:
    return sum(bit << i for i, bit in enumerate(bits))
