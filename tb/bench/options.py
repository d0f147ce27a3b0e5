"""The options that the commands of the benches share, and how they end where a run fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from tb.harness.files import REPOSITORY

Command = TypeVar("Command", bound=Callable[..., Any])

publish_option = click.option(
    "--publish", is_flag=True, help="Keep the figures in results/ and docs/."
)
"""``--publish``: whether the figures become those that the documents quote."""


def run_options(files: str) -> Callable[[Command], Command]:
    """Return the options ``--seed`` and ``--output`` of a bench.

    Parameters
    ----------
    files
        What it writes into the directory ``output``, for the help.
    """
    seed = click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
    output = click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        default=REPOSITORY / "build" / "bench",
        help=f"Directory for {files}; build/bench if not given.",
    )
    return lambda command: seed(output(command))


@contextmanager
def failing(console: Console, *errors: type[Exception]) -> Iterator[None]:
    """Say FAILED and what was found, and exit with 1, where one of ``errors`` ends the block."""
    try:
        yield
    except errors as error:
        console.print("[bold red]FAILED[/]", end=" ")
        # Square brackets of a message are no markup.
        console.print(str(error), markup=False)
        sys.exit(1)
