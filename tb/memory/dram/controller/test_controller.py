"""The controller against the device model: contents, rules, refresh, reset, back-pressure."""

from __future__ import annotations

import pytest

from hw.memory.dram import load_standard, standard_names
from hw.memory.dram.controller import ControllerConfig
from tb.memory.dram.controller.bench import Result, run_requests
from tb.memory.dram.controller.workload import Workload
from tb.memory.dram.trace_checker import check_trace

WINDOW = 8
CASES = [(name, gear) for name in standard_names() for gear in (1, 2)]


def run_workload(
    config: ControllerConfig, workloads: list[Workload], *, seed: int, **options: object
) -> Result:
    """Run one workload per pseudo-channel, check data and trace."""
    result = run_requests(
        config,
        [workload.requests for workload in workloads],
        window=WINDOW,
        seed=seed,
        trace=True,
        max_cycles=20_000_000,
        **options,  # type: ignore[arg-type]
    )
    for i, workload in enumerate(workloads):
        outputs = result.run.outputs
        workload.check(outputs[f"response__{i}"], outputs[f"written__{i}"])
    assert result.trace is not None
    assert check_trace(config.standard, result.trace) == set()
    return result


def random_workloads(
    config: ControllerConfig, seed: int, number: int, writes: float
) -> list[Workload]:
    """Return a workload per pseudo-channel: all patterns, one after the other."""
    workloads = []
    for channel in range(config.standard.pseudo_channels):
        workload = Workload(config, WINDOW, seed + 1000 * channel)
        for pattern in workload.patterns():
            workload.add(pattern, number, writes=writes)
        workloads.append(workload)
    return workloads


@pytest.mark.parametrize(("name", "gear"), CASES)
def test_random_traffic(name: str, gear: int, seed: int) -> None:
    config = ControllerConfig(standard=load_standard(name), gear=gear)
    workloads = random_workloads(config, seed, number=150, writes=0.3)
    result = run_workload(config, workloads, seed=seed, stall=0.2)
    assert result.counter("reads")
    assert result.counter("writes")
