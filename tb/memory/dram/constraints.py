"""The timing rules of the standards as minimal distances between two commands.

Each entry is a sentence of a standard: from this command to that one, of the same bank, bank group
or pseudo-channel, at least so many clock cycles. docs/dram.md has the sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import READS, WRITES

Place: TypeAlias = tuple[int, int]
"""Bank group and bank."""


@dataclass(frozen=True)
class Constraint:
    """A minimal distance between two commands of a pseudo-channel.

    Parameters
    ----------
    rule
        Its name.
    before, after
        The earlier commands and the later ones that it is about.
    related
        Whether it is about commands at these two places, the earlier one first.
    cycles
        The distance.
    """

    rule: str
    before: frozenset[Command]
    after: frozenset[Command]
    related: Callable[[Place, Place], bool]
    cycles: int


def _set(*commands: Command) -> frozenset[Command]:
    return frozenset(commands)


def constraints(standard: DramStandard) -> list[Constraint]:
    """Return the constraints of a standard.

    The distance is measured from where `departure` and to where `arrival` says.
    """
    t: Mapping[str, int] = standard.timing
    per_stack = standard.groups_per_stack
    sets = standard.refresh_sets

    def anywhere(_: Place, __: Place) -> bool:
        return True

    def same_bank(a: Place, b: Place) -> bool:
        return a == b

    def same_group(a: Place, b: Place) -> bool:
        return a[0] == b[0]

    def other_group(a: Place, b: Place) -> bool:
        return a[0] != b[0]

    def other_group_same_stack(a: Place, b: Place) -> bool:
        return a[0] != b[0] and a[0] // per_stack == b[0] // per_stack

    def other_stack(a: Place, b: Place) -> bool:
        return a[0] // per_stack != b[0] // per_stack

    def set_of(place: Place) -> int:
        return (place[0] * standard.banks_per_group + place[1]) % sets

    def same_set(a: Place, b: Place) -> bool:
        return set_of(a) == set_of(b)

    def other_set(a: Place, b: Place) -> bool:
        return set_of(a) != set_of(b)

    split = standard.protocol.split_activate
    # What precedes an activation is told to its first half, what it starts counts from the second.
    to_act, act = (_set(Command.ACT1), _set(Command.ACT2)) if split else (_set(Command.ACT),) * 2
    pre, prea = _set(Command.PRE), _set(Command.PREA)
    refab, refpb = _set(Command.REFAB), _set(Command.REFPB)
    recovery = t["tCWL"] + t["tBL_L"] + t["tWR"]
    to_read_l = t["tCWL"] + t["tBL_L"] + t["tWTR_L"]
    to_read_s = t["tCWL"] + standard.burst_cycles + t["tWTR_S"]

    columns = {
        "tCCD_L": same_group,
        "tCCD_S": other_group_same_stack,
        "tCCD_R": other_stack,
    }
    listed = [
        Constraint("tRCDRD", act, READS, same_bank, t["tRCDRD"]),
        Constraint("tRCDWR", act, WRITES, same_bank, t["tRCDWR"]),
        Constraint("tRAS", act, pre, same_bank, t["tRAS"]),
        Constraint("tRAS", act, prea, anywhere, t["tRAS"]),
        Constraint("tRC", act, act, same_bank, t["tRC"]),
        Constraint("tRC", act, refab, anywhere, t["tRC"]),
        Constraint("tRC", act, refpb, same_set, t["tRC"]),
        Constraint("tRP", pre, to_act, same_bank, t["tRP"]),
        Constraint("tRP", pre, refab, anywhere, t["tRP"]),
        Constraint("tRP", pre, refpb, same_set, t["tRP"]),
        Constraint("tRPab", prea, to_act | refab | refpb, anywhere, t["tRPab"]),
        Constraint("tRTP", READS, pre, same_bank, t["tRTP"]),
        Constraint("tRTP", READS, prea, anywhere, t["tRTP"]),
        Constraint("tWR", WRITES, pre, same_bank, recovery),
        Constraint("tWR", WRITES, prea, anywhere, recovery),
        # The precharge that a read brings along comes tRTP after it.
        Constraint("tWR", WRITES, _set(Command.RDA), same_bank, recovery - t["tRTP"]),
        Constraint("tPPD", pre | prea, pre | prea, anywhere, t["tPPD"]),
        *(
            Constraint(rule, kind, kind, related, t[rule])
            for rule, related in columns.items()
            for kind in (READS, WRITES)
        ),
        Constraint("tRTW", READS, WRITES, anywhere, t["tRTW"]),
        Constraint("tWTR_L", WRITES, READS, same_group, to_read_l),
        Constraint("tWTR_S", WRITES, READS, other_group, to_read_s),
        Constraint("tRRD_L", act, act | refpb, same_group, t["tRRD_L"]),
        Constraint("tRRD_S", act, act | refpb, other_group, t["tRRD_S"]),
        Constraint("tRFCab", refab, to_act | pre | prea | refab | refpb, anywhere, t["tRFCab"]),
    ]
    if standard.protocol.per_bank_refresh:
        listed += [
            Constraint("tRFCpb", refpb, to_act | pre | refpb, same_set, t["tRFCpb"]),
            Constraint("tRFCpb", refpb, prea | refab, anywhere, t["tRFCpb"]),
            Constraint("tpbR2act", refpb, to_act, other_set, t["tpbR2act"]),
            Constraint("tpbR2pbr", refpb, refpb, other_set, t["tpbR2pbr"]),
        ]
    return listed


def departure(standard: DramStandard, command: Command) -> int:
    """Return the cycle of a command, from 0, that a distance after it counts from."""
    return standard.activate_cycles - 1 if command is Command.ACT else 0


def arrival(standard: DramStandard, rule: str, command: Command) -> int:
    """Return the cycle of a command, from 0, that a distance before it counts to."""
    if command is not Command.ACT:
        return 0
    if rule in ("tRC", "tRRD_L", "tRRD_S", "tFAW"):
        return standard.activate_cycles - 1
    return standard.activate_reference
