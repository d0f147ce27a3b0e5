"""Division of the accumulators by the softmax sum (docs/contracts.md, section 4, last rows)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import saturate, shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import OUTPUT_BITS, OUTPUT_FRACTION
from hw.cores.lanes import LANES

_MANTISSA_BITS = 16
#: Bits by which an accumulator is shifted less than the sum.
_SHIFT_LEAD = 3
#: Quotient bits, see ``reciprocal_fraction``.
_QUOTIENT_BITS = 17


def sums_layout(config: AttentionConfig) -> data.StructLayout:
    """One job of the ``statistics`` stream."""
    return data.StructLayout({"sum": data.ArrayLayout(config.sum_bits, config.rows)})


def accumulator_layout(config: AttentionConfig) -> data.StructLayout:
    """Four channels of the ``accumulator`` stream."""
    return data.StructLayout({"value": data.ArrayLayout(signed(config.accumulator_bits), LANES)})


OUTPUT_LAYOUT = data.StructLayout({"data": data.ArrayLayout(signed(OUTPUT_BITS), LANES)})
"""Four channels of the ``output`` stream."""


class Normaliser(wiring.Component):
    """Attention outputs: accumulators times the reciprocal of ``R`` times the softmax sum.

    Latency: the first channel of a job enters the multiplier 20 cycles after the transfer of the
    sums (17 of them divide), and an item is valid 6 cycles after its first channel has entered.
    Throughput: one channel per cycle, so 4 cycles per item and ``rows * head_dim`` cycles per job:
    the next row, or the next job's first one, is divided meanwhile. One divider, one multiplier.

    No overflow: the accumulator is a mean of values below ``2**value_magnitude_bits`` in size,
    times ``R`` and the sum; shifted along with the sum to 19 bits it stays below
    ``5 * 2**18 * 2**19 < 2**40``, or with 4-bit values below ``17 * 2**20 * 2**19 < 2**44``.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``head_dim``, ``sum_bits``, ``accumulator_bits`` and ``value_step_ratio`` matter.

    Members
    -------
    statistics : In(stream of `sums_layout`)
        Softmax sums of a job, each at least 2**19.
    accumulator : In(stream of `accumulator_layout`)
        ``head_dim / 4`` items per row, row after row.
    output : Out(stream of `OUTPUT_LAYOUT`)
        Items in the order of the accumulators.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "statistics": In(stream.Signature(sums_layout(config))),
                "accumulator": In(stream.Signature(accumulator_layout(config))),
                "output": Out(stream.Signature(OUTPUT_LAYOUT)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        config = self._config
        m = Module()

        fraction = config.reciprocal_fraction

        # Divide: restoring, one quotient bit per cycle, row after row of the job's sums.
        row_sum_bits = config.sum_bits
        sums = Signal(row_sum_bits * config.rows)
        rows_left = Signal(range(config.rows + 1))
        mantissa = Signal(_MANTISSA_BITS)
        shift = Signal(range(row_sum_bits - _MANTISSA_BITS - _SHIFT_LEAD + 1))
        for length in range(_MANTISSA_BITS + _SHIFT_LEAD + 1, row_sum_bits + 1):
            # A longer number overrides a shorter one.
            with m.If(sums[length - 1]):
                m.d.comb += [
                    mantissa.eq(sums[length - _MANTISSA_BITS : length]),
                    shift.eq(length - _MANTISSA_BITS - _SHIFT_LEAD),
                ]
        divisor = Signal(range(config.value_step_ratio << _MANTISSA_BITS))
        remainder = Signal.like(divisor)
        quotient = Signal(_QUOTIENT_BITS)
        divided_shift = Signal.like(shift)
        dividing, bits_left = Signal(), Signal(range(_QUOTIENT_BITS + 1))
        divided = dividing & (bits_left == 0)
        taken = Signal()
        doubled = remainder << 1
        fits = doubled >= divisor
        m.d.comb += self.statistics.ready.eq(rows_left == 0)
        with m.If(self.statistics.valid & self.statistics.ready):
            m.d.sync += [sums.eq(self.statistics.payload.sum), rows_left.eq(config.rows)]
        with m.If(~dividing & (rows_left != 0)):
            m.d.sync += [
                sums.eq(sums >> row_sum_bits),
                rows_left.eq(rows_left - 1),
                divisor.eq(mantissa * config.value_step_ratio),
                # The leading bits of a power of 2 below the divisor: no quotient bit is lost.
                remainder.eq(1 << (fraction - _QUOTIENT_BITS)),
                divided_shift.eq(shift),
                dividing.eq(1),
                bits_left.eq(_QUOTIENT_BITS),
            ]
        with m.If(bits_left != 0):
            m.d.sync += [
                remainder.eq(Mux(fits, doubled - divisor, doubled)),
                quotient.eq(Cat(fits, quotient)),
                bits_left.eq(bits_left - 1),
            ]
        with m.If(taken):
            m.d.sync += dividing.eq(0)

        # Multiply: shift | multiply | round, one channel per cycle; all stages move or wait.
        have, reciprocal, row_shift = Signal(), Signal(_QUOTIENT_BITS), Signal.like(shift)
        channel, item = Signal(range(LANES)), Signal(range(config.head_dim // LANES))
        item_end = channel == LANES - 1
        row_end = Signal()
        # An accumulator shifted to the bits of the sum mantissa and three more.
        mean_bits = (config.value_step_ratio << config.value_magnitude_bits).bit_length()
        shifted = Signal(signed(1 + mean_bits + _MANTISSA_BITS + _SHIFT_LEAD))
        factor = Signal(_QUOTIENT_BITS)
        product = Signal(signed(len(shifted) + _QUOTIENT_BITS))
        valid, final = Signal(2), Signal(2)
        output, advance = self.output, Signal()
        start = self.accumulator.valid & have
        m.d.comb += [
            advance.eq(~(valid[1] & final[1] & output.valid & ~output.ready)),
            self.accumulator.ready.eq(have & advance & item_end),
            row_end.eq(start & advance & item_end & (item == config.head_dim // LANES - 1)),
            taken.eq(divided & (~have | row_end)),
        ]
        with m.If(row_end):
            m.d.sync += have.eq(0)
        with m.If(taken):
            m.d.sync += [have.eq(1), reciprocal.eq(quotient), row_shift.eq(divided_shift)]
        with m.If(start & advance):
            m.d.sync += channel.eq(channel + 1)
            with m.If(item_end):
                m.d.sync += item.eq(Mux(item == config.head_dim // LANES - 1, 0, item + 1))
        gathered = Signal(OUTPUT_BITS * (LANES - 1))
        # Fraction bits of the product that the output does not keep.
        dropped = fraction + _SHIFT_LEAD - OUTPUT_FRACTION
        result = saturate(shift_right_half_up(product, Const(dropped)), OUTPUT_BITS)
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
                product.eq(shifted * factor),
            ]
            with m.If(valid[1]):
                m.d.sync += gathered.eq(Cat(gathered, result)[OUTPUT_BITS:])
                with m.If(final[1]):
                    m.d.sync += [output.payload.eq(Cat(gathered, result)), output.valid.eq(1)]
        return m
