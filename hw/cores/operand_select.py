"""Steps meet their operands: queries for the key passes, weights for the value passes."""

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import DIGITS, AttentionConfig
from hw.constants import OPERAND_BITS
from hw.cores.payloads import slot_bits, step_tag, unit_header, unit_weights, work_layout
from hw.cores.pe_row import OPERANDS
from hw.cores.query_store import operand_layout, query_sum_layout
from hw.counters import Counter
from hw.formats import StepKind


def step_layout(config: AttentionConfig) -> data.StructLayout:
    """One step of the PE array: digits, operands of every row, and the tag that rides along.

    Operands that no digit meets are 0.
    """
    per_row = data.ArrayLayout(OPERAND_BITS, OPERANDS)
    return data.StructLayout(
        {
            "kind": StepKind,
            "signed": 1,
            "upper": 1,
            "digits": data.ArrayLayout(2, DIGITS),
            "operand": data.ArrayLayout(per_row, config.rows),
            "tag": step_tag(config).size,
        }
    )


class OperandSelect(wiring.Component):
    """Latency 1 cycle, one step a cycle.

    A value segment waits for the weights of its unit, and sends the unit's header to the value
    accumulator with its first step. The weights are taken with its last step.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    work : stream of ``work_layout``
    weights : stream of ``unit_weights``
    step : stream of ``step_layout``
    unit : stream of ``unit_header``
    read_enable, read_slot, read_group, operand, query_sum
        The read port of the query store.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.key_steps = Counter("key_steps", "steps of whole keys", unit="steps")
        self.delta_steps = Counter("delta_steps", "steps of delta channels", unit="steps")
        self.value_steps = Counter("value_steps", "steps of value channels", unit="steps")
        self.tail_steps = Counter("tail_value_steps", "steps of 16 tail value bytes", unit="steps")
        self.weight_wait = Counter("weight_wait", "cycles in which values waited for weights")
        self.counters = [
            self.key_steps,
            self.delta_steps,
            self.value_steps,
            self.tail_steps,
            self.weight_wait,
        ]
        super().__init__(
            {
                "work": In(stream.Signature(work_layout(config))),
                "weights": In(stream.Signature(unit_weights(config))),
                "step": Out(stream.Signature(step_layout(config))),
                "unit": Out(stream.Signature(unit_header(config))),
                "read_enable": Out(1),
                "read_slot": Out(slot_bits(config)),
                "read_group": Out(range(max(2, config.groups))),
                "operand": In(operand_layout(config)),
                "query_sum": In(query_sum_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        work, weights, step, unit = self.work, self.weights, self.step, self.unit

        is_key = work.payload.kind == StepKind.KEYS
        is_delta = work.payload.kind == StepKind.KEY_DIGITS
        if config.key_bits == 4:
            whole = work.payload.key.base | work.payload.key.tail
            is_key, is_delta = is_key | (is_delta & whole), is_delta & ~whole
        is_value = (work.payload.kind == StepKind.VALUES) | (
            work.payload.kind == StepKind.TAIL_VALUES
        )
        #: The header of the unit in progress has gone.
        announced = Signal()
        held = Signal(work_layout(config))
        held_weights = Signal.like(weights.payload.weight)

        free = ~step.valid | step.ready
        operands_there = Mux(is_value, weights.valid & (announced | unit.ready), 1)
        take = work.valid & work.ready
        m.d.comb += [
            work.ready.eq(free & operands_there),
            unit.valid.eq(work.valid & is_value & weights.valid & ~announced & free),
            weights.ready.eq(take & is_value & work.payload.last),
            self.read_enable.eq(take),
            self.read_slot.eq(work.payload.key.slot),
            self.read_group.eq(work.payload.group),
        ]
        for name in unit_header(config).members:
            m.d.comb += unit.payload[name].eq(weights.payload[name])
        with m.If(take & is_value):
            m.d.sync += announced.eq(~work.payload.last)
        with m.If(free):
            m.d.sync += step.valid.eq(take)
        with m.If(take):
            m.d.sync += [held.eq(work.payload), held_weights.eq(weights.payload.weight)]

        tag = Signal(step_tag(config))
        m.d.comb += [
            tag.kind.eq(held.kind),
            tag.signed.eq(held.signed),
            tag.wide.eq(held.wide),
            tag.upper.eq(held.upper),
            tag.pairs.eq(held.pairs),
            tag.query_sum.eq(self.query_sum),
            tag.key.eq(held.key),
            step.payload.kind.eq(held.kind),
            step.payload.signed.eq(held.signed),
            step.payload.upper.eq(held.upper),
            step.payload.digits.eq(held.digits),
            step.payload.tag.eq(tag),
        ]
        for row in range(config.rows):
            queries = self.operand[row].as_value()
            with m.Switch(held.kind):
                with m.Case(StepKind.KEYS):
                    m.d.comb += step.payload.operand[row].eq(_part(queries, held.part, 16))
                with m.Case(StepKind.KEY_DIGITS):
                    m.d.comb += step.payload.operand[row].eq(_part(queries, held.part, OPERANDS))
                with m.Default():
                    m.d.comb += step.payload.operand[row].eq(held_weights[row].as_value())

        value_wait = work.valid & is_value & ~weights.valid
        m.d.comb += [
            self.key_steps.event.eq(take & is_key),
            self.delta_steps.event.eq(take & is_delta),
            self.value_steps.event.eq(take & (work.payload.kind == StepKind.VALUES)),
            self.tail_steps.event.eq(take & (work.payload.kind == StepKind.TAIL_VALUES)),
            self.weight_wait.event.eq(value_wait),
        ]
        return m


def _part(queries: Value, part: Value, channels: int) -> Value:
    """``channels`` channels of a group's queries; all of a smaller group."""
    bits = channels * OPERAND_BITS
    return Array([queries[start : start + bits] for start in range(0, len(queries), bits)])[part]
