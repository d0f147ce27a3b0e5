"""A new token goes into the tail of its cache (docs/contracts.md, section 10)."""

from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.arithmetic import fixed_of_fp16, fp16_is_finite
from hw.config import BEAT_BITS, BURST_BYTES, AttentionConfig
from hw.cores.compressor.burst_builder import HALF_ADDRESS_BITS, HALF_BITS, HALVES, BurstBuilder
from hw.cores.compressor.payloads import BURST, BURST_ADDRESS_BITS, ENABLED_BYTES
from hw.cores.quantiser.affine_quantiser import AffineQuantiser
from hw.formats import FP16_BITS, PAIR_BITS, SALIENCY_BITS, KVFormat
from hw.memory.port import ADDRESS_BITS
from hw.streams import StreamFIFO

LANES = (4, 8)
#: FP16 numbers of a beat.
_NUMBERS = BEAT_BITS // FP16_BITS


class Part(IntEnum):
    """What of a token goes into bursts, in this order."""

    CODES = 0
    PAIRS = 1
    SCALE = 2
    #: Only of a token of a prompt.
    SALIENCY = 3
    VALUES = 4


def token_layout(config: AttentionConfig) -> data.StructLayout:
    """A token to be appended."""
    return data.StructLayout(
        {
            #: Tail region of its cache, burst-aligned.
            "tail_address": ADDRESS_BITS,
            #: Its place in the ring, its position in the sequence modulo two windows; or its slot.
            "place": range(config.tail_tokens),
            #: FP16, of its values.
            "value_scale": FP16_BITS,
            #: Whether it comes with what it has received so far; else that is not written.
            "of_prompt": 1,
            #: Whether all tokens of its block come from its prompt.
            "gathered": 1,
            "saliency": SALIENCY_BITS,
        }
    )


#: What a burst belongs to: a token of a prompt; one that is gathered, of the block at the burst
#: ``block``; the last token of this block.
ORIGIN = data.StructLayout(
    {"of_prompt": 1, "gathered": 1, "ends_block": 1, "block": BURST_ADDRESS_BITS}
)


class TailAppender(wiring.Component):
    """Quantises a key, and puts it and the value's codes into bursts of the tail block.

    The key of a token is taken, and its value kept, while what came before is put into bursts.
    So the pace is that of the slower side. Coming in, ``max(6, group / lanes)`` cycles for each
    group of the key, a beat a cycle for the value, and 2; going out, ``head_dim / lanes + groups``
    cycles for the key, 2 for scale and saliency, a beat a cycle for the value. A token that waits
    for none has left about ``2 * head_dim / lanes + 40`` cycles and its value's beats behind its
    first beat.

    Parameters
    ----------
    config
    lanes : int
        Key elements quantised in a cycle: 4 or 8.

    Members
    -------
    token : In(stream of `token_layout`)
    beats : In(stream)
        16 bytes, behind their token. The key: ``head_dim`` FP16 numbers, lowest channel first; then
        the value: signed codes of ``tail_value_bits`` bits.
    bursts : Out(stream of BURST)
        ``last`` marks the last one of a token.
    origin : Out(ORIGIN)
        Of the burst that is offered.
    not_finite : Out(1)
        For a cycle, before the token's last burst: a number of the key, or the value's scale, is an
        infinity or a NaN; what is written has no meaning.

    Raises
    ------
    ValueError
        ``lanes`` is not legal.
    """

    def __init__(self, config: AttentionConfig, *, lanes: int) -> None:
        if lanes not in LANES:
            raise ValueError(f"lanes must be one of {LANES}, not {lanes!r}")
        self._config = config
        self._lanes = lanes
        self._value_beats = config.head_dim * config.tail_value_bits // BEAT_BITS
        #: Room for a value, and at least as much as makes the queue a memory.
        self._value_depth = max(2 * StreamFIFO.REGISTERS, self._value_beats)
        self._quantiser = AffineQuantiser(bits=config.key_bits, group=config.group, lanes=lanes)
        super().__init__(
            {
                "token": In(stream.Signature(token_layout(config))),
                "beats": In(stream.Signature(BEAT_BITS)),
                "bursts": Out(stream.Signature(BURST)),
                "origin": Out(ORIGIN),
                "not_finite": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, lanes = self._config, self._lanes
        m.submodules.quantiser = quantiser = self._quantiser
        m.submodules.builder = builder = BurstBuilder()
        # The codes wait here for a burst that leaves.
        m.submodules.codes = codes = StreamFIFO(quantiser.codes.payload.shape(), depth=2)
        connect(m, quantiser.codes, codes.input)
        connect(m, builder.bursts, flipped(self.bursts))

        # The token that goes into bursts, and behind it the one that comes in.
        m.submodules.tokens = tokens = StreamFIFO(token_layout(config), depth=2)
        m.submodules.values = values = StreamFIFO(BEAT_BITS, depth=self._value_depth)
        done = builder.pieces.valid & builder.pieces.ready
        token, busy = tokens.output.payload, tokens.output.valid
        m.d.comb += tokens.output.ready.eq(done & builder.pieces.p.last)
        self._take(m, tokens.input, values.input)

        # Parameters of the groups, in order, until they are put away.
        pairs = Signal(config.groups * PAIR_BITS)
        code = codes.output
        moved = Signal()
        m.d.comb += moved.eq(code.valid & code.ready)
        with m.If(moved & code.p.last):
            m.d.sync += pairs.eq(Cat(pairs[PAIR_BITS:], code.p.scale, code.p.minimum))

        #: Pieces of each part: how many, of how many halves, which, and whether they are there.
        numbers = Cat(code.p.code[i] for i in range(lanes))
        value = values.output
        parts: dict[Part, tuple[int, Value, Value]] = {
            Part.CODES: (config.head_dim // lanes, numbers, code.valid),
            Part.PAIRS: (config.groups, pairs[:PAIR_BITS], busy),
            Part.SCALE: (1, token.value_scale, busy),
            Part.SALIENCY: (1, token.saliency, busy),
            Part.VALUES: (self._value_beats, value.payload, value.valid),
        }
        part = Signal(Part)
        count = Signal(range(max(pieces for pieces, _, _ in parts.values())))
        address = Signal(HALF_ADDRESS_BITS)
        begin = Signal(init=1)
        block, starts = self._starts(m, token)
        piece = builder.pieces.payload
        here, end = Signal.like(address), Signal()
        m.d.comb += [
            here.eq(Mux(begin, starts[part], address)),
            piece.address.eq(here),
            piece.last.eq(end & (part == Part.VALUES)),
        ]
        with m.Switch(part):
            for kind, (pieces, halves, valid) in parts.items():
                size = len(halves) // HALF_BITS
                step: int | Value = size
                run_end: Value = end
                if kind == Part.VALUES:
                    # A burst of each token, then the next tile.
                    run_end = here[(HALVES - 1).bit_length() - 1]
                    step = Mux(run_end, config.chunk * HALVES - HALVES // 2, size)
                with m.Case(kind):
                    m.d.comb += [
                        builder.pieces.valid.eq(valid),
                        piece.data.eq(halves),
                        piece.size.eq(size.bit_length() - 1),
                        end.eq(count == pieces - 1),
                        piece.end.eq(run_end),
                    ]
                    with m.If(done):
                        m.d.sync += address.eq(here + step)
        within_bits = (config.chunk - 1).bit_length()
        with m.If(done):
            m.d.sync += [
                begin.eq(end),
                count.eq(Mux(end, 0, count + 1)),
                self.origin.of_prompt.eq(token.of_prompt),
                self.origin.gathered.eq(token.gathered),
                self.origin.ends_block.eq(token.place[:within_bits].all()),
                self.origin.block.eq(block),
            ]
            with m.If(end):
                m.d.sync += part.eq(part + 1)
                with m.If((part == Part.SCALE) & ~token.of_prompt):
                    m.d.sync += part.eq(Part.VALUES)
                with m.If(part == Part.VALUES):
                    m.d.sync += part.eq(Part.CODES)
            with m.If(part == Part.PAIRS):
                m.d.sync += pairs.eq(pairs >> PAIR_BITS)
        m.d.comb += [
            code.ready.eq(builder.pieces.ready & (part == Part.CODES)),
            value.ready.eq(builder.pieces.ready & (part == Part.VALUES)),
        ]
        return m

    def _take(self, m: Module, tokens: stream.Interface, values: stream.Interface) -> None:
        """A token comes in: the beats of its key go to the quantiser, those of its value wait."""
        config, lanes = self._config, self._lanes
        beats, numbers = self.beats, self._quantiser.numbers
        parts = _NUMBERS // lanes
        part = Signal(range(max(2, parts)))
        key_beats = config.head_dim // _NUMBERS
        #: Beats that are still to come, of the value the last ones.
        left = Signal(range(key_beats + self._value_beats + 1))
        of_key = Signal()
        elements = [beats.payload.word_select(i, FP16_BITS) for i in range(_NUMBERS)]
        end = part == parts - 1
        m.d.comb += [
            tokens.payload.eq(self.token.payload),
            tokens.valid.eq(self.token.valid & (left == 0)),
            self.token.ready.eq(tokens.ready & (left == 0)),
            of_key.eq(left > self._value_beats),
            numbers.valid.eq(beats.valid & of_key),
            values.valid.eq(beats.valid & (left != 0) & ~of_key),
            values.payload.eq(beats.payload),
            beats.ready.eq(Mux(of_key, numbers.ready & end, values.ready & (left != 0))),
        ]
        comes = self.token.valid & self.token.ready
        taken = beats.valid & beats.ready
        with m.If(comes):
            m.d.sync += left.eq(key_beats + self._value_beats)
        with m.Elif(taken):
            m.d.sync += left.eq(left - 1)
        for i in range(lanes):
            element = Signal(FP16_BITS, name=f"element_{i}")
            chosen = Cat(*elements[i::lanes]).word_select(part, FP16_BITS)
            m.d.comb += [element.eq(chosen), numbers.payload[i].eq(fixed_of_fp16(element))]
        with m.If(numbers.valid & numbers.ready):
            m.d.sync += part.eq(Mux(end, 0, part + 1))
        wrong = Cat(~fp16_is_finite(element) for element in elements).any()
        scale = ~fp16_is_finite(self.token.p.value_scale)
        m.d.comb += self.not_finite.eq((taken & of_key & wrong) | (comes & scale))

    def _starts(self, m: Module, token: data.View) -> tuple[Value, data.View]:
        """Where the block of the token begins, in bursts, and its parts, in halves."""
        config, layout = self._config, KVFormat(self._config)

        def halves(size: int) -> int:
            return size // ENABLED_BYTES

        within_bits = (config.chunk - 1).bit_length()
        within, block = token.place[:within_bits], token.place[within_bits:]
        start = Signal(HALF_ADDRESS_BITS)
        m.d.comb += start.eq(
            token.tail_address[(ENABLED_BYTES - 1).bit_length() :]
            + block * halves(layout.tail_block_bytes)
        )
        scales_at = layout.saliency_bytes + layout.key_scale_bytes
        places = {
            Part.CODES: (layout.tail_header_bytes, config.head_dim * config.key_bits // 8),
            Part.PAIRS: (layout.saliency_bytes, config.groups * PAIR_BITS // 8),
            Part.SCALE: (scales_at, FP16_BITS // 8),
            Part.SALIENCY: (0, SALIENCY_BITS // 8),
            Part.VALUES: (layout.tail_key_bytes, BURST_BYTES),
        }
        starts = Signal(data.ArrayLayout(HALF_ADDRESS_BITS, len(Part)))
        for part, (offset, stride) in places.items():
            m.d.comb += starts[part].eq(start + halves(offset) + within * halves(stride))
        return start[(HALVES - 1).bit_length() :], starts
