"""Methods named on a command line: ``Quest`` or ``Quest:budget=256,page=16``."""

from __future__ import annotations

from dataclasses import fields
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
    """The method that ``text`` names.

    Raises
    ------
    ValueError
        There is no such method or parameter, or the value is illegal.
    """
    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(METHODS))}, not {name!r}")
    known = {item.name: item.default for item in fields(METHODS[name])}
    given: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"{name} must be given {', '.join(sorted(known))}, not {key!r}")
        given[key] = _value(key, value, known[key])
    return METHODS[name](**given)


def _value(key: str, value: str, default: object) -> object:
    """``value`` in the type of ``default``."""
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise ValueError(f"{key} must be true or false, not {value!r}")
        return value == "true"
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
