"""Attention through MMU, arbiter, controller and DRAM device gives the golden words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from golden.memory_image.bundle import Arrays
from golden.memory_image.pages import PagesError
from hw.accelerator_config import AcceleratorConfig
from hw.config import ConfigError, preset
from hw.formats import Mode, Status
from hw.memory.dram import StandardError, standard_names
from tb.accelerator import runner
from tb.accelerator.placing import Placed, place_jobs
from tb.accelerator.runner import run_accelerator, system_config
from tb.attention.catalogue import SCENARIOS
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report
from tb.attention.runner import Mismatch, require_equal

TINY = preset("tiny")
SYSTEM = system_config(TINY)
DENSE_TRAFFIC = 2 * 2 * TINY.head_dim


def data_of(name: str, config: AcceleratorConfig, seed: int) -> Arrays:
    return golden_data(SCENARIOS[name], config.mmu.attention, seed)[1]


def test_fused_attention_and_its_report(seed: int) -> None:
    scenario = SCENARIOS["attention_fused"]
    core = SYSTEM.mmu.attention
    path, data = golden_data(scenario, core, seed)
    run = run_accelerator(SYSTEM, data, seed=seed, driver="native")
    require_equal(run.comparison)
    report = make_report(scenario, core, data, run, path)
    measured, derived = report["measured"], report["derived"]
    assert report["memory"] == "hbm2-2000"
    dense = sum(DENSE_TRAFFIC * int(context) for context in data["context"])
    assert derived["traffic_at_the_port"] == measured["dram"]["bytes_moved"] / dense
    # Everything at the pins is a record, a table, or a burst that was fetched for a part of it.
    asked = measured["counters"]["arbiter.cache_bursts"] * 32 + measured["table_bytes"]
    assert measured["dram"]["bytes_moved"] == asked + measured["over_fetch_bytes"]
    assert measured["table_bytes"] > 0
    assert measured["dram"]["violations"] == 0
    assert measured["dram"]["per_bank_refreshes"] > 0


@pytest.mark.parametrize("name", ["attention_corners", "attention_mixed", "attention_faults"])
def test_under_back_pressure(name: str, seed: int) -> None:
    data = data_of(name, SYSTEM, seed)
    stall = SCENARIOS[name].stall
    require_equal(run_accelerator(SYSTEM, data, seed=seed, stall=stall, driver="native").comparison)


@pytest.mark.parametrize("reset_at", [300, 2500])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    """During the commands of the host, and between jobs."""
    data = data_of("attention_fused", SYSTEM, seed)
    run = run_accelerator(SYSTEM, data, seed=seed, stall=0.2, reset_at=reset_at, driver="native")
    require_equal(run.comparison)


def test_a_spoiled_page_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a bit of every byte of one page."""

    def spoiled(config: AcceleratorConfig, data: Arrays) -> Placed:
        placed = place_jobs(config, data)
        pages = placed.channels[0].pages
        pages[0][:] = bytes(byte ^ 1 for byte in pages[0])
        return placed

    monkeypatch.setattr(runner, "place_jobs", spoiled)
    data = data_of("attention_fused", SYSTEM, seed)
    run = run_accelerator(SYSTEM, data, seed=seed, driver="native")
    with pytest.raises(Mismatch):
        require_equal(run.comparison)


def test_a_job_of_no_sequence_harms_nobody(seed: int) -> None:
    """It ends with its status and without results, between jobs that have theirs."""
    data = {name: array.copy() for name, array in data_of("attention_fused", SYSTEM, seed).items()}
    victim = 2
    first = int(data["selected"][:victim].sum())
    chosen = range(first, first + int(data["selected"][victim]))
    data["selection"] = np.delete(data["selection"], chosen)
    data["status"][victim] = Status.NO_SEQUENCE
    for name in ("selected", "maximum", "sum", "output"):
        data[name][victim] = 0
    run = run_accelerator(SYSTEM, data, seed=seed, stall=0.2, driver="native")
    require_equal(run.comparison)
    assert run.counters["mmu_jobs.jobs_refused"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("standard", standard_names())
@pytest.mark.parametrize("slices", [1, 2, 4])
def test_slices_and_standards(standard: str, slices: int, seed: int) -> None:
    """Results do not depend on how many slices there are, nor on the memory."""
    config = system_config(TINY, slices=slices, standard=standard)
    data = data_of("attention_mixed", config, seed)
    require_equal(run_accelerator(config, data, seed=seed, stall=0.1, driver="native").comparison)


def test_more_caches_than_pages(seed: int) -> None:
    data = data_of("attention_fused", SYSTEM, seed)
    pages = AcceleratorConfig(mmu=replace(SYSTEM.mmu, pages=4, table_address=4096))
    with pytest.raises(PagesError, match="OUT_OF_PAGES"):
        place_jobs(pages, data)


def test_illegal_parameters() -> None:
    with pytest.raises(ConfigError, match="slices must be one of"):
        AcceleratorConfig(mmu=SYSTEM.mmu, slices=3)
    with pytest.raises(ConfigError, match="standard must be one of"):
        AcceleratorConfig(mmu=SYSTEM.mmu, standard="hbm9")
    with pytest.raises(StandardError, match="refresh must be one of"):
        AcceleratorConfig(mmu=SYSTEM.mmu, refresh="never")
    large = replace(SYSTEM.mmu, channel_bytes=1 << 32)
    with pytest.raises(ConfigError, match="channel_bytes must be at most"):
        AcceleratorConfig(mmu=large, standard="hbm2-2000")


def test_modes_are_the_jobs_own(seed: int) -> None:
    """A dense cache lies in pages like any other."""
    scenario = SCENARIOS["attention_fused"]
    _, data = golden_data(scenario, SYSTEM.mmu.attention, seed, Mode.DENSE16)
    require_equal(run_accelerator(SYSTEM, data, seed=seed, driver="native").comparison)
