"""Values of a value group, channel by channel in the new order of its tokens."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16
from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.compressor.payloads import chunk_order
from hw.cores.payloads import BEAT
from hw.cores.quantiser.affine_quantiser import numbers_layout
from hw.formats import FP16_BITS, KVFormat
from hw.memory.port import BURST_BEATS

_SCALES = BEAT_BITS // FP16_BITS
#: Tiles that are held: one is read while the next one comes.
_BUFFERS = 2
_MANTISSA_BITS = 11


class ValueNumbers(wiring.Component):
    """Values as fixed-point numbers; a tile takes ``channels * group / lanes`` cycles.

    A tile is a burst of each token of a value group. The next one comes meanwhile. A token's codes
    go to the memory of its rank modulo ``lanes``, with the token's scale, so that the values of
    ``lanes`` tokens of successive ranks are read at once. Latency 5 cycles from the last beat of a
    tile to its first numbers.

    Parameters
    ----------
    config
    lanes
        Numbers of a beat.

    Members
    -------
    start : In(1)
        A window begins; everything of the one before must have left.
    order : In(stream)
        The order of each chunk, always ready.
    scales : In(stream of 128 bits)
        The value scales of the tail blocks, beat after beat, always ready.
    codes : In(stream of BEAT)
        Tiles of the value groups, token after token in the order of arrival. Those of a chunk are
        taken when its order has come; the scales of the whole window must have.
    numbers : Out(stream)
        ``lanes`` values in units of 2**-24, rounded half up: the value group of each channel.
    """

    def __init__(self, config: AttentionConfig, *, lanes: int) -> None:
        self._config = config
        self._lanes = lanes
        super().__init__(
            {
                "start": In(1),
                "order": In(stream.Signature(chunk_order(config))),
                "scales": In(stream.Signature(BEAT_BITS)),
                "codes": In(stream.Signature(BEAT)),
                "numbers": Out(stream.Signature(numbers_layout(lanes))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout = self._config, KVFormat(self._config)
        bits = config.tail_value_bits
        chunks = config.window // config.chunk
        chunk_range = range(max(2, chunks))

        # Ranks by place, the inverse of the order.
        rank_bits = (config.chunk - 1).bit_length()
        ranks = Array(
            Array(Signal(rank_bits, name=f"rank_{i}_{j}") for j in range(config.chunk))
            for i in range(chunks)
        )
        ordered = Signal(range(chunks + 1))
        scale_beats = layout.tail_scale_bytes * 8 // BEAT_BITS
        m.submodules.scale_store = store = Memory(
            shape=BEAT_BITS, depth=max(2, chunks * scale_beats), init=[]
        )
        scale_write, scale_read = store.write_port(), store.read_port()
        scale_place = Signal(range(max(2, chunks * scale_beats)))
        m.d.comb += [
            self.order.ready.eq(1),
            self.scales.ready.eq(1),
            scale_write.en.eq(self.scales.valid),
            scale_write.addr.eq(scale_place),
            scale_write.data.eq(self.scales.payload),
        ]
        with m.If(self.scales.valid):
            m.d.sync += scale_place.eq(scale_place + 1)
        with m.If(self.order.valid):
            m.d.sync += ordered.eq(ordered + 1)
        for i, of_chunk in enumerate(ranks):
            for j, rank in enumerate(of_chunk):
                here = [self.order.payload[k] == j for k in range(config.chunk)]
                number: Value = Cat(
                    Cat(one for k, one in enumerate(here) if k >> bit & 1).any()
                    for bit in range(rank_bits)
                )
                with m.If(self.order.valid & (ordered == i)):
                    m.d.sync += rank.eq(number)

        # A beat comes, and is written a cycle later, when the scale of its token is there.
        half, token = Signal(range(BURST_BEATS)), Signal(range(config.chunk))
        in_group = Signal(range(max(2, config.group_chunks)))
        tiles = config.head_dim // layout.value_tile_channels
        tile, group_start = Signal(range(max(2, tiles))), Signal(chunk_range)
        chunk = Signal(chunk_range)
        filled, loaded = Signal(range(_BUFFERS + 1)), Signal(range(_BUFFERS + 1))
        buffer = Signal()
        release, complete, written = Signal(), Signal(), Signal()
        takes = Signal()
        burst_end = half == BURST_BEATS - 1
        chunk_end = burst_end & (token == config.chunk - 1)
        tile_end = chunk_end & (in_group == config.group_chunks - 1)
        scale_index = Cat(token, chunk)[(_SCALES - 1).bit_length() :]
        if config.chunk < _SCALES:
            scale_index = chunk
        m.d.comb += [
            chunk.eq(group_start + in_group),
            self.codes.ready.eq((chunk < ordered) & (filled != _BUFFERS)),
            takes.eq(self.codes.valid & self.codes.ready),
            complete.eq(takes & tile_end),
            scale_read.en.eq(takes),
            scale_read.addr.eq(scale_index),
        ]
        with m.If(takes):
            m.d.sync += half.eq(half + 1)
            with m.If(burst_end):
                m.d.sync += token.eq(token + 1)
            with m.If(chunk_end):
                m.d.sync += in_group.eq(Mux(tile_end, 0, in_group + 1))
            with m.If(tile_end):
                m.d.sync += [tile.eq(Mux(tile == tiles - 1, 0, tile + 1)), buffer.eq(~buffer)]
                with m.If(tile == tiles - 1):
                    m.d.sync += group_start.eq(group_start + config.group_chunks)
        with m.If(self.start):
            m.d.sync += [x.eq(0) for x in (ordered, scale_place, group_start)]
        m.d.sync += [
            filled.eq(filled + complete - release),
            loaded.eq(loaded + written - release),
        ]
        came = Signal()
        came_data = Signal(BEAT_BITS)
        came_scale = Signal(range(_SCALES))
        came_place = Signal(range(config.value_group))
        came_half, came_buffer = Signal.like(half), Signal()
        m.d.sync += [
            came.eq(takes),
            came_data.eq(self.codes.p.data),
            came_scale.eq(token),
            came_place.eq(Cat(ranks[chunk][token], in_group)),
            came_half.eq(half),
            came_buffer.eq(buffer),
            written.eq(complete),
        ]

        # Reading: channel after channel, all tokens of each.
        move = Signal()
        rows = config.value_group // self._lanes
        row, channel = Signal(range(rows)), Signal(range(layout.value_tile_channels))
        read_buffer = Signal()
        beat_channels = BEAT_BITS // bits
        there = loaded != 0
        row_end = row == rows - 1
        channel_end = channel == layout.value_tile_channels - 1
        m.d.comb += release.eq(move & there & row_end & channel_end)
        with m.If(move & there):
            m.d.sync += row.eq(Mux(row_end, 0, row + 1))
            with m.If(row_end):
                m.d.sync += channel.eq(Mux(channel_end, 0, channel + 1))
        with m.If(release):
            m.d.sync += read_buffer.eq(~read_buffer)
        read_there, product_there = Signal(), Signal()
        read_channel = Signal(range(beat_channels))
        m.d.comb += move.eq(~self.numbers.valid | self.numbers.ready)
        with m.If(move):
            m.d.sync += [
                read_there.eq(there),
                read_channel.eq(channel),
                product_there.eq(read_there),
                self.numbers.valid.eq(product_there),
            ]
        word = data.StructLayout({"codes": BEAT_BITS, "scale": FP16_BITS})
        lane_bits = (self._lanes - 1).bit_length()
        for lane in range(self._lanes):
            bank = Memory(shape=word, depth=rows * BURST_BEATS * _BUFFERS, init=[])
            m.submodules[f"bank_{lane}"] = bank
            write, read = bank.write_port(), bank.read_port()
            m.d.comb += [
                write.en.eq(came & (came_place[:lane_bits] == lane)),
                write.addr.eq(Cat(came_place[lane_bits:], came_half, came_buffer)),
                write.data.codes.eq(came_data),
                write.data.scale.eq(scale_read.data.word_select(came_scale, FP16_BITS)),
                read.en.eq(move),
                read.addr.eq(Cat(row, channel[-1], read_buffer)),
            ]
            code = read.data.codes.word_select(read_channel, bits).as_signed()
            scale = fp16(read.data.scale)
            product = Signal(signed(bits + _MANTISSA_BITS), name=f"product_{lane}")
            shift = Signal(5, name=f"shift_{lane}")
            # Half a unit is the lowest bit.
            halves = ((product << shift) >> (bits - 2)) + 1
            with m.If(move):
                m.d.sync += [
                    product.eq(code * scale.mantissa),
                    shift.eq((scale.exponent - 1)[:5]),
                    self.numbers.payload[lane].eq(halves >> 1),
                ]
        return m
