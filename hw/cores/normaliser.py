"""Division of the accumulators by the softmax sum (docs/contracts.md, section 4, last rows)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import add_by_halves, saturate, shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import OUTPUT_BITS, OUTPUT_FRACTION
from hw.cores.lanes import LANES
from hw.cores.sum_reciprocal import MANTISSA_BITS, QUOTIENT_BITS, reciprocal_layout

#: Bits by which an accumulator is shifted less than the sum.
_SHIFT_LEAD = 3


def accumulator_layout(config: AttentionConfig) -> data.StructLayout:
    """Four channels of the ``accumulator`` stream."""
    return data.StructLayout({"value": data.ArrayLayout(signed(config.accumulator_bits), LANES)})


OUTPUT_LAYOUT = data.StructLayout({"data": data.ArrayLayout(signed(OUTPUT_BITS), LANES)})
"""Four channels of the ``output`` stream."""


class Normaliser(wiring.Component):
    """Attention outputs: accumulators times the reciprocal of ``R`` times the softmax sum.

    Latency: the first channel of a row enters the multiplier a cycle after the transfer of its
    reciprocal, and an item is valid 6 cycles after its first channel has entered. Throughput: one
    channel per cycle, so 4 cycles per item and ``rows * head_dim`` cycles per job; the next
    reciprocal is taken with a row's last channel. One multiplier.

    No overflow: the accumulator is a mean of values below ``2**value_magnitude_bits`` in size,
    times ``R`` and the sum; shifted along with the sum to 19 bits it stays below
    ``5 * 2**18 * 2**19 < 2**40``, or with 4-bit values below ``17 * 2**20 * 2**19 < 2**44``.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``head_dim``, ``sum_bits``, ``accumulator_bits`` and ``value_step_ratio`` matter.

    Members
    -------
    reciprocals : In(stream of `reciprocal_layout`)
        Row after row of a job.
    accumulator : In(stream of `accumulator_layout`)
        ``head_dim / 4`` items per row, row after row.
    output : Out(stream of `OUTPUT_LAYOUT`)
        Items in the order of the accumulators.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "reciprocals": In(stream.Signature(reciprocal_layout(config))),
                "accumulator": In(stream.Signature(accumulator_layout(config))),
                "output": Out(stream.Signature(OUTPUT_LAYOUT)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        config = self._config
        m = Module()
        # Multiply: shift | multiply | round, one channel per cycle; all stages move or wait.
        divided = self.reciprocals
        have, reciprocal = Signal(), Signal(QUOTIENT_BITS)
        row_shift = Signal(range(config.sum_bits - MANTISSA_BITS - _SHIFT_LEAD + 1))
        channel, item = Signal(range(LANES)), Signal(range(config.head_dim // LANES))
        item_end = channel == LANES - 1
        row_end = Signal()
        # An accumulator shifted to the bits of the sum mantissa and three more.
        mean_bits = (config.value_step_ratio << config.value_magnitude_bits).bit_length()
        shifted = Signal(signed(1 + mean_bits + MANTISSA_BITS + _SHIFT_LEAD))
        factor = Signal(QUOTIENT_BITS)
        # Fraction bits of the product that the output does not keep: the product of the bits below
        # is made beside that of the others, and added without them.
        dropped = config.reciprocal_fraction + _SHIFT_LEAD - OUTPUT_FRACTION
        below = Signal(dropped + QUOTIENT_BITS)
        above = Signal(signed(len(shifted) - dropped + QUOTIENT_BITS))
        valid, final = Signal(2), Signal(2)
        output, advance = self.output, Signal()
        start = self.accumulator.valid & have
        m.d.comb += [
            advance.eq(~(valid[1] & final[1] & output.valid & ~output.ready)),
            self.accumulator.ready.eq(have & advance & item_end),
            row_end.eq(start & advance & item_end & (item == config.head_dim // LANES - 1)),
            divided.ready.eq(~have | row_end),
        ]
        with m.If(row_end):
            m.d.sync += have.eq(0)
        with m.If(divided.valid & divided.ready):
            m.d.sync += [
                have.eq(1),
                reciprocal.eq(divided.payload.reciprocal),
                row_shift.eq(divided.payload.shift - _SHIFT_LEAD),
            ]
        with m.If(start & advance):
            m.d.sync += channel.eq(channel + 1)
            with m.If(item_end):
                m.d.sync += item.eq(Mux(item == config.head_dim // LANES - 1, 0, item + 1))
        gathered = Signal(OUTPUT_BITS * (LANES - 1))
        carried = Signal.like(above)
        m.d.comb += carried.eq(below[dropped:])
        mean = add_by_halves(m, above, carried, below[dropped - 1]).as_signed()
        result = saturate(mean, OUTPUT_BITS)
        with m.If(output.ready):
            m.d.sync += output.valid.eq(0)
        with m.If(advance):
            value = self.accumulator.payload.value[channel]
            m.d.sync += [
                valid.eq(Cat(start, valid)),
                final.eq(Cat(item_end, final)),
                shifted.eq(shift_right_half_up(value, row_shift)),
                # The next row may start, with another reciprocal, before this product is made.
                factor.eq(reciprocal),
                below.eq(shifted[:dropped] * factor),
                above.eq(shifted[dropped:].as_signed() * factor),
            ]
            with m.If(valid[1]):
                m.d.sync += gathered.eq(Cat(gathered, result)[OUTPUT_BITS:])
                with m.If(final[1]):
                    m.d.sync += [output.payload.eq(Cat(gathered, result)), output.valid.eq(1)]
        return m
