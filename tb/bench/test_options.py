"""The benches' options reach the command; a failed run is told and is no success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from tb.bench.options import failing, publish_option, run_options
from tb.harness.files import REPOSITORY


@click.command()
@run_options("some.json and .md")
@publish_option
def bench(**given: Any) -> None:
    """Fail where the seed is 3, by an error that is not looked for where it is 4."""
    with failing(Console(highlight=False), KeyError, ZeroDivisionError):
        if given["seed"] == 3:
            raise ZeroDivisionError("job[1] is [bold]wrong")
        if given["seed"] == 4:
            raise IndexError("a fault of the bench")
    click.echo(repr(given))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"seed": 1, "output": REPOSITORY / "build" / "bench", "publish": False}),
        (
            ["--seed", "7", "--output", "there", "--publish"],
            {"seed": 7, "output": Path("there"), "publish": True},
        ),
    ],
)
def test_what_the_command_gets(words: list[str], expected: dict[str, Any]) -> None:
    result = CliRunner().invoke(bench, words)
    assert result.exit_code == 0
    assert result.output == f"{expected!r}\n"


@pytest.mark.parametrize("seed", ["-1", "2147483648"])
def test_illegal_seeds(seed: str) -> None:
    result = CliRunner().invoke(bench, ["--seed", seed])
    assert result.exit_code == 2
    assert "--seed" in result.output


def test_the_help_names_the_files() -> None:
    assert "Directory for some.json and .md" in " ".join(
        CliRunner().invoke(bench, ["--help"]).output.split()
    )


def test_a_failure_is_told_word_by_word() -> None:
    result = CliRunner().invoke(bench, ["--seed", "3"])
    assert result.exit_code == 1
    assert result.output == "FAILED job[1] is [bold]wrong\n"


def test_another_error_is_not_hidden() -> None:
    assert isinstance(CliRunner().invoke(bench, ["--seed", "4"]).exception, IndexError)
