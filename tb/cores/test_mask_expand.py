"""Mask expansion against a plain count of the channels before: every mask, or random ones."""

from __future__ import annotations

import random
from functools import cache

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.cores.mask_expand import MaskExpand
from tb.cores.side_by_side import SideBySide
from tb.harness import pack, simulate, unpack

#: ``channels``, ``keep``, ``code_bits``: the presets, the largest, and small ones.
CASES = {
    "lm": (32, 8, 2),
    "tiny": (16, 4, 2),
    "half": (32, 16, 2),
    "all": (5, 5, 3),
    "few": (8, 3, 2),
    "one": (1, 1, 1),
}


def input_layout(channels: int, keep: int, code_bits: int) -> data.StructLayout:
    return data.StructLayout({"mask": channels, "codes": data.ArrayLayout(code_bits, keep)})


class Streamed(wiring.Component):
    """`MaskExpand` between two streams."""

    def __init__(self, channels: int, keep: int, code_bits: int) -> None:
        self._expand = MaskExpand(channels=channels, keep=keep, code_bits=code_bits)
        expanded = data.ArrayLayout(code_bits, channels)
        super().__init__(
            {
                "packed": In(stream.Signature(input_layout(channels, keep, code_bits))),
                "expanded": Out(stream.Signature(expanded)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.expand = expand = self._expand
        m.d.comb += [
            expand.mask.eq(self.packed.payload.mask),
            expand.codes.eq(self.packed.payload.codes),
            self.expanded.payload.eq(expand.expanded),
            self.expanded.valid.eq(self.packed.valid),
            self.packed.ready.eq(self.expanded.ready),
        ]
        return m


@cache
def bench() -> SideBySide:
    return SideBySide({name: Streamed(*case) for name, case in CASES.items()})


def play(masks: dict[str, list[int]], rng: random.Random, *, full: bool = False) -> None:
    inputs, wanted = {}, {}
    for name, (channels, keep, bits) in CASES.items():
        top = (1 << bits) - 1
        items = []
        expected = []
        for mask in masks[name]:
            codes = [top if full else rng.randint(0, top) for _ in range(keep)]
            items.append(pack(input_layout(channels, keep, bits), {"mask": mask, "codes": codes}))
            left = iter(codes)
            expected.append([next(left, 0) if mask >> i & 1 else 0 for i in range(channels)])
        inputs[f"{name}__packed"] = items
        wanted[f"{name}__expanded"] = expected
    run = simulate(
        bench(),
        name="mask_expand",
        inputs=inputs,
        outputs={name: len(each) for name, each in wanted.items()},
    )
    for name, (channels, _, bits) in CASES.items():
        got = run.outputs[f"{name}__expanded"]
        layout = data.ArrayLayout(bits, channels)
        assert [unpack(layout, each) for each in got] == wanted[f"{name}__expanded"], name


@pytest.mark.parametrize(
    ("channels", "keep", "code_bits", "message"),
    [
        (8, 0, 2, "keep must be 1 to 8, not 0"),
        (8, 9, 2, "keep must be 1 to 8, not 9"),
        (0, 1, 2, "channels must be at least 1, not 0"),
        (8, 4, 0, "code_bits must be at least 1, not 0"),
    ],
)
def test_illegal_parameters(channels: int, keep: int, code_bits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskExpand(channels=channels, keep=keep, code_bits=code_bits)


def test_widths() -> None:
    expand = MaskExpand(channels=32, keep=8, code_bits=2)
    assert len(expand.mask) == 32
    assert expand.codes.shape().size == 16
    assert expand.expanded.shape().size == 64


def test_every_mask_or_the_corners(seed: int) -> None:
    """All masks of up to 8 channels; single, leading and trailing ones of the others."""
    masks = {}
    for name, (channels, _, _) in CASES.items():
        masks[name] = list(range(1 << channels)) if channels <= 8 else [0]
        if channels > 8:
            masks[name] += [1 << i for i in range(channels)]
            masks[name] += [(1 << i) - 1 for i in range(channels + 1)]
            masks[name] += [(1 << channels) - (1 << i) for i in range(channels)]
    play(masks, random.Random(seed), full=True)


def test_random_masks(seed: int) -> None:
    """Half of them have ``keep`` ones, as a well-formed record; the others any number."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    masks = {}
    for name, (channels, keep, _) in CASES.items():
        masks[name] = [rng.getrandbits(channels) for _ in range(300)]
        masks[name] += [sum(1 << i for i in rng.sample(range(channels), keep)) for _ in range(300)]
    play(masks, rng)
