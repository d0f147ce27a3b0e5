"""Caches that the hardware writes behind KV-MMU, arbiter, controller and DRAM device."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from golden.generation import Generation, Step, generate
from golden.tensors import CASES
from hw.accelerator_config import AcceleratorConfig, system_core
from hw.formats import Mode, Status
from tb.accelerator.runner import write_images
from tb.generation import system
from tb.generation.host import Host
from tb.generation.rce import check, make_rce
from tb.generation.rce_report import make_report, print_summary
from tb.generation.runner import Mismatch
from tb.generation.small import SMALL
from tb.generation.system import generation_system, run_in_system
from tb.harness import HarnessError
from tb.harness.files import REPOSITORY

#: A number for every cache that there can be.
CORE = replace(system_core(SMALL), name="tiny-system", slot_caches=512)


def make(
    spans: Sequence[tuple[int, int]], seed: int, modes: Sequence[Mode] | None = None
) -> Generation:
    """Caches with a prompt, which is imported, and a last context each, in random order."""
    print(f"generation of seed {seed}")
    kinds = ["random", "sink", "outlier_channels"]
    tensors = [CASES[kinds[i % 3]](CORE, last, seed + i) for i, (_, last) in enumerate(spans)]
    order = [i for i, (prompt, last) in enumerate(spans) for _ in range(last - prompt)]
    random.Random(seed).shuffle(order)
    prompts = [prompt for prompt, _ in spans]
    imported = [i for i, prompt in enumerate(prompts) if prompt]
    return generate(tensors, prompts, order, CORE, imported=imported, modes=modes)


def accelerator(golden: Generation, slices: int = 1) -> AcceleratorConfig:
    """One whose pages a host can fill in a short time."""
    config = generation_system(golden, slices=slices)
    return replace(config, mmu=replace(config.mmu, pages=64))


def pages_of(golden: Generation, cache: int) -> int:
    """Pages of a cache after its last step."""
    config = accelerator(golden).mmu
    last = max(step.context for step in golden.steps if step.cache == cache)
    return sum(config.pages_of(last, golden.placements[cache].mode).values())


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_the_life_of_sequences(stall: float, seed: int) -> None:
    """Created, imported, grown over windows that close, ended; every page comes back."""
    golden = make([(0, 36), (20, 34), (47, 52)], seed)
    found = run_in_system(golden, accelerator(golden), seed=seed, stall=stall)
    assert found.counters["writing.tokens_imported"] == 0  # from the first step on
    assert found.counters["writing.windows_closed"] == sum(step.closes for step in golden.steps)
    assert found.returned == {cache: pages_of(golden, cache) for cache in range(3)}
    assert found.dram["violations"] == 0
    moved = found.bytes_by_kind
    assert moved["over_fetch"] == 0
    assert moved["prompts_read"] == 0
    assert moved["cache_written"] > 0
    assert found.counters["mmu_grower.pages_grown"] > 0


def test_caches_of_constant_size(seed: int) -> None:
    """Beside one that is compressed; the number of a cache is that of its place."""
    modes = [Mode.SLOTS, Mode.KVO, Mode.SLOTS]
    golden = make([(0, 40), (17, 21), (31, 38)], seed, modes)
    found = run_in_system(golden, accelerator(golden), seed=seed)
    assert found.returned == {0: 0, 1: pages_of(golden, 1), 2: 0}


def test_constant_size_reads_no_table(seed: int) -> None:
    """What holds of the test ``rce``, at the pins; not a page, not an entry of a table."""
    print(f"rce of seed {seed}")
    scenario = make_rce(CORE, 140, seed)
    found = run_in_system(scenario.golden, accelerator(scenario.golden), seed=seed)
    trace = check(scenario, found)
    assert (trace.evictions, trace.lossless) == (60, 32)
    assert found.dram["bytes_moved"] == sum(found.cache_bytes.values())
    assert found.counters["mmu_grower.pages_grown"] == found.counters["mmu_jobs.walking"] == 0
    assert set(found.returned.values()) == {0}
    report = make_report(scenario, found, trace, seed)
    assert (report["test"], report["slot_area"]) == ("rce-hbm2-2000-1", 512 * 4096)
    assert report["measured"]["bytes_read"] == report["measured"]["bytes"]["cache_read"]
    print_summary(report, REPOSITORY / "report.json", console := Console(record=True, width=150))
    summary = " ".join(console.export_text().split())
    assert "slots, victims and outputs of each: 0 differences" in summary
    assert "page tables 0, over-fetch 0" in summary
    counters = found.counters | {"arbiter.table_bursts": 1}
    with pytest.raises(Mismatch, match="bytes tables_read must be 0, not 32"):
        check(scenario, replace(found, counters=counters))
    written = found.counters["arbiter.cache_write_bursts"] + 1
    counters = found.counters | {"arbiter.cache_write_bursts": written}
    with pytest.raises(Mismatch, match="bytes written must be "):
        check(scenario, replace(found, counters=counters))


@pytest.mark.parametrize("reset_at", [900, 4500])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    """While prompts are imported, and between steps; then everything once more."""
    golden = make([(0, 5), (33, 37)], seed)
    run_in_system(golden, accelerator(golden), seed=seed, stall=0.2, reset_at=reset_at)


def starve(golden: Generation, spare_pages: int) -> tuple[Generation, Host]:
    """Leave a few pages; the statuses of the steps are the twin's."""
    config = accelerator(golden)
    host = Host(golden, config, ends=False, spare_pages=spare_pages)
    ends: Sequence[Status] = host.statuses()
    steps: list[Step] = [
        replace(step, status=status) for step, status in zip(golden.steps, ends, strict=True)
    ]
    return replace(golden, steps=steps), host


def test_exhaustion_harms_no_other_sequence(seed: int) -> None:
    """One sequence finds no page and stops; the others go on, to the bit."""
    golden, host = starve(make([(17, 24), (47, 50), (15, 36)], seed), 1)
    statuses = {step.status for step in golden.steps}
    assert {Status.OK, Status.OUT_OF_PAGES} <= statuses
    going_on = [step for step in golden.steps if step.cache == 0]
    assert {step.status for step in going_on} == {Status.OK}
    found = run_in_system(golden, host=host, config=accelerator(golden), seed=seed)
    assert found.counters["mmu_jobs.jobs_refused"] == sum(
        step.status.refused for step in golden.steps
    )


def test_a_page_too_many_shows(seed: int) -> None:
    """Negative control: there is a spare page that the twin does not know of."""
    golden, _ = starve(make([(17, 24), (47, 50), (15, 36)], seed), 0)
    config = accelerator(golden)
    host = Host(golden, config, ends=False, spare_pages=1)
    with pytest.raises(HarnessError):
        run_in_system(golden, config, host=host, seed=seed)


def test_a_spoiled_prompt_shows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a bit of every byte of the staging area."""
    golden = make([(20, 24)], seed)

    def spoiled(folder: Path, config: AcceleratorConfig, contents: list[bytes]) -> list[str]:
        return write_images(folder, config, [bytes(b ^ 1 for b in own) for own in contents])

    monkeypatch.setattr(system, "write_images", spoiled)
    with pytest.raises(Mismatch):
        run_in_system(golden, accelerator(golden), seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("slices", [2, 4])
def test_slices(slices: int, seed: int) -> None:
    """Tokens go to the slices of their jobs, prompts to those of their caches."""
    modes = [Mode.KVO, Mode.SLOTS, Mode.KVO, Mode.KVO, Mode.SLOTS]
    golden = make([(0, 36), (0, 34), (47, 52), (33, 40), (0, 9)], seed, modes)
    config = accelerator(golden, slices)
    found = run_in_system(golden, config, seed=seed, stall=0.1)
    assert found.returned == {cache: pages_of(golden, cache) for cache in range(5)}
