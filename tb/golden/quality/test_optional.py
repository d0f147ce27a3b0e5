"""A missing package says what to install."""

import importlib
import sys

import pytest

from golden.quality.optional import MissingPackage, optional


def test_missing() -> None:
    with pytest.raises(MissingPackage, match=r'no_such_package must be .*pip install -e "\.\[qual'):
        optional("no_such_package")


def test_present() -> None:
    assert optional("json").dumps([1]) == "[1]"


def test_a_broken_package_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("wrong binary")

    monkeypatch.setattr("golden.quality.optional.import_module", broken)
    with pytest.raises(ImportError, match="wrong binary") as found:
        optional("json")
    assert not isinstance(found.value, MissingPackage)


def test_the_cache_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "golden.quality.hugging_face", raising=False)
    with pytest.raises(
        MissingPackage, match=r'transformers must be .*pip install -e "\.\[quality\]"'
    ):
        importlib.import_module("golden.quality.hugging_face")
