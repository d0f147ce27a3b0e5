"""docs/extending.md says what the sources say: its programs, its list of steps, its messages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tb.harness.files import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "extending.md").read_text()
#: A source that knows that there are modes.
KNOWS_MODES = re.compile(r"\bMode\.[A-Z]|\bimport .*\bMode\b|\.code_bytes\b|DenseCache|\.dense\b")


def programs(text: str) -> dict[str, str]:
    """Each file that the document shows, with what it shows of it."""
    return dict(re.findall(r"<!-- file (\S+) -->\n```python\n(.*?)```\n", text, re.S))


def steps(text: str) -> list[tuple[str, str, str]]:
    """File, symbols and test of each row of the list."""
    (table,) = re.findall(r"<!-- steps -->\n(.*?)<!-- end of steps -->", text, re.S)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return [(file.strip("`"), what, test.strip("`")) for _, file, what, _, test in rows]


def symbols(path: Path) -> set[str]:
    """Names of a module's own level, and the members of its classes."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            members = (n.name for n in node.body if isinstance(n, ast.FunctionDef))
            found |= {node.name, *(f"{node.name}.{member}" for member in members)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def stale(text: str) -> list[str]:
    """What the document says of files and symbols and is not so."""
    wrong = [f for f, shown in programs(text).items() if (REPOSITORY / f).read_text() != shown]
    for file, what, test in steps(text):
        path = REPOSITORY / file
        wrong += [name for name in (file, test) if name and not (REPOSITORY / name).is_file()]
        if path.suffix == ".py" and path.is_file():
            known = symbols(path)
            wrong += [name for name in re.findall(r"`(\S+?)`", what) if name not in known]
    return wrong


def missing(text: str) -> list[str]:
    """Sources that know of modes and that section 4 does not name."""
    section = text[text.index("## 4.") :]
    named = set(re.findall(r"`([\w/]+\.(?:py|md))`", section))
    sources = [
        path.relative_to(REPOSITORY)
        for root in ("hw", "golden", "tb")
        for path in sorted((REPOSITORY / root).rglob("*.py"))
        if not path.name.startswith("test_") and KNOWS_MODES.search(path.read_text())
    ]
    assert len(sources) > 20
    return [str(path) for path in sources if str(path) not in named]


def test_the_document_is_up_to_date() -> None:
    assert len(programs(DOCUMENT)) == 2
    assert len(steps(DOCUMENT)) > 15
    assert stale(DOCUMENT) == []
    assert missing(DOCUMENT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("behind = Mux(ahead, best", "behind = Mux(ahead, score"),
        ("`dense_key_steps`", "`dense_value_steps`"),
        ("`KVFormat.block_bytes`", "`KVFormat.bytes`"),
        ("`hw/cores/sequencer.py`", "`hw/cores/sequence.py`"),
        ("`tb/cores/test_score_unit.py`", "`tb/cores/test_score.py`"),
    ],
)
def test_a_stale_document_is_found(old: str, new: str) -> None:
    """Negative control: a program, a symbol or a path that is not so."""
    assert old in DOCUMENT
    assert len(stale(DOCUMENT.replace(old, new))) >= 1


@pytest.mark.parametrize("file", ["hw/cores/dot_collector.py", "tb/bench/points.py"])
def test_a_missing_step_is_found(file: str) -> None:
    assert missing(DOCUMENT.replace(f"`{file}`", "")) == [file]
