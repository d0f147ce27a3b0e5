"""Where a bench puts its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def keep(
    facts: dict[str, Any],
    document: Callable[[dict[str, Any]], str],
    *,
    output: Path,
    results: Path,
    docs: Path,
    publish: bool,
) -> str:
    """Write figures and the document that they make, and return where they are.

    Parameters
    ----------
    facts
        The content of the JSON file.
    document
        Makes the text of the document from it.
    output
        Directory for both, made if it is not there.
    results, docs
        Where both are published; their names are those in ``output``, too.
    publish
        Whether to write these as well.
    """
    text, shown = json.dumps(facts, indent=1) + "\n", document(facts)
    output.mkdir(parents=True, exist_ok=True)
    places = [(output / results.name, output / docs.name)]
    if publish:
        places.append((results, docs))
    for figures, page in places:
        figures.write_text(text)
        page.write_text(shown)
    return f"{output / results.name}, {docs.name}"
