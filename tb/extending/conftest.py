"""What the examples of docs/extending.md register is gone again after their tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from hw.selection import MODULES_VARIABLE, registry

POLICY_MODULE = "docs.examples.best_two"


@pytest.fixture
def with_policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Name the module of the example policy, as a user does in the environment."""
    monkeypatch.setattr(registry, "_policies", dict(registry._policies))
    monkeypatch.setenv(MODULES_VARIABLE, POLICY_MODULE)
    yield
    sys.modules.pop(POLICY_MODULE, None)
