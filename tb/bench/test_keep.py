"""Figures and documents go where they are asked for, and nowhere else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tb.bench.keep import keep

FACTS = {"points": [1]}


def document(facts: dict[str, Any]) -> str:
    return f"of {facts['points']}"


@pytest.mark.parametrize("publish", [False, True])
def test_places(publish: bool, tmp_path: Path) -> None:
    output, results, docs = tmp_path / "a" / "b", tmp_path / "x.json", tmp_path / "y.md"
    written = keep(FACTS, document, output=output, results=results, docs=docs, publish=publish)
    assert written == f"{output / 'x.json'}, y.md"
    assert json.loads((output / "x.json").read_text()) == FACTS
    assert (output / "y.md").read_text() == "of [1]"
    assert (results.exists(), docs.exists()) == (publish, publish)
    if publish:
        assert (results.read_text(), docs.read_text()) == (
            (output / "x.json").read_text(),
            "of [1]",
        )
