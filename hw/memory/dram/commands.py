"""The commands of the DRAM port and what a family of standards makes of them."""

from dataclasses import dataclass
from enum import IntEnum


class Command(IntEnum):
    """A command of the DRAM port; the number is its code at the port (docs/dram.md)."""

    NOP = 0
    #: Activate: open a row.
    ACT = 1
    #: First and second half of an activation that takes two commands.
    ACT1 = 2
    ACT2 = 3
    #: Read and write a burst, without and with auto precharge.
    RD = 4
    WR = 5
    RDA = 6
    WRA = 7
    #: Precharge a bank, precharge all banks.
    PRE = 8
    PREA = 9
    #: Refresh all banks, refresh one bank (or one set of banks).
    REFAB = 10
    REFPB = 11
    #: Start the data clock for the read or the write of the next cycle.
    CAS_RD = 12
    CAS_WR = 13


READS = frozenset({Command.RD, Command.RDA})
WRITES = frozenset({Command.WR, Command.WRA})
#: Commands of the column bus, where a family has one of its own.
COLUMN_COMMANDS = READS | WRITES | {Command.CAS_RD, Command.CAS_WR}


@dataclass(frozen=True, kw_only=True)
class Family:
    """What standards of one kind have in common.

    Parameters
    ----------
    commands
        The commands it has, NOP included.
    column_bus
        Whether column commands have a bus of their own, beside the bus of the row commands.
    split_activate
        Whether a row is activated by ACT1 and ACT2 rather than ACT.
    data_clock
        Whether a data clock (WCK) has to run before data can move.
    timing
        The timing parameters that it has beyond `COMMON_TIMING`.
    """

    commands: frozenset[Command]
    column_bus: bool = False
    split_activate: bool = False
    data_clock: bool = False
    timing: tuple[str, ...] = ()

    @property
    def buses(self) -> int:
        """Command slots of one DRAM clock."""
        return 2 if self.column_bus else 1

    @property
    def per_bank_refresh(self) -> bool:
        """Whether single banks (or sets of banks) can be refreshed."""
        return Command.REFPB in self.commands


#: Timing parameters of every standard, in clock cycles; docs/dram.md says what each one is.
COMMON_TIMING = (
    *("tCL", "tCWL", "tBL_L"),
    *("tRCDRD", "tRCDWR", "tRP", "tRPab", "tRAS", "tRC", "tRTP", "tWR", "tPPD"),
    *("tCCD_S", "tCCD_L", "tCCD_R", "tRTW", "tWTR_S", "tWTR_L"),
    *("tRRD_S", "tRRD_L", "tFAW", "tRFCab", "tREFI"),
)
_PER_BANK_TIMING = ("tRFCpb", "tpbR2act", "tpbR2pbr", "tpbRround")
_COMMON = frozenset(
    {
        *(Command.NOP, Command.RD, Command.WR, Command.RDA, Command.WRA),
        *(Command.PRE, Command.PREA, Command.REFAB),
    }
)

FAMILIES = {
    "ddr4": Family(commands=_COMMON | {Command.ACT}),
    "hbm": Family(
        commands=_COMMON | {Command.ACT, Command.REFPB},
        column_bus=True,
        timing=_PER_BANK_TIMING,
    ),
    "lpddr5": Family(
        commands=_COMMON
        | {Command.ACT1, Command.ACT2, Command.REFPB, Command.CAS_RD, Command.CAS_WR},
        split_activate=True,
        data_clock=True,
        timing=(*_PER_BANK_TIMING, "tAAD", "tWCKPST"),
    ),
}
"""The families by name."""
