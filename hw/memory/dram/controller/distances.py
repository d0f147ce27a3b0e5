"""The timing parameters of a standard as clocks between the commands of one controller."""

from dataclasses import dataclass

from hw.memory.dram.standard import DramStandard


@dataclass(frozen=True)
class Distances:
    """Least clocks of the logic between two commands of a pseudo-channel.

    The controller issues row commands in phase 0 and column commands in one fixed phase, so every
    distance is a constant, rounded up to whole clocks of the logic. An event is the command itself,
    of an activation in two halves the second one; "late" distances lead to what the standard
    measures at an activation's end, which comes after the command that begins it.

    Parameters
    ----------
    standard
        The standard.
    gear
        DRAM clocks in a clock of the logic, 1 or 2.
    pseudo_channel
        Which of the pseudo-channels.
    """

    standard: DramStandard
    gear: int
    pseudo_channel: int

    @property
    def column_phase(self) -> int:
        """Phase of the column commands.

        Pseudo-channels that share a column bus have a phase each at gear 2; on a bus for rows and
        columns the columns have the second phase.
        """
        if self.gear == 1:
            return 0
        return self.pseudo_channel if self.standard.protocol.column_bus else 1

    def _clocks(self, cycles: int, departure: int, arrival: int) -> int:
        return max(1, -(-(cycles + departure - arrival) // self.gear))

    @property
    def _activated(self) -> int:
        """Cycles from the event of an activation to when the row is being opened."""
        return self.standard.activate_cycles - 1

    @property
    def _activation_end(self) -> int:
        """Cycles from the command that begins an activation to its end, at least."""
        return self.gear if self.standard.protocol.split_activate else self._activated

    def row(self, name: str) -> int:
        """From a precharge or refresh to a precharge or refresh."""
        return self._clocks(self.standard[name], 0, 0)

    def row_to_activate(self, name: str) -> int:
        """From a precharge or refresh to the command that begins an activation."""
        return self._clocks(self.standard[name], 0, self.standard.activate_reference)

    def activate_to_row(self, name: str) -> int:
        """From an activation to a precharge or refresh."""
        return self._clocks(self.standard[name], self._activated, 0)

    def activate_to_activate(self, name: str) -> int:
        """From an activation to the command that begins the next; measured to that one's end."""
        return self._clocks(self.standard[name], self._activated, self._activation_end)

    def refresh_to_activation_end(self, name: str) -> int:
        """From a refresh that counts as an activation to the command that begins the next."""
        return self._clocks(self.standard[name], 0, self._activation_end)

    def activate_to_column(self, name: str) -> int:
        """From an activation to a column command."""
        return self._clocks(self.standard[name], self._activated, self.column_phase)

    def column(self, name: str) -> int:
        """From a column command to a column command."""
        return self._clocks(self.standard[name], 0, 0)

    def write_to_read(self, name: str) -> int:
        """From a write to a read: ``tWTR_L`` or ``tWTR_S``, counted from the end of the data."""
        standard = self.standard
        burst = standard["tBL_L"] if name == "tWTR_L" else standard.burst_cycles
        return self._clocks(standard["tCWL"] + burst + standard[name], 0, 0)

    @property
    def read_to_precharge(self) -> int:
        """From a read to the precharge of its bank."""
        return self._clocks(self.standard["tRTP"], self.column_phase, 0)

    @property
    def write_to_precharge(self) -> int:
        """From a write to the precharge of its bank."""
        return self._clocks(self.standard.write_to_precharge, self.column_phase, 0)

    def data_clock(self, latency: str) -> int:
        """Clocks after a read (``tCL``) or write (``tCWL``) in which another needs no CAS."""
        standard = self.standard
        cycles = standard[latency] + standard.burst_cycles + standard["tWCKPST"]
        return cycles // self.gear
