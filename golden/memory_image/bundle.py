"""Files of golden data: named arrays that belong to one configuration and one seed.

The file is an ``.npz`` whose checksum covers everything else in it, so that a bench never compares
against data of another configuration or against a damaged file.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.config import AttentionConfig

Arrays = dict[str, NDArray[Any]]
_RESERVED = ("config_hash", "seed", "checksum")


class GoldenDataError(ValueError):
    """A file of golden data is damaged or belongs to another configuration."""


def _checksum(config_hash: int, seed: int, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(f"{config_hash:#010x} {seed}".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_golden(
    path: Path, config: AttentionConfig, seed: int, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Writes ``arrays`` (numbers or text, no objects) to ``path``, which should end in ``.npz``.

    Raises
    ------
    GoldenDataError
        An array has a reserved name or holds Python objects.
    """
    for name, array in arrays.items():
        if name in _RESERVED:
            raise GoldenDataError(f"array name must not be {name!r}")
        if array.dtype.hasobject:
            raise GoldenDataError(f"array {name!r} must hold numbers or text, not objects")
    # A name that is also a parameter of savez would be lost: hence the prefix.
    content: dict[str, Any] = {f"data_{name}": array for name, array in arrays.items()}
    content |= {
        "config_hash": np.array(config.config_hash, np.uint32),
        "seed": np.array(seed, np.int64),
        "checksum": np.array(_checksum(config.config_hash, seed, arrays)),
    }
    with path.open("wb") as file:
        np.savez_compressed(file, **content)


def load_golden(path: Path, config: AttentionConfig) -> tuple[int, Arrays]:
    """Seed and arrays of a file that ``save_golden`` wrote for ``config``.

    Raises
    ------
    GoldenDataError
        The file is damaged, or its configuration is not ``config``.
    """
    try:
        # NumPy leaves a damaged file open when it opens it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
        stored_hash = int(content.pop("config_hash"))
        seed = int(content.pop("seed"))
        checksum = str(content.pop("checksum"))
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        NotImplementedError,  # of a compression that zipfile does not know
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise GoldenDataError(f"{path.name} must be an intact golden data file: {error}") from error
    if stored_hash != config.config_hash:
        raise GoldenDataError(
            f"config hash must be {config.config_hash:#010x}, not {stored_hash:#010x} ({path.name})"
        )
    arrays = {name.removeprefix("data_"): array for name, array in content.items()}
    actual = _checksum(stored_hash, seed, arrays)
    if actual != checksum:
        raise GoldenDataError(f"checksum must be {checksum}, not {actual} ({path.name})")
    return seed, arrays
