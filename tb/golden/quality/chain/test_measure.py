"""One short batch on the trained model, through to the facts of the page."""

from pathlib import Path
from typing import Any

import pytest

from golden.quality.chain import measure as module
from golden.quality.chain.measure import METHODS, Settings, measure
from golden.quality.store import Records
from hw.config import ConfigError

#: Three steps, of which the second one, at 256 tokens, closes a window in each of the eight caches.
SETTINGS = Settings(context=258, tasks=("needle",), seeds=(1,), sequences=1)
DENSE, LAB, FLOAT, TWIN = METHODS


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def facts(records: Path) -> dict[str, Any]:
    return measure(SETTINGS, records=Records(records))


def test_the_twin_answers_as_the_reference(facts: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in facts["rows"]}
    assert tuple(rows) == METHODS
    # What the compression loses, both lose.
    assert [rows[name]["mean"] for name in (DENSE, FLOAT, TWIN)] == [1, 0, 0]
    assert all(row["answers"] == 1 for row in rows.values())
    twin = facts["twin"]["needle"]
    assert (twin["predictions"], twin["same_prediction"], twin["windows_closed"]) == (3, 3, 8)
    assert twin["agreement"]["steps"] == 3 * 8
    assert twin["agreement"]["cosine_worst"] > 0.99999


def test_the_bytes_are_the_labs_and_those_of_windows(facts: dict[str, Any]) -> None:
    """All chunks are selected here, so that nothing depends on which."""
    traffic = {row["method"]: row["traffic"] for row in facts["rows"]}
    twin, lab = traffic[TWIN], traffic[LAB]
    assert twin == traffic[FLOAT]
    assert twin["fp16"] == lab["fp16"] == traffic[DENSE]["read"] + traffic[DENSE]["written"]
    # 8 tail blocks of 1664 bytes; 8 bursts of pairs where two would do.
    assert facts["window_bytes"] == {"read": 13312, "written_more": 192}
    assert twin["read"] - lab["read"] == 8 * 13312
    assert twin["written"] - lab["written"] == 8 * 192


def test_what_is_measured_is_kept(
    facts: dict[str, Any], records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measure_batch", never)
    assert measure(SETTINGS, records=Records(records)) == facts
    with pytest.raises(AssertionError, match="measured again"):
        measure(Settings(context=259, tasks=("needle",), sequences=1), records=Records(records))


def test_the_core_has_a_longest_context() -> None:
    with pytest.raises(ConfigError, match="context must be at most 2048, not 2049"):
        measure(Settings(context=2049))
