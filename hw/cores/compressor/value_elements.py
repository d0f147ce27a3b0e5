"""Elements of the value records of a group: each chunk's part of a channel."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.compressor.payloads import pruned_layout
from hw.formats import PAIR_BITS


def value_element(config: AttentionConfig) -> data.StructLayout:
    """One channel as it lies in a value record."""
    others = config.chunk - 1
    return data.StructLayout(
        {
            "codes": others * config.value_bits,
            "mask": others,
            "base": config.value_base_bits,
        }
    )


class ValueElements(wiring.Component):
    """A channel in as many cycles as its group has chunks; latency 1 cycle.

    Parameters
    ----------
    config

    Members
    -------
    groups : In(stream)
        The quantised value group of a channel with its mask and its bases.
    pairs : Out(stream of 32 bits)
        Its FP16 scale and minimum.
    elements : Out(stream)
        Chunk after chunk: codes, 0 where the mask is 0, mask and base code.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        groups = pruned_layout(config.value_bits, config.value_group, config.chunk)
        super().__init__(
            {
                "groups": In(stream.Signature(groups)),
                "pairs": Out(stream.Signature(PAIR_BITS)),
                "elements": Out(stream.Signature(value_element(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        bits = config.value_bits
        groups, elements = self.groups, self.elements
        # Only what is kept is held, chunk after chunk.
        chunk = value_element(config)
        held = Signal(data.ArrayLayout(chunk, config.group_chunks))
        left = Signal(range(config.group_chunks + 1))
        last = elements.valid & elements.ready & (left == 1)
        free = (left == 0) | last
        m.d.comb += [
            elements.valid.eq(left != 0),
            elements.payload.eq(held[0]),
            self.pairs.payload.eq(Cat(groups.p.scale, groups.p.minimum)),
            # Both leave in the same cycle, or neither.
            self.pairs.valid.eq(groups.valid & free),
            groups.ready.eq(free & self.pairs.ready),
        ]
        new = []
        for start in range(0, config.value_group, config.chunk):
            others = range(start + 1, start + config.chunk)
            kept = [groups.p.code[i] & groups.p.mask[i].replicate(bits) for i in others]
            mask = groups.p.mask[others.start : others.stop]
            new += [*kept, mask, groups.p.base[start // config.chunk]]
        with m.If(groups.valid & groups.ready):
            m.d.sync += [held.as_value().eq(Cat(*new)), left.eq(config.group_chunks)]
        with m.Elif(elements.valid & elements.ready):
            m.d.sync += [held.as_value().eq(held.as_value() >> chunk.size), left.eq(left - 1)]
        return m
