"""Golden data of a scenario: computed once, kept under ``build/golden``, checked when read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from golden.memory_image.bundle import (
    Arrays,
    GoldenDataError,
    load_golden,
    save_golden,
)
from golden.workload import make_workload
from hw.config import AttentionConfig
from hw.formats import Mode
from hw.selection import source_of
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
    name = file_name(scenario, config, seed, mode)
    path = GOLDEN_ROOT / name
    with locked(GOLDEN_ROOT / "locks" / name):
        if not path.exists():
            with step(f"golden data of {what}, preset {config.name}, seed {seed}"):
                arrays = make_workload(scenario.cases(config, seed, mode), config)
                temporary = path.with_suffix(".partial")
                save_golden(temporary, config, seed, arrays)
                temporary.replace(path)
        try:
            return path, load_golden(path, config)[1]
        except GoldenDataError as error:
            raise GoldenDataError(f"{error}; delete {path} to have it made anew") from error


def file_name(scenario: Scenario, config: AttentionConfig, seed: int, mode: Mode) -> str:
    """Name of the file, which changes with everything that its content depends on."""
    what = f"{scenario.name}-{scenario.mode_label(mode)}-{config.name}"
    return f"{what}-{config.config_hash:08x}-{seed}-{_sources_digest(config)}.npz"


def _sources_digest(config: AttentionConfig) -> str:
    # A user's policy may lie anywhere.
    state = hashlib.sha256(source_of(config.group_combine).read_bytes())
    for source in _SOURCES:
        place = REPOSITORY / source
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.suffix in (".py", ".json", ".txt", ".safetensors"):
                state.update(str(file.relative_to(REPOSITORY)).encode() + b"\0")
                state.update(file.read_bytes())
    return state.hexdigest()[:12]
