"""Where a window that closes is read, and where its records are written."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.compressor.payloads import (
    BURST_ADDRESS_BITS,
    WORD_ADDRESS_BITS,
    WORD_BITS,
    window_layout,
)
from hw.formats import KVFormat

BURST_SHIFT = (BURST_BYTES - 1).bit_length()
_WORD_SHIFT = (WORD_BITS // 8 - 1).bit_length()


class WindowPlaces(wiring.Component):
    """Addresses of what a window reads and writes. Latency 1 cycle, a window a cycle.

    Parameters
    ----------
    config

    Members
    -------
    window : In(`window_layout`)
        Its regions are burst-aligned.
    tail : Out
        Burst of its first tail block.
    base_pairs, base_codes : Out
        Words of 32 bits: scales, and codes, of its first base key.
    scales, deltas, records : Out
        Bursts of its first group: the value scales, the first delta and the first value record.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        words, bursts = ("base_pairs", "base_codes"), ("tail", "scales", "deltas", "records")
        super().__init__(
            {
                "window": In(window_layout(config)),
                **{name: Out(WORD_ADDRESS_BITS) for name in words},
                **{name: Out(BURST_ADDRESS_BITS) for name in bursts},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout, window = self._config, KVFormat(self._config), self.window
        chunks = config.window // config.chunk
        groups = config.window // config.value_group
        number = window.window

        def register(value: Value, bits: int) -> Signal:
            held = Signal(bits, name="place")
            m.d.sync += held.eq(value)
            return held

        # Windows that share a base key block, or blocks of a window.
        sharing = max(1, config.chunk // chunks)
        shift = (sharing - 1).bit_length()
        block = (number >> shift) * max(1, chunks // config.chunk)
        first_key = (number & (sharing - 1)) * chunks
        block_words = layout.base_block_bytes * 8 // WORD_BITS
        base = (window.base_address >> _WORD_SHIFT) + block * block_words
        key_words = config.head_dim * config.key_bits // WORD_BITS
        code_words = layout.key_scale_bytes * 8 // WORD_BITS
        half = chunks * layout.tail_block_bytes // BURST_BYTES
        tail = (window.tail_address >> BURST_SHIFT) + Mux(number[0], half, 0)
        group = (window.chunk_address >> BURST_SHIFT) + number * (
            groups * layout.group_bytes // BURST_BYTES
        )
        scales = layout.value_scale_bytes // BURST_BYTES
        deltas = layout.delta_bytes // BURST_BYTES
        base_place = register(base, WORD_ADDRESS_BITS)
        first_pair = register(first_key * config.groups, WORD_ADDRESS_BITS)
        first_code = register(first_key * key_words + code_words, WORD_ADDRESS_BITS)
        group_place = register(group, BURST_ADDRESS_BITS)
        m.d.comb += [
            self.tail.eq(register(tail, BURST_ADDRESS_BITS)),
            self.base_pairs.eq(base_place + first_pair),
            self.base_codes.eq(base_place + first_code),
            self.scales.eq(group_place),
            self.deltas.eq(group_place + scales),
            self.records.eq(group_place + scales + deltas),
        ]
        return m
