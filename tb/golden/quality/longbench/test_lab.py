"""Two made-up samples from file to score, by a model whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from click.testing import CliRunner

from golden.quality.checkpoint.load import Checkpoint, load
from golden.quality.longbench import Settings, run
from golden.quality.longbench import __main__ as command
from golden.quality.longbench import lab as module
from golden.quality.longbench.prompt import prompt_tokens
from golden.quality.longbench.report import lines
from golden.quality.longbench.samples import LongBenchError, read_samples
from golden.quality.methods import FP16, StreamingLLM
from golden.quality.points import Point
from golden.quality.store import Records
from tb.golden.quality.checkpoint.small import quiet
from tb.golden.quality.longbench.made_up import record, saying, write

POINTS = [Point(method=FP16()), Point(method=StreamingLLM(budget=40))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Says "Big fox" after a colon, "y=1" after a line break."""
    directory = saying(tmp_path_factory.mktemp("saying"), ":Big fox", "\ny=1")
    return load(directory, device=torch.device("cpu"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """F1 of "Big fox": 1 to "the big fox", 1/2 to "a big dog"; so 75 of 100.

    Similarity of "y=1": 1 to itself, 0.67 to "y=2"; so 83.5.
    """
    directory = tmp_path / "data"
    directory.mkdir()
    return write(
        directory,
        record(_id="a", answers=["nothing", "the big fox"]),
        record(_id="b", answers=["a big dog"]),
        record("lcc", _id="c", input="", answers=["y=1"]),
        record("lcc", _id="d", input="", answers=["y=2"]),
    )


def settings(data: Path) -> Settings:
    return Settings(data=data, datasets=("hotpotqa", "lcc"), max_length=300)


def test_two_samples(
    checkpoint: Checkpoint, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(tmp_path / "records")
    found = run(checkpoint, POINTS, settings(data), records=records, console=quiet())
    figures = {(row["method"], row["task"]): row for row in found.rows}
    for name in ("FP16", "StreamingLLM"):
        assert figures[name, "hotpotqa"]["score"] == 75.0
        assert figures[name, "hotpotqa"]["scores"] == [1.0, 0.5]
        assert figures[name, "lcc"]["score"] == 83.5
        assert figures[name, "lcc"]["samples"] == 2
    # The colon and seven letters are decoded, in two caches of 32 channels, twice.
    assert figures["FP16", "hotpotqa"]["traffic"]["written"] == 2 * 8 * 2 * 128
    (first, _) = read_samples(data, "hotpotqa")
    prompt = len(prompt_tokens(checkpoint, first, max_length=300))
    # The first step attends to the prompt, itself among it.
    steps = sum(FP16.step_bytes(2, prompt + step, 32) for step in range(8))
    assert figures["FP16", "hotpotqa"]["traffic"]["fp16"] == 2 * steps
    assert figures["FP16", "hotpotqa"]["share"] == 1.0 > figures["StreamingLLM", "lcc"]["share"]
    assert found.answers["FP16", "hotpotqa"][1] == {
        "pred": "Big fox",
        "answers": ["a big dog"],
        "all_classes": None,
        "length": 7,
        "_id": "b",
    }
    assert list(lines(found.rows))[1:4] == [
        ["hotpotqa", "75.00", "75.00"],
        ["lcc", "83.50", "83.50"],
        ["mean", "79.25", "79.25"],
    ]

    def fail(*arguments: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(module, "Prefilled", fail)
    again = run(checkpoint, POINTS, settings(data), records=records, console=quiet())
    assert again == found
    # Other right answers ask nothing again, another question does.
    write(data, record(_id="a", answers=["dog"]), record(_id="b", answers=["dog"]))
    other = run(checkpoint, POINTS, settings(data), records=records, console=quiet())
    assert other.rows[0]["score"] == 0.0
    write(data, record(_id="a", context="Another story."))
    with pytest.raises(AssertionError, match="asked again"):
        run(checkpoint, POINTS, settings(data), records=records, console=quiet())


def test_one_line_answers(tmp_path: Path) -> None:
    """A line break ends an answer to samsum, but not as its first token; others go on."""
    # After a colon comes a line break: barred at first, so another letter is said.
    directory = saying(tmp_path / "model", ":\nab")
    checkpoint = load(directory, device=torch.device("cpu"))
    write(tmp_path, record("samsum", input="Summary:"), record("triviaqa", input="Answer:"))
    wanted = Settings(data=tmp_path, datasets=("samsum", "triviaqa"), max_length=300)
    records = Records(tmp_path / "records")
    found = run(checkpoint, POINTS[:1], wanted, records=records, console=quiet())
    assert found.answers["FP16", "triviaqa"][0]["pred"] == "\nab"
    said = found.answers["FP16", "samsum"][0]["pred"]
    assert not said.startswith("\n")
    assert len(said) >= 1


def test_nothing_is_asked_of_a_bad_file(checkpoint: Checkpoint, data: Path) -> None:
    """Not even the datasets before it."""
    (data / "lcc.jsonl").write_text("{}")
    with pytest.raises(LongBenchError, match=r"lcc\.jsonl, line 1: _id is missing"):
        run(checkpoint, POINTS, settings(data), console=quiet())
    with pytest.raises(LongBenchError, match="datasets must name at least one"):
        run(checkpoint, POINTS, Settings(data=data, datasets=()), console=quiet())


def test_command(
    checkpoint: Checkpoint, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Records", lambda: Records(tmp_path / "records"))
    output = tmp_path / "out"
    words = [str(checkpoint.directory), str(data), "--method", "StreamingLLM:budget=40"]
    words += ["--dataset", "hotpotqa", "--max-length", "300", "--output", str(output)]
    found = CliRunner().invoke(command.main, words)
    assert found.exit_code == 0, found.output
    written = json.loads((output / "longbench.json").read_text())
    assert [row["score"] for row in written["rows"]] == [75.0, 75.0]
    assert written["max_length"] == 300
    assert "| hotpotqa | 75.00 | 75.00 |" in (output / "longbench.md").read_text()
    said = (output / "StreamingLLM-budget-40" / "hotpotqa.jsonl").read_text().splitlines()
    assert [json.loads(line)["pred"] for line in said] == ["Big fox", "Big fox"]
    assert "75.00" in found.output


def test_command_errors(checkpoint: Checkpoint, data: Path) -> None:
    for words, message in (
        (["--dataset", "musique", "--max-length", "300"], "musique.jsonl: cannot be read"),
        (["--dataset", "lcc"], "max_length must be given for a context of 1024 tokens"),
        (
            ["--dataset", "lcc", "--language", "zh", "--max-length", "300"],
            "datasets must name at least one",
        ),
    ):
        found = CliRunner().invoke(command.main, [str(checkpoint.directory), str(data), *words])
        assert found.exit_code == 1
        assert message in found.output
