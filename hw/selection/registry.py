"""Selection policies by name; a user's modules add their own."""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from hw.selection.policy import SelectionPolicy

#: Environment variable: comma-separated modules that register what a command shall know besides.
MODULES_VARIABLE = "KVFORGE_MODULES"

_policies: dict[str, SelectionPolicy] = {}
_Policy = TypeVar("_Policy", bound=type[SelectionPolicy])


class PolicyError(ValueError):
    """There is no policy of that name, or it cannot be registered."""


def register(policy: _Policy) -> _Policy:
    """Class decorator: make a policy known under its ``name``.

    Raises
    ------
    PolicyError
        The name is no lower-case identifier, or it is taken.
    """
    name = getattr(policy, "name", None)
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        raise PolicyError(
            f"name of a selection policy must be a lower-case identifier, not {name!r}"
        )
    if name in _policies:
        taken = type(_policies[name])
        raise PolicyError(
            f"selection policy {name!r} is taken by {taken.__module__}.{taken.__qualname__}"
        )
    _policies[name] = policy()
    return policy


def selection_policy(name: object) -> SelectionPolicy:
    """The policy called ``name``.

    Modules of ``KVFORGE_MODULES`` are imported when a name is not known yet, not before: they may
    themselves import the configuration.

    Raises
    ------
    PolicyError
        There is none; the message lists the known ones. Or a module cannot be imported.
    """
    if not isinstance(name, str) or name not in _policies:
        _load_modules()
    if not isinstance(name, str) or name not in _policies:
        raise PolicyError(f"must be one of {', '.join(map(repr, _policies))}, not {name!r}")
    return _policies[name]


def source_of(name: str) -> Path:
    """The file that defines a policy: what was computed with it is out of date when it changes."""
    return Path(inspect.getfile(type(selection_policy(name))))


def _load_modules() -> None:
    for module in filter(None, os.environ.get(MODULES_VARIABLE, "").split(",")):
        try:
            import_module(module)
        except ImportError as error:
            raise PolicyError(
                f"cannot be looked up: {MODULES_VARIABLE} has {module!r}, which does not import: "
                f"{error}"
            ) from error
