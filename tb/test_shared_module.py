"""A module with several instances is elaborated, emitted and compiled once."""

from __future__ import annotations

import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.shared_module import SharedModule
from hw.streams import StreamRegister
from tb.harness import elaborate, simulate


class Increment(wiring.Component):
    """Adds 1 behind a register; counts how often it is elaborated."""

    def __init__(self) -> None:
        self.elaborations = 0
        super().__init__({"input": In(stream.Signature(8)), "output": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        self.elaborations += 1
        m = Module()
        m.submodules.register = register = StreamRegister(8)
        connect(m, flipped(self.input), register.input)
        m.d.comb += [
            self.output.valid.eq(register.output.valid),
            self.output.payload.eq(register.output.payload + 1),
            register.output.ready.eq(self.output.ready),
        ]
        return m


class Chain(wiring.Component):
    """Instances of ``parts``, one after the other."""

    def __init__(self, parts: list[wiring.Component]) -> None:
        self._parts = parts
        super().__init__({"input": In(stream.Signature(8)), "output": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        source = flipped(self.input)
        for i, part in enumerate(self._parts):
            m.submodules[f"increment_{i}"] = instance = SharedModule("increment", part)
            connect(m, source, instance.input)
            source = instance.output
        connect(m, source, flipped(self.output))
        return m


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_instances_work_each_for_itself(stall: float, seed: int) -> None:
    """Their registers are filled and emptied at different times."""
    chain = Chain([Increment()] * 3)
    items = [*range(250, 256), *range(40)]
    run = simulate(
        chain,
        name="shared_chain",
        inputs={"input": items},
        outputs={"output": len(items)},
        stall=stall,
        seed=seed,
        driver="native",
    )
    assert run.outputs["output"] == [(item + 3) % 256 for item in items]


def test_the_module_is_there_once() -> None:
    part = Increment()
    design = elaborate(Chain([part] * 3), "shared_chain")
    assert list(design.shared) == ["increment"]
    assert len(re.findall(r"^  increment increment_\d \($", design.text, re.M)) == 3
    assert "module increment" not in design.text
    assert design.shared["increment"].count("module increment(") == 1
    # Once for the digest, and once more if it was not kept from an earlier run.
    assert part.elaborations <= 2


def test_a_single_instance_is_compiled_with_the_rest() -> None:
    design = elaborate(Chain([Increment()]), "shared_single")
    assert design.shared == {}
    assert "module increment(" in design.text


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two different parts are shared as module increment"):
        elaborate(Chain([Increment(), Increment()]), "shared_wrong")


def test_it_is_not_lost_without_a_platform() -> None:
    with pytest.raises(TypeError, match=r"increment must be emitted by hw\.tools\.sharing"):
        rtlil.convert(Chain([Increment()]))
