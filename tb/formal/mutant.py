"""Faulty variants of a component, for the negative control of a proof."""

from __future__ import annotations

import inspect
import sys
from typing import Any


def mutant(component: type, old: str, new: str) -> Any:
    """Return a copy of a class in whose source text ``new`` stands for ``old``.

    The copy follows the class: a control cannot fall behind the hardware that it is a control of.

    Raises
    ------
    ValueError
        ``old`` does not occur exactly once.
    """
    source = inspect.getsource(component)
    if source.count(old) != 1:
        raise ValueError(f"{old!r} occurs {source.count(old)} times in {component.__name__}")
    namespace = dict(vars(sys.modules[component.__module__]))
    code = compile(source.replace(old, new), f"<faulty {component.__name__}>", "exec")
    exec(code, namespace)
    return namespace[component.__name__]
