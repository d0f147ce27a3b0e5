"""The whole core against the twin: corner tensors, boundaries, back-pressure, resets, faults."""

from __future__ import annotations

import random

import numpy as np
import pytest

from golden.memory_image import JobDescriptor
from golden.memory_image.bundle import Arrays
from hw.config import PRESETS, preset
from hw.formats import KVFormat, Mode, Status, modes
from tb.attention.catalogue import SCENARIOS, boundary_contexts
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report, selected_groups
from tb.attention.runner import Comparison, Mismatch, require_equal, run_attention
from tb.harness import Hang

TINY = preset("tiny")
#: Presets that take seconds.
QUICK = ("tiny", "lm")
HARSH = SCENARIOS["attention_corners"].memory


def data_of(name: str, seed: int, preset_name: str = "tiny", mode: Mode = Mode.KVO) -> Arrays:
    return golden_data(SCENARIOS[name], preset(preset_name), seed, mode)[1]


@pytest.mark.parametrize("preset_name", QUICK)
def test_attention_fused(preset_name: str, seed: int) -> None:
    """The scenario that ``make sim`` runs."""
    check_fused(preset_name, Mode.KVO, seed)


@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
@pytest.mark.parametrize("preset_name", QUICK)
def test_attention_fused_dense(preset_name: str, mode: Mode, seed: int) -> None:
    """The same with every token kept."""
    check_fused(preset_name, mode, seed)


@pytest.mark.slow
@pytest.mark.parametrize("preset_name", [name for name in PRESETS if name not in QUICK])
def test_attention_fused_at_published_size(preset_name: str, seed: int) -> None:
    check_fused(preset_name, Mode.KVO, seed)


def check_fused(preset_name: str, mode: Mode, seed: int) -> None:
    """Run ``attention_fused``; compare every word, the traffic and the counters."""
    config = preset(preset_name)
    scenario = SCENARIOS["attention_fused"]
    path, data = golden_data(scenario, config, seed, mode)
    run = run_attention(config, data, seed=seed, memory=scenario.memory)
    require_equal(run.comparison)
    assert run.comparison.jobs == len(data["job"]) >= 16
    assert run.comparison.chunks == len(data["selection"])
    assert (run.comparison.chunks > 0) == (mode == Mode.KVO)
    assert run.counters["retire.jobs_completed"] == run.comparison.jobs
    assert run.counters["core.config_hash"] == config.config_hash
    report = make_report(scenario, config, data, run, path, mode)
    layout = KVFormat(config)
    jobs = zip(data["context"].tolist(), selected_groups(config, data), strict=True)
    traffic = sum(sum(layout.traffic_bytes(c, mode, groups).values()) for c, groups in jobs)
    assert report["measured"]["memory_bytes"] == traffic
    assert report["passed"]


@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_dense_corner_tensors(stall: float, mode: Mode, seed: int) -> None:
    """The same tensors and boundaries, every token kept."""
    data = data_of("attention_corners", seed, mode=mode)
    run = run_attention(TINY, data, seed=seed + int(100 * stall), stall=stall, memory=HARSH)
    require_equal(run.comparison)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_modes_after_each_other(stall: float, seed: int) -> None:
    """Jobs of all modes in random order."""
    data = data_of("attention_mixed", seed)
    assert set(data["mode"].tolist()) == set(modes(TINY))
    run = run_attention(TINY, data, seed=seed, stall=stall, memory=HARSH)
    require_equal(run.comparison)


@pytest.mark.parametrize("stall", [0.0, 0.3, 0.6, 0.9])
def test_corner_tensors_under_back_pressure(stall: float, seed: int) -> None:
    """All zero, saturating, ties, sink, outliers; every boundary; each stream stalls at random."""
    data = data_of("attention_corners", seed)
    assert set(boundary_contexts(TINY)) <= set(data["context"].tolist())
    run = run_attention(TINY, data, seed=seed + int(100 * stall), stall=stall, memory=HARSH)
    require_equal(run.comparison)


@pytest.mark.parametrize("stream", ["job", "query", "selection", "output", "completion"])
def test_one_stream_nearly_blocked(stream: str, seed: int) -> None:
    """The others run free, so that everything piles up at one place."""
    data = data_of("attention_corners", seed)
    run = run_attention(TINY, data, seed=seed, stall={stream: 0.9})
    require_equal(run.comparison)
    if stream == "output":
        assert run.counters["accumulator.accumulator_wait"] > 0


@pytest.mark.parametrize("reset_at", [1, 40, 333, 1500, 4000])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    """After a reset the same jobs come out right from the start."""
    data = data_of("attention_fused", seed)
    run = run_attention(TINY, data, seed=seed, stall=0.2, memory=HARSH, reset_at=reset_at)
    require_equal(run.comparison)


@pytest.mark.parametrize("number", range(6))
def test_reset_anywhere(number: int, seed: int) -> None:
    """The same at a random cycle."""
    reset_at = 1 + random.Random(f"{seed} {number}").randrange(7000)
    print(f"reset at cycle {reset_at}")
    test_reset_in_flight(reset_at, seed)


def test_bad_descriptors_and_scales(seed: int) -> None:
    """Each refused or faulty job has its status; the jobs around it are unharmed."""
    data = data_of("attention_faults", seed)
    run = run_attention(TINY, data, seed=seed, stall=0.2, memory=HARSH)
    require_equal(run.comparison)
    statuses = data["status"].tolist()
    of_the_core = {status for status in Status if not status.of_the_mmu}
    assert set(statuses) == of_the_core - {Status.MEMORY_ERROR}
    assert run.counters["retire.jobs_completed"] == statuses.count(Status.OK)
    assert run.counters["retire.jobs_failed"] == statuses.count(Status.SCALE_NOT_FINITE)
    assert run.counters["intake.jobs_refused"] == sum(Status(s).refused for s in statuses)


@pytest.mark.parametrize("region", ["base", "chunk", "tail"])
def test_memory_error(region: str, seed: int) -> None:
    """A beat with ``error`` marks its own job and no other."""
    data = dict(data_of("attention_fused", seed))
    struck = int(np.flatnonzero(data["selected"] > 0)[2])
    job = JobDescriptor.unpack(int.from_bytes(data["job"][struck].tobytes(), "little"), TINY)
    size = KVFormat(TINY).region_bytes(job.context)[region]
    data["status"] = data["status"].copy()
    data["status"][struck] = Status.MEMORY_ERROR
    memory: dict[str, int | str] = {
        "error_address": f"{getattr(job, f'{region}_address'):x}",
        "error_bytes": size,
    }
    run = run_attention(TINY, data, seed=seed, memory=memory)
    require_equal(run.comparison)
    assert run.counters["retire.jobs_failed"] == 1


def test_a_wrong_word_is_found(seed: int) -> None:
    """Negative control: one output bit, one chunk, one sum, one lost job in the golden data."""
    data = data_of("attention_fused", seed)
    for name in ("output", "selection", "sum", "maximum"):
        spoiled = {key: array.copy() for key, array in data.items()}
        spoiled[name].flat[spoiled[name].size // 2] ^= 1
        run = run_attention(TINY, spoiled, seed=seed)
        with pytest.raises(Mismatch, match=r"1 differences from the twin"):
            require_equal(run.comparison)


def test_a_lost_job_is_found(seed: int) -> None:
    """Negative control: one completion more than there are jobs."""
    data = dict(data_of("attention_fused", seed))
    data["job"], data["query"] = data["job"][:-1], data["query"][:-1]
    with pytest.raises(Hang, match="output"):
        run_attention(TINY, data, seed=seed, max_cycles=30_000)


def test_comparing_nothing_fails() -> None:
    with pytest.raises(Mismatch, match="nothing was compared"):
        require_equal(Comparison())
