"""What each unit adds to the output, from the scale bank or the tail, in the order of the units."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import saturate, shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import SCALED_BITS, TAIL_VALUE_SHIFT
from hw.cores.lanes import LANES
from hw.cores.payloads import contribution, tail_sum_bits, tail_sums, unit_header
from hw.streams import StreamRegister

FP16_EXPONENT_MAX = 31


class ContributionMerge(wiring.Component):
    """Latency 1 cycle, four channels a cycle.

    The unit's header says where its ``head_dim / 4`` contributions come from.
    Tail sums are aligned here by the exponent that their weights share.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    unit : stream of ``unit_header``
    scaled : stream of rows x 4 scale bank results
    tail : stream of ``tail_sums``
    contributions : stream of ``contribution``
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        scaled = data.ArrayLayout(data.ArrayLayout(signed(SCALED_BITS), LANES), config.rows)
        super().__init__(
            {
                "unit": In(stream.Signature(unit_header(config))),
                "scaled": In(stream.Signature(scaled)),
                "tail": In(stream.Signature(tail_sums(config))),
                "contributions": Out(stream.Signature(contribution(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        unit = self.unit.payload
        quads = config.head_dim // LANES

        m.submodules.register = register = StreamRegister(contribution(config))
        merged = register.input
        wiring.connect(m, register.output, wiring.flipped(self.contributions))

        quad = Signal(range(quads))
        take = merged.valid & merged.ready
        m.d.comb += [
            merged.valid.eq(self.unit.valid & Mux(unit.tail, self.tail.valid, self.scaled.valid)),
            self.tail.ready.eq(merged.ready & self.unit.valid & unit.tail),
            self.scaled.ready.eq(merged.ready & self.unit.valid & ~unit.tail),
            self.unit.ready.eq(take & (quad == quads - 1)),
            merged.payload.quad.eq(quad),
            merged.payload.maximum_shift.eq(unit.maximum_shift),
            merged.payload.unit_shift.eq(unit.unit_shift),
            merged.payload.first.eq(unit.first),
            merged.payload.last.eq(unit.last),
        ]
        with m.If(take):
            m.d.sync += quad.eq(Mux(quad == quads - 1, 0, quad + 1))

        # sat(rhu(R * v, n - Emax)): shifted left by Emax first, then right by n.
        scaled_bits = tail_sum_bits(config) + config.value_step_ratio.bit_length()
        for row in range(config.rows):
            for lane in range(LANES):
                scaled_sum = Signal(signed(scaled_bits), name=f"tail_{row}_{lane}")
                m.d.comb += scaled_sum.eq(self.tail.payload.v[row][lane] * config.value_step_ratio)
                left = (scaled_sum << unit.tail_exponent)[: scaled_bits + FP16_EXPONENT_MAX]
                aligned = shift_right_half_up(left.as_signed(), Const(TAIL_VALUE_SHIFT))
                m.d.comb += merged.payload.y[row][lane].eq(
                    Mux(
                        unit.tail,
                        saturate(aligned, SCALED_BITS),
                        self.scaled.payload[row][lane],
                    )
                )
        return m
