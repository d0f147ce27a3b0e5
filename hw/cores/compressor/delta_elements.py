"""Elements of a delta record: the kept codes of a group, side by side."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.compressor.payloads import pruned_layout
from hw.formats import PAIR_BITS

#: Codes that are looked at in a cycle.
_STEP = 8


def delta_element(config: AttentionConfig) -> data.StructLayout:
    """One token and group as it lies in a delta record."""
    return data.StructLayout(
        {
            "mask": config.group,
            "codes": config.key_keep * config.key_delta_bits,
            "pair": PAIR_BITS,
        }
    )


class DeltaElements(wiring.Component):
    """One element in ``group / 8 + 1`` cycles, which is the latency, too.

    The codes pass from the highest channel down; a kept one is put below those before it.

    Parameters
    ----------
    config

    Members
    -------
    groups : In(stream)
        Quantised groups with masks of exactly ``key_keep`` ones.
    elements : Out(stream)
        ``mask``, ``codes`` (of the kept channels, lowest channel first), ``pair``.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        groups = pruned_layout(config.key_delta_bits, config.group)
        super().__init__(
            {
                "groups": In(stream.Signature(groups)),
                "elements": Out(stream.Signature(delta_element(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._config.key_delta_bits
        groups, elements = self.groups, self.elements
        steps = self._config.group // _STEP
        left = Signal(range(steps + 1))
        codes = Signal(len(groups.p.code.as_value()))
        mask = Signal(self._config.group)
        kept = Signal(len(elements.p.codes))
        whole_mask, pair = Signal.like(mask), Signal(PAIR_BITS)
        busy = Signal()
        m.d.comb += [
            elements.p.mask.eq(whole_mask),
            elements.p.pair.eq(pair),
            elements.valid.eq(busy & (left == 0)),
            elements.p.codes.eq(kept),
            groups.ready.eq(~busy | (elements.valid & elements.ready)),
        ]
        gathered: Value = kept
        for i in reversed(range(self._config.group - _STEP, self._config.group)):
            code = codes[i * bits : (i + 1) * bits]
            after = Signal(len(kept), name=f"kept_{i}")
            m.d.comb += after.eq(Mux(mask[i], Cat(code, gathered), gathered))
            gathered = after
        with m.If(groups.ready):
            m.d.sync += [
                busy.eq(groups.valid),
                left.eq(steps),
                codes.eq(groups.p.code),
                mask.eq(groups.p.mask),
                whole_mask.eq(groups.p.mask),
                pair.eq(Cat(groups.p.scale, groups.p.minimum)),
            ]
        with m.Elif(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                kept.eq(gathered),
                codes.eq(codes << _STEP * bits),
                mask.eq(mask << _STEP),
            ]
        return m
