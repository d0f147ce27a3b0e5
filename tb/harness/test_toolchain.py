"""Which Verilator is chosen, tried on stand-ins that only answer ``--version``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tb.harness import toolchain
from tb.harness.toolchain import (
    OLDEST,
    ToolchainError,
    Verilator,
    parse_version,
    select,
)

PACKAGED = Verilator(Path("/packaged/bin/verilator"), "5.48.0", packaged=True)


@pytest.fixture(autouse=True)
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in in the place of the Python package's Verilator."""
    monkeypatch.setattr(toolchain, "_packaged", lambda: PACKAGED)


def stand_in(directory: Path, answer: str) -> Path:
    """Write a program ``verilator`` that prints ``answer``."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "verilator"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Verilator 5.036 2025-04-27 rev v5.036", (5, 36)),
        ("Verilator 5.006 2023-01-22 rev (Debian 5.006-3)", (5, 6)),
        ("Verilator 5.048", (5, 48)),
        (" rev vUNKNOWN-built20260516-4e853d8", None),
        ("not Verilator 5.036", None),
        ("", None),
    ],
)
def test_parse_version(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_named_one_comes_first_even_if_old(tmp_path: Path) -> None:
    named = stand_in(tmp_path / "named", "Verilator 5.006 old")
    stand_in(tmp_path / "path", "Verilator 5.048 new")
    environment = {"VERILATOR": str(named), "PATH": f"{tmp_path / 'path'}:/usr/bin:/bin"}
    chosen = select(environment)
    assert (chosen.executable, chosen.version, chosen.packaged) == (named, "5.006 old", False)


def test_path_is_used_from_the_oldest_version_on(tmp_path: Path) -> None:
    program = stand_in(tmp_path, f"Verilator {OLDEST[0]}.{OLDEST[1]:03d} exactly")
    assert select({"PATH": f"{tmp_path}:/usr/bin:/bin"}).executable == program


@pytest.mark.parametrize("answer", ["Verilator 5.035 too old", " rev vUNKNOWN", ""])
def test_unfit_one_on_path_gives_way_to_the_package(tmp_path: Path, answer: str) -> None:
    stand_in(tmp_path, answer)
    assert select({"PATH": f"{tmp_path}:/usr/bin:/bin"}) == PACKAGED


def test_package_named_by_the_user_keeps_its_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stand_in(tmp_path, " rev vUNKNOWN")
    monkeypatch.setattr(toolchain, "_packaged", lambda: Verilator(program, "5.48.0", True))
    assert select({"VERILATOR": str(program), "PATH": ""}).make_overrides


@pytest.mark.parametrize("name", ["/nowhere/verilator", "no-such-program"])
def test_named_one_that_is_missing_is_an_error(name: str) -> None:
    with pytest.raises(ToolchainError, match=f"VERILATOR={name} is not a program"):
        select({"VERILATOR": name, "PATH": "/usr/bin"})


def test_named_one_that_is_silent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="does not answer --version"):
        select({"VERILATOR": str(stand_in(tmp_path, "")), "PATH": "/usr/bin:/bin"})


def test_no_verilator_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_packaged", lambda: None)
    with pytest.raises(ToolchainError, match=r"make setup.*5\.036"):
        select({"PATH": "/nowhere"})


def test_only_the_package_gets_overrides_and_a_clean_root() -> None:
    foreign = Verilator(Path("/usr/bin/verilator"), "5.040", packaged=False)
    base = {"VERILATOR_ROOT": "/foreign", "HOME": "/home"}
    assert PACKAGED.environment(base) == {"HOME": "/home"}
    assert foreign.environment(base) == base
    assert "CXX=g++" in PACKAGED.make_overrides
    assert foreign.make_overrides == ()


def test_identity_holds_version_and_path() -> None:
    assert PACKAGED.identity == "Verilator 5.48.0 (/packaged/bin/verilator)"
