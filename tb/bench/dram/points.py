"""What is measured, and what it has to reach."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

from hw.memory.dram import DramStandard, load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.port import REQUEST_BURSTS
from tb.bench.dram.clients import id_bits

CASES = ("streaming", "gather", "mixed")
STANDARDS = ("hbm2-2000", "hbm3-6400", "lpddr5-6400-x16", "ddr4-3200")


@dataclass(frozen=True, kw_only=True)
class DramPoint:
    """One figure.

    Parameters
    ----------
    standard
        Name of the DRAM standard.
    case
        One of `CASES`: requests of 512 B one behind the other, anywhere, or both at once while
        a third client writes 5 % of the bytes.
    gear
        DRAM clocks in a clock of the logic.
    refresh
        As in `ControllerConfig`.
    outstanding
        Bursts of 32 bytes under way at most, per pseudo-channel and client; whole requests.
    target
        What the useful fraction has to be at least, or None.
    of_cap
        Whether the target is a fraction of `cap` rather than of the pin peak.
    """

    standard: str
    case: str
    gear: int = 1
    refresh: str | None = None
    outstanding: int = 128
    target: float | None = None
    of_cap: bool = False

    @property
    def window(self) -> int:
        """Requests under way at most."""
        return self.outstanding // REQUEST_BURSTS

    @property
    def config(self) -> ControllerConfig:
        """The controller's parameters."""
        options: dict[str, Any] = {"gear": self.gear, "refresh": self.refresh}
        if self.case == "mixed":
            options["id_bits"] = id_bits(self.window)
        return ControllerConfig(standard=load_standard(self.standard), **options)

    @property
    def cap(self) -> float:
        """Fraction of the pin peak that refresh leaves: only all-bank refresh stops all banks."""
        config = self.config
        return 1.0 if config.per_bank_refresh else config.standard.all_bank_refresh_share

    @property
    def least(self) -> float | None:
        """The target as a fraction of the pin peak."""
        if self.target is None:
            return None
        return self.target * (self.cap if self.of_cap else 1.0)


def controller_facts(config: ControllerConfig) -> dict[str, Any]:
    """Return the controller's parameters, but for the standard, and a hash with the standard."""
    parameters = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "standard"}
    parameters["refresh"] = "per_bank" if config.per_bank_refresh else "all_bank"
    text = json.dumps([parameters, _standard_facts(config.standard)], sort_keys=True)
    return {"hash": "0x" + hashlib.sha256(text.encode()).hexdigest()[:8], **parameters}


def _standard_facts(standard: DramStandard) -> dict[str, Any]:
    known = {f.name: getattr(standard, f.name) for f in fields(standard)}
    numbers = {name: value for name, value in known.items() if isinstance(value, int | str)}
    return {**numbers, "timing": dict(standard.timing)}


def _points() -> tuple[DramPoint, ...]:
    def pair(standard: str, streaming: float, gather: float, **more: Any) -> list[DramPoint]:
        return [
            DramPoint(standard=standard, case=case, target=target, **more)
            for case, target in (("streaming", streaming), ("gather", gather))
        ]

    sweep = [
        DramPoint(standard="hbm2-2000", case="gather", outstanding=bursts)
        for bursts in (32, 64, 256)
    ]
    lpddr5 = "lpddr5-6400-x16"
    all_bank: dict[str, Any] = {"refresh": "all_bank", "target": 0.99, "of_cap": True}
    return (
        *pair("hbm2-2000", 0.98, 0.95),
        *sweep,
        *pair("hbm2-2000", 0.98, 0.95, gear=2),
        DramPoint(standard="hbm2-2000", case="mixed", target=0.90),
        *pair("hbm3-6400", 0.95, 0.93),
        *pair("hbm3-6400", 0.95, 0.93, outstanding=256),
        *pair(lpddr5, 0.95, 0.93),
        *pair(lpddr5, 0.95, 0.93, gear=2),
        DramPoint(standard=lpddr5, case="streaming", **all_bank),
        DramPoint(standard=lpddr5, case="mixed", target=0.90),
        DramPoint(standard="ddr4-3200", case="streaming", **all_bank),
    )


#: The points of `make bench`, in the order of the table.
POINTS = _points()
