"""Show that a long step is running: a spinner on a terminal, one line per step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def step(title: str, console: Console | None = None) -> Iterator[None]:
    """Report the block under this context as a step called ``title``.

    A terminal shows a spinner with the title while the block runs. Where output is not a terminal
    the title is printed before it, so a log shows what is being waited for. Both end with a line
    that gives the seconds taken, or says that the step failed.

    Parameters
    ----------
    title
        What is being done, such as "building attention_bench".
    console
        Where to report; standard error if not given, so that standard output stays usable.
    """
    shown = console or Console(stderr=True, highlight=False, soft_wrap=True)
    began = time.monotonic()
    outcome = "failed after"
    try:
        if shown.is_terminal:
            with shown.status(title):
                yield
        else:
            shown.print(f"{title} ...", markup=False)
            yield
        outcome = "done in"
    finally:
        shown.print(f"{title}: {outcome} {time.monotonic() - began:.1f} s", markup=False)
