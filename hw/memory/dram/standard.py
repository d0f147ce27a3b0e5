"""A DRAM standard at one speed: organisation, protocol and timing, validated."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from hw.memory.dram.commands import COMMON_TIMING, FAMILIES, Family


class StandardError(ValueError):
    """A table of a DRAM standard is wrong; the message names the entry and the legal values."""


@dataclass(frozen=True, kw_only=True)
class DramStandard:
    """One DRAM standard: what a controller and a device model have to agree on.

    ``standard["tRCDRD"]`` is a timing parameter in clock cycles.

    Parameters
    ----------
    name, description
        How it is called, and what it is.
    family
        A key of `FAMILIES`: which commands it has.
    clock_ps
        Period of the command clock, in picoseconds.
    pseudo_channels
        Data channels that share the command buses: 1 or 2. All that follows is per pseudo-channel.
    data_bits
        Width of the data bus.
    transfers_per_clock
        Transfers of the data bus in one command clock.
    burst_length
        Transfers of one read or write.
    stacks
        Stack IDs: dies on one bus, 1, 2 or 4.
    bank_groups
        Bank groups of all stacks; the stack ID is the upper part of the bank group's number.
    banks_per_group
        Banks of a bank group.
    rows
        Rows of a bank.
    row_bytes
        Bytes of a row.
    activate_cycles
        Clock cycles that ACT occupies its bus; the row is activated in the last of them.
    activate_reference
        Cycle of ACT, from 0, up to which a delay before it (precharge, refresh) is measured.
    banks_per_refresh
        Banks that REFPB refreshes: those whose number is equal modulo ``banks`` over this; 0
        without per-bank refresh.
    postponed_refreshes
        Refreshes that may be owed at a time, and that may be done ahead of time.
    timing
        Timing parameters in clock cycles: all of `COMMON_TIMING` and of the family.
    sources
        Per entry of the table where its value comes from.

    Raises
    ------
    StandardError
        An entry has an illegal value, or two entries contradict each other.
    """

    name: str
    description: str
    family: str
    clock_ps: int
    pseudo_channels: int
    data_bits: int
    transfers_per_clock: int
    burst_length: int
    stacks: int
    bank_groups: int
    banks_per_group: int
    rows: int
    row_bytes: int
    activate_cycles: int
    activate_reference: int
    banks_per_refresh: int
    postponed_refreshes: int
    timing: Mapping[str, int] = field(hash=False)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "timing", MappingProxyType(dict(self.timing)))
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))
        if self.family not in FAMILIES:
            raise StandardError(f"family must be one of {', '.join(FAMILIES)}, not {self.family!r}")
        self._check_organisation()
        self._check_timing()

    def __getitem__(self, parameter: str) -> int:
        """Return a timing parameter, in clock cycles."""
        return self.timing[parameter]

    def _integer(self, name: str, value: object, low: int, high: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise StandardError(f"{name} must be an integer from {low} to {high}, not {value!r}")

    def _power(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        self._integer(name, value, low, high)
        if value & (value - 1):
            raise StandardError(f"{name} must be a power of two, not {value!r}")

    def _check_organisation(self) -> None:
        self._integer("clock_ps", self.clock_ps, 100, 10_000)
        self._power("pseudo_channels", 1, 2)
        self._power("data_bits", 16, 128)
        self._power("transfers_per_clock", 2, 8)
        self._power("burst_length", 4, 32)
        self._power("stacks", 1, 4)
        self._power("bank_groups", 1, 16)
        self._power("banks_per_group", 1, 8)
        self._power("rows", 2, 1 << 18)
        self._power("row_bytes", 64, 1 << 14)
        self._integer("activate_cycles", self.activate_cycles, 1, 2)
        self._integer("activate_reference", self.activate_reference, 0, self.activate_cycles - 1)
        self._integer("postponed_refreshes", self.postponed_refreshes, 0, 16)
        if self.bank_groups < self.stacks:
            raise StandardError(
                f"bank_groups must be a multiple of the {self.stacks} stacks, "
                f"not {self.bank_groups}"
            )
        if self.burst_length < self.transfers_per_clock:
            raise StandardError(
                f"burst_length must be at least the {self.transfers_per_clock} transfers "
                f"of a clock, not {self.burst_length}"
            )
        if self.row_bytes < self.burst_bytes:
            raise StandardError(
                f"row_bytes must be at least the {self.burst_bytes} bytes of a burst, "
                f"not {self.row_bytes}"
            )
        legal = (1, 2) if self.protocol.per_bank_refresh else (0,)
        if self.banks_per_refresh not in legal:
            raise StandardError(
                f"banks_per_refresh must be {' or '.join(map(str, legal))} for {self.family}, "
                f"not {self.banks_per_refresh!r}"
            )

    def _check_timing(self) -> None:
        wanted = (*COMMON_TIMING, *self.protocol.timing)
        for name in wanted:
            if name not in self.timing:
                raise StandardError(f"timing must have {name}, which is missing")
            self._integer(name, self.timing[name], 1, 1 << 16)
        for name in self.timing:
            if name not in wanted:
                raise StandardError(
                    f"timing must not have {name!r}; {self.family} has {', '.join(wanted)}"
                )

        def at_least(name: str, value: int, what: str) -> None:
            if self[name] < value:
                raise StandardError(f"{name} must be at least {value} ({what}), not {self[name]}")

        burst = self.burst_cycles
        at_least("tBL_L", burst, "the cycles of a burst")
        at_least("tCCD_S", burst, "the cycles of a burst")
        at_least("tCCD_L", self["tCCD_S"], "tCCD_S")
        if self.stacks > 1:
            at_least("tCCD_R", self["tCCD_S"], "tCCD_S")
        at_least("tRRD_L", self["tRRD_S"], "tRRD_S")
        at_least("tWTR_L", self["tWTR_S"], "tWTR_S")
        at_least("tRPab", self["tRP"], "tRP")
        at_least("tRAS", max(self["tRCDRD"], self["tRCDWR"]), "tRCD")
        # Otherwise the data of a read and of the write behind it would meet on the bus.
        at_least("tRTW", self["tCL"] + burst - self["tCWL"], "tCL + burst - tCWL")
        at_least("tREFI", self["tRFCab"] + 1, "tRFCab + 1")

    @property
    def protocol(self) -> Family:
        """The family of the standard."""
        return FAMILIES[self.family]

    @property
    def burst_bytes(self) -> int:
        """Bytes of one read or write."""
        return self.data_bits * self.burst_length // 8

    @property
    def burst_cycles(self) -> int:
        """Clock cycles that a burst occupies the data bus."""
        return self.burst_length // self.transfers_per_clock

    @property
    def peak_bytes_per_cycle(self) -> int:
        """Bytes that the data bus of a pseudo-channel moves in a clock cycle."""
        return self.data_bits * self.transfers_per_clock // 8

    @property
    def columns(self) -> int:
        """Bursts of a row: what the port calls a column."""
        return self.row_bytes // self.burst_bytes

    @property
    def banks(self) -> int:
        """Banks of a pseudo-channel."""
        return self.bank_groups * self.banks_per_group

    @property
    def bytes(self) -> int:
        """Bytes of a pseudo-channel."""
        return self.banks * self.rows * self.row_bytes

    @property
    def groups_per_stack(self) -> int:
        """Bank groups of one stack ID."""
        return self.bank_groups // self.stacks

    @property
    def refresh_sets(self) -> int:
        """How many per-bank refreshes do every bank once; 1 without per-bank refresh."""
        return self.banks // self.banks_per_refresh if self.banks_per_refresh else 1

    @property
    def write_to_precharge(self) -> int:
        """Least distance from a write to the precharge of its bank."""
        return self["tCWL"] + self["tBL_L"] + self["tWR"]

    @property
    def all_bank_refresh_share(self) -> float:
        """Share of the time left for data when all banks refresh at once, at the best."""
        return 1 - self["tRFCab"] / self["tREFI"]

    def with_timing(self, **cycles: int) -> "DramStandard":
        """Return the same standard with other values of some timing parameters."""
        return replace(self, timing={**self.timing, **cycles})
