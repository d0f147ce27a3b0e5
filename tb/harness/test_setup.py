"""Set-up names what is missing, in one line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hw.tools import check_system
from hw.tools.check_system import main, missing_packages
from hw.tools.progress import step
from tb.harness.files import REPOSITORY

SETUP = REPOSITORY / "hw" / "tools" / "setup.sh"


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every check find what it looks for."""
    monkeypatch.setattr(check_system, "has_shared_python", lambda: True)
    monkeypatch.setattr(check_system, "has_header", lambda header: True)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


@pytest.mark.usefixtures("complete")
def test_nothing_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rtl", "test", "waves"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("complete")
@pytest.mark.parametrize("program", ["g++", "make", "perl"])
def test_missing_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == program else name)
    assert main(["rtl", "test"]) == 1
    assert capsys.readouterr().err == (
        f"missing system packages: {program} -- install with: apt install {program}\n"
    )
    assert missing_packages("rtl") == []


@pytest.mark.usefixtures("complete")
def test_missing_libraries_and_old_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_system, "has_shared_python", lambda: False)
    monkeypatch.setattr(check_system, "has_header", lambda header: header != "lz4.h")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(check_system, "python_version", lambda: (3, 9))
    expected = ["python3 (>= 3.11)", "python3-venv", "libpython3.9", "liblz4-dev"]
    assert missing_packages("rtl", "test", "waves") == expected
    assert main(["rtl", "test", "waves", "--names"]) == 0
    assert capsys.readouterr().out == "python3 python3-venv libpython3.9 liblz4-dev\n"


def test_unknown_need() -> None:
    with pytest.raises(ValueError, match="must be one of rtl, test, waves, not 'sim'"):
        missing_packages("sim")


@pytest.mark.parametrize("name", [None, "libpython3.11.a", "libpython9.99.so.1.0"])
def test_shared_python_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str | None
) -> None:
    values = {"INSTSONAME": name, "LIBDIR": str(tmp_path)}
    monkeypatch.setattr("sysconfig.get_config_var", values.get)
    assert not check_system.has_shared_python()


def test_shared_python_beside_a_private_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "libpython9.99.so.1.0").touch()
    values = {"INSTSONAME": "libpython9.99.so.1.0", "LIBDIR": str(tmp_path)}
    monkeypatch.setattr("sysconfig.get_config_var", values.get)
    assert check_system.has_shared_python()


def test_headers_are_really_looked_for() -> None:
    assert check_system.has_header("vector")
    assert not check_system.has_header("no/such/header.h")
    assert not check_system.has_header("vector", compiler="no-such-compiler")


def set_up(level: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up script; only with arguments that make it stop before it installs."""
    return subprocess.run(
        [str(SETUP), level],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_setup_without_python_is_one_line() -> None:
    answer = set_up("rtl", PYTHON="no-such-python")
    assert answer.returncode == 1
    assert answer.stderr.startswith("missing system packages: python3 ")
    assert answer.stderr.count("\n") == 1


def test_setup_stops_at_a_missing_program(tmp_path: Path) -> None:
    for tool in ("sh", "dirname", "uname"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    answer = set_up("all", PYTHON=sys.executable, PATH=str(tmp_path))
    assert answer.returncode == 1
    assert "g++" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


def test_setup_refuses_an_unknown_level() -> None:
    answer = set_up("everything")
    assert (answer.returncode, "must be rtl or all" in answer.stderr) == (2, True)


def test_progress_says_how_a_step_ended() -> None:
    log = Console(record=True, width=80, force_terminal=False, file=io.StringIO())
    with step("counting", log):
        pass
    with pytest.raises(KeyError), step("breaking", log):
        raise KeyError
    lines = log.export_text().splitlines()
    assert lines[0] == "counting ..."
    assert lines[1].startswith("counting: done in ")
    assert lines[3].startswith("breaking: failed after ")
