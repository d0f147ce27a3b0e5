"""Packages of the optional extra ``quality``, asked for where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["MissingPackage", "missing", "optional"]


class MissingPackage(ImportError):
    """A package of the extra is not installed; the message says how to install it."""


def missing(error: ModuleNotFoundError) -> MissingPackage:
    """What to raise instead of ``error``."""
    return MissingPackage(
        f"{error.name} must be installed: run in the repository "
        '.venv/bin/pip install -e ".[quality]"'
    )


def optional(name: str) -> ModuleType:
    """The module ``name``.

    Raises
    ------
    MissingPackage
        It is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise missing(error) from error
