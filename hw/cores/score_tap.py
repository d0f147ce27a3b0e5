"""Final probabilities, which an online softmax never yields (docs/contracts.md, section 4)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.arithmetic import shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import (
    EXP2_FRACTION,
    RECEIVED_FRACTION,
    SCORE_BITS,
    SCORE_FRACTION,
    SUM_FRACTION,
)
from hw.cores.exp2 import Exp2
from hw.cores.payloads import slot_bits
from hw.cores.sum_reciprocal import reciprocal_layout
from hw.streams import StreamFIFO

#: From this distance to the maximum on a probability is below half a unit: a power is below 2, the
#: smallest sum 1/2.
_FAR = RECEIVED_FRACTION + 3
#: From the read of a score to its sum over the rows.
_STAGES = 6
#: Jobs whose scores are held: one that waits for its sum, and the next one.
_BANKS = 2


def tapped_scores(config: AttentionConfig) -> data.StructLayout:
    """A token's scores; ``kept`` tokens count, ``last`` ends the job."""
    return data.StructLayout(
        {
            "score": data.ArrayLayout(signed(SCORE_BITS), config.rows),
            "kept": 1,
            "last": 1,
            "slot": slot_bits(config),
        }
    )


def received_layout(config: AttentionConfig) -> data.StructLayout:
    """What a token received from all rows, in units of 2**-20; ``last`` is the job's last token."""
    bits = (config.rows << RECEIVED_FRACTION + 1).bit_length()
    return data.StructLayout({"received": bits, "last": 1, "slot": slot_bits(config)})


class ScoreTap(wiring.Component):
    """Holds the scores of a job until its maximum and sums are known, then streams probabilities.

    Latency: ``6 + rows`` cycles from a job's last score or reciprocal to its first token.
    Throughput: one score a cycle in and out, so a token in ``rows`` cycles. While a job waits for
    its sums and streams, the scores of the next one come in.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``sum_bits``, ``value_step_ratio`` and ``jobs_in_flight`` matter.
    depth : int
        Most kept tokens of a job.

    Members
    -------
    scores : In(stream of `tapped_scores`)
        Every token of every job, in order.
    reciprocals : In(stream of `reciprocal_layout`)
        Of each job's rows, after its scores.
    received : Out(stream of `received_layout`)
        The kept tokens of each job, in order; of a job without any, nothing.

    Raises
    ------
    ValueError
        ``depth`` is below 1.
    """

    def __init__(self, config: AttentionConfig, *, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth!r}")
        self._config = config
        self._depth = depth
        super().__init__(
            {
                "scores": In(stream.Signature(tapped_scores(config))),
                "reciprocals": In(stream.Signature(reciprocal_layout(config))),
                "received": Out(stream.Signature(received_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, rows = self._config, self._config.rows
        row_scores = data.ArrayLayout(signed(SCORE_BITS), rows)
        m.submodules.store = store = Memory(shape=row_scores, depth=_BANKS * self._depth, init=[])
        write, read = store.write_port(), store.read_port(domain="sync")
        jobs = data.StructLayout({"tokens": range(self._depth + 1), "slot": slot_bits(config)})
        m.submodules.jobs = waiting = StreamFIFO(jobs, depth=_BANKS)

        # Take: the scores of kept tokens into the bank of the job.
        scores = self.scores
        bank, count = Signal(range(_BANKS)), Signal(range(self._depth + 1))
        tokens = Signal(range(self._depth + 1))
        taken = Signal()
        m.d.comb += [
            # A job's bank is free once the job two before it has left the queue.
            scores.ready.eq(waiting.input.ready),
            taken.eq(scores.valid & scores.ready),
            write.addr.eq(bank * self._depth + count),
            write.data.eq(scores.payload.score),
            write.en.eq(taken & scores.payload.kept),
            tokens.eq(count + scores.payload.kept),
            waiting.input.valid.eq(scores.valid & scores.payload.last),
            waiting.input.payload.tokens.eq(tokens),
            waiting.input.payload.slot.eq(scores.payload.slot),
        ]
        with m.If(taken):
            m.d.sync += count.eq(Mux(scores.payload.last, 0, tokens))
            with m.If(scores.payload.last):
                m.d.sync += bank.eq(bank + 1)

        # Give: once all rows are known, every token, row after row.
        known = Signal(data.ArrayLayout(reciprocal_layout(config), rows))
        have = Signal(range(rows + 1))
        token, row = Signal(range(self._depth)), Signal(range(max(2, rows)))
        out_bank = Signal(range(_BANKS))
        job = waiting.output.payload
        ready = waiting.output.valid & (have == rows)
        row_end, end, finish = Signal(), Signal(), Signal()
        advance = Signal()
        m.d.comb += [
            self.reciprocals.ready.eq(have != rows),
            advance.eq(~self.received.valid | self.received.ready),
            row_end.eq(row == rows - 1),
            end.eq(row_end & (token + 1 == job.tokens)),
            finish.eq(ready & ((end & advance) | (job.tokens == 0))),
            waiting.output.ready.eq(finish),
            read.addr.eq(out_bank * self._depth + token),
            read.en.eq(advance),
        ]
        with m.If(self.reciprocals.valid & self.reciprocals.ready):
            item = self.reciprocals.payload.as_value()
            m.d.sync += [known.eq(Cat(known.as_value()[len(item) :], item)), have.eq(have + 1)]
        with m.If(finish):
            m.d.sync += [have.eq(0), token.eq(0), row.eq(0), out_bank.eq(out_bank + 1)]
        with m.Elif(ready & advance):
            m.d.sync += [row.eq(Mux(row_end, 0, row + 1)), token.eq(token + row_end)]

        tag = Signal(
            data.StructLayout(
                {"valid": 1, "row": row.shape(), "last": 1, "slot": slot_bits(config)}
            )
        )
        m.d.comb += [
            tag.valid.eq(ready & (job.tokens != 0)),
            tag.row.eq(row),
            tag.last.eq(end),
            tag.slot.eq(job.slot),
        ]
        self._probabilities(m, advance, tag, Array(list(known))[row], read.data)
        return m

    def _probabilities(
        self, m: Module, advance: Signal, tag: Signal, known: Value, scores: data.View
    ) -> None:
        """One row of a token a cycle: score | distance | power | product | aligned | added."""
        config, given = self._config, self.received

        def later(value: Value, name: str) -> Signal:
            """``value`` one advance later."""
            register = Signal(value.shape(), name=name)
            with m.If(advance):
                m.d.sync += register.eq(value)
            return register

        tags = [tag]
        for stage in range(1, _STAGES):
            tags.append(Signal(tag.shape(), name=f"tag_{stage}"))
            with m.If(advance):
                m.d.sync += tags[stage].eq(tags[stage - 1])

        row = Signal(reciprocal_layout(config))
        with m.If(advance):
            m.d.sync += row.eq(known)
        score = Array(list(scores))[tags[1].row]
        distance = (row.maximum - score[SCORE_FRACTION:].as_signed()).as_unsigned()
        fraction = later(score[:SCORE_FRACTION], "fraction")
        halvings = later(Mux(distance >= _FAR, _FAR, distance)[: _FAR.bit_length()], "halvings")
        factor = later(row.reciprocal * config.value_step_ratio, "factor")
        shift = later(row.shift, "shift")

        m.submodules.exp2 = exp2 = Exp2()
        m.d.comb += exp2.fraction.eq(fraction)
        power, factor = later(exp2.power, "power"), later(factor, "factor_3")
        # Bits of the product below a unit.
        least = config.reciprocal_fraction + EXP2_FRACTION - SUM_FRACTION - RECEIVED_FRACTION
        drop = later(least + shift + halvings, "drop")

        product, drop = later(power * factor, "product"), later(drop, "drop_4")
        aligned = later(shift_right_half_up(product, drop)[: RECEIVED_FRACTION + 1], "aligned")

        total = Signal(given.payload.received.shape())
        added = Mux(tags[-1].row == 0, 0, total) + aligned
        with m.If(given.ready):
            m.d.sync += given.valid.eq(0)
        with m.If(advance & tags[-1].valid):
            m.d.sync += total.eq(added)
            with m.If(tags[-1].row == config.rows - 1):
                m.d.sync += [
                    given.payload.received.eq(added),
                    given.payload.last.eq(tags[-1].last),
                    given.payload.slot.eq(tags[-1].slot),
                    given.valid.eq(1),
                ]
