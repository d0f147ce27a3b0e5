"""What a command trace says about a stretch of a run: bursts moved, and before what the bus idled.

A gap lies between two bursts of a pseudo-channel on its data bus. It is named by what is known of
the burst that ends it, the first of these that holds:

- ``turn``: it goes the other way than the burst before it.
- ``all-bank refresh``: all banks were refreshed since the burst before it.
- ``refreshed bank``: it is the first of its row, which was opened as soon as a refresh of its bank
  had ended.
- ``activation``: it is the first of its row, and came as soon as tRCD allowed.
- ``other``: none of these, such as a bus limit, or nothing to do.

It is no proof of a cause: a gap is counted where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hw.memory.dram import Command
from hw.memory.dram.commands import READS, WRITES
from hw.memory.dram.controller import ControllerConfig
from tb.memory.dram.trace import Trace

CLASSES = ("turn", "all-bank refresh", "refreshed bank", "activation", "other")
#: Kinds of bursts.
KINDS = ("streaming", "gather", "write")
#: Clocks by which a command may come later than its rule allows and still be "as soon as".
REFRESH_SLACK, ACTIVATION_SLACK = 32, 4
_ACTIVATIONS = frozenset({Command.ACT, Command.ACT2})
#: Commands that say which row is opened.
_ROW_COMMANDS = frozenset({Command.ACT, Command.ACT1})
_NEVER = -(1 << 40)


class RunTooShort(ValueError):
    """A pseudo-channel has no burst after the end of the stretch."""


@dataclass
class Stretch:
    """What happened in the DRAM clocks from ``begin`` to before ``end``, all pseudo-channels.

    ``idle`` has the idle clocks of the data buses by class of the gap, ``streamed`` the reads of
    the rows that are streamed; ``later`` has the kinds of bursts that begin after the end, as pairs
    of pseudo-channel and kind.
    """

    begin: int
    end: int
    reads: int = 0
    writes: int = 0
    streamed: int = 0
    activations: int = 0
    refreshes: int = 0
    idle: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    later: set[tuple[int, str]] = field(default_factory=set)

    def require_all_clients(self) -> None:
        """Check that every client of each pseudo-channel had requests until the end.

        Raises
        ------
        RunTooShort
            One had not.
        """
        for channel in {channel for channel, _ in self.later}:
            kinds = {kind for other, kind in self.later if other == channel}
            if kinds != set(KINDS):
                raise RunTooShort(
                    f"pseudo-channel {channel} must have bursts of {KINDS} after {self.end}, "
                    f"not only of {tuple(sorted(kinds))}"
                )


@dataclass
class _Bank:
    activated: int = _NEVER
    refreshed: int = _NEVER
    fresh: bool = False
    row: int = 0


@dataclass
class _Channel:
    banks: list[_Bank]
    free: int = 0
    writing: bool = False
    last: int = 0
    all_refreshed: int = _NEVER


def measure_stretch(
    config: ControllerConfig, trace: Trace, begin: int, end: int, *, streamed_rows: int = 0
) -> Stretch:
    """Count bursts by the clocks in which their data are on the bus, the others by their command.

    Reads of the first ``streamed_rows`` rows count as streaming, others as gathering.

    Raises
    ------
    RunTooShort
        A pseudo-channel has no burst that begins after ``end``, so it was not busy until then.
    """
    standard = config.standard
    stretch = Stretch(begin, end)
    channels = [
        _Channel([_Bank() for _ in range(standard.banks)]) for _ in range(standard.pseudo_channels)
    ]
    for issue in trace.issues:
        channel = channels[issue.channel]
        number = issue.bank_group * standard.banks_per_group + issue.bank
        bank = channel.banks[number]
        within = begin <= issue.time < end
        if issue.command in _ROW_COMMANDS:
            bank.row = issue.row
        if issue.command in _ACTIVATIONS:
            bank.activated, bank.fresh = issue.time, True
            stretch.activations += within
        elif issue.command == Command.REFPB:
            for other in config.bank_sets[number % standard.refresh_sets]:
                channel.banks[other].refreshed = issue.time
            stretch.refreshes += within
        elif issue.command == Command.REFAB:
            channel.all_refreshed = issue.time
            stretch.refreshes += within
        elif issue.command in READS or issue.command in WRITES:
            write = issue.command in WRITES
            start = issue.time + standard["tCWL" if write else "tCL"]
            idle = min(start, end) - max(channel.free, begin)
            if idle > 0:
                stretch.idle[_class(config, channel, bank, issue.time, write)] += idle
            if begin <= start < end:
                stretch.writes += write
                stretch.reads += not write
                stretch.streamed += not write and bank.row < streamed_rows
            elif start >= end:
                streams = bank.row < streamed_rows
                kind = "write" if write else "streaming" if streams else "gather"
                stretch.later.add((issue.channel, kind))
            channel.free, channel.writing = start + standard.burst_cycles, write
            channel.last, bank.fresh = issue.time, False
    for i, channel in enumerate(channels):
        if channel.free <= end:
            raise RunTooShort(f"pseudo-channel {i} must be busy until {end}, not {channel.free}")
    return stretch


def _class(config: ControllerConfig, channel: _Channel, bank: _Bank, time: int, write: bool) -> str:
    standard = config.standard
    if write != channel.writing:
        return "turn"
    if channel.all_refreshed > channel.last:
        return "all-bank refresh"
    if not bank.fresh:
        return "other"
    blocked = standard.timing.get("tRFCpb", 0) + REFRESH_SLACK
    if bank.activated - bank.refreshed <= blocked:
        return "refreshed bank"
    delay = standard["tRCDWR" if write else "tRCDRD"] + ACTIVATION_SLACK * config.gear
    return "activation" if time - bank.activated <= delay else "other"
