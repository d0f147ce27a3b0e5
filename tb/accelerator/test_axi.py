"""Attention through MMU, arbiter and AXI4 master, from the memory of cocotbext-axi."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from golden.memory_image.bundle import Arrays
from hw.accelerator_config import AXI4, AcceleratorConfig
from hw.config import BURST_BYTES, ConfigError, preset
from tb.accelerator import runner
from tb.accelerator.placing import Placed, place_jobs
from tb.accelerator.runner import SystemRun, run_accelerator, system_config
from tb.attention.catalogue import SCENARIOS
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report
from tb.attention.runner import Mismatch, require_equal
from tb.harness import DriverError

SYSTEM = system_config(preset("tiny"), slices=2, standard=AXI4)
SCENARIO = SCENARIOS["attention_fused"]


def run_fused(seed: int, *, pause: float) -> SystemRun:
    _, data = golden_data(SCENARIO, SYSTEM.mmu.attention, seed)
    return run_accelerator(SYSTEM, data, seed=seed, stall=0.1, axi_pause=pause)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_fused_attention(pause: float, seed: int) -> None:
    run = run_fused(seed, pause=pause)
    require_equal(run.comparison)
    counters = run.counters
    assert counters["axi.read_strays"] == counters["axi.write_strays"] == 0
    assert counters["axi.read_errors"] == counters["axi.write_errors"] == 0
    # What the arbiters granted is what came, and the MMU's table is behind the same port.
    granted = counters["arbiter.cache_bursts"] + counters["arbiter.table_bursts"]
    assert counters["axi.read_words"] * 16 == granted * BURST_BYTES
    assert counters["arbiter.table_bursts"] > 0
    path, data = golden_data(SCENARIO, SYSTEM.mmu.attention, seed)
    report = make_report(SCENARIO, SYSTEM.mmu.attention, data, run, path)
    assert (report["memory"], report["counted_at"]) == (AXI4, "AXI4 ports")
    assert report["measured"]["table_bytes"] == counters["arbiter.table_bursts"] * BURST_BYTES


@pytest.mark.slow
def test_a_spoiled_page_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a bit of every byte of one page of the second memory."""

    def spoiled(config: AcceleratorConfig, data: Arrays) -> Placed:
        placed = place_jobs(config, data)
        pages = placed.channels[1].pages
        pages[0][:] = bytes(byte ^ 1 for byte in pages[0])
        return placed

    monkeypatch.setattr(runner, "place_jobs", spoiled)
    with pytest.raises(Mismatch):
        require_equal(run_fused(seed, pause=0.0).comparison)


def test_the_native_driver_has_no_memory(seed: int) -> None:
    with pytest.raises(DriverError, match="'native' has no memory for axi4: take 'cocotb'"):
        run_accelerator(SYSTEM, {}, seed=seed, driver="native")


def test_illegal_combinations() -> None:
    with pytest.raises(ConfigError, match="refresh must be None with axi4, not 'per_bank'"):
        replace(SYSTEM, refresh="per_bank")
    for bits in (0, 9, True, "4"):
        wrong: Any = bits
        with pytest.raises(ConfigError, match=f"axi_id_bits must be 1 to 8 or None, not {bits!r}"):
            replace(SYSTEM, axi_id_bits=wrong)
    with pytest.raises(ConfigError, match="axi_id_bits must be None with hbm2-2000, not 4"):
        replace(SYSTEM, standard="hbm2-2000", axi_id_bits=4)
    with pytest.raises(ConfigError, match=r"standard must be one of .*, axi4, not 'axi5'"):
        replace(SYSTEM, standard="axi5")


def test_what_a_configuration_says_of_itself() -> None:
    described = replace(SYSTEM, axi_id_bits=6).describe()
    assert (described["standard"], described["axi_id_bits"]) == (AXI4, 6)
    assert "refresh" not in described
    assert SYSTEM.describe()["axi_id_bits"] == 4
    assert (SYSTEM.controllers, SYSTEM.slices) == (0, 2)
    dram = replace(SYSTEM, standard="lpddr5-6400-x16").describe()
    assert dram["refresh"] == "per_bank"
    assert "axi_id_bits" not in dram
