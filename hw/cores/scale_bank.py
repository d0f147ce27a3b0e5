"""The scale bank: FP16 scales and minima turn sums into fixed point (docs/contracts.md)."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16, saturate
from hw.config import AttentionConfig
from hw.constants import PROBABILITY_MAX, QUERY_MAX, SCALED_BIAS, SCALED_BITS
from hw.cores.lanes import LANES, lanes_layout, tagged_payload
from hw.formats import FP16_BITS

_MANTISSA_BITS = 11
#: Largest exponent less one: the shift of the widest product.
_MOST_SHIFT = 30


class ScaleBank(wiring.Component):
    """``scale * a + minimum * b`` of all lanes. Latency 4 cycles, throughput 1 item per cycle.

    Four registered stages: take, as the sums come from adders of their own; multiply; shift; add
    and saturate. A stage moves on when the next one is empty or moves on itself.

    A product is shifted left by E - 1 (0 to 30) and then right by 16 with rounding: the same as
    ``rhu(x, 17 - E)`` for every E, and the 15 bits below the rounding bit are never built. Widths:
    keys reach lane 0 only, where ``a`` is at most 64 * 2047 * 255 < 2**25, or for dense keys
    head_dim * 2047 * 256; in the other lanes it is a value sum, below 4095 * (15 + 5 * 15 * 3)
    < 2**20; ``b`` is below 5 * 16 * 4095 < 2**19. A product has 11 bits more, a shifted one another
    15; only lane 0 can saturate.

    Parameters
    ----------
    config : AttentionConfig
        Gives the rows, the sizes that bound the sums, and the value step ratio.
    tag_bits : int
        Bits of the tag that comes back with the result of its sums; at least 1.
    lanes : int
        Sums of one row and step; others than the core's for the area study only.

    Members
    -------
    sums : ``In(stream)``
        ``lane[row][4]`` of ``a`` and ``b`` within the ranges above, ``scale[4]`` and ``minimum[4]``
        (FP16 per lane; the sign of a scale is ignored) and ``tag``. Infinities and NaNs count as
        numbers with the exponent 31.
    scaled : ``Out(stream)``
        ``y[row][4]``, signed, and ``tag``.

    Raises
    ------
    ConfigError
        ``tag_bits`` has an illegal value.
    """

    def __init__(self, config: AttentionConfig, *, tag_bits: int, lanes: int = LANES) -> None:
        self._rows = config.rows
        self._lanes = lanes
        token_sum = config.chunk * PROBABILITY_MAX
        key_dot = QUERY_MAX * config.head_dim * 256
        # A base code and the largest other code times the step ratio are the same number.
        value_dot = token_sum * (2**config.value_base_bits - 1)
        of_values = 1 + value_dot.bit_length()
        self._a_bits = [max(of_values, 1 + key_dot.bit_length())] + [of_values] * (lanes - 1)
        self._b_bits = (
            1 + max(config.value_step_ratio * token_sum, config.group * QUERY_MAX).bit_length()
        )
        halves = data.ArrayLayout(unsigned(FP16_BITS), lanes)
        sums = tagged_payload(
            {"lane": lanes_layout(config, lanes), "scale": halves, "minimum": halves}, tag_bits
        )
        y = data.ArrayLayout(data.ArrayLayout(signed(SCALED_BITS), lanes), config.rows)
        scaled = tagged_payload({"y": y}, tag_bits)
        super().__init__(
            {"sums": In(stream.Signature(sums)), "scaled": Out(stream.Signature(scaled))}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        valid = Signal(3)
        move_scaled = ~self.scaled.valid | self.scaled.ready
        move_shifted = ~valid[2] | move_scaled
        move_products = ~valid[1] | move_shifted
        move_taken = ~valid[0] | move_products
        m.d.comb += self.sums.ready.eq(move_taken)
        tags = [Signal.like(self.scaled.p.tag, name=f"tag_{stage}") for stage in range(3)]
        with m.If(move_taken):
            m.d.sync += [valid[0].eq(self.sums.valid), tags[0].eq(self.sums.p.tag)]
        with m.If(move_products):
            m.d.sync += [valid[1].eq(valid[0]), tags[1].eq(tags[0])]
        with m.If(move_shifted):
            m.d.sync += [valid[2].eq(valid[1]), tags[2].eq(tags[1])]
        with m.If(move_scaled):
            m.d.sync += [self.scaled.valid.eq(valid[2]), self.scaled.p.tag.eq(tags[2])]
        moves = (move_products, move_shifted)

        def taken(value: Value, shape: ShapeLike, name: str) -> Signal:
            held = Signal(shape, name=f"taken_{name}")
            with m.If(move_taken):
                m.d.sync += held.eq(value)
            return held

        for lane in range(self._lanes):
            scale = fp16(self.sums.p.scale[lane])
            minimum = fp16(self.sums.p.minimum[lane])
            mantissas = (
                taken(scale.mantissa, _MANTISSA_BITS, f"scale_{lane}"),
                taken(
                    Mux(minimum.sign, -minimum.mantissa, minimum.mantissa),
                    signed(_MANTISSA_BITS + 1),
                    f"minimum_{lane}",
                ),
            )
            shifts = []
            for name, number in (("scale", scale), ("minimum", minimum)):
                shift = taken(number.exponent - 1, range(_MOST_SHIFT + 1), f"{name}_shift_{lane}")
                shifts.append(Signal.like(shift, name=f"{name}_shift_{lane}"))
                with m.If(move_products):
                    m.d.sync += shifts[-1].eq(shift)
            for row in range(self._rows):
                sums = self.sums.p.lane[row][lane]
                a_bits = self._a_bits[lane]
                a = taken(sums.a[:a_bits], signed(a_bits), f"a_{row}_{lane}")
                b = taken(sums.b[: self._b_bits], signed(self._b_bits), f"b_{row}_{lane}")
                terms = [
                    _shifted(m, moves, x, mantissa, shift, f"{name}_{row}_{lane}")
                    for name, x, mantissa, shift in zip(
                        "ab", (a, b), mantissas, shifts, strict=True
                    )
                ]
                # Half up: the bit below the last one is the carry.
                total = (terms[0] >> 1) + (terms[1] >> 1) + (terms[0][0] + terms[1][0])
                with m.If(move_scaled):
                    m.d.sync += self.scaled.p.y[row][lane].eq(saturate(total, SCALED_BITS))
        return m


def _shifted(
    m: Module, moves: tuple[Value, Value], x: Value, mantissa: Value, shift: Value, name: str
) -> Signal:
    """``floor(x * mantissa * 2**(shift - 15))`` after two registers."""
    product = Signal(signed(len(x) + _MANTISSA_BITS), name=f"product_{name}")
    with m.If(moves[0]):
        m.d.sync += product.eq(x * mantissa)
    dropped = SCALED_BIAS - 2
    result = Signal(signed(len(product) + _MOST_SHIFT - dropped), name=f"shifted_{name}")
    with m.If(moves[1]):
        m.d.sync += result.eq((product << shift)[dropped:].as_signed())
    return result
