"""The commands of one pseudo-channel, each held against those before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import READS, WRITES
from tb.memory.dram.constraints import Constraint, Place, arrival, constraints, departure
from tb.memory.dram.obligations import refresh_set
from tb.memory.dram.trace import Issue

#: Rules about a row that is open: they do not hold for a bank that has been precharged since.
OF_OPEN_ROWS = frozenset({"tRAS", "tRTP", "tWR", "tRCDRD", "tRCDWR"})

#: What a distance may count from that is no command, see `ChannelChecker.causes`.
ITSELF, WINDOW, ROUND = "auto precharge", "four activations", "round of refreshes"


class ChannelChecker:
    """History of a pseudo-channel since the last reset.

    Parameters
    ----------
    standard
        The standard.
    """

    def __init__(self, standard: DramStandard) -> None:
        self._standard = standard
        self._constraints: dict[Command, list[Constraint]] = defaultdict(list)
        for constraint in constraints(standard):
            for command in constraint.after:
                self._constraints[command].append(constraint)
        #: Per command, oldest first: from where distances count, and the place.
        self._history: dict[Command, list[tuple[int, Place]]] = defaultdict(list)
        #: Activations and per-bank refreshes: what tFAW counts.
        self._window: list[int] = []
        #: Per bank when its latest auto precharge starts.
        self._closing: dict[Place, int] = {}
        self._half: Place | None = None
        self._round: set[int] = set()
        self._round_end: int | None = None
        #: Rows that are open, by bank.
        self.open_rows: dict[Place, int] = {}

    def broken(self, issue: Issue) -> set[str]:
        """Return the rules that the command breaks, those of a later cycle left out."""
        state = set(self._state_rules(issue))
        if issue.command is Command.ACT2 and state:
            return state
        return state | {rule for rule, _ in self.limits(issue)}

    def earliest(self, issue: Issue) -> int:
        """Return the first cycle, from ``issue.time`` on, in which no distance is too short."""
        return max((limit for _, limit in self.limits(issue)), default=issue.time)

    def limits(self, issue: Issue) -> Iterator[tuple[str, int]]:
        """Yield the rules whose distance is too short, with the first cycle that they allow."""
        for rule, _, first in self.causes(issue):
            yield rule, first

    def causes(self, issue: Issue) -> Iterator[tuple[str, str, int]]:
        """Yield like `limits`, with the earlier command that the distance counts from between them.

        That is a command's name, `ITSELF` for a precharge that a read or write brought along,
        `WINDOW` for the activations that tFAW counts, or `ROUND` for the end of a refresh round.
        """
        for rule, cause, limit in self._distances(issue):
            first = limit - arrival(self._standard, rule, issue.command)
            if first > issue.time:
                yield rule, cause, first

    # --- distances --------------------------------------------------------------------------------

    def _distances(self, issue: Issue) -> Iterator[tuple[str, str, int]]:
        timing, command = self._standard.timing, issue.command
        place = (issue.bank_group, issue.bank)
        for constraint in self._constraints[command]:
            for before in constraint.before:
                newest = self._newest(constraint, before, place, issue.time)
                if newest is not None:
                    yield constraint.rule, before.name, newest + constraint.cycles
        for bank, start in self._closing.items():
            if self._closes(command, place, bank):
                yield "tRP", ITSELF, start + timing["tRP"]
        if command in (Command.ACT, Command.ACT2, Command.REFPB) and len(self._window) >= 4:
            yield "tFAW", WINDOW, self._window[-4] + timing["tFAW"]
        if command is Command.REFPB and not self._round and self._round_end is not None:
            yield "tpbRround", ROUND, self._round_end + timing["tpbRround"]

    def _newest(
        self, constraint: Constraint, before: Command, place: Place, now: int
    ) -> int | None:
        """Return where the newest earlier command counts from, of those close enough to matter."""
        only_open = constraint.rule in OF_OPEN_ROWS
        for time, earlier in reversed(self._history[before]):
            if time + constraint.cycles <= now:
                return None
            if constraint.related(earlier, place) and not (
                only_open and earlier not in self.open_rows
            ):
                return time
        return None

    def _closes(self, command: Command, place: Place, bank: Place) -> bool:
        """Whether a command has to wait for the auto precharge of a bank."""
        if command in (Command.ACT, Command.ACT1):
            return bank == place
        if command is Command.REFPB:
            return refresh_set(self._standard, *bank) == refresh_set(self._standard, *place)
        return command is Command.REFAB

    # --- states -----------------------------------------------------------------------------------

    def _busy(self, bank: Place) -> bool:
        return bank in self.open_rows or bank == self._half

    def _state_rules(self, issue: Issue) -> Iterator[str]:
        command, place = issue.command, (issue.bank_group, issue.bank)
        if command in (Command.ACT, Command.ACT1) and self._busy(place):
            yield "ROW_OPEN"
        if command is Command.REFAB and (self.open_rows or self._half):
            yield "ROW_OPEN"
        if command is Command.REFPB:
            wanted = refresh_set(self._standard, *place)
            busy = [*self.open_rows, *([self._half] if self._half else [])]
            if any(refresh_set(self._standard, *bank) == wanted for bank in busy):
                yield "ROW_OPEN"
            if wanted in self._round:
                yield "REFRESH_ROUND"
        if command is Command.ACT1 and self._half is not None:
            yield "ACTIVATE_ORDER"
        if command is Command.ACT2 and self._half != place:
            yield "ACTIVATE_ORDER"
        if command is Command.PRE and self._half == place:
            yield "ACTIVATE_ORDER"
        if command is Command.PREA and self._half is not None:
            yield "ACTIVATE_ORDER"
        if command in READS | WRITES:
            if place not in self.open_rows:
                yield "ROW_CLOSED"
            if self._standard.protocol.data_clock and not self._data_clock_runs(issue):
                yield "WCK_OFF"

    def _data_clock_runs(self, issue: Issue) -> bool:
        """Whether a CAS or an earlier access keeps the data clock running for this access."""
        timing = self._standard.timing
        start = Command.CAS_RD if issue.command in READS else Command.CAS_WR
        if self._history[start] and self._history[start][-1][0] == issue.time - 1:
            return True
        tail = self._standard.burst_cycles + timing["tWCKPST"]
        for kinds, latency in ((READS, timing["tCL"]), (WRITES, timing["tCWL"])):
            for kind in kinds:
                if self._history[kind] and (
                    self._history[kind][-1][0] + latency + tail >= issue.time
                ):
                    return True
        return False

    # --- taking a command into the history --------------------------------------------------------

    def add(self, issue: Issue) -> None:
        """Take a command into the history, whether or not it breaks a rule."""
        standard, command, place = self._standard, issue.command, (issue.bank_group, issue.bank)
        if command is Command.ACT2 and self._half != place:
            return
        time = issue.time + departure(standard, command)
        if command is Command.ACT1:
            self._half = place
        if command in (Command.ACT, Command.ACT2):
            self._half = None if command is Command.ACT2 else self._half
            self.open_rows[place] = issue.row
            self._window.append(time)
        if command in (Command.RDA, Command.WRA) and place in self.open_rows:
            self._close_by_itself(issue, place)
        if command is Command.PRE:
            self.open_rows.pop(place, None)
        if command is Command.PREA:
            self.open_rows.clear()
        if command is Command.REFAB:
            self._round.clear()
        if command is Command.REFPB:
            self._window.append(time)
            self._round.add(refresh_set(standard, *place))
            if len(self._round) == standard.refresh_sets:
                self._round.clear()
                self._round_end = time
        self._history[command].append((time, place))

    def _close_by_itself(self, issue: Issue, place: Place) -> None:
        """Start an auto precharge as soon as the row has been open and written for long enough."""
        timing = self._standard.timing
        kind = Command.ACT2 if self._standard.protocol.split_activate else Command.ACT
        opened = next(time for time, bank in reversed(self._history[kind]) if bank == place)
        recovery = (
            timing["tRTP"]
            if issue.command is Command.RDA
            else timing["tCWL"] + timing["tBL_L"] + timing["tWR"]
        )
        start = max(issue.time + recovery, opened + timing["tRAS"])
        self._closing[place] = max(start, self._closing.get(place, start))
        del self.open_rows[place]
