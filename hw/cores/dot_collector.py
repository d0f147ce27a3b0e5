"""Dot products leave the PE array: to the scale bank, or to the tail's own sums."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import shift_right_half_up
from hw.config import BEAT_BYTES, DIGITS, AttentionConfig
from hw.constants import DENSE_KEY_SHIFT, DOT_BITS, QUERY_MAX
from hw.cores.lanes import LANES, lanes_layout, second_sum_bits
from hw.cores.payloads import PAIRS, scaled_tag, step_tag, tail_sums
from hw.formats import Mode, StepKind

#: FP16 scale that leaves a sum as it is: ``1024 * a >> (17 - 7)``.
UNIT_SCALE = 7 << 10


class DotCollector(wiring.Component):
    """Latency 0; one step a cycle.

    Byte codes of a key group come 16 a step: their dot products are added up until the group is
    complete and then meet the sum of the queries. So do 4-bit codes, up to 32 a step, low digits in
    the first and high digits in the second sum of a lane; and so do the codes of a dense key, all
    channels as one group; its sum is aligned here and passes the scale bank with the scale 1. Tail
    values come as byte planes of ``16 / C`` channels at a time: they are joined to codes of four
    channels. The deltas of a group of 64 channels come in two steps for each digit of their codes,
    whose sums are added up in the same way, and the values of chunks of 16 tokens come two channels
    at a time, which leave four at a time. Everything else passes.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    result : stream of the PE array's lanes and the step's tag
    sums : stream to the scale bank
    tail : stream of ``tail_sums``
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        lanes = lanes_layout(config)
        # Of a dense key with 16-bit codes.
        self._dense_bits = 1 + (config.head_dim * QUERY_MAX << 15).bit_length()
        result = data.StructLayout({"lane": lanes, "tag": step_tag(config).size})
        sums = data.StructLayout(
            {
                "lane": lanes,
                "scale": data.ArrayLayout(16, LANES),
                "minimum": data.ArrayLayout(16, LANES),
                "tag": scaled_tag(config).size,
            }
        )
        super().__init__(
            {
                "result": In(stream.Signature(result)),
                "sums": Out(stream.Signature(sums)),
                "tail": Out(stream.Signature(tail_sums(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        result, sums, tail = self.result, self.sums, self.tail
        lane = result.payload.lane
        tag = data.View(step_tag(config), result.payload.tag)
        take = result.valid & result.ready

        is_keys = tag.kind == StepKind.KEYS
        is_tail = tag.kind == StepKind.TAIL_VALUES

        # Keys: add up the steps of a group, of a dense key both byte planes of all channels; of a
        # group of deltas both halves and both digits, if there are two.
        is_digits = tag.kind == StepKind.KEY_DIGITS
        in_parts = is_keys
        deltas_in_parts = config.group > DIGITS // 2 or config.key_delta_bits > 2
        if deltas_in_parts:
            in_parts = is_keys | is_digits
        is_whole = is_keys
        if config.key_bits == 4:
            is_codes = is_digits & (tag.key.base | tag.key.tail)
            is_whole = is_keys | is_codes
        dense = is_keys & tag.key.dense
        high = tag.wide & tag.signed
        partial = Signal(data.ArrayLayout(signed(self._dense_bits), config.rows))
        opened = Signal()
        forward = ~is_tail & (~in_parts | tag.key.group_end)
        is_values = tag.kind == StepKind.VALUES
        values_in_parts = config.chunk > 8 or config.value_bits > 2
        if values_in_parts:
            # Closed values: the first two channels of four wait for the others, lower digits for
            # the upper ones.
            forward &= ~is_values | tag.key.group_end
        with m.If(take & in_parts):
            m.d.sync += opened.eq(~tag.key.group_end)
        out_tag = Signal(scaled_tag(config))
        m.d.comb += [
            out_tag.kind.eq(tag.kind),
            out_tag.key.eq(tag.key),
            sums.payload.tag.eq(out_tag),
            sums.payload.lane.eq(lane),
            sums.valid.eq(result.valid & forward),
        ]
        pairs = data.View(PAIRS, tag.pairs.as_value())
        for i in range(LANES):
            m.d.comb += [
                sums.payload.scale[i].eq(pairs[i].scale),
                sums.payload.minimum[i].eq(pairs[i].minimum),
            ]
        with m.If(dense):
            m.d.comb += sums.payload.scale[0].eq(UNIT_SCALE)
        for row in range(config.rows):
            dot: Value = lane[row][0].a
            if config.key_delta_bits == 4:
                dot = Mux(is_digits & tag.upper, dot << 2, dot)
            if config.key_bits == 4:
                dot += Mux(is_codes, lane[row][0].b << 2, 0)
            part = Signal(signed(self._dense_bits), name=f"part_{row}")
            whole = Signal(signed(self._dense_bits), name=f"whole_{row}")
            aligned = [
                shift_right_half_up(whole, Const(DENSE_KEY_SHIFT[Mode.DENSE16])),
                whole << -DENSE_KEY_SHIFT[Mode.DENSE8],
            ]
            m.d.comb += [
                part.eq(Mux(dense & high, dot << 8, dot)),
                whole.eq(part + Mux(opened, partial[row], 0)),
            ]
            with m.If(take & in_parts):
                m.d.sync += partial[row].eq(whole)
            if deltas_in_parts:
                kept = Signal(signed(second_sum_bits(config)), name=f"kept_{row}")
                kept_sum = Signal.like(kept, name=f"kept_sum_{row}")
                m.d.comb += kept_sum.eq(lane[row][0].b + Mux(opened, kept, 0))
                with m.If(take & in_parts):
                    m.d.sync += kept.eq(kept_sum)
                with m.If(in_parts):
                    m.d.comb += [
                        sums.payload.lane[row][0].a.eq(whole),
                        sums.payload.lane[row][0].b.eq(kept_sum),
                    ]
            if values_in_parts:
                with m.If(is_values):
                    for i, value in enumerate(self._join_values(m, take & is_values, tag, row)):
                        m.d.comb += sums.payload.lane[row][i].eq(value)
            with m.If(is_whole):
                m.d.comb += [
                    sums.payload.lane[row][0].a.eq(
                        Mux(dense, Mux(tag.wide, aligned[0], aligned[1]), whole)
                    ),
                    sums.payload.lane[row][0].b.eq(tag.query_sum[row]),
                ]

        final = self._join_tail(m, take & is_tail, tag.wide)
        m.d.comb += tail.valid.eq(result.valid & is_tail & final)
        with m.If(is_tail):
            m.d.comb += result.ready.eq(tail.ready | ~final)
        with m.Else():
            m.d.comb += result.ready.eq(sums.ready | ~forward)
        return m

    def _join_values(self, m: Module, take: Value, tag: data.View, row: int) -> list[Any]:
        """The sums of four channels when the last of their steps is there.

        Two channels (chunks of 16 tokens) come before the others, the lower digits of 4-bit codes
        with the mask before their upper digits.
        """
        lanes = self.result.payload.lane[row]
        config = self._config
        channels = LANES // max(1, config.chunk // 8)
        found: list[Any] = [lanes[i] for i in range(channels)]
        if config.value_bits > 2:
            lower = [Signal.like(lane, name=f"lower_{row}_{i}") for i, lane in enumerate(found)]
            with m.If(take & ~tag.upper):
                m.d.sync += [x.eq(lane) for x, lane in zip(lower, found, strict=True)]
            both = [Signal.like(lane, name=f"both_{row}_{i}") for i, lane in enumerate(found)]
            for total, low, high in zip(both, lower, found, strict=True):
                m.d.comb += [total.a.eq(low.a + (high.a << 2)), total.b.eq(low.b)]
            found = both
        if config.chunk > 8:
            first = [Signal.like(lane, name=f"first_{row}_{i}") for i, lane in enumerate(found)]
            complete = tag.upper if config.value_bits > 2 else Const(1)
            with m.If(take & complete & ~tag.key.group_end):
                m.d.sync += [x.eq(lane) for x, lane in zip(first, found, strict=True)]
            found = [*first, *found]
        return found

    def _join_tail(self, m: Module, take: Value, wide: Value) -> Value:
        """Put the codes of four tail channels together; return whether the step is their last one.

        A step brings the bytes of ``16 / C`` channels. The low bytes of four channels come before
        (16-bit codes) their high bytes.
        """
        lane, v = self.result.payload.lane, self.tail.payload.v
        channels = BEAT_BYTES // self._config.chunk
        steps = LANES // channels
        step = Signal(range(2 * steps))
        final = Signal()
        m.d.comb += final.eq(step == Mux(wide, 2 * steps - 1, steps - 1))
        with m.If(take):
            m.d.sync += step.eq(Mux(final, 0, step + 1))
        for row in range(self._config.rows):
            fresh = [lane[row][i].a for i in range(channels)]
            # What the last step of all brings is never stored.
            stored = [
                Signal(signed(DOT_BITS), name=f"bytes_{row}_{i}")
                for i in range((2 * steps - 1) * channels)
            ]
            with m.If(take):
                for i in range(2 * steps - 1):
                    with m.If(step == i):
                        places = stored[i * channels : (i + 1) * channels]
                        m.d.sync += [x.eq(y) for x, y in zip(places, fresh, strict=True)]
            low, high = stored[:LANES], [*stored[LANES:], *fresh]
            # 8-bit codes are high bytes above low bytes of 0.
            narrow = [*stored[: LANES - channels], *fresh]
            for i in range(LANES):
                m.d.comb += v[row][i].eq(Mux(wide, (high[i] << 8) + low[i], narrow[i] << 8))
        return final
