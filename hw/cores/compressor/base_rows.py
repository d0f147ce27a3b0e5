"""Puts base keys into their place in the base key blocks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.compressor.address_walk import AddressWalk
from hw.cores.compressor.payloads import BASE_ITEM, BURST, BURST_WORDS, WORD_ADDRESS_BITS, WORD_BITS
from hw.formats import KVFormat

_WORD_BYTES = WORD_BITS // 8
_BEAT_WORDS = BEAT_BITS // WORD_BITS


class BaseRows(wiring.Component):
    """One item a cycle, and a cycle for each burst that leaves; latency 1 cycle.

    The parameters and the codes of a key are a few words among those of other keys, so bursts are
    written with enables. The padding of a block is not written.

    Parameters
    ----------
    config

    Members
    -------
    start : In(1)
        A window begins; everything of the one before must have left.
    pairs, codes : In(30)
        Where the parameters and the codes of its first base key go, in words of 4 bytes.
    items : In(stream of BASE_ITEM)
        Key after key: a word for each group, then beats of codes.
    bursts : Out(stream of BURST)
    """

    def __init__(self, config: AttentionConfig) -> None:
        chunks = config.window // config.chunk
        keys = min(chunks, config.chunk)
        block = KVFormat(config).base_block_bytes // _WORD_BYTES
        key_words = config.head_dim * config.key_bits // WORD_BITS
        blocks = (max(1, chunks // config.chunk), block)
        self._pairs = AddressWalk(
            [(config.groups, 1), (keys, config.groups), blocks], bits=WORD_ADDRESS_BITS
        )
        self._codes = AddressWalk(
            [(key_words // _BEAT_WORDS, _BEAT_WORDS), (keys, key_words), blocks],
            bits=WORD_ADDRESS_BITS,
        )
        super().__init__(
            {
                "start": In(1),
                "pairs": In(WORD_ADDRESS_BITS),
                "codes": In(WORD_ADDRESS_BITS),
                "items": In(stream.Signature(BASE_ITEM)),
                "bursts": Out(stream.Signature(BURST)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pair_walk = pairs = self._pairs
        m.submodules.code_walk = codes = self._codes
        items, bursts = self.items, self.bursts
        is_codes = items.p.codes
        taken = Signal()
        address = Mux(is_codes, codes.address, pairs.address)
        lane_bits = (BURST_WORDS - 1).bit_length()
        lane = address[:lane_bits]
        upper = lane[-1]
        # Words of codes begin on a beat.
        enable = Mux(is_codes, Cat((~upper).replicate(4), upper.replicate(4)), Const(1, 8) << lane)
        word = items.p.data[:WORD_BITS]
        spread = Mux(is_codes, items.p.data, word.replicate(_BEAT_WORDS))
        end = Mux(is_codes, codes.ends[0] | upper, pairs.ends[0] | (lane == BURST_WORDS - 1))
        m.d.comb += [
            taken.eq(items.valid & items.ready),
            items.ready.eq(~bursts.valid),
            pairs.start.eq(self.start),
            pairs.base.eq(self.pairs),
            pairs.step.eq(taken & ~is_codes),
            codes.start.eq(self.start),
            codes.base.eq(self.codes),
            codes.step.eq(taken & is_codes),
        ]
        words = [Signal(WORD_BITS, name=f"word_{i}") for i in range(BURST_WORDS)]
        for i, held in enumerate(words):
            with m.If(taken & enable[i]):
                m.d.sync += held.eq(spread.word_select(i % _BEAT_WORDS, WORD_BITS))
        enabled = Signal(BURST_WORDS)
        number, ends, last = Signal(WORD_ADDRESS_BITS - lane_bits), Signal(), Signal()
        with m.If(taken):
            m.d.sync += [
                enabled.eq(enabled | enable),
                number.eq(address[lane_bits:]),
                ends.eq(Mux(is_codes, codes.ends[0], pairs.ends[0])),
                last.eq(is_codes & codes.ends[-1]),
                bursts.valid.eq(end),
            ]
        with m.Elif(bursts.valid & bursts.ready):
            m.d.sync += [enabled.eq(0), bursts.valid.eq(0)]
        m.d.comb += [
            bursts.p.data.eq(Cat(*words)),
            bursts.p.enable.eq(Cat(word.replicate(2) for word in enabled)),
            bursts.p.address.eq(number),
            bursts.p.end.eq(ends),
            bursts.p.last.eq(last),
        ]
        return m
