"""Scaled dot products of the groups become the key sum of a token."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import add_by_halves, saturate
from hw.config import AttentionConfig
from hw.constants import KEY_SUM_BITS, SCALED_BITS
from hw.cores.payloads import key_sums, key_tag


class KeyAccumulator(wiring.Component):
    """Latency 1 cycle from a token's last group; one group a cycle, one more for a chunk's base.

    The first delta of a chunk takes the base's key sums from ``base``, sends them on as token 0,
    and every token of the chunk starts from them.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    scaled : stream of {``y``: rows scaled sums, ``key``}
    base : stream of rows key sums, one per selected chunk, in the order of the delta records
    key_sums : stream of ``key_sums``
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        scaled = data.StructLayout(
            {"y": data.ArrayLayout(signed(SCALED_BITS), config.rows), "key": key_tag(config)}
        )
        super().__init__(
            {
                "scaled": In(stream.Signature(scaled)),
                "base": In(stream.Signature(data.ArrayLayout(signed(KEY_SUM_BITS), config.rows))),
                "key_sums": Out(stream.Signature(key_sums(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        scaled, base, out = self.scaled, self.base, self.key_sums
        key = scaled.payload.key
        #: Room for the groups of one token and the base's key sum before the sum saturates.
        wide_bits = SCALED_BITS + config.groups.bit_length()

        is_delta = ~(key.base | key.tail)
        #: The base of the current chunk has gone as token 0.
        opened = Signal()
        start = Signal.like(base.payload)
        partial = Signal(data.ArrayLayout(signed(wide_bits), config.rows))
        empty = Signal(init=1)

        free = ~out.valid | out.ready
        opening = is_delta & key.opening & ~opened
        take = scaled.valid & scaled.ready
        m.d.comb += [
            scaled.ready.eq(free & ~opening),
            base.ready.eq(scaled.valid & opening & free),
        ]
        with m.If(free):
            m.d.sync += out.valid.eq(0)
        with m.If(base.valid & base.ready):
            m.d.sync += [
                start.eq(base.payload),
                opened.eq(1),
                out.valid.eq(1),
                out.payload.key_sum.eq(base.payload),
                out.payload.key.eq(key),
            ]
        with m.If(take):
            m.d.sync += [empty.eq(key.key_end), opened.eq(0)]
            with m.If(key.key_end):
                m.d.sync += [out.valid.eq(1), out.payload.key.eq(key)]
        for row in range(config.rows):
            total = Signal(signed(wide_bits), name=f"total_{row}")
            new, before = Signal.like(total), Signal.like(total)
            m.d.comb += [
                new.eq(scaled.payload.y[row]),
                before.eq(Mux(empty, Mux(is_delta, start[row], 0), partial[row])),
                total.eq(add_by_halves(m, new, before, Const(0, 1))),
            ]
            with m.If(take):
                m.d.sync += partial[row].eq(total)
                with m.If(key.key_end):
                    m.d.sync += out.payload.key_sum[row].eq(saturate(total, KEY_SUM_BITS))
        return m
