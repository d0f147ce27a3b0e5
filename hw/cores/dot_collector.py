"""Dot products leave the PE array: to the scale bank, or to the tail's own sums."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import shift_right_half_up
from hw.config import AttentionConfig
from hw.constants import DENSE_KEY_SHIFT, DOT_BITS, QUERY_MAX
from hw.cores.lanes import LANES, lanes_layout
from hw.cores.payloads import PAIRS, scaled_tag, step_tag, tail_sums
from hw.formats import Mode, StepKind

#: FP16 scale that leaves a sum as it is: ``1024 * a >> (17 - 7)``.
UNIT_SCALE = 7 << 10


class DotCollector(wiring.Component):
    """Latency 0; one step a cycle.

    Byte codes of a key group come in beats of 16: their dot products are added up until the group
    is complete and then meet the sum of the queries. So do those of a dense key, all channels as
    one group; its sum is aligned here and passes the scale bank with the scale 1. Tail values come
    as byte planes of two channels at a time: they are joined to whole codes of four channels.
    Everything else passes.

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
        lanes = lanes_layout(config.rows)
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

        # Keys: add up the beats of a group, of a dense key both byte planes of all channels.
        dense = is_keys & tag.key.dense
        high = tag.wide & tag.signed
        partial = Signal(data.ArrayLayout(signed(self._dense_bits), config.rows))
        opened = Signal()
        forward = ~is_tail & (~is_keys | tag.key.group_end)
        with m.If(take & is_keys):
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
            part = Signal(signed(self._dense_bits), name=f"part_{row}")
            whole = Signal(signed(self._dense_bits), name=f"whole_{row}")
            aligned = [
                shift_right_half_up(whole, Const(DENSE_KEY_SHIFT[Mode.DENSE16])),
                whole << -DENSE_KEY_SHIFT[Mode.DENSE8],
            ]
            m.d.comb += [
                part.eq(Mux(dense & high, lane[row][0].a << 8, lane[row][0].a)),
                whole.eq(part + Mux(opened, partial[row], 0)),
            ]
            with m.If(take & is_keys):
                m.d.sync += partial[row].eq(whole)
            with m.If(is_keys):
                m.d.comb += [
                    sums.payload.lane[row][0].a.eq(
                        Mux(dense, Mux(tag.wide, aligned[0], aligned[1]), whole)
                    ),
                    sums.payload.lane[row][0].b.eq(tag.query_sum[row]),
                ]

        # Tail values: low bytes of two channel pairs, then (16-bit codes) their high bytes.
        step = Signal(2)
        final = step == Mux(tag.wide, 3, 1)
        low = Signal(data.ArrayLayout(data.ArrayLayout(signed(DOT_BITS), LANES), config.rows))
        first_high = Signal(data.ArrayLayout(data.ArrayLayout(signed(DOT_BITS), 2), config.rows))
        m.d.comb += tail.valid.eq(result.valid & is_tail & final)
        with m.If(take & is_tail):
            m.d.sync += step.eq(Mux(final, 0, step + 1))
        for row in range(config.rows):
            fresh = [lane[row][0].a, lane[row][1].a]
            with m.If(take & is_tail):
                with m.Switch(step):
                    with m.Case(0):
                        m.d.sync += [low[row][0].eq(fresh[0]), low[row][1].eq(fresh[1])]
                    with m.Case(1):
                        m.d.sync += [low[row][2].eq(fresh[0]), low[row][3].eq(fresh[1])]
                    with m.Case(2):
                        m.d.sync += [
                            first_high[row][0].eq(fresh[0]),
                            first_high[row][1].eq(fresh[1]),
                        ]
            highs = [first_high[row][0], first_high[row][1], *fresh]
            # 8-bit codes are high bytes above low bytes of 0.
            narrow = [low[row][0], low[row][1], *fresh]
            for i in range(LANES):
                m.d.comb += tail.payload.v[row][i].eq(
                    Mux(tag.wide, (highs[i] << 8) + low[row][i], narrow[i] << 8)
                )

        with m.If(is_tail):
            m.d.comb += result.ready.eq(tail.ready | ~final)
        with m.Else():
            m.d.comb += result.ready.eq(sums.ready | ~forward)
        return m
