"""LayerMap against a list: changes at any time, reading a cycle later, identity after a reset."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.config import preset
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.layer_map import LayerMap
from tb.formal.mutant import mutant

#: Layers: one, as many as their bits can number, and fewer.
LAYERS = (1, 4, 5, 32)


def config_of(layers: int) -> MmuConfig:
    return MmuConfig(attention=replace(preset("tiny"), layers=layers), sequences=2)


def check(make: Any, layers: int, seed: int, steps: int = 250) -> None:
    """Read layers, two cycles each, while others or the same one change before and meanwhile."""
    rng = random.Random(seed)
    unit = make(config_of(layers))
    reset = Signal()
    expected = list(range(layers))
    simulator = Simulator(ResetInserter(reset)(unit))
    simulator.add_clock(1e-9)

    async def cycle(context: Any, layer: int, but: int | None = None) -> None:
        """One cycle with ``layer`` given, perhaps with a change, not of layer ``but``."""
        context.set(unit.layer, layer)
        changed = rng.randrange(layers)
        enable = rng.random() < 0.5 and changed != but
        # Without enable the rest means nothing.
        context.set(unit.change.enable, enable)
        context.set(unit.change.layer, changed)
        kv_layer = rng.choice((0, layers - 1, rng.randrange(layers)))
        context.set(unit.change.kv_layer, kv_layer)
        await context.tick()
        if enable:
            expected[changed] = kv_layer

    async def bench(context: Any) -> None:
        for step in range(steps):
            await cycle(context, rng.randrange(layers))
            if step % 60 == 59:
                context.set(reset, 1)
                await cycle(context, 0)
                context.set(reset, 0)
                expected[:] = range(layers)
            layer = rng.randrange(layers)
            wanted = expected[layer]
            # A change while it is read is for the next one; of this layer the gate allows none.
            await cycle(context, layer, but=layer)
            assert context.get(unit.kv_layer) == wanted

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("layers", LAYERS)
def test_changes_and_resets(layers: int, seed: int) -> None:
    check(LayerMap, layers, seed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Mux(mapped.bit_select(self.layer, 1), read.data, self.layer)", "read.data"),
        ("mapped.bit_select(self.change.layer, 1).eq(1)", "mapped.eq(-1)"),
        ("write.en.eq(self.change.enable)", "write.en.eq(1)"),
    ],
)
def test_faults_are_found(old: str, new: str) -> None:
    """Negative control."""
    with pytest.raises(AssertionError):
        check(mutant(LayerMap, old, new), 5, 1)
