"""The whole core under the native driver: equal to the run under cocotb in everything measured."""

from __future__ import annotations

from dataclasses import fields

import pytest
from click.testing import CliRunner

from golden.memory_image.bundle import Arrays
from hw.config import preset
from tb.attention.catalogue import SCENARIOS
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report
from tb.attention.runner import AttentionRun, Mismatch, require_equal, run_attention
from tb.harness import DRIVERS, Hang
from tb.harness.slow import slow_among
from tb.run import main

TINY = preset("tiny")
HARSH = SCENARIOS["attention_corners"].memory
#: What may differ between two drivers.
ABOUT_THE_RUN = ("driver", "speed")


def data_of(name: str, seed: int) -> Arrays:
    return golden_data(SCENARIOS[name], TINY, seed)[1]


def result_of(run: AttentionRun) -> dict[str, object]:
    return {f.name: getattr(run, f.name) for f in fields(run) if f.name not in ABOUT_THE_RUN}


@pytest.mark.parametrize("name", slow_among(SCENARIOS, ("attention_fused",)))
def test_every_scenario_gives_the_same(name: str, seed: int) -> None:
    scenario = SCENARIOS[name]
    path, data = golden_data(scenario, TINY, seed)
    runs = [
        run_attention(
            TINY, data, seed=seed, stall=scenario.stall, memory=scenario.memory, driver=driver
        )
        for driver in DRIVERS
    ]
    for run in runs:
        require_equal(run.comparison)
    assert result_of(runs[0]) == result_of(runs[1])
    assert runs[0].speed.cycles == runs[1].speed.cycles > runs[0].cycles
    report = make_report(scenario, TINY, data, runs[1], path)
    assert report["passed"]
    assert report["simulation"]["driver"] == "native"
    assert report["simulation"]["cycles_per_second"] > 0


def test_reset_in_flight_gives_the_same(seed: int) -> None:
    data = data_of("attention_fused", seed)
    runs = [
        run_attention(TINY, data, seed=seed, stall=0.2, memory=HARSH, reset_at=1500, driver=driver)
        for driver in DRIVERS
    ]
    require_equal(runs[1].comparison)
    assert result_of(runs[0]) == result_of(runs[1])


def test_a_wrong_word_is_found(seed: int) -> None:
    data = data_of("attention_fused", seed)
    spoiled = {key: array.copy() for key, array in data.items()}
    spoiled["output"].flat[spoiled["output"].size // 2] ^= 1
    run = run_attention(TINY, spoiled, seed=seed, driver="native")
    with pytest.raises(Mismatch, match="1 differences from the twin"):
        require_equal(run.comparison)


def test_a_lost_job_is_found(seed: int) -> None:
    data = dict(data_of("attention_fused", seed))
    data["job"], data["query"] = data["job"][:-1], data["query"][:-1]
    with pytest.raises(Hang, match="output"):
        run_attention(TINY, data, seed=seed, max_cycles=30_000, driver="native")


def test_the_command_refuses_waves_at_once() -> None:
    result = CliRunner().invoke(main, ["attention_fused", "--driver", "native", "--waves"])
    assert result.exit_code == 2
    assert result.stderr == "error: the driver 'native' records no waves: take 'cocotb'\n"
