"""Online softmax in base 2 over units of one chunk of tokens (docs/contracts.md, section 4)."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import (
    MAXIMUM_BITS,
    OPERAND_BITS,
    PROBABILITY_FRACTION,
    PROBABILITY_MAX,
    SHIFT_BITS,
    SHIFT_MAX,
    SUM_FRACTION,
)
from hw.cores.payloads import score_item, slot_bits, unit_weights
from hw.cores.probability import Probability
from hw.cores.score_collector import ScoreCollector, unit_layout

#: Stages from the read of a token to the step in which its weight and its row's sum are written.
_STAGES = 7
#: Least cycles from the end of a unit's reads to the end of the next unit's first row. What stage 1
#: finds out there would otherwise replace what the weights of the unit before leave with.
_UNIT_CYCLES = 6
#: What the weights tell of their unit besides the numbers of its rows.
_UNIT_FIELDS = ("tail", "tail_exponent", "first", "last", "slot")


def statistics_layout(config: AttentionConfig) -> data.StructLayout:
    """One job of the ``statistics`` stream."""
    return data.StructLayout(
        {
            "maximum": data.ArrayLayout(signed(MAXIMUM_BITS), config.rows),
            "sum": data.ArrayLayout(config.sum_bits, config.rows),
            "slot": slot_bits(config),
        }
    )


class Softmax(wiring.Component):
    """Probabilities, tail weights, running maximum and sum of the jobs' score units.

    Latency: ``weights`` is valid ``chunk * rows + 8`` cycles after the transfer of the unit's last
    score, and ``statistics`` in the same cycle as the job's last weights. Throughput: one unit in
    ``chunk * rows`` cycles (chunks of 4 tokens: two more), through one exp2 unit. While a unit is
    exponentiated the scores of the next are taken; a complete unit waits behind the one at the
    output, so that the consumer may lag by a unit. Jobs come one after the other; the first unit of
    a job starts its maximum and sum.

    No overflow: a token adds at most ``4095 * 256 < 2**20`` to the sum and the halves rounded up
    are less than the ``256`` it leaves, so ``sum_bits`` hold the sum of ``max_attended`` tokens.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``chunk``, ``jobs_in_flight`` and ``sum_bits`` matter.

    Members
    -------
    scores : In(stream of `score_item`)
        ``chunk`` tokens per unit, token 0 always present. ``value_scale`` (FP16, its sign ignored)
        counts in tail units and for present tokens only; ``tail``, ``first``, ``last`` and ``slot``
        are those of the unit, the same for all its tokens.
    weights : Out(stream of `unit_weights`)
        One item per unit. ``tail_exponent`` is 0 for a unit that is not of the tail.
    statistics : Out(stream of `statistics_layout`)
        One item per job. A job's last weights wait until the previous job's item has been taken.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "scores": In(stream.Signature(score_item(config))),
                "weights": Out(stream.Signature(unit_weights(config))),
                "statistics": Out(stream.Signature(statistics_layout(config))),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        config = self._config
        rows, chunk = config.rows, config.chunk
        m = Module()
        m.submodules.collector = collector = ScoreCollector(config)
        m.submodules.probability = probability = Probability()
        wiring.connect(m, wiring.flipped(self.scores), collector.scores)

        # The whole pipeline moves or waits, so that a blocked output needs no buffer per stage.
        weights, statistics = self.weights, self.statistics
        complete, advance = Signal(), Signal()
        pending = Signal(unit_weights(config))
        blocked = weights.valid & ~weights.ready
        blocked |= pending.last & statistics.valid & ~statistics.ready
        m.d.comb += [advance.eq(~(complete & blocked)), probability.advance.eq(advance)]

        # Stage 0 reads, row after row, token after token of the unit that the collector holds.
        step_layout = data.StructLayout({"valid": 1, "token": range(chunk), "row": range(rows)})
        steps = [Signal(step_layout, name=f"step_{stage}") for stage in range(_STAGES)]
        row_end = [step.valid & (step.token == chunk - 1) for step in steps]
        unit_end = [end & (step.row == rows - 1) for end, step in zip(row_end, steps, strict=True)]
        token, row = Signal(range(chunk)), Signal(range(rows))
        gap_cycles = max(0, _UNIT_CYCLES - chunk)
        gap: Value = Const(0)
        if gap_cycles:
            gap = Signal(range(gap_cycles + 1), name="gap")
            with m.If(advance & unit_end[0]):
                m.d.sync += gap.eq(gap_cycles)
            with m.Elif(advance & (gap != 0)):
                m.d.sync += gap.eq(gap - 1)
        m.d.comb += [
            steps[0].valid.eq(collector.units.valid & (gap == 0)),
            steps[0].token.eq(token),
            steps[0].row.eq(row),
            collector.token.eq(token),
            collector.read.eq(advance),
            collector.units.ready.eq(unit_end[0] & advance),
        ]
        with m.If(advance):
            m.d.sync += [after.eq(before) for before, after in pairwise(steps)]
            with m.If(steps[0].valid):
                m.d.sync += token.eq(token + 1)
            with m.If(row_end[0]):
                m.d.sync += row.eq(Mux(unit_end[0], 0, row + 1))

        # Stage 1 enters the arithmetic pipeline.
        unit, entry = Signal(unit_layout(config)), collector.entry
        exponent = unit.exponent[steps[1].row]
        m.d.comb += [
            probability.score.eq(entry.score[steps[1].row]),
            probability.present.eq(entry.present),
            probability.exponent.eq(exponent),
            probability.mantissa.eq(entry.mantissa),
            probability.drop.eq(unit.tail_exponent - entry.exponent),
        ]
        with m.If(advance):
            m.d.sync += unit.eq(collector.units.payload)

        # Running maximum, at the row's last token in stage 1. One of the two shifts is always 0, so
        # the sum needs one shifter only. What is found here stays until the sum of the row has been
        # updated with it: the next row ends a chunk later.
        maximum = Signal(data.ArrayLayout(signed(MAXIMUM_BITS), rows))
        rise = exponent - maximum[steps[1].row]
        rises = unit.first | (rise >= 0)
        size = Mux(rise >= 0, rise, -rise).as_unsigned()
        shift = Mux(unit.first, 0, Mux(size > SHIFT_MAX, SHIFT_MAX, size))
        row_first, row_rises, row_shift = Signal(), Signal(), Signal(SHIFT_BITS)
        with m.If(advance & row_end[1]):
            with m.If(rises):
                m.d.sync += maximum[steps[1].row].eq(exponent)
            m.d.sync += [
                row_first.eq(unit.first),
                row_rises.eq(rises),
                row_shift.eq(shift),
                pending.maximum_shift[steps[1].row].eq(Mux(rises, shift, 0)),
                pending.unit_shift[steps[1].row].eq(Mux(rises, 0, shift)),
                *(pending[name].eq(unit[name]) for name in _UNIT_FIELDS),
            ]

        # Sum of the row's probabilities in stage 4, aligned with the running sum in stage 5, added
        # to it in stage 6, which also puts the weights in their places.
        total = Signal(range(PROBABILITY_MAX * chunk + 1))
        running = Signal(data.ArrayLayout(config.sum_bits, rows))
        aligned, other = Signal(config.sum_bits), Signal(config.sum_bits)
        before = Mux(row_first, 0, running[steps[5].row])
        added = total << (SUM_FRACTION - PROBABILITY_FRACTION)
        with m.If(advance):
            with m.If(steps[4].valid):
                m.d.sync += total.eq(Mux(steps[4].token == 0, 0, total) + probability.probability)
            with m.If(row_end[5]):
                falling = Mux(row_rises, before, added)
                m.d.sync += [
                    aligned.eq(shift_right_half_up(falling, row_shift)),
                    other.eq(Mux(row_rises, added, before)),
                ]
            with m.If(row_end[6]):
                m.d.sync += running[steps[6].row].eq(aligned + other)
            with m.If(steps[6].valid):
                places = pending.weight.as_value()
                m.d.sync += pending.weight.eq(Cat(places[OPERAND_BITS:], probability.weight))
            m.d.sync += complete.eq(unit_end[6])

        with m.If(weights.ready):
            m.d.sync += weights.valid.eq(0)
        with m.If(statistics.ready):
            m.d.sync += statistics.valid.eq(0)
        with m.If(complete & advance):
            m.d.sync += [weights.payload.eq(pending), weights.valid.eq(1)]
            with m.If(pending.last):
                m.d.sync += [
                    statistics.payload.maximum.eq(maximum),
                    statistics.payload.sum.eq(running),
                    statistics.payload.slot.eq(pending.slot),
                    statistics.valid.eq(1),
                ]
        return m
