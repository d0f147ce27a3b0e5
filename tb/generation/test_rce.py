"""The test ``rce``: a run of it, its summary, and what it notices."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hw.config import AttentionConfig, ConfigError, preset
from hw.cores.job_finish import finished_layout
from tb import run as command
from tb.generation import report as reports
from tb.generation.rce import Scenario, check, make_rce, spans, with_slots
from tb.generation.runner import GenerationRun, Mismatch, run_generation
from tb.generation.small import SMALL
from tb.harness import pack, unpack

STEPS = 140


@cache
def ran(seed: int) -> tuple[Scenario, GenerationRun]:
    """One simulation for all tests here."""
    print(f"rce of seed {seed}")
    scenario = make_rce(SMALL, STEPS, seed)
    return scenario, run_generation(scenario.golden, seed=seed)


def test_what_must_hold(seed: int) -> None:
    scenario, found = ran(seed)
    trace = check(scenario, found)
    # 76 tokens in the third cache, 16 of a prompt and 32 in the second, none too many in the first.
    assert trace.evictions == 76 - 32 + 48 - 32
    assert len(trace.ages) == trace.evictions > trace.victims > 5
    assert min(trace.ages) >= SMALL.slot_recent
    # The 33rd token is the first one that takes another's place.
    assert trace.lossless == 32
    ((read, written),) = trace.full
    assert (read, written) == (4 * 896, 9 * 32)


def spoiled(found: GenerationRun, number: int, **fields: int) -> GenerationRun:
    """``found`` with other fields in a completion."""
    layout = finished_layout(SMALL)
    outputs = {name: list(items) for name, items in found.run.outputs.items()}
    item = unpack(layout, outputs["completion"][number])
    outputs["completion"][number] = pack(layout, item | fields)
    return replace(found, run=replace(found.run, outputs=outputs))


def test_what_it_notices(seed: int) -> None:
    """Negative controls: another slot, a token too few, a beat too many, another cache."""
    scenario, found = ran(seed)
    last = max(i for i, step in enumerate(scenario.golden.steps) if step.cache == 2)
    done = unpack(finished_layout(SMALL), found.run.outputs["completion"][last])
    with pytest.raises(Mismatch, match=rf"step {last}: slot must be {done['slot']}, not "):
        check(scenario, spoiled(found, last, slot=done["slot"] ^ 1))
    with pytest.raises(Mismatch, match="live tokens after"):
        check(scenario, spoiled(found, 0, position=7))
    for name in ("read", "written"):
        counts = Counter(found.counts) + Counter({f"beats_{name}": 1})
        with pytest.raises(Mismatch, match=f"bytes {name} must be "):
            check(scenario, replace(found, counts=dict(counts)))
    other = replace(scenario, tensors=make_rce(SMALL, STEPS, seed + 1).tensors)
    with pytest.raises(Mismatch, match="of cache 2 must be as if nothing were ever evicted"):
        check(other, found)


def test_summary_and_report(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, found = ran(seed)
    monkeypatch.setattr(reports, "REPORTS", tmp_path)
    monkeypatch.setattr("tb.generation.rce_report.REPOSITORY", tmp_path)
    monkeypatch.setattr(command, "run_generation", lambda *_, **__: found)
    file = tmp_path / "small.toml"
    lines = (f"{name} = {json.dumps(value)}" for name, value in SMALL.describe().items())
    file.write_text("\n".join(lines) + "\n")
    arguments = ["rce", "--config", str(file), "--steps", str(STEPS), "--seed", str(seed)]
    done = CliRunner().invoke(command.main, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / f"rce-{SMALL.name}-{seed}.json").read_text())
    for text in (
        "PASSED",
        f"{STEPS} steps of 3 caches",
        f"config hash {SMALL.config_hash:#010x}",
        "32 slots, 2 first and 4 newest tokens stay, rule score, lambda 0.9492",
        "60 tokens left",
        "t up to 76: 2.4 times the slots",
        "a step reads 3,584 and writes 288 bytes",
        "32 steps as of a cache that keeps all",
    ):
        assert text in " ".join(done.output.split())
    assert report["measured"]["steps"] == len(scenario.golden.steps)
    assert report["derived"]["lossless_steps"] == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attention_fused", "--steps", "9"], "a number of steps goes with rce only"),
        (["rce", "--preset", "tiny", "--steps", "9"], "steps must be at least 128 for 32 slots"),
        (["rce", "--preset", "tiny", "--mode", "kvo"], "mode goes with other tests than rce"),
        (["rce", "--preset", "tiny", "--slices", "2"], "slices goes with other tests than rce"),
        (["rce", "--memory", "axi4"], "memory must be ideal or a DRAM standard with rce, not axi4"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(command.main, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_slots_of_a_configuration_without() -> None:
    """An eighth of the longest context, two windows at least."""
    assert [with_slots(preset(name)).slots for name in ("tiny", "lm", "paper")] == [32, 256, 1024]
    assert with_slots(replace(preset("lm"), max_context=512)).slots == 128
    assert with_slots(SMALL) is SMALL
    with pytest.raises(ConfigError, match="slots must be at most half of max_context, 128, for"):
        with_slots(replace(SMALL, slots=136))


def test_spans() -> None:
    """Long sequences are several caches, of which there must be enough."""
    assert spans(SMALL, 164, None) == [(0, 32), (16, 48), (0, 100)]
    roomy = replace(SMALL, slot_caches=5)
    assert spans(roomy, 164, 40) == [(0, 32), (16, 48), (0, 33), (0, 33), (0, 34)]
    with pytest.raises(ConfigError, match="slot_caches must be at least 5, not 3"):
        spans(SMALL, 164, 40)


#: Every rule with all of the past, none of it, and some.
RULES: dict[str, dict[str, Any]] = {
    f"{rule} {decay}": {"slot_rule": rule, "slot_decay": decay}
    for rule in ("score", "votes")
    for decay in (0, SMALL.slot_decay, 256)
}


def of_rule(name: str) -> AttentionConfig:
    """`SMALL`, which is one of them, with a rule."""
    config = replace(SMALL, **RULES[name])
    return config if config == SMALL else replace(config, name=f"tiny-{name.replace(' ', '-')}")


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_ten_thousand_steps(name: str, seed: int) -> None:
    """Both rules, lambda 0, 1 and between; a cache 310 times over its size."""
    scenario = make_rce(of_rule(name), 10_000, seed)
    trace = check(scenario, run_generation(scenario.golden, seed=seed, driver="native"))
    print(f"{name}: {trace.evictions} evictions, {trace.ties} ties, {trace.victims} slots")
    assert trace.evictions > 9_800
    assert len(trace.full) == 1
    if name in ("votes 0", "votes 256"):
        assert trace.ties > 1_000
