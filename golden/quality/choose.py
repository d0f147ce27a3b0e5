"""Methods named on a command line: ``Quest``, ``Quest:budget=256,page=16``, ``my.module.Mine``."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any

from golden.quality import methods
from golden.quality.interface import CacheMethod
from golden.quality.points import Point

__all__ = ["METHODS", "choose", "chosen_points"]

METHODS: dict[str, type[CacheMethod]] = {
    found.name: found for found in (getattr(methods, name) for name in methods.__all__)
}
"""By the name of the paper's method."""


def choose(text: str) -> CacheMethod:
    """The method that ``text`` names: one of `METHODS`, or a class of one's own with its module.

    Raises
    ------
    ValueError
        There is no such method or parameter, or the value is illegal.
    """
    name, _, rest = text.partition(":")
    found = METHODS.get(name) or _own(name)
    known = {item.name: item.default for item in fields(found)}
    given: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"{name} must be given {', '.join(sorted(known))}, not {key!r}")
        given[key] = _value(key, value, known[key])
    return found(**given)


def _own(name: str) -> type[CacheMethod]:
    """The class ``name``, of a module that Python finds."""
    module, _, last = name.rpartition(".")
    if not module:
        listed = f"one of {', '.join(sorted(METHODS))}, or a class with its module"
        raise ValueError(f"method must be {listed}, not {name!r}")
    try:
        found = getattr(import_module(module), last)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"method must be a class that Python finds, not {name!r}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, CacheMethod)):
        raise ValueError(f"method must be a CacheMethod, not {name!r}")
    return found


def _value(key: str, value: str, default: object) -> object:
    """``value`` in the type of ``default``."""
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise ValueError(f"{key} must be true or false, not {value!r}")
        return value == "true"
    if default is None and value.isdecimal():
        # None stands for a number that follows from others.
        return int(value)
    kind = type(default) if isinstance(default, int | float) else str
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(f"{key} must be a number, not {value!r}") from error


def chosen_points(names: tuple[str, ...], *, dense_layers: int = 0) -> list[Point]:
    """FP16 and the named methods, in that order.

    Raises
    ------
    ValueError
        As `choose` does.
    """
    points = [Point(method=METHODS["FP16"]())]
    points += [Point(method=choose(name), dense_layers=dense_layers) for name in names]
    return list(dict.fromkeys(points))
