"""One row of the PE array: 64 digit multipliers and their adders (docs/contracts.md, section 6)."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, ShapeLike, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import DIGITS, AttentionConfig
from hw.constants import OPERAND_BITS
from hw.cores.lanes import LANES, lanes_layout
from hw.formats import StepKind

#: Operands of a row in one step.
OPERANDS = 32

_LANE_DIGITS = DIGITS // LANES
#: Digits of a lane that both uses of its adders (columns of equal weight, and codes and masks of a
#: value) add to each other first, and those that have no such partner.
_PAIRS = ((0, 4), (8, 12), (1, 5), (9, 13), (2, 6), (7, 11))
_SINGLES = (3, 10, 14, 15)
#: Token whose probability meets digit i of a channel of a ``VALUES`` step: codes, masks, base code;
#: with chunks of 16 tokens a second lane: codes, masks, and code and mask of the last token.
_FIRST_TOKENS = (*range(1, 8), *range(1, 8), 0, 0)
_MORE_TOKENS = (*range(8, 15), *range(8, 15), 15, 15)


@dataclass(frozen=True)
class _Shapes:
    """Of a product, a sum of 2, a sum of up to 7 or a column of a half, and the weighted half."""

    operand_bits: int

    @property
    def product(self) -> Shape:
        return signed(self.operand_bits + 3)

    @property
    def pair(self) -> Shape:
        return signed(self.operand_bits + 4)

    @property
    def column(self) -> Shape:
        return signed(self.operand_bits + 6)

    @property
    def half(self) -> Shape:
        return signed(self.operand_bits + 12)


class PERow(wiring.Component):
    """Sums of digits times the operands of one row. Latency 3 cycles, throughput 1 step per cycle.

    Three registered stages: multiply and add pairs; add columns; weight and sum. A product is two
    gated copies of its operand and one adder, which is smaller than a choice among multiples that
    several digits share. The adders after it serve all kinds: of the 16 digits of a lane they sum
    either the four columns of equal k mod 4, or codes and masks.

    No sum can overflow: whatever the digits, a product is within -8190..12285, a column of 4
    products below 2**16, codes or masks (7 products) below 2**17, a half of weighted digits
    8 * 4095 * 255 < 2**23. ``b`` is at most R * 16 * 4095, which is below 2**19 with the step ratio
    R = 5 and below 2**21 with 17, mask digits being 0 or 1.

    Parameters
    ----------
    config : AttentionConfig
        Gives the value step ratio and the chunk.
    operand_bits : int
        Bits of an operand, at most 16; others than the core's for the area study only.

    Members
    -------
    move : ``In(3)``
        Whether each of the three stages takes a new content, first stage lowest.
    kind, signed, digits, operand : ``In``
        The step, see `PEArray`.
    kind_of_pairs, kind_of_slots : ``In(StepKind)``
        Kind of the step that the first and the second stage hold.
    upper_of_slots : ``In``
        Whether the second stage holds upper digits of 4-bit values.
    lane : ``Out``
        ``[4]`` of ``a`` and ``b``, what the third stage holds.
    """

    def __init__(self, config: AttentionConfig, *, operand_bits: int = OPERAND_BITS) -> None:
        self._shapes = _Shapes(operand_bits)
        self._ratio = config.value_step_ratio
        self._chunk = config.chunk
        self._wide_values = config.value_bits == 4
        super().__init__(
            {
                "move": In(3),
                "kind": In(StepKind),
                "signed": In(1),
                "digits": In(data.ArrayLayout(unsigned(2), DIGITS)),
                "operand": In(data.ArrayLayout(unsigned(operand_bits), OPERANDS)),
                "kind_of_pairs": In(StepKind),
                "kind_of_slots": In(StepKind),
                "upper_of_slots": In(1),
                "lane": Out(lanes_layout(config).elem_shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        products = self._products(m)
        bits = self._shapes.operand_bits
        base = _register(m, self.move[0], self.operand[0], bits, "base")
        slots = []
        for lane in range(LANES):
            of_lane = products[lane * _LANE_DIGITS : (lane + 1) * _LANE_DIGITS]
            pairs = self._add_pairs(m, of_lane, str(lane))
            more = self._chunk == 16 and lane % 2 == 1
            own = None if more else base
            slots.append(self._add_columns(m, pairs, own, str(lane)))
        sums = self._sum_up(m, slots)
        with m.If(self.move[2]):
            for lane in range(LANES):
                m.d.sync += self.lane[lane].eq(sums[lane] if lane < len(sums) else 0)
        return m

    def _choose(self, x: Any, k: int, of_bytes: Value, of_values: Value) -> Value:
        """The operand of digit ``k``, out of the 32 of ``x``."""
        tokens = _FIRST_TOKENS + _MORE_TOKENS if self._chunk == 16 else _FIRST_TOKENS
        return Mux(
            of_bytes,
            Mux(of_values, x[k // 4 % self._chunk], x[k // 4]),
            Mux(of_values, x[tokens[k % len(tokens)]], x[k % OPERANDS]),
        )

    @staticmethod
    def multiply(digit: Value, operand: Value, negative: Value) -> Value:
        """``digit`` (0 to 3; if bit 1 is ``negative`` 0, 1, -2, -1) times a signed ``operand``."""
        once = Mux(digit[0], operand, 0)
        negate = digit[1] & negative
        # Without bit 0, which needs no adder; the +1 of a negation then has the weight 2 that it
        # needs.
        twice = Mux(digit[1], operand, 0) ^ negate.replicate(len(operand)).as_signed()
        return Cat(once[0], (once >> 1) + twice + negate).as_signed()

    def _decode_kind(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Whether a step is of bytes, of values, and of bytes whose top digit counts -2 to 1."""
        of_bytes, of_values, negative_top = Signal(), Signal(), Signal()
        m.d.comb += of_bytes.eq(_is_one_of(self.kind, StepKind.KEYS, StepKind.TAIL_VALUES))
        m.d.comb += of_values.eq(_is_one_of(self.kind, StepKind.VALUES, StepKind.TAIL_VALUES))
        m.d.comb += negative_top.eq(self.signed & of_bytes)
        return of_bytes, of_values, negative_top

    def _products(self, m: Module) -> list[Signal]:
        """Each digit times the operand that its kind gives it."""
        x = self.operand
        of_bytes, of_values, negative_top = self._decode_kind(m)
        products = []
        for k in range(DIGITS):
            raw = self._choose(x, k, of_bytes, of_values)
            raw = _wire(m, raw, self._shapes.operand_bits, f"raw_{k}")
            operand = Cat(raw, raw[-1] & ~of_values).as_signed()
            negative = negative_top if k % 4 == 3 else Const(0, 1)
            product = self.multiply(self.digits[k], operand, negative)
            products.append(_wire(m, product, self._shapes.product, f"product_{k}"))
        return products

    def _add_pairs(self, m: Module, products: list[Signal], name: str) -> dict[Any, Signal]:
        """First stage of a lane: the sums of `_PAIRS` and the products of `_SINGLES`."""
        move, shapes = self.move[0], self._shapes
        pairs = {
            (i, j): _register(
                m, move, products[i] + products[j], shapes.pair, f"pair_{name}_{i}_{j}"
            )
            for i, j in _PAIRS
        }
        return pairs | {
            i: _register(m, move, products[i], shapes.product, f"single_{name}_{i}")
            for i in _SINGLES
        }

    def _add_columns(
        self, m: Module, p: dict[Any, Signal], base: Signal | None, name: str
    ) -> list[Signal]:
        """Second stage of a lane: columns 0 to 3, or base code, base probability, codes and masks.

        Without a ``base`` the last code and its mask take the places of base code and probability.
        """
        shape = self._shapes.column
        values = self.kind_of_pairs == StepKind.VALUES
        first = _wire(m, p[0, 4] + Mux(values, p[1, 5], p[8, 12]), shape, f"first_{name}")
        second = _wire(m, p[9, 13] + Mux(values, p[8, 12], p[1, 5]), shape, f"second_{name}")
        third = p[2, 6] + Mux(values, p[3], p[10]) + Mux(values, first, p[14])
        fourth = p[7, 11] + Mux(values, p[10], p[3]) + Mux(values, second, p[15])
        own = (p[14], p[15]) if base is None else (p[14] + (p[15] << 2), base)
        sums = (Mux(values, own[0], first), Mux(values, own[1], second), third, fourth)
        return [
            _register(m, self.move[1], total, shape, f"slot_{name}_{i}")
            for i, total in enumerate(sums)
        ]

    def _sum_up(self, m: Module, slots: list[list[Signal]]) -> Any:
        """Last stage: weighted or plain sums of both halves, or the two sums of four channels."""
        weighted = _is_one_of(self.kind_of_slots, StepKind.KEYS, StepKind.TAIL_VALUES)

        def weigh(c: list[Signal], name: str) -> Any:
            low = c[0] + Mux(weighted, c[1] << 2, c[1])
            high = c[2] + Mux(weighted, c[3] << 2, c[3])
            return _wire(m, low + Mux(weighted, high << 4, high), self._shapes.half, name)

        halves = []
        lanes: list[Any] = []
        if self._chunk == 4:
            # Each lane is a tail channel of its own.
            lanes = [weigh(columns, f"of_lane_{lane}") for lane, columns in enumerate(slots)]
            halves = [lanes[0] + lanes[1], lanes[2] + lanes[3]]
        else:
            for half in range(2):
                pairs = zip(slots[2 * half], slots[2 * half + 1], strict=True)
                c = [
                    _wire(m, even + odd, self._shapes.column, f"column_{half}_{i}")
                    for i, (even, odd) in enumerate(pairs)
                ]
                halves.append(weigh(c, f"half_{half}"))
        tails = {4: lanes, 8: halves, 16: [halves[0] + halves[1]]}[self._chunk]
        # Long chunks give no result in the lanes above.
        channels = LANES // max(1, self._chunk // 8)
        lane_layout = self.lane.shape().elem_shape
        sums = Signal(data.ArrayLayout(lane_layout, channels), name="sums")
        with m.Switch(self.kind_of_slots):
            with m.Case(StepKind.VALUES):
                for channel in range(channels):
                    base_code, base, codes, masks = slots[channel * LANES // channels]
                    if self._wide_values:
                        # Among upper digits those of the base are one digit higher still.
                        base_code = Mux(self.upper_of_slots, base_code << 2, base_code)
                    if channels < LANES:
                        last_code, last_mask, more_codes, more_masks = slots[2 * channel + 1]
                        codes = codes + more_codes + last_code
                        masks = masks + more_masks + last_mask
                    m.d.comb += sums[channel].a.eq(base_code + self._ratio * codes)
                    m.d.comb += sums[channel].b.eq(self._ratio * (base + masks))
            with m.Case(StepKind.KEYS):
                m.d.comb += sums[0].a.eq(halves[0] + halves[1])
            with m.Case(StepKind.KEY_DIGITS):
                m.d.comb += [sums[0].a.eq(halves[0]), sums[0].b.eq(halves[1])]
            with m.Case(StepKind.TAIL_VALUES):
                m.d.comb += [sums[i].a.eq(total) for i, total in enumerate(tails)]
        return sums


def _wire(m: Module, value: Any, shape: ShapeLike, name: str) -> Any:
    wire = Signal(shape, name=name)
    m.d.comb += wire.eq(value)
    return wire


def _register(m: Module, move: Value, value: Value, shape: ShapeLike, name: str) -> Any:
    register = Signal(shape, name=name)
    with m.If(move):
        m.d.sync += register.eq(value)
    return register


def _is_one_of(kind: Value, first: StepKind, second: StepKind) -> Value:
    return (kind == first) | (kind == second)
