"""Parameters of a DRAM controller."""

from dataclasses import dataclass

from hw.memory.dram.address_map import AddressMap
from hw.memory.dram.port import GEARS
from hw.memory.dram.standard import DramStandard, StandardError

REFRESHES = ("per_bank", "all_bank")


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """Parameters of a DRAM controller.

    Raises
    ------
    StandardError
        A parameter has an illegal value.
    """

    #: The DRAM standard.
    standard: DramStandard
    #: DRAM clocks in a clock of the logic: 1 or 2.
    gear: int = 1
    #: Bits of the ``id`` of a request, 1 to 16.
    id_bits: int = 6
    #: Bursts of a bank before the next bank begins, see `AddressMap`.
    visit_bursts: int = 4
    #: Reads that wait at each bank, a power of two from 2 to 16.
    read_queue: int = 8
    #: Writes that wait at each bank, a power of two from 2 to 16.
    write_queue: int = 4
    #: Bursts of the write buffer: 32, 64 or 128.
    write_buffer: int = 64
    #: Bursts that are collected before writes interrupt reads, 1 to half of ``write_buffer``.
    write_batch: int = 32
    #: Clocks after which writes do not wait for a batch any longer, 16 to 65535.
    write_age: int = 1024
    #: ``per_bank`` or ``all_bank``; None takes the first of them that the standard has.
    refresh: str | None = None
    #: Refreshes of a bank that may be owed before one is forced, 1 to ``postponed_refreshes`` - 2.
    refresh_debt: int = 6

    def __post_init__(self) -> None:
        def among(field: str, legal: tuple[object, ...]) -> None:
            value = getattr(self, field)
            if value not in legal or isinstance(value, bool):
                listed = ", ".join(map(repr, legal))
                raise StandardError(f"{field} must be one of {listed}, not {value!r}")

        def between(field: str, low: int, high: int) -> None:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise StandardError(
                    f"{field} must be an integer from {low} to {high}, not {value!r}"
                )

        among("gear", GEARS)
        between("id_bits", 1, 16)
        among("read_queue", (2, 4, 8, 16))
        among("write_queue", (2, 4, 8, 16))
        among("write_buffer", (32, 64, 128))
        between("write_batch", 1, self.write_buffer // 2)
        between("write_age", 16, 65535)
        among("refresh", (None, *self._refreshes))
        between("refresh_debt", 1, self.standard.postponed_refreshes - 2)
        AddressMap(self.standard, self.visit_bursts)

    @property
    def address_map(self) -> AddressMap:
        """Where an address lies."""
        return AddressMap(self.standard, self.visit_bursts)

    @property
    def _refreshes(self) -> tuple[str, ...]:
        return REFRESHES if self.standard.protocol.per_bank_refresh else REFRESHES[1:]

    @property
    def per_bank_refresh(self) -> bool:
        """Whether banks are refreshed one (or one set) at a time."""
        return (self.refresh or self._refreshes[0]) == "per_bank"

    @property
    def bank_sets(self) -> tuple[tuple[int, ...], ...]:
        """Banks that one refresh refreshes, per refresh of a round."""
        banks = range(self.standard.banks)
        if not self.per_bank_refresh:
            return (tuple(banks),)
        sets = self.standard.refresh_sets
        return tuple(tuple(bank for bank in banks if bank % sets == i) for i in range(sets))
