"""The normaliser against its twin and against real division, its saturation and its exact pace."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.twin.normaliser import bit_length, normalise, reciprocal
from hw.config import AttentionConfig, preset
from hw.cores.normaliser import OUTPUT_LAYOUT, Normaliser, accumulator_layout
from hw.cores.sum_reciprocal import reciprocal_layout
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows3_channels96": replace(preset("tiny"), rows=3, head_dim=96),
    "values4": replace(preset("tiny"), value_bits=4),
}
#: Cycles from the transfer of a reciprocal to the first channel, from there to the first output.
START, FINISH = 1, 6


@cache
def device(name: str) -> Normaliser:
    """One component per configuration, so that all runs share its elaboration and build."""
    return Normaliser(CONFIGS[name])


@dataclass(frozen=True)
class Jobs:
    """Sums [jobs, rows] and accumulators [jobs, rows, head_dim]."""

    sums: Tensor
    accumulator: Tensor


def make_jobs(config: AttentionConfig, seed: int, count: int) -> Jobs:
    """Sums of every length and the ends of each; values up to the largest that a mean can have."""
    print(f"normaliser jobs of seed {seed}")
    torch.manual_seed(seed)
    shape = (count, config.rows)
    length = torch.randint(20, config.sum_bits + 1, shape)
    low = 1 << (length - 1)
    sums = low + (torch.rand(shape, dtype=torch.float64) * low).long()
    end = torch.rand(shape)
    sums = torch.where(end < 0.15, low, sums)
    sums = torch.where(end > 0.85, 2 * low - 1, sums)
    # Means of the values in units of 2**-15: from a few units to beyond the output's range.
    values = (torch.rand((*shape, config.head_dim), dtype=torch.float64) * 2 - 1) * torch.exp2(
        torch.randint(0, 33, (*shape, 1))
    )
    accumulator = (values * 2**-15 * config.value_step_ratio * sums.unsqueeze(-1)).long()
    kind = torch.rand(accumulator.shape)
    accumulator = torch.where(kind < 0.1, 0, accumulator)
    largest = (
        (1 << config.value_magnitude_bits - 1)
        * config.value_step_ratio
        * sums.unsqueeze(-1).expand_as(accumulator)
    )
    largest = largest.clamp(max=(1 << (config.accumulator_bits - 1)) - 1)
    accumulator = torch.where(kind > 0.95, largest, accumulator)
    return Jobs(sums, torch.where(kind > 0.975, -largest, accumulator))


def items(config: AttentionConfig, jobs: Jobs) -> dict[str, list[int]]:
    """The input streams of the jobs."""
    quads = jobs.accumulator.reshape(-1, 4).tolist()
    factor, shift = (x.flatten().tolist() for x in reciprocal(config, jobs.sums))
    row = reciprocal_layout(config)
    return {
        "reciprocals": [
            pack(row, {"maximum": 0, "reciprocal": f, "shift": s})
            for f, s in zip(factor, shift, strict=True)
        ],
        "accumulator": [pack(accumulator_layout(config), {"value": quad}) for quad in quads],
    }


def check(name: str, jobs: Jobs, **options: Any) -> Any:
    """Run the jobs and compare every item; the run comes back."""
    config = CONFIGS[name]
    wanted = normalise(config, jobs.sums, jobs.accumulator).reshape(-1, 4).tolist()
    run = simulate(
        device(name),
        name=f"normaliser_{name}",
        inputs=items(config, jobs),
        outputs={"output": len(wanted)},
        **options,
    )
    assert [unpack(OUTPUT_LAYOUT, item)["data"] for item in run.outputs["output"]] == wanted
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    # In a dense mode tiny attends to 256 tokens at most, lm to 2048.
    sum_bits, accumulator_bits = {"lm": (32, 53), "values4": (29, 54)}.get(name, (29, 50))
    assert payload_widths(device(name)) == {
        "reciprocals": 13 + 17 + (sum_bits - 16).bit_length(),
        "accumulator": 4 * accumulator_bits,
        "output": 4 * 32,
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_random_jobs_at_full_pace(name: str, seed: int) -> None:
    config, count = CONFIGS[name], 40
    run = check(name, make_jobs(config, seed, count))
    # The first reciprocal is transferred in cycle 1; then the multiplier never waits.
    first = 1 + START + FINISH
    assert run.first_output_cycle == {"output": first}
    assert run.cycles == first + count * config.rows * config.head_dim - 4 + 1


@pytest.mark.parametrize(
    "stall",
    [0.5, 0.9, {"reciprocals": 0.99}, {"accumulator": 0.9}, {"output": 0.9}],
    ids=str,
)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_jobs(CONFIGS["tiny"], seed, 6), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [3, 8, 27, 90])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check("tiny", make_jobs(CONFIGS["tiny"], seed, 4), stall=0.3, seed=seed, reset_at=cycle)


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_saturate_and_are_exact_to_rounding(name: str, seed: int) -> None:
    """The jobs reach both ends of the output, and the others lie close to the real quotient."""
    config = CONFIGS[name]
    jobs = make_jobs(config, seed, 20)
    found = normalise(config, jobs.sums, jobs.accumulator)
    real = jobs.accumulator.double() * 2**15 / (config.value_step_ratio * jobs.sums.unsqueeze(-1))
    ends = real.clamp(-(2**31), 2**31 - 1)
    assert (found == -(1 << 31)).any()
    assert (found == (1 << 31) - 1).any()
    # The mantissa loses 2**-15 of the sum, the reciprocal 2**-16; one unit each for the roundings.
    assert ((found - ends).abs() <= real.abs() * (2**-15 + 2**-16) + 2).all()


def test_twin_of_hand_worked_numbers() -> None:
    config = CONFIGS["tiny"]
    lengths = bit_length(torch.tensor([0, 1, 2, 3, 1 << 19, (1 << 20) - 1]))
    assert lengths.tolist() == [0, 1, 2, 2, 20, 20]
    # 2**34 / (5 * 32768) and 2**34 / (5 * 65535), rounded down.
    factor, shift = reciprocal(config, torch.tensor([1 << 19, (1 << 20) - 1, 1 << 26]))
    assert factor.tolist() == [104857, 52429, 104857]
    assert shift.tolist() == [4, 4, 11]
    # A sum of 1.0 and a value of 3.0: 5 * 3 * 2**20 in the accumulator, which is shifted by 5 - 3;
    # 15 * 2**18 * 104857 / 2**22 = 98303.4, where the exact quotient is 98304.
    sums = torch.tensor([1 << 20])
    accumulator = torch.tensor([[15 << 20, -(15 << 20), 5, 0]])
    assert normalise(config, sums, accumulator).tolist() == [[98303, -98303, 0, 0]]
    # 4-bit values, steps of 1 / 17: 2**36 / (17 * 32768); 51 * 2**18 * 123361 / 2**24 is 98303.3.
    config = CONFIGS["values4"]
    assert reciprocal(config, sums)[0].tolist() == [123361]
    accumulator = torch.tensor([[51 << 20, -(51 << 20), 17, 0]])
    assert normalise(config, sums, accumulator).tolist() == [[98303, -98303, 0, 0]]
