"""Golden data of a scenario: computed once, kept under ``build/golden``, checked when read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from golden.memory_image.bundle import Arrays, load_golden, save_golden
from golden.workload import make_workload
from hw.config import AttentionConfig
from hw.formats import Mode
from hw.tools.progress import step
from tb.attention.catalogue import Scenario
from tb.harness.files import REPOSITORY, locked

GOLDEN_ROOT = REPOSITORY / "build" / "golden"
#: Everything that golden data depend on besides configuration, scenario and seed.
_SOURCES = ("golden", "hw/config.py", "hw/constants.py", "hw/formats.py", "tb/attention")


def golden_data(
    scenario: Scenario, config: AttentionConfig, seed: int, mode: Mode = Mode.KVO
) -> tuple[Path, Arrays]:
    """File and arrays (see ``golden.workload``) of ``scenario``; made anew if a source changed.

    Raises
    ------
    GoldenDataError
        The file is damaged or of another configuration; the message names it.
    """
    what = f"{scenario.name}-{scenario.mode_label(mode)}"
    name = f"{what}-{config.name}-{config.config_hash:08x}-{seed}-{_sources_digest()}.npz"
    path = GOLDEN_ROOT / name
    with locked(GOLDEN_ROOT / "locks" / name):
        if not path.exists():
            with step(f"golden data of {what}, preset {config.name}, seed {seed}"):
                arrays = make_workload(scenario.cases(config, seed, mode), config)
                temporary = path.with_suffix(".partial")
                save_golden(temporary, config, seed, arrays)
                temporary.replace(path)
        return path, load_golden(path, config)[1]


def _sources_digest() -> str:
    state = hashlib.sha256()
    for source in _SOURCES:
        place = REPOSITORY / source
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.suffix in (".py", ".json", ".txt", ".safetensors"):
                state.update(str(file.relative_to(REPOSITORY)).encode() + b"\0")
                state.update(file.read_bytes())
    return state.hexdigest()[:12]
