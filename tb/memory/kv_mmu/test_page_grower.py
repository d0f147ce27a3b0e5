"""PageGrower between requests and a command unit that answers anything."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from golden.twin.kv_mmu import Command
from hw.config import preset
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region
from hw.memory.kv_mmu.page_grower import PageGrower, grow_request
from hw.memory.kv_mmu.ports import REPLY
from tb.formal.mutant import mutant
from tb.harness import pack
from tb.harness.stepped import Neighbours, Steps, play
from tb.harness.verdict import Hang

CONFIG = MmuConfig(attention=preset("tiny"), sequences=5, page_bytes=1024, writes=True)


@dataclass(frozen=True)
class Growth:
    """A request, the statuses that its commands are answered with, and what is to come of it."""

    sequence: int
    layer: int
    kv_head: int
    region: Region
    first: int
    end: int
    statuses: tuple[CommandStatus, ...]

    @property
    def payload(self) -> int:
        """The request's."""
        place = {
            "sequence": self.sequence,
            "layer": self.layer,
            "kv_head": self.kv_head,
            "region": self.region,
            "index": self.first,
        }
        return pack(grow_request(CONFIG), {"place": place, "end": self.end})

    @property
    def sent(self) -> int:
        """Pages that are asked for: all, or up to the first one that there is not."""
        wanted = max(0, self.end - self.first)
        answers = self.statuses[:wanted]
        if CommandStatus.OUT_OF_PAGES in answers:
            return answers.index(CommandStatus.OUT_OF_PAGES) + 1
        return wanted

    @property
    def commands(self) -> list[int]:
        """Packed, in order."""
        command = Command(
            opcode=Opcode.ALLOCATE,
            sequence=self.sequence,
            layer=self.layer,
            kv_head=self.kv_head,
            region=self.region,
        )
        indexes = range(self.first, self.first + self.sent)
        return [replace(command, index=index).pack() for index in indexes]


class CommandUnitModel(Neighbours):
    """Answers each command with the next status."""

    def __init__(self, growths: list[Growth]) -> None:
        super().__init__({"request": [growth.payload for growth in growths], "reply": []})
        self._statuses = [status for growth in growths for status in growth.statuses[: growth.sent]]

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        """A reply for a command."""
        if "command" in moved:
            status = self._statuses.pop(0)
            value = len(self._statuses) & 0xFFF
            self.inputs["reply"].append(pack(REPLY, {"status": status, "value": value}))
        return {}


@cache
def unit() -> PageGrower:
    """One for all runs."""
    return PageGrower(CONFIG)


def random_growths(seed: int, count: int) -> list[Growth]:
    """Ranges of none, one, several and all pages of a region; corners of every number."""
    rng = random.Random(seed)
    core, most = CONFIG.attention, CONFIG.most_pages
    growths = []
    for number in range(count):
        first, end = sorted((rng.randint(0, most - 1), rng.randint(0, most)))
        if number % 3:
            end = min(most, first + rng.randrange(4))
        if number % 7 == 0:
            # No range, but nearly one.
            first, end = min(end + 1, most - 1), min(end, most - 1)
        # Pages that are there or not, other faults, and in every third range one page too few.
        kinds = (CommandStatus.OK, CommandStatus.ALREADY_MAPPED, CommandStatus.TABLE_ERROR)
        statuses = [rng.choice((CommandStatus.OK, rng.choice(kinds))) for _ in range(most)]
        if number % 3 == 0:
            statuses[rng.randrange(max(1, end - first))] = CommandStatus.OUT_OF_PAGES
        growths.append(
            Growth(
                sequence=rng.choice((0, CONFIG.sequences - 1, rng.randrange(CONFIG.sequences))),
                layer=rng.choice((0, core.layers - 1)),
                kv_head=rng.choice((0, core.kv_heads - 1)),
                region=rng.choice(list(Region)),
                first=first,
                end=end,
                statuses=tuple(statuses),
            )
        )
    return growths


def check(grower: Any, growths: list[Growth], **options: Any) -> Steps:
    """Compare commands, results and counted pages."""
    commands = [command for growth in growths for command in growth.commands]
    steps = play(
        grower,
        lambda: CommandUnitModel(growths),
        {"command": len(commands), "result": len(growths)},
        counters=grower.counters,
        **options,
    )
    answers = [status for growth in growths for status in growth.statuses[: growth.sent]]
    assert steps.items["command"] == commands
    assert steps.items["result"] == [
        int(CommandStatus.OUT_OF_PAGES in growth.statuses[: growth.sent]) for growth in growths
    ]
    assert len(steps.seen["pages_grown"]) == answers.count(CommandStatus.OK)
    return steps


@pytest.mark.parametrize("stall", [0.0, 0.5, {"reply": 0.9}, {"result": 0.9}, {"command": 0.9}])
def test_random_ranges(stall: Any, seed: int) -> None:
    check(unit(), random_growths(seed, 9), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", range(1, 14, 4))
def test_reset_in_flight(cycle: int) -> None:
    growths = random_growths(3, 3)
    check(unit(), growths, stall=0.2, seed=cycle, reset_at=cycle)


def test_pace() -> None:
    """A page takes two cycles, its command here one more; a request two beside its pages."""
    growth = Growth(1, 0, 1, Region.TAIL, 2, 9, (CommandStatus.OK,) * 7)
    steps = check(unit(), [growth, growth])
    sent = steps.cycles_of["command"]
    assert sent[:7] == list(range(sent[0], sent[0] + 14, 2))
    assert steps.cycles_of["result"][0] == sent[6] + 3
    assert steps.cycles_of["request"][1] == steps.cycles_of["result"][0] + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("index < asked.end", "index <= asked.end"),
        ("status == CommandStatus.OUT_OF_PAGES", "status != CommandStatus.OK"),
        ("event.eq(status == CommandStatus.OK)", "event.eq(1)"),
        ("self.result.payload.eq(0)", "self.result.payload.eq(self.result.payload)"),
        ("command.kv_head.eq(place.kv_head)", "command.kv_head.eq(0)"),
    ],
)
def test_faults_are_found(old: str, new: str) -> None:
    """Negative control."""
    with pytest.raises((AssertionError, IndexError, Hang)):
        check(mutant(PageGrower, old, new)(CONFIG), random_growths(1, 8), max_cycles=600)
