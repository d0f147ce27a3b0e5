"""The PE array: two-bit digits meet operand vectors of all rows (docs/contracts.md, section 6)."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import DIGITS, AttentionConfig, ConfigError
from hw.constants import DOT_BITS, OPERAND_BITS, SUM_BITS
from hw.formats import StepKind

LANES = 4
OPERANDS = 32

_PRODUCT = signed(OPERAND_BITS + 3)
_PAIR = signed(OPERAND_BITS + 4)
_SLOT = signed(OPERAND_BITS + 6)
#: Digits of a lane that both uses of its adders (columns of equal weight, and codes and masks of a
#: value) add to each other first, and those that have no such partner.
_PAIRS = ((0, 4), (8, 12), (1, 5), (9, 13), (2, 6), (7, 11))
_SINGLES = (3, 10, 14, 15)
#: Token whose probability meets digit i of a lane of a ``VALUES`` step: codes, masks, base code.
_VALUE_TOKENS = (*range(1, 8), *range(1, 8), 0, 0)


def tagged_payload(fields: dict[str, ShapeLike], tag_bits: int) -> data.StructLayout:
    """``fields`` and a ``tag`` of ``tag_bits`` bits, which must be an integer of at least 1."""
    if isinstance(tag_bits, bool) or not isinstance(tag_bits, int) or tag_bits < 1:
        raise ConfigError(f"tag_bits must be an integer of at least 1, not {tag_bits!r}")
    return data.StructLayout({**fields, "tag": unsigned(tag_bits)})


def lanes_layout(rows: int) -> data.ArrayLayout:
    """``[row][lane]``: the sums ``a`` and ``b`` of every lane of every row."""
    lane = data.StructLayout({"a": signed(DOT_BITS), "b": signed(SUM_BITS)})
    return data.ArrayLayout(data.ArrayLayout(lane, LANES), rows)


class PEArray(wiring.Component):
    """Sums of digits times operands. Latency 3 cycles, throughput 1 step per cycle.

    Three registered stages: multiply and add pairs; add columns; weight and sum. A stage moves on
    when the next one is empty or moves on itself. A product is two gated copies of its operand and
    one adder, smaller than a choice among shared multiples. The adders after it serve all kinds: of
    the 16 digits of a lane they sum the four columns k mod 4, or codes and masks.

    No sum can overflow, whatever the digits: a product is within -8190..12285, a column of 4
    products below 2**16, codes or masks (7 products) below 2**17, a half of weighted digits
    8 * 4095 * 255 < 2**23, and ``b`` at most 5 * (4095 + 7 * 12285) < 2**19.

    Parameters
    ----------
    config : AttentionConfig
        Gives the rows and the value step ratio.
    tag_bits : int
        Bits of the tag that comes back with the result of its step; at least 1.

    Members
    -------
    step : ``In(stream)``
        ``kind`` (`StepKind`), ``signed`` (bytes are two's complement; only ``TAIL_VALUES`` looks at
        it), ``digits[64]``, ``operand[row][32]`` (raw bits; signed for ``KEYS`` and ``DELTAS``,
        unsigned for the others) and ``tag``.
    result : ``Out(stream)``
        ``lane[row][4]`` of ``a`` and ``b``, 0 where the kind has no result, and ``tag``.

    Raises
    ------
    ConfigError
        ``tag_bits`` has an illegal value.
    """

    def __init__(self, config: AttentionConfig, *, tag_bits: int) -> None:
        self._rows = config.rows
        self._ratio = config.value_step_ratio
        operand = data.ArrayLayout(unsigned(OPERAND_BITS), OPERANDS)
        fields = {
            "kind": StepKind,
            "signed": unsigned(1),
            "digits": data.ArrayLayout(unsigned(2), DIGITS),
            "operand": data.ArrayLayout(operand, config.rows),
        }
        step = tagged_payload(fields, tag_bits)
        result = tagged_payload({"lane": lanes_layout(config.rows)}, tag_bits)
        super().__init__(
            {"step": In(stream.Signature(step)), "result": Out(stream.Signature(result))}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        step, result = self.step.p, self.result.p
        valid = Signal(2)
        move_sums = ~self.result.valid | self.result.ready
        move_slots = ~valid[1] | move_sums
        move_pairs = ~valid[0] | move_slots
        m.d.comb += self.step.ready.eq(move_pairs)
        kinds = [Signal(StepKind, name=f"kind_{stage}") for stage in range(2)]
        tags = [Signal(step.tag.shape(), name=f"tag_{stage}") for stage in range(2)]
        with m.If(move_pairs):
            m.d.sync += [valid[0].eq(self.step.valid), kinds[0].eq(step.kind), tags[0].eq(step.tag)]
        with m.If(move_slots):
            m.d.sync += [valid[1].eq(valid[0]), kinds[1].eq(kinds[0]), tags[1].eq(tags[0])]
        with m.If(move_sums):
            m.d.sync += [self.result.valid.eq(valid[1]), result.tag.eq(tags[1])]
        for row in range(self._rows):
            products = self._products(m, row)
            base = _register(m, move_pairs, step.operand[row][0], OPERAND_BITS, f"base_{row}")
            slots = []
            for lane in range(LANES):
                name = f"{row}_{lane}"
                pairs = _add_pairs(m, move_pairs, products[16 * lane : 16 * (lane + 1)], name)
                slots.append(_add_columns(m, move_slots, kinds[0], pairs, base, name))
            sums = Signal.like(result.lane[row], name=f"sums_{row}")
            self._sum_up(m, kinds[1], slots, sums)
            with m.If(move_sums):
                m.d.sync += result.lane[row].eq(sums)
        return m

    def _products(self, m: Module, row: int) -> list[Signal]:
        """Each digit times the operand that its kind gives it."""
        step = self.step.p
        x = list(step.operand[row])
        of_bytes = (step.kind == StepKind.KEYS) | (step.kind == StepKind.TAIL_VALUES)
        of_values = (step.kind == StepKind.VALUES) | (step.kind == StepKind.TAIL_VALUES)
        negative_top = step.signed & (step.kind == StepKind.TAIL_VALUES)
        products = []
        for k in range(DIGITS):
            raw = Mux(
                of_bytes,
                Mux(of_values, x[k // 4 % 8], x[k // 4]),
                Mux(of_values, x[_VALUE_TOKENS[k % 16]], x[k % OPERANDS]),
            )
            operand = Cat(raw, raw[-1] & ~of_values).as_signed()
            negative = negative_top if k % 4 == 3 else Const(0, 1)
            products.append(Signal(_PRODUCT, name=f"product_{row}_{k}"))
            m.d.comb += products[k].eq(_product(step.digits[k], operand, negative))
        return products

    def _sum_up(self, m: Module, kind: Value, slots: list[list[Signal]], sums: data.View) -> None:
        """Last stage: weighted or plain sums of both halves, or the two sums of four channels."""
        weighted = (kind == StepKind.KEYS) | (kind == StepKind.TAIL_VALUES)
        halves = []
        for even, odd in (slots[:2], slots[2:]):
            c = [x + y for x, y in zip(even, odd, strict=True)]
            low, high = (c[i] + Mux(weighted, c[i + 1] << 2, c[i + 1]) for i in (0, 2))
            halves.append(low + Mux(weighted, high << 4, high))
        with m.Switch(kind):
            with m.Case(StepKind.VALUES):
                for lane, (base_code, base, codes, masks) in zip(sums, slots, strict=True):
                    m.d.comb += lane.a.eq(base_code + self._ratio * codes)
                    m.d.comb += lane.b.eq(self._ratio * (base + masks))
            with m.Case(StepKind.KEYS):
                m.d.comb += sums[0].a.eq(halves[0] + halves[1])
            with m.Case(StepKind.DELTAS):
                m.d.comb += [sums[0].a.eq(halves[0]), sums[0].b.eq(halves[1])]
            with m.Case(StepKind.TAIL_VALUES):
                m.d.comb += [sums[0].a.eq(halves[0]), sums[1].a.eq(halves[1])]


def _register(m: Module, move: Value, value: Value, shape: ShapeLike, name: str) -> Any:
    register = Signal(shape, name=name)
    with m.If(move):
        m.d.sync += register.eq(value)
    return register


def _product(digit: Value, operand: Value, negative: Value) -> Value:
    """``digit`` (0..3; if its bit 1 is ``negative`` 0, 1, -2, -1) times a signed ``operand``."""
    once = Mux(digit[0], operand, 0).as_signed()
    negate = digit[1] & negative
    # Without bit 0, which needs no adder; the +1 of a negation then has the weight 2 that it needs.
    twice = Mux(digit[1], operand, 0) ^ negate.replicate(len(operand)).as_signed()
    return Cat(once[0], (once >> 1) + twice + negate).as_signed()


def _add_pairs(m: Module, move: Value, products: list[Signal], name: str) -> dict[Any, Signal]:
    """First stage of a lane: the sums of `_PAIRS` and the products of `_SINGLES`."""
    pairs = {
        (i, j): _register(m, move, products[i] + products[j], _PAIR, f"pair_{name}_{i}_{j}")
        for i, j in _PAIRS
    }
    return pairs | {
        i: _register(m, move, products[i], _PRODUCT, f"single_{name}_{i}") for i in _SINGLES
    }


def _add_columns(
    m: Module, move: Value, kind: Value, p: dict[Any, Signal], base: Signal, name: str
) -> list[Signal]:
    """Second stage of a lane: columns 0 to 3, or base code, base probability, codes and masks."""
    values = kind == StepKind.VALUES
    first = p[0, 4] + Mux(values, p[1, 5], p[8, 12])
    second = p[9, 13] + Mux(values, p[8, 12], p[1, 5])
    third = p[2, 6] + Mux(values, p[3], p[10]) + Mux(values, first, p[14])
    fourth = p[7, 11] + Mux(values, p[10], p[3]) + Mux(values, second, p[15])
    base_code = p[14] + (p[15] << 2)
    sums = (Mux(values, base_code, first), Mux(values, base, second), third, fourth)
    return [_register(m, move, total, _SLOT, f"slot_{name}_{i}") for i, total in enumerate(sums)]
