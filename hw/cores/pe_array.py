"""The PE array: two-bit digits meet operand vectors of all rows (docs/contracts.md, section 6)."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import DIGITS, AttentionConfig
from hw.constants import OPERAND_BITS
from hw.cores.lanes import lanes_layout, tagged_payload
from hw.cores.pe_row import OPERANDS, PERow
from hw.formats import StepKind


class PEArray(wiring.Component):
    """Sums of digits times operands. Latency 3 cycles, throughput 1 step per cycle.

    Stages: multiply and add pairs; add columns; weight and sum (`PERow`). A stage moves on when the
    next one is empty or moves on itself.

    Parameters
    ----------
    config : AttentionConfig
        Gives the rows, the chunk and the value step ratio.
    tag_bits : int
        Bits of the tag that comes back with the result of its step; at least 1.

    Members
    -------
    step : ``In(stream)``
        ``kind`` (`StepKind`), ``signed`` (bytes are two's complement; only ``KEYS`` and
        ``TAIL_VALUES`` look at it), ``upper`` (the digits are the upper ones of 4-bit values; only
        ``VALUES`` looks at it), ``digits[64]``, ``operand[row][32]`` (raw bits; signed for
        ``KEYS`` and ``DELTAS``, unsigned for the others) and ``tag``.
    result : ``Out(stream)``
        ``lane[row][4]`` of ``a`` and ``b``, 0 where the kind has no result, and ``tag``.

    Raises
    ------
    ConfigError
        ``tag_bits`` has an illegal value.
    """

    def __init__(self, config: AttentionConfig, *, tag_bits: int) -> None:
        self._config = config
        operand = data.ArrayLayout(unsigned(OPERAND_BITS), OPERANDS)
        fields = {
            "kind": StepKind,
            "signed": unsigned(1),
            "upper": unsigned(1),
            "digits": data.ArrayLayout(unsigned(2), DIGITS),
            "operand": data.ArrayLayout(operand, config.rows),
        }
        step = tagged_payload(fields, tag_bits)
        result = tagged_payload({"lane": lanes_layout(config)}, tag_bits)
        super().__init__(
            {"step": In(stream.Signature(step)), "result": Out(stream.Signature(result))}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        step, result = self.step.p, self.result.p
        valid = Signal(2)
        kinds = [Signal(StepKind, name=f"kind_{stage}") for stage in range(2)]
        uppers = [Signal(name=f"upper_{stage}") for stage in range(2)]
        tags = [Signal(step.tag.shape(), name=f"tag_{stage}") for stage in range(2)]
        move = Signal(3)
        m.d.comb += [
            move[2].eq(~self.result.valid | self.result.ready),
            move[1].eq(~valid[1] | move[2]),
            move[0].eq(~valid[0] | move[1]),
            self.step.ready.eq(move[0]),
        ]
        with m.If(move[0]):
            m.d.sync += [valid[0].eq(self.step.valid), kinds[0].eq(step.kind), tags[0].eq(step.tag)]
            m.d.sync += uppers[0].eq(step.upper)
        with m.If(move[1]):
            m.d.sync += [valid[1].eq(valid[0]), kinds[1].eq(kinds[0]), tags[1].eq(tags[0])]
            m.d.sync += uppers[1].eq(uppers[0])
        with m.If(move[2]):
            m.d.sync += [self.result.valid.eq(valid[1]), result.tag.eq(tags[1])]
        for index in range(self._config.rows):
            row = PERow(self._config)
            m.submodules[f"row_{index}"] = row
            m.d.comb += [
                row.move.eq(move),
                row.kind.eq(step.kind),
                row.signed.eq(step.signed),
                row.digits.eq(step.digits),
                row.operand.eq(step.operand[index]),
                row.kind_of_pairs.eq(kinds[0]),
                row.kind_of_slots.eq(kinds[1]),
                row.upper_of_slots.eq(uppers[1]),
                result.lane[index].eq(row.lane),
            ]
        return m
