"""Text to train on, read from the machine's own files, and the held-out text committed here.

Only training reads the machine: the Python standard library, the Perl modules, documentation
and licence texts. Everything else uses ``data/``. A file is held out by its name, wherever on
the machine a copy of it lies, so no copy of a held-out file is trained on.
"""

import hashlib
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden.model.tasks import BOS

__all__ = ["DATA", "HELD_OUT", "held_out_text", "held_out_tokens", "text_tokens", "training_tokens"]

DATA = Path(__file__).parent / "data"

HELD_OUT = (
    "calendar.py",
    "fractions.py",
    "heapq.py",
    "shlex.py",
    "statistics.py",
    "textwrap.py",
    "topics.py",
)
"""Names of Python files (PSF licence) never trained on; ``data/`` holds text from them."""

_SUFFIXES = {".py", ".pl", ".pm", ".pod", ".txt", ".md", ".rst", ".html", ".tex"}
_LARGEST = 400_000
"""Bytes; larger files are tables, not text."""


def _roots() -> Iterator[Path]:
    yield Path(sysconfig.get_paths()["stdlib"])
    perl = subprocess.run(
        ["perl", "-e", 'print join "\\n", @INC'], capture_output=True, text=True, check=False
    )
    yield from (Path(line) for line in perl.stdout.splitlines() if line.startswith("/usr"))
    yield Path("/usr/share/doc")
    yield Path("/usr/share/common-licenses")


def _wanted(path: Path) -> bool:
    if "site-packages" in path.parts or path.name in HELD_OUT:
        return False
    if path.name.startswith("test_") and path.name.removeprefix("test_") in HELD_OUT:
        return False
    plain = path.suffix in _SUFFIXES or path.name == "README" or "licenses" in str(path.parent)
    return plain and path.is_file() and 200 <= path.stat().st_size <= _LARGEST


def training_tokens(*, limit: int | None = None) -> tuple[NDArray[np.uint16], int]:
    """All training text as one array, and the number of files in it.

    Files come in a fixed order that depends on their content alone, equal files once, each
    preceded by BOS; files that are not UTF-8 are left out. Reads the machine's own files.

    Arguments
    ---------
    limit : stop after this many tokens; None reads everything.
    """
    texts: dict[str, bytes] = {}
    for root in _roots():
        for path in root.rglob("*"):
            if not _wanted(path):
                continue
            text = path.read_bytes()
            try:
                text.decode("utf-8")
            except UnicodeDecodeError:
                continue
            texts[hashlib.sha256(text).hexdigest()] = text
    parts: list[NDArray[np.uint16]] = []
    total = 0
    for digest in sorted(texts):
        if limit is not None and total >= limit:
            break
        parts.append(text_tokens(texts[digest]))
        total += len(parts[-1])
    return np.concatenate(parts)[:limit], len(parts)


def text_tokens(text: bytes) -> NDArray[np.uint16]:
    """BOS, then one token per byte."""
    return np.concatenate(([BOS], np.frombuffer(text, np.uint8))).astype(np.uint16)


def held_out_text() -> dict[str, bytes]:
    """The committed held-out files, by name."""
    return {path.name: path.read_bytes() for path in sorted(DATA.glob("*.txt"))}


def held_out_tokens() -> NDArray[np.uint16]:
    """The committed held-out files one after another, each preceded by BOS."""
    return np.concatenate([text_tokens(text) for text in held_out_text().values()])
