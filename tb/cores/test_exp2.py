"""The exp2 unit over all of its inputs: against the twin, against the real power, and its order."""

from typing import Any

import pytest
import torch
from amaranth.hdl import Shape
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from torch import Tensor

from golden.twin.exp2 import exp2_fraction
from hw.cores.exp2 import Exp2

FRACTIONS = torch.arange(4096)
LARGEST_ERROR = 6e-4


@pytest.fixture(scope="module")
def powers() -> Tensor:
    """Results of the RTL for every fraction."""
    unit = Exp2()
    found: list[int] = []

    async def sweep(context: Any) -> None:
        for fraction in FRACTIONS.tolist():
            context.set(unit.fraction, fraction)
            found.append(context.get(unit.power))

    simulator = Simulator(unit)
    simulator.add_testbench(sweep)
    simulator.run()
    return torch.tensor(found)


def test_members() -> None:
    members = Exp2().signature.members
    assert members["fraction"] == In(12)
    assert members["power"] == Out(15)
    assert Shape.cast(members["power"].shape).signed is False


def test_equals_the_twin(powers: Tensor) -> None:
    assert torch.equal(powers, exp2_fraction(FRACTIONS))


def test_relative_error(powers: Tensor) -> None:
    exact = torch.exp2(FRACTIONS.double() / 4096)
    error = ((powers / 2**14 - exact) / exact).abs().max().item()
    print(f"largest relative error of exp2: {error:.3e}")
    assert error <= LARGEST_ERROR


def test_never_falls_and_halves_to_a_probability(powers: Tensor) -> None:
    """The largest power rounds to 4095 in units of 2**-12 when halved: no clamp is needed."""
    assert (powers.diff() >= 0).all()
    assert powers[0] == 1 << 14
    assert (powers[-1] + 4) >> 3 == 4095


def test_twin_keeps_the_shape() -> None:
    assert exp2_fraction(FRACTIONS.reshape(4, 8, 128)).shape == (4, 8, 128)
