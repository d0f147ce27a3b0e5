"""The emitted Verilog that the bench simulates, kept until a source of the generator changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hw.config import AttentionConfig
from hw.cores.attention_core import AttentionCore
from hw.selection import source_of
from hw.tools.progress import step
from hw.tools.verilog import emit
from tb.harness.files import REPOSITORY, locked

EMISSION_ROOT = REPOSITORY / "build" / "verilog"
MODULE = "attention_core"


@dataclass(frozen=True)
class Emission:
    """Files of one configuration, as ``make verilog`` writes them."""

    verilog: Path
    #: The JSON sidecar.
    sidecar: dict[str, Any]

    @property
    def registers(self) -> list[str]:
        """``owner.name`` of every register of the counter bank, in address order."""
        return [f"{row['owner']}.{row['name']}" for row in self.sidecar["registers"]]


@cache
def emission(config: AttentionConfig) -> Emission:
    """The emitted core of ``config``."""
    name = f"{config.name}-{config.config_hash:08x}-{_generator_digest(config)}"
    directory = EMISSION_ROOT / name
    sidecar = directory / f"{MODULE}.json"
    with locked(EMISSION_ROOT / "locks" / name):
        if not sidecar.exists():
            with step(f"elaborating the attention core, preset {config.name}"):
                texts = emit(AttentionCore(config), MODULE)
            directory.mkdir(parents=True, exist_ok=True)
            # The sidecar last: its presence says that the others are complete.
            for file in sorted(texts, key=lambda file: file == sidecar.name):
                (directory / file).write_text(texts[file])
    return Emission(directory / f"{MODULE}.v", json.loads(sidecar.read_text()))


def _generator_digest(config: AttentionConfig) -> str:
    # A user's policy may lie anywhere.
    state = hashlib.sha256(source_of(config.group_combine).read_bytes())
    for file in sorted((REPOSITORY / "hw").rglob("*.py")):
        state.update(str(file.relative_to(REPOSITORY)).encode() + b"\0")
        state.update(file.read_bytes())
    return state.hexdigest()[:12]
