"""Selection policies: how the scores of a KV head's query heads become one selection score."""

from hw.selection.maximum import Maximum
from hw.selection.mean import Mean
from hw.selection.policy import SelectionPolicy
from hw.selection.registry import (
    MODULES_VARIABLE,
    PolicyError,
    register,
    selection_policy,
    source_of,
)

__all__ = [
    "MODULES_VARIABLE",
    "Maximum",
    "Mean",
    "PolicyError",
    "SelectionPolicy",
    "register",
    "selection_policy",
    "source_of",
]
