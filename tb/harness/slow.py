"""Parameters of a test of which some take minutes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_among(names: Iterable[str], slow: Collection[str]) -> list[Any]:
    """``names`` for ``parametrize``, those in ``slow`` marked as slow.

    Raises
    ------
    ValueError
        ``slow`` has a name that ``names`` has not.
    """
    names = list(names)
    if unknown := sorted(set(slow) - set(names)):
        raise ValueError(f"slow must be among {names}, not {unknown}")
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]
