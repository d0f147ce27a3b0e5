"""Errors and JSON files of a checkpoint."""

import json
from pathlib import Path
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint or a list of tokens is refused; the message says where and what is legal."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    CheckpointError
        It cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: must be a JSON file: {error}") from error
