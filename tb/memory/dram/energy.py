"""What the energy table of a standard makes of the device model's counters."""

from __future__ import annotations

from collections.abc import Mapping

from hw.memory.dram import dram_energy, load_energy, load_standard


def modelled_energy(
    standard: str, counts: Mapping[str, int], *, clocks: int, channels: int
) -> dict[str, float] | None:
    """Return picojoules by cause, or None for a standard without a table; see `dram_energy`.

    Parameters
    ----------
    standard
        Its name.
    counts
        Of all devices together.
    clocks
        DRAM clocks.
    channels
        Pseudo-channels in use. Devices are powered and refreshed as a whole, so one that is in use
        by half costs as much in the background as one that is in full use.
    """
    table = load_energy(load_standard(standard))
    if table is None:
        return None
    devices = -(-channels // load_standard(standard).pseudo_channels)
    return dram_energy(table, counts, clocks=clocks, devices=devices)


def per_bit(energy: Mapping[str, float], size: float) -> float:
    """Return picojoules per bit of ``size`` bytes; 0 if there are none."""
    return sum(energy.values()) / (8 * size) if size else 0.0
