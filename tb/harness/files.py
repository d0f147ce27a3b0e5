"""Where builds and runs live on disk, and the locks that let parallel test processes share them."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
"""Root of the source tree."""

BUILD_ROOT = REPOSITORY / "build" / "sim"
"""Everything the harness writes lies below this directory."""

_LOG_LINES = 40


def digest(*parts: str) -> str:
    """Return 16 hexadecimal digits that depend on every one of ``parts`` and on their order."""
    state = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        state.update(len(encoded).to_bytes(8, "little"))
        state.update(encoded)
    return state.hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, between processes, on the file ``path`` (created if missing)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def tail(path: Path, lines: int = _LOG_LINES) -> str:
    """Return the last ``lines`` lines of a log, or a note that there is none."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
