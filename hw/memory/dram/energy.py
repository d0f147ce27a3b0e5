"""Energy of what a DRAM does, from tables whose values name their sources: a model."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from hw.memory.dram.loader import check_sources, load_standard, only_keys, sourced_value
from hw.memory.dram.standard import DramStandard, StandardError

_TOP = ("name", "covers", "sources", "energy")
_VALUES = (
    *("activation_pj", "read_pj_per_bit", "write_pj_per_bit", "io_pj_per_bit"),
    *("all_bank_refresh_pj", "background_mw"),
)
_PER_BANK = "per_bank_refresh_pj"
#: Counters of the device model that the energy is made from.
COUNTED = ("activations", "reads", "writes", "all_bank_refreshes", "per_bank_refreshes")


@dataclass(frozen=True, kw_only=True)
class DramEnergy:
    """Energy per event of one pseudo-channel.

    Parameters
    ----------
    name
        Of the standard.
    covers
        What the values include and what they leave out, in words.
    activation_pj
        Of an activation and the precharge that ends it.
    read_pj_per_bit, write_pj_per_bit, io_pj_per_bit
        Of a bit between the row buffer and the I/O, and of the I/O itself.
    all_bank_refresh_pj
        Of a refresh of all banks.
    background_mw
        At all times, whatever happens.
    per_bank_refresh_pj
        Of a refresh of a bank or a set of banks; None for a standard without.
    sources
        Where each value comes from, in words.

    Raises
    ------
    StandardError
        There is no such standard, a value is no finite number from 0 on, or ``per_bank_refresh_pj``
        does not fit the standard.
    """

    name: str
    covers: str
    activation_pj: float
    read_pj_per_bit: float
    write_pj_per_bit: float
    io_pj_per_bit: float
    all_bank_refresh_pj: float
    background_mw: float
    per_bank_refresh_pj: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        per_bank = load_standard(self.name).protocol.per_bank_refresh
        if per_bank == (self.per_bank_refresh_pj is None):
            wanted = "have a value" if per_bank else "be left out"
            raise StandardError(f"{_PER_BANK} must {wanted} for {self.name}")
        for name in (*_VALUES, *((_PER_BANK,) if per_bank else ())):
            value = getattr(self, name)
            legal = isinstance(value, int | float) and not isinstance(value, bool)
            if not legal or not 0 <= value < math.inf:
                raise StandardError(f"{name} must be a number from 0 on, not {value!r}")


def dram_energy(
    energy: DramEnergy, counts: Mapping[str, int], *, clocks: int, devices: int = 1
) -> dict[str, float]:
    """Return picojoules by cause: ``activation``, ``read``, ``write``, ``refresh``, ``background``.

    Parameters
    ----------
    energy
        The table.
    counts
        Events of all devices together: `COUNTED`; other entries are not looked at.
    clocks
        DRAM clocks that it took.
    devices
        Devices that were powered, each with all pseudo-channels of the standard.

    Raises
    ------
    StandardError
        A count is missing or negative, or there is no device.
    """
    for name, value in [*((name, counts.get(name)) for name in COUNTED), ("clocks", clocks)]:
        if value is None or value < 0:
            raise StandardError(f"{name} must be a count from 0 on, not {value!r}")
    if devices < 1:
        raise StandardError(f"devices must be at least 1, not {devices!r}")
    standard = load_standard(energy.name)
    bits = 8 * standard.burst_bytes
    # A milliwatt is a picojoule per nanosecond.
    nanoseconds = clocks * standard.clock_ps / 1000
    return {
        "activation": counts["activations"] * energy.activation_pj,
        "read": counts["reads"] * bits * (energy.read_pj_per_bit + energy.io_pj_per_bit),
        "write": counts["writes"] * bits * (energy.write_pj_per_bit + energy.io_pj_per_bit),
        "refresh": counts["all_bank_refreshes"] * energy.all_bank_refresh_pj
        + counts["per_bank_refreshes"] * (energy.per_bank_refresh_pj or 0),
        "background": nanoseconds * energy.background_mw * devices * standard.pseudo_channels,
    }


@cache
def load_energy(standard: DramStandard) -> DramEnergy | None:
    """Return the table of a standard, or None if no source was found for it.

    Raises
    ------
    StandardError
        The table is wrong.
    """
    path = resources.files(__package__) / "energies" / f"{standard.name}.toml"
    if not path.is_file():
        return None
    energy = parse_energy(path.read_text("utf-8"))
    if energy.name != standard.name:
        raise StandardError(
            f"name must be that of the file, {standard.name!r}, not {energy.name!r}"
        )
    return energy


def parse_energy(text: str) -> DramEnergy:
    """Return the table that a TOML text describes; docs/dram.md has the form.

    Raises
    ------
    StandardError
        The text is no TOML, an entry is missing, unknown or without a known source, or `DramEnergy`
        refuses it.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StandardError(f"an energy table must be a TOML text: {error}") from error
    only_keys("the table", table, _TOP)
    for key, kind in zip(_TOP, (str, str, dict, dict), strict=True):
        if not isinstance(table.get(key), kind):
            noun = "string" if kind is str else "table"
            raise StandardError(f"{key} must be a {noun}, not {table.get(key)!r}")
    entries, known = table["energy"], table["sources"]
    only_keys("energy", entries, (*_VALUES, _PER_BANK))
    for name in _VALUES:
        if name not in entries:
            raise StandardError(f"energy must have {name!r}, which is missing")
    read = {name: sourced_value(name, entry, known) for name, entry in entries.items()}
    check_sources(known, list(entries.values()))
    return DramEnergy(
        name=table["name"],
        covers=table["covers"],
        sources={name: source for name, (_, source) in read.items()},
        **{name: value for name, (value, _) in read.items()},
    )
