"""Keys of a chunk in the order of saliency: the base as it is, the others less the base."""

from enum import IntEnum

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fixed_of_fp16, fp16
from hw.config import BEAT_BITS, AttentionConfig
from hw.constants import FIXED_BITS
from hw.cores.compressor.payloads import BASE_ITEM, chunk_order
from hw.cores.payloads import BEAT, PAIR
from hw.cores.quantiser.affine_quantiser import numbers_layout
from hw.formats import PAIR_BITS

_PAIRS = BEAT_BITS // PAIR_BITS
#: Chunks whose codes are held: one is read while the next one comes.
_BUFFERS = 2
_MANTISSA_BITS = 11


class _Read(IntEnum):
    """What a cycle reads."""

    NOTHING = 0
    #: Of the base key, for its block: the parameters of a group, a beat of codes.
    ROW_PAIR = 1
    ROW_CODES = 2
    #: Parameters of the first group, of the token and of the base. Then codes, and with them the
    #: parameters of the next group.
    TOKEN_PAIR = 3
    BASE_PAIR = 4
    NUMBERS = 5


class KeyDifferences(wiring.Component):
    """Dequantised keys less their chunk's base, exact, and the base keys as they lie in the tail.

    A chunk takes ``groups + d * key_bits / 128 + 3`` cycles for its base and ``group / lanes`` for
    each other token and group; the codes of the next chunk come meanwhile. Latency 4 cycles from
    the read of a code to its number.

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
    pairs : In(stream of 128 bits)
        The scales of the tail blocks, beat after beat, always ready.
    codes : In(stream of BEAT)
        The codes of the tail keys. Those of a chunk are taken when its order has come; the scales
        of the whole window must have.
    numbers : Out(stream)
        ``lanes`` differences in units of 2**-24: of each chunk tokens 1 to C - 1, group after
        group.
    base : Out(stream of BASE_ITEM)
        Of each chunk the parameters of the base key's groups, then its codes.
    """

    def __init__(self, config: AttentionConfig, *, lanes: int) -> None:
        self._config = config
        self._lanes = lanes
        super().__init__(
            {
                "start": In(1),
                "order": In(stream.Signature(chunk_order(config))),
                "pairs": In(stream.Signature(BEAT_BITS)),
                "codes": In(stream.Signature(BEAT)),
                "numbers": Out(stream.Signature(numbers_layout(lanes))),
                "base": Out(stream.Signature(BASE_ITEM)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        chunks = config.window // config.chunk
        key_beats = config.head_dim * config.key_bits // BEAT_BITS
        orders = Array(Signal(chunk_order(config), name=f"order_{i}") for i in range(chunks))
        ordered = Signal(range(chunks + 1))
        pair_beats = chunks * config.chunk * config.groups // _PAIRS
        m.submodules.scales = scales = Memory(shape=BEAT_BITS, depth=pair_beats, init=[])
        pair_place = Signal(range(pair_beats))
        scale_write, scale_read = scales.write_port(), scales.read_port()
        m.d.comb += [
            self.order.ready.eq(1),
            self.pairs.ready.eq(1),
            scale_write.en.eq(self.pairs.valid),
            scale_write.addr.eq(pair_place),
            scale_write.data.eq(self.pairs.payload),
        ]
        with m.If(self.order.valid):
            m.d.sync += [
                orders[ordered[: max(1, (chunks - 1).bit_length())]].eq(self.order.payload),
                ordered.eq(ordered + 1),
            ]
        with m.If(self.pairs.valid):
            m.d.sync += pair_place.eq(pair_place + 1)

        # Codes come into one buffer while the other one is read. Those of the base have a memory of
        # their own, as they are read together with another token's.
        beat_bits, token_bits = (key_beats - 1).bit_length(), (config.chunk - 1).bit_length()
        depth = _BUFFERS << beat_bits
        m.submodules.keys = keys = Memory(shape=BEAT_BITS, depth=depth << token_bits, init=[])
        m.submodules.bases = bases = Memory(shape=BEAT_BITS, depth=depth, init=[])
        key_write, key_read = keys.write_port(), keys.read_port()
        base_write, base_read = bases.write_port(), bases.read_port()
        load_chunk = Signal(range(chunks + 1))
        load_token, load_beat = Signal(range(config.chunk)), Signal(range(key_beats))
        loaded = Signal(range(_BUFFERS + 1))
        release, complete = Signal(), Signal()
        loads = self.codes.valid & self.codes.ready
        last_beat = load_beat == key_beats - 1
        load_base = orders[load_chunk[: max(1, (chunks - 1).bit_length())]][0]
        base_place = Cat(load_beat, load_chunk[0])
        m.d.comb += [
            self.codes.ready.eq((load_chunk < ordered) & (loaded != _BUFFERS)),
            key_write.en.eq(loads),
            key_write.addr.eq(Cat(load_beat, load_token, load_chunk[0])),
            key_write.data.eq(self.codes.p.data),
            base_write.en.eq(loads & (load_token == load_base)),
            base_write.addr.eq(base_place),
            base_write.data.eq(self.codes.p.data),
            complete.eq(loads & last_beat & (load_token == config.chunk - 1)),
        ]
        with m.If(loads):
            m.d.sync += load_beat.eq(Mux(last_beat, 0, load_beat + 1))
            with m.If(last_beat):
                m.d.sync += load_token.eq(load_token + 1)
        with m.If(complete):
            m.d.sync += load_chunk.eq(load_chunk + 1)
        m.d.sync += loaded.eq(loaded + complete - release)

        # What is read: the base's row, then token after token, group after group.
        move = Signal()
        read = Signal(_Read)
        chunk = Signal(range(max(2, chunks)))
        rank, group = Signal(range(config.chunk)), Signal(range(max(2, config.groups)))
        beat, part = Signal(range(key_beats)), Signal(range(config.head_dim // self._lanes))
        group_parts = config.group // self._lanes
        last_group = group == config.groups - 1
        in_group = part[: (group_parts - 1).bit_length()]
        group_end = in_group == group_parts - 1
        place = Signal(chunk_order(config))
        m.d.comb += place.eq(orders[chunk])
        # With the first numbers of a group the parameters of the next one are read.
        numbers = read == _Read.NUMBERS
        reads_token = (read == _Read.TOKEN_PAIR) | (numbers & (in_group == 0))
        reads_base = (read == _Read.BASE_PAIR) | (numbers & (in_group == 1))
        next_group = Mux(last_group, 0, group + 1)
        pair_token = Mux(reads_token, place[(rank + (numbers & last_group))[:token_bits]], place[0])
        pair = Cat(pair_token, chunk) * config.groups + Mux(numbers, next_group, group)
        codes_a_beat = BEAT_BITS // config.key_bits
        parts = codes_a_beat // self._lanes
        part_bits = (parts - 1).bit_length()
        code_beat = Mux(read == _Read.ROW_CODES, beat, part[part_bits:])[:beat_bits]
        m.d.comb += [
            scale_read.addr.eq(pair[(_PAIRS - 1).bit_length() :]),
            key_read.addr.eq(Cat(code_beat, place[rank], chunk[0])),
            base_read.addr.eq(Cat(code_beat, chunk[0])),
            release.eq(move & numbers & group_end & last_group & (rank == config.chunk - 1)),
        ]
        m.d.comb += [port.en.eq(move) for port in (scale_read, key_read, base_read)]
        with m.If(move):
            with m.Switch(read):
                with m.Case(_Read.NOTHING):
                    with m.If(loaded != 0):
                        m.d.sync += read.eq(_Read.ROW_PAIR)
                with m.Case(_Read.ROW_PAIR):
                    m.d.sync += group.eq(next_group)
                    with m.If(last_group):
                        m.d.sync += [read.eq(_Read.ROW_CODES), beat.eq(0)]
                with m.Case(_Read.ROW_CODES):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(beat == key_beats - 1):
                        m.d.sync += [read.eq(_Read.TOKEN_PAIR), rank.eq(1), part.eq(0)]
                with m.Case(_Read.TOKEN_PAIR):
                    m.d.sync += read.eq(_Read.BASE_PAIR)
                with m.Case(_Read.BASE_PAIR):
                    m.d.sync += read.eq(_Read.NUMBERS)
                with m.Case(_Read.NUMBERS):
                    m.d.sync += part.eq(Mux(group_end & last_group, 0, part + 1))
                    with m.If(group_end):
                        m.d.sync += [group.eq(next_group), rank.eq(rank + last_group)]
        with m.If(release):
            m.d.sync += [read.eq(_Read.NOTHING), chunk.eq(chunk + 1)]
        with m.If(self.start):
            m.d.sync += [x.eq(0) for x in (ordered, pair_place, load_chunk, chunk)]

        # What was read, a cycle later.
        came = Signal(_Read)
        came_pair = Signal(range(_PAIRS))
        came_part = Signal(range(parts))
        row = (came == _Read.ROW_PAIR) | (came == _Read.ROW_CODES)
        free = ~self.numbers.valid | self.numbers.ready
        the_pair = Signal(PAIR)
        m.d.comb += [
            Value.cast(the_pair).eq(scale_read.data.word_select(came_pair, PAIR_BITS)),
            self.base.valid.eq(row & free),
            self.base.p.codes.eq(came == _Read.ROW_CODES),
            self.base.p.data.eq(Mux(came == _Read.ROW_CODES, base_read.data, Value.cast(the_pair))),
            move.eq(free & (~row | self.base.ready)),
        ]
        token_pair, base_pair = Signal(PAIR), Signal(PAIR)
        next_token, next_base = Signal(PAIR), Signal(PAIR)
        came_token, came_base, came_end = Signal(), Signal(), Signal()
        with m.If(move):
            m.d.sync += [
                came.eq(read),
                came_pair.eq(pair),
                came_part.eq(part),
                came_token.eq(reads_token),
                came_base.eq(reads_base),
                came_end.eq((read == _Read.BASE_PAIR) | (numbers & group_end)),
            ]
            with m.If(came_token):
                m.d.sync += next_token.eq(the_pair)
            with m.If(came_base):
                m.d.sync += next_base.eq(the_pair)
            with m.If(came_end):
                m.d.sync += [
                    token_pair.eq(next_token),
                    # With two beats a group it comes just now.
                    base_pair.eq(Mux(came_base, Value.cast(the_pair), Value.cast(next_base))),
                ]
        self._subtract(
            m,
            move,
            came == _Read.NUMBERS,
            [
                (port.data.word_select(came_part, self._lanes * config.key_bits), parameters)
                for port, parameters in ((key_read, token_pair), (base_read, base_pair))
            ],
        )
        return m

    def _subtract(
        self, m: Module, move: Value, valid: Value, sides: list[tuple[Value, data.View]]
    ) -> None:
        """The numbers of the first side less those of the second: products, then differences."""
        bits = self._config.key_bits
        there = Signal()
        offset = Signal(signed(FIXED_BITS))
        (_, token), (_, base) = sides
        shifts = []
        products: list[list[Signal]] = [[] for _ in range(self._lanes)]
        with m.If(move):
            m.d.sync += [
                there.eq(valid),
                self.numbers.valid.eq(there),
                offset.eq(fixed_of_fp16(token.minimum) - fixed_of_fp16(base.minimum)),
            ]
        with m.Elif(self.numbers.ready):
            m.d.sync += self.numbers.valid.eq(0)
        for side, (codes, pair) in enumerate(sides):
            scale = fp16(pair.scale)
            shift = Signal(5, name=f"shift_{side}")
            with m.If(move):
                m.d.sync += shift.eq((scale.exponent - 1)[:5])
            shifts.append(shift)
            for lane, of_lane in enumerate(products):
                product = Signal(bits + _MANTISSA_BITS, name=f"product_{side}_{lane}")
                with m.If(move):
                    m.d.sync += product.eq(codes.word_select(lane, bits) * scale.mantissa)
                of_lane.append(product)
        for lane, (token_product, base_product) in enumerate(products):
            difference = (
                (token_product << shifts[0])[:FIXED_BITS]
                - (base_product << shifts[1])[:FIXED_BITS]
                + offset
            )
            with m.If(move):
                m.d.sync += self.numbers.payload[lane].eq(difference)
