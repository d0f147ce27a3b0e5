"""``python -m tb.run``: the summary, the report, and a clear refusal of everything else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from golden.memory_image.bundle import GoldenDataError
from hw.config import preset
from hw.formats import KVFormat, Mode
from tb import run as command
from tb.attention import golden_data as golden
from tb.attention import report as reports
from tb.attention.catalogue import SCENARIOS
from tb.attention.report import required_bytes, useful_digits
from tb.attention.runner import AttentionRun, run_attention

TINY = preset("tiny")


@pytest.fixture(autouse=True)
def own_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Reports of these tests do not replace a user's."""
    folder = tmp_path / "reports"
    monkeypatch.setattr(reports, "REPORTS", folder)
    monkeypatch.setattr(reports, "REPOSITORY", Path("/"))
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command.main, list(arguments))


def test_summary_and_report(own_reports: Path) -> None:
    done = run("attention_fused", "--preset", "tiny", "--memory", "ideal", "--seed", "1")
    assert done.exit_code == 0, done.output
    found = json.loads((own_reports / "attention_fused-kvo-tiny-ideal-1-1.json").read_text())
    for text in (
        "PASSED",
        f"{found['compared']['jobs']} of {found['compared']['planned_jobs']} jobs",
        f"{found['compared']['words']} words",
        "selected chunks: 0 differences",
        f"config hash {TINY.config_hash:#010x}",
        "mode kvo",
        f"{found['measured']['cycles']:,} (measured)",
        "memory port",
        "PE array",
        "roofline",
        "bound by",
    ):
        assert text in done.output
    assert "attention_fused-kvo-tiny-ideal-1-1.json" in done.output.replace("\n", "").replace(
        " ", ""
    )
    assert found["passed"]
    assert found["compared"]["jobs"] >= 16
    assert 0 < found["derived"]["roofline_ratio"] <= 1


def test_a_difference_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the golden data of another seed's first output."""

    def spoiled(*arguments: Any, **options: Any) -> AttentionRun:
        data = {name: array.copy() for name, array in arguments[1].items()}
        data["output"][0, 0, 0] ^= 1
        return run_attention(arguments[0], data, **options)

    monkeypatch.setattr(command, "run_attention", spoiled)
    done = run("attention_fused", "--preset", "tiny", "--memory", "ideal", "--seed", "1")
    assert done.exit_code == 1
    assert "FAILED" in done.output
    assert "1 differences" in done.output
    assert "1 outputs differ, first at row 0, channel 0" in done.output.replace("\n", "")


def test_fewer_jobs_than_planned_fail() -> None:
    scenario = SCENARIOS["attention_faults"]
    path, data = golden.golden_data(scenario, TINY, 1)
    found = run_attention(TINY, data, seed=1, memory=scenario.memory)
    report = reports.make_report(scenario, TINY, data, found, path)
    assert report["passed"]
    found.comparison.jobs -= 1
    report = reports.make_report(scenario, TINY, data, found, path)
    assert not report["passed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "Invalid value for 'TEST': 'nothing' is not one of 'attention_fused'"),
        (["attention_fused", "--preset", "huge"], "preset must be one of tiny, lm, paper"),
        (["attention_fused", "--seed", "-1"], "-1 is not in the range 0<=x<=2147483647"),
        (["attention_fused", "--mode", "dense4"], "'dense4' is not one of 'kvo', 'dense8'"),
        (["attention_mixed", "--mode", "dense8"], "a mode goes with other tests than"),
        (["attention_corners", "--kv", "x"], "a file of tensors goes with attention_fused only"),
        (["attention_fused", "--jobs", "3"], "a number of jobs goes with a file of tensors only"),
        (["attention_fused", "--config", "/missing.toml"], "/missing.toml: cannot be read"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output


@pytest.fixture
def golden_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Golden data in a place of their own, to be spoiled."""
    scenario = SCENARIOS["attention_fused"]
    content = golden.golden_data(scenario, TINY, 1)[0].read_bytes()
    monkeypatch.setattr(golden, "GOLDEN_ROOT", tmp_path)
    path = tmp_path / golden.file_name(scenario, TINY, 1, Mode.KVO)
    path.write_bytes(content)
    return path


def test_damaged_golden_data(golden_file: Path) -> None:
    content = bytearray(golden_file.read_bytes())
    content[len(content) // 2] ^= 1
    golden_file.write_bytes(bytes(content))
    done = run("attention_fused", "--preset", "tiny", "--memory", "ideal", "--seed", "1")
    assert done.exit_code == 1
    message = done.output.replace("\n", "").replace(" ", "")
    assert "mustbeanintactgoldendatafile" in message
    assert "tohaveitmadeanew" in message


def test_golden_data_of_another_configuration(golden_file: Path) -> None:
    other = replace(TINY, name="tiny", memory_tags=8)
    scenario = SCENARIOS["attention_fused"]
    name = golden.file_name(scenario, other, 1, Mode.KVO)
    golden_file.rename(golden_file.with_name(name))
    with pytest.raises(GoldenDataError, match=f"config hash must be {other.config_hash:#x}"):
        golden.golden_data(scenario, other, 1)


def test_required_bytes_by_hand() -> None:
    """Tiny at 33 tokens: two closed chunks of a group, 17 tail tokens, 2 groups of 16 channels."""
    base = 2 * (32 + 2 * 4)
    deltas = 2 * 14 * (16 + 2 * 4 + 32) / 8
    values = 2 * 32 * 25 / 8 + 32 * 4
    tail = 17 * ((32 + 2 * 4) + (2 * 32 + 2))
    assert required_bytes(TINY, 33, groups=1) == base + deltas + values + tail
    assert required_bytes(TINY, 33, Mode.DENSE8) == 33 * 2 * 32
    assert required_bytes(TINY, 33, Mode.DENSE16) == 33 * 2 * 32 * 2
    assert required_bytes(TINY, 33, groups=1) < sum(KVFormat(TINY).traffic_bytes(33).values())
    # 4-bit codes, and one mask of 32 channels for a chunk.
    four = replace(TINY, key_bits=4, key_delta_bits=4, mask_scope="chunk", value_bits=4)
    base = 2 * (16 + 2 * 4)
    deltas = 2 * (4 + 14 * (4 * 4 + 32) / 8)
    values = 2 * 32 * (7 * 5 + 8) / 8 + 32 * 4
    tail = 17 * ((16 + 2 * 4) + (2 * 32 + 2))
    assert required_bytes(four, 33, groups=1) == base + deltas + values + tail
    assert required_bytes(four, 33, groups=1) < sum(KVFormat(four).traffic_bytes(33).values())


def test_useful_digits_by_hand() -> None:
    counts = {"key_steps": 2, "tail_value_steps": 3, "delta_steps": 5, "value_steps": 7}
    counters = {f"operands.{name}": count for name, count in counts.items()}
    # Of 16 reordered tokens 6 are kept, besides two bases of two digits: per chunk of a channel
    # 3 digits and 2.
    assert useful_digits(TINY, counters) == (2 + 3) * 64 + 5 * 4 + 7 * 4 * (2 + 3)
    # A step of 4-bit keys has 16 channels of a group with two digits each.
    four = replace(TINY, key_bits=4)
    assert useful_digits(four, counters) == 2 * 32 + 3 * 64 + 5 * 4 + 7 * 4 * (2 + 3)
    assert useful_digits(four, counters, Mode.DENSE8) == useful_digits(TINY, counters)
