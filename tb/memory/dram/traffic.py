"""Random command traffic: legal, as tight as the rules allow, or at times a little too early."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import COLUMN_COMMANDS, READS, WRITES
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.constraints import Place
from tb.memory.dram.device import Run, Word
from tb.memory.dram.obligations import refresh_set
from tb.memory.dram.trace import Issue

#: Rows and columns that the traffic keeps to, so that it meets its own data again.
ROWS = 4
COLUMNS = 8


@dataclass
class Traffic:
    """A random run.

    Parameters
    ----------
    issues
        The commands, in order of time.
    words
        The data of the writes.
    expected
        What each word read has to be, by time and pseudo-channel; None where nothing was written.
    cycles
        DRAM clocks until everything is over.
    """

    issues: list[Issue] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    expected: dict[tuple[int, int], int | None] = field(default_factory=dict)
    cycles: int = 0

    def run(self) -> Run:
        """Return it in the form that the device is played with."""
        return Run(self.issues, self.cycles, self.words)


class Generator:
    """Issues random commands one after the other.

    Parameters
    ----------
    standard
        The standard.
    seed
        Of all random choices.
    early
        Probability that a command comes up to three cycles too early. The data of such traffic
        mean nothing.
    """

    def __init__(self, standard: DramStandard, seed: int, early: float = 0.0) -> None:
        self._standard = standard
        self._random = random.Random(seed)
        self._early = early
        self._channels = [ChannelChecker(standard) for _ in range(standard.pseudo_channels)]
        self._now = 0
        #: Per bus the first cycle in which it is free.
        self._free = [0, 0]
        #: Per pseudo-channel: refreshes done, how many may be owed just now, sets left to do.
        self._done = [0 for _ in self._channels]
        self._slack = [0 for _ in self._channels]
        self._round: list[list[int]] = [[] for _ in self._channels]
        self._memory: dict[tuple[int, Place, int, int], int] = {}
        self._traffic = Traffic()

    def generate(self, commands: int) -> Traffic:
        """Return traffic of at least so many commands."""
        while len(self._traffic.issues) < commands:
            for channel in range(len(self._channels)):
                self._refresh(channel)
            self._step(self._random.randrange(len(self._channels)))
        self._traffic.issues.sort(key=lambda issue: (issue.time, issue.bus))
        # An even number, as a clock of the logic may be two of these.
        self._traffic.cycles = (self._now + 100) & ~1
        return self._traffic

    # --- what to do next --------------------------------------------------------------------------

    def _step(self, channel: int) -> None:
        checker, choose = self._channels[channel], self._random
        if checker.open_rows and choose.random() < 0.6:
            commands = (Command.RD, Command.WR, Command.RDA, Command.WRA)
            command = choose.choices(commands, (6, 4, 1, 1))[0]
            # A few in a row, or turnarounds would hide the distances within a kind.
            for _ in range(choose.randrange(1, 6)):
                if checker.open_rows:
                    self._access(channel, command, choose.choice(list(checker.open_rows)))
        place = choose.randrange(self._standard.bank_groups), 0
        place = place[0], choose.randrange(self._standard.banks_per_group)
        if place in checker.open_rows or choose.random() < 0.03:
            self._issue(channel, Command.PRE, place)
        elif choose.random() < 0.01:
            self._issue(channel, Command.PREA, place)
        else:
            self._activate(channel, place)
        if choose.random() < 0.02:
            self._now += choose.randrange(2 * self._standard["tRC"])

    def _activate(self, channel: int, place: Place) -> None:
        row, checker = self._random.randrange(ROWS), self._channels[channel]
        if not self._standard.protocol.split_activate:
            self._issue(channel, Command.ACT, place, row)
            return
        longest = self._standard["tAAD"]
        second = self._placed(channel, Command.ACT2, place, row)
        # The second half must not have to wait for longer than it may.
        self._now = max(self._now, checker.earliest(second) - self._random.randrange(1, longest))
        first = self._issue(channel, Command.ACT1, place, row)
        if checker.open_rows and self._random.random() < 0.3:
            between = self._random.choice(list(checker.open_rows))
            read = self._placed(channel, Command.RD, between)
            if checker.earliest(read) <= first + 3:
                self._access(channel, Command.RD, between)
        self._issue(channel, Command.ACT2, place, row, punctual=True)

    def _access(self, channel: int, command: Command, place: Place) -> None:
        checker = self._channels[channel]
        column = self._random.randrange(COLUMNS)
        issue = self._placed(channel, command, place, column=column)
        time = self._time(issue, punctual=self._standard.protocol.split_activate)
        if self._standard.protocol.data_clock and (
            "WCK_OFF" in checker.broken(replace(issue, time=time))
        ):
            cas = Command.CAS_RD if command in READS else Command.CAS_WR
            time = max(time, issue.time + 1)
            self._put(self._placed(channel, cas, place), time - 1)
        self._put(issue, time)

    def _refresh(self, channel: int) -> None:
        """Do the refreshes that are due: now and then some later, or one ahead of time."""
        standard, sets = self._standard, self._standard.refresh_sets
        due = self._now * sets // standard["tREFI"]
        while due - self._done[channel] > self._slack[channel]:
            self._slack[channel] = self._random.randrange(-1, 5)
            if standard.protocol.per_bank_refresh and self._random.random() < 0.95:
                self._refresh_one(channel)
                self._done[channel] += 1
                continue
            if self._channels[channel].open_rows:
                self._issue(channel, Command.PREA, (0, 0))
            self._issue(channel, Command.REFAB, (0, 0))
            self._round[channel] = []
            self._done[channel] += sets

    def _refresh_one(self, channel: int) -> None:
        standard, left = self._standard, self._round[channel]
        if not left:
            left.extend(range(standard.refresh_sets))
            self._random.shuffle(left)
        wanted = left.pop()
        for place in list(self._channels[channel].open_rows):
            if refresh_set(standard, *place) == wanted:
                self._issue(channel, Command.PRE, place)
        group, bank = divmod(wanted, standard.banks_per_group)
        self._issue(channel, Command.REFPB, (group, bank))

    # --- when to do it ----------------------------------------------------------------------------

    def _placed(
        self, channel: int, command: Command, place: Place, row: int = 0, column: int = 0
    ) -> Issue:
        """Return a command in the first cycle in which its bus is free."""
        bus = int(self._standard.protocol.column_bus and command in COLUMN_COMMANDS)
        time = max(self._now, self._free[bus])
        return Issue(time, command, channel, *place, row=row, column=column, bus=bus)

    def _time(self, issue: Issue, *, punctual: bool) -> int:
        """Return when to issue a command: as soon as it is legal, or now and then not quite."""
        time = self._channels[issue.channel].earliest(issue)
        if self._random.random() < self._early:
            return max(issue.time, time - self._random.randrange(1, 4))
        if not punctual and self._random.random() < 0.1:
            return time + self._random.randrange(5)
        return time

    def _issue(
        self, channel: int, command: Command, place: Place, row: int = 0, *, punctual: bool = False
    ) -> int:
        issue = self._placed(channel, command, place, row)
        return self._put(issue, self._time(issue, punctual=punctual))

    def _put(self, issue: Issue, time: int) -> int:
        issue = replace(issue, time=time)
        if issue.command in READS | WRITES:
            self._move(issue)
        self._channels[issue.channel].add(issue)
        self._traffic.issues.append(issue)
        taken = self._standard.activate_cycles if issue.command is Command.ACT else 1
        self._free[issue.bus] = time + taken
        if issue.bus == 1 and issue.command in (Command.RDA, Command.WRA):
            # The row slot of a cycle comes first: a PREA there would close the row too early.
            self._free[0] = max(self._free[0], time + 1)
        self._now = time
        return time

    def _move(self, issue: Issue) -> None:
        """Write new data, or note what has to be read."""
        standard, place = self._standard, (issue.bank_group, issue.bank)
        row = self._channels[issue.channel].open_rows.get(place, 0)
        for i in range(standard.burst_cycles):
            word = (issue.channel, place, row, issue.column * standard.burst_cycles + i)
            if issue.command in READS:
                time = issue.time + standard["tCL"] + i
                self._traffic.expected[time, issue.channel] = self._memory.get(word)
                continue
            data, mask = self._random.getrandbits(128), 0
            if word in self._memory and self._random.random() < 0.3:
                mask = self._random.getrandbits(16)
            time = issue.time + standard["tCWL"] + i
            self._traffic.words.append(Word(time, issue.channel, data, mask))
            kept = sum(0xFF << 8 * byte for byte in range(16) if mask >> byte & 1)
            self._memory[word] = (self._memory.get(word, 0) & kept) | (data & ~kept)
