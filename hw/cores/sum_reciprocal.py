"""Reciprocals of the softmax sums (docs/contracts.md, section 4, "sum mantissa", "reciprocal")."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import MAXIMUM_BITS

MANTISSA_BITS = 16
#: Quotient bits, see ``reciprocal_fraction``.
QUOTIENT_BITS = 17
#: The smallest sum has 20 bits.
_LEAST_SHIFT = 4


def sums_layout(config: AttentionConfig) -> data.StructLayout:
    """What the softmax found for the rows of a job."""
    return data.StructLayout(
        {
            "maximum": data.ArrayLayout(signed(MAXIMUM_BITS), config.rows),
            "sum": data.ArrayLayout(config.sum_bits, config.rows),
        }
    )


def reciprocal_layout(config: AttentionConfig) -> data.StructLayout:
    """One row: ``1 / (R * sum)`` is ``reciprocal * 2**-(reciprocal_fraction + shift)``."""
    return data.StructLayout(
        {
            "maximum": signed(MAXIMUM_BITS),
            "reciprocal": QUOTIENT_BITS,
            "shift": range(config.sum_bits - MANTISSA_BITS + 1),
        }
    )


class SumReciprocal(wiring.Component):
    """Divides by ``R`` times the softmax sum of each row: one bit of the quotient a cycle.

    Latency 19 cycles from the transfer of a job's sums to its first reciprocal. Throughput: a row
    in 19 cycles. The next job's sums are taken once the last row of this one is being divided.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``sum_bits`` and ``value_step_ratio`` matter.

    Members
    -------
    sums : In(stream of `sums_layout`)
        Each sum at least 2**19.
    reciprocals : Out(stream of `reciprocal_layout`)
        Row after row, with the row's maximum.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "sums": In(stream.Signature(sums_layout(config))),
                "reciprocals": Out(stream.Signature(reciprocal_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, given = self._config, self.sums.payload
        found = self.reciprocals.payload
        sums, maxima = Signal.like(given.sum.as_value()), Signal.like(given.maximum.as_value())
        rows_left = Signal(range(config.rows + 1))
        mantissa, shift = Signal(MANTISSA_BITS), Signal(found.shift.shape())
        for length in range(MANTISSA_BITS + _LEAST_SHIFT, config.sum_bits + 1):
            # A longer number overrides a shorter one.
            with m.If(sums[length - 1]):
                m.d.comb += [
                    mantissa.eq(sums[length - MANTISSA_BITS : length]),
                    shift.eq(length - MANTISSA_BITS),
                ]

        divisor = Signal(range(config.value_step_ratio << MANTISSA_BITS))
        remainder = Signal.like(divisor)
        dividing, bits_left = Signal(), Signal(range(QUOTIENT_BITS + 1))
        doubled = remainder << 1
        fits = doubled >= divisor
        m.d.comb += [
            self.sums.ready.eq(rows_left == 0),
            self.reciprocals.valid.eq(dividing & (bits_left == 0)),
        ]
        with m.If(self.sums.valid & self.sums.ready):
            m.d.sync += [sums.eq(given.sum), maxima.eq(given.maximum), rows_left.eq(config.rows)]
        with m.If(~dividing & (rows_left != 0)):
            m.d.sync += [
                sums.eq(sums >> config.sum_bits),
                maxima.eq(maxima >> MAXIMUM_BITS),
                rows_left.eq(rows_left - 1),
                divisor.eq(mantissa * config.value_step_ratio),
                # The leading bits of a power of 2 below the divisor: no quotient bit is lost.
                remainder.eq(1 << (config.reciprocal_fraction - QUOTIENT_BITS)),
                found.shift.eq(shift),
                found.maximum.eq(maxima[:MAXIMUM_BITS].as_signed()),
                dividing.eq(1),
                bits_left.eq(QUOTIENT_BITS),
            ]
        with m.If(bits_left != 0):
            m.d.sync += [
                remainder.eq(Mux(fits, doubled - divisor, doubled)),
                found.reciprocal.eq(Cat(fits, found.reciprocal)),
                bits_left.eq(bits_left - 1),
            ]
        with m.If(self.reciprocals.valid & self.reciprocals.ready):
            m.d.sync += dividing.eq(0)
        return m
