"""Key sums become scores: estimates go to the selector, the others to the softmax."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16, saturate, shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import KEY_SUM_BITS, SCORE_BIAS, SCORE_BITS
from hw.cores.payloads import candidate, chunk_bits, key_sums, key_tag, score_item
from hw.formats import FP16_BITS
from hw.selection import selection_policy
from hw.streams import StreamRegister


class ScoreUnit(wiring.Component):
    """Latency 2 cycles, one key a cycle.

    Multiplies by the query scale of the row, aligns and saturates (docs/contracts.md, row *score*).

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    key_sums : stream of ``key_sums``
    query_scale : in, FP16 of every (slot, row)
    value_scale : in, FP16 of every slot, for the dense modes
    candidates : stream of ``candidate``, chunk after chunk of each job
    scores : stream of ``score_item``
    salient : out, with ``scores``: the token is one of a compressed cache's tail
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        scales = data.ArrayLayout(data.ArrayLayout(FP16_BITS, config.rows), config.jobs_in_flight)
        super().__init__(
            {
                "key_sums": In(stream.Signature(key_sums(config))),
                "query_scale": In(scales),
                "value_scale": In(data.ArrayLayout(FP16_BITS, config.jobs_in_flight)),
                "candidates": Out(stream.Signature(candidate(config))),
                "scores": Out(stream.Signature(score_item(config))),
                "salient": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        key_sum, candidates, scores = self.key_sums, self.candidates, self.scores

        product_bits = KEY_SUM_BITS + 12
        product = data.StructLayout(
            {
                "product": data.ArrayLayout(signed(product_bits), config.rows),
                "shift": data.ArrayLayout(5, config.rows),
                "key_sum": data.ArrayLayout(signed(KEY_SUM_BITS), config.rows),
                "key": key_tag(config),
            }
        )
        m.submodules.multiplied = multiplied = StreamRegister(product)
        scales = Array([self.query_scale[slot] for slot in range(config.jobs_in_flight)])
        slot_scales = Signal(data.ArrayLayout(FP16_BITS, config.rows))
        m.d.comb += [
            slot_scales.eq(scales[key_sum.payload.key.slot]),
            multiplied.input.valid.eq(key_sum.valid),
            key_sum.ready.eq(multiplied.input.ready),
            multiplied.input.payload.key.eq(key_sum.payload.key),
            multiplied.input.payload.key_sum.eq(key_sum.payload.key_sum),
        ]
        for row in range(config.rows):
            scale = fp16(slot_scales[row])
            m.d.comb += [
                multiplied.input.payload.product[row].eq(
                    key_sum.payload.key_sum[row] * scale.mantissa
                ),
                # The exponent is 1 to 31: the shift is 1 to 31.
                multiplied.input.payload.shift[row].eq(SCORE_BIAS - scale.exponent),
            ]

        finished = data.StructLayout(
            {
                "score": data.ArrayLayout(signed(SCORE_BITS), config.rows),
                "key_sum": data.ArrayLayout(signed(KEY_SUM_BITS), config.rows),
                "key": key_tag(config),
            }
        )
        m.submodules.finished = register = StreamRegister(finished)
        m.d.comb += [
            register.input.valid.eq(multiplied.output.valid),
            multiplied.output.ready.eq(register.input.ready),
            register.input.payload.key.eq(multiplied.output.payload.key),
            register.input.payload.key_sum.eq(multiplied.output.payload.key_sum),
        ]
        for row in range(config.rows):
            aligned = shift_right_half_up(
                multiplied.output.payload.product[row], multiplied.output.payload.shift[row]
            )
            m.d.comb += register.input.payload.score[row].eq(saturate(aligned, SCORE_BITS))

        done = register.output
        key = done.payload.key
        row_scores = [done.payload.score[row] for row in range(config.rows)]
        combined = selection_policy(config.group_combine).hardware(row_scores)
        chunk = Signal(chunk_bits(config))
        with m.If(candidates.valid & candidates.ready):
            m.d.sync += chunk.eq(Mux(key.last, 0, chunk + 1))
        m.d.comb += [
            candidates.valid.eq(done.valid & key.base),
            candidates.payload.score.eq(combined),
            candidates.payload.chunk.eq(chunk),
            candidates.payload.key_sum.eq(done.payload.key_sum),
            candidates.payload.last.eq(key.last),
            scores.valid.eq(done.valid & ~key.base),
            scores.payload.score.eq(done.payload.score),
            scores.payload.present.eq(key.present),
            scores.payload.value_scale.eq(
                Mux(key.dense, Array(list(self.value_scale))[key.slot], key.value_scale)
            ),
            scores.payload.tail.eq(key.tail),
            self.salient.eq(key.tail & key.present & ~key.dense),
            scores.payload.first.eq(key.first),
            scores.payload.last.eq(key.last),
            scores.payload.slot.eq(key.slot),
            done.ready.eq(Mux(key.base, candidates.ready, scores.ready)),
        ]
        return m
