"""Affine quantisation of groups that stream by."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.constants import FIXED_BITS
from hw.cores.quantiser.code_divider import CodeDivider
from hw.cores.quantiser.group_parameters import PARAMETERS, GroupParameters
from hw.formats import FP16_BITS
from hw.streams import StreamFIFO, StreamRegister

LANES = (1, 2, 4, 8)
#: Beats that come while the parameters of the group before are found.
_WAIT = 10


def numbers_layout(lanes: int) -> data.ArrayLayout:
    """``lanes`` consecutive numbers of a group, lowest first, in units of 2**-24."""
    return data.ArrayLayout(signed(FIXED_BITS), lanes)


def base_lanes(lanes: int, base_every: int | None) -> list[int]:
    """Lanes that bases come in, if every ``base_every``-th number of a group is one."""
    return [] if base_every is None else list(range(0, lanes, base_every))


def base_field(bits: int, lanes: int, base_every: int | None) -> dict[str, data.ArrayLayout]:
    """The field ``base`` of a layout, which has none without bases."""
    bases = base_lanes(lanes, base_every)
    return {"base": data.ArrayLayout(2 * bits, len(bases))} if bases else {}


def codes_layout(bits: int, lanes: int, base_every: int | None = None) -> data.StructLayout:
    """Their codes, with the parameters of the group; ``last`` marks the end of the group."""
    return data.StructLayout(
        {
            "code": data.ArrayLayout(bits, lanes),
            #: Where the beat has bases; the ``code`` of a base has no meaning.
            **base_field(bits, lanes, base_every),
            "scale": FP16_BITS,
            "minimum": FP16_BITS,
            "last": 1,
        }
    )


class AffineQuantiser(wiring.Component):
    """AQ_``bits`` over groups of numbers: the codes, FP16 scale and FP16 minimum of each.

    Throughput one beat a cycle, of a group shorter than 6 beats a group in 6 cycles. From the last
    beat of a group to its first codes it takes 8 cycles and the latency of `CodeDivider`.

    Parameters
    ----------
    bits : int
        Bits of a code: 2, 4 or 8.
    group : int
        Numbers of a group, a multiple of ``lanes`` and at least twice as many.
    lanes : int
        Numbers of a beat: 1, 2, 4 or 8.
    base_every : int or None
        Bases: the first number of so many, a power of two up to ``group``. They count as 0 for the
        range, and their codes have twice the bits, of steps ``2**bits + 1`` times as small. None:
        there are none. Only with 2 or 4 bits.

    Members
    -------
    numbers : In(stream)
        ``lanes`` signed numbers of 43 bits, in units of 2**-24.
    codes : Out(stream)
        ``code[lanes]``, ``base`` of each lane that may have one, ``scale`` and ``minimum`` of the
        group, ``last``.

    Raises
    ------
    ValueError
        A parameter has an illegal value.
    """

    def __init__(self, *, bits: int, group: int, lanes: int, base_every: int | None = None) -> None:
        if lanes not in LANES:
            raise ValueError(f"lanes must be one of {LANES}, not {lanes!r}")
        if group < 2 * lanes or group % lanes:
            raise ValueError(
                f"group must be a multiple of lanes = {lanes}, at least {2 * lanes}, not {group!r}"
            )
        if base_every is not None:
            if bits == 8:
                raise ValueError("base_every must be None with 8 bits")
            legal = [1 << i for i in range(1, group.bit_length())]
            if base_every not in legal:
                raise ValueError(f"base_every must be None or one of {legal}, not {base_every!r}")
        self._parameters = GroupParameters(bits)
        self._base_lanes = base_lanes(lanes, base_every)
        only_bases = self._base_lanes if base_every and base_every <= lanes else []
        self._dividers = {i: CodeDivider(bits) for i in range(lanes) if i not in only_bases}
        self._base_dividers = {
            i: CodeDivider(2 * bits, ratio=2**bits + 1) for i in self._base_lanes
        }
        #: Of so many beats the first has a base.
        self._base_beats = max(1, (base_every or 1) // lanes)
        self._beats = group // lanes
        self._lanes = lanes
        super().__init__(
            {
                "numbers": In(stream.Signature(numbers_layout(lanes))),
                "codes": Out(stream.Signature(codes_layout(bits, lanes, base_every))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.parameters = parameters = self._parameters
        m.submodules.ready = ready = StreamRegister(PARAMETERS)
        m.submodules.waiting = waiting = StreamFIFO(
            self.numbers.payload.shape(), depth=self._beats + _WAIT
        )
        wiring.connect(m, parameters.parameters, ready.input)
        self._take(m, waiting)

        # A group leaves when its parameters are there; everything behind moves as one.
        move = ~self.codes.valid | self.codes.ready
        place = Signal(range(self._beats))
        end = place == self._beats - 1
        there = ready.output.valid & waiting.output.valid
        m.d.comb += [
            waiting.output.ready.eq(ready.output.valid & move),
            ready.output.ready.eq(waiting.output.valid & move & end),
        ]
        with m.If(there & move):
            m.d.sync += place.eq(Mux(end, 0, place + 1))
        tag = data.StructLayout({"parameters": PARAMETERS, "last": 1, "valid": 1})
        # Codes of bases take longer: the others wait for them.
        dividers = [(i, d, self.codes.p.code[i]) for i, d in self._dividers.items()]
        codes = self.codes.p.base if self._base_dividers else ()
        bases = zip(self._base_dividers.items(), codes, strict=True)
        dividers += [(i, d, code) for (i, d), code in bases]
        latency = max(divider.latency for _, divider, _ in dividers)
        stages = [Signal(tag, name=f"stage_{i}") for i in range(latency + 1)]
        m.d.comb += [
            stages[0].parameters.eq(ready.output.payload),
            stages[0].last.eq(end),
            stages[0].valid.eq(there),
        ]
        with m.If(move):
            m.d.sync += [after.eq(before) for before, after in pairwise(stages)]
        for i, divider, code in dividers:
            m.submodules += divider
            m.d.comb += [
                divider.move.eq(move),
                divider.x.eq(waiting.output.payload[i]),
                divider.minimum.eq(stages[0].parameters.minimum),
                divider.scale.eq(stages[0].parameters.scale),
            ]
            made = divider.code
            for _ in range(latency - divider.latency):
                late = Signal.like(made)
                with m.If(move):
                    m.d.sync += late.eq(made)
                made = late
            m.d.comb += code.eq(made)
        m.d.comb += [
            self.codes.valid.eq(stages[-1].valid),
            self.codes.p.scale.eq(stages[-1].parameters.scale),
            self.codes.p.minimum.eq(stages[-1].parameters.minimum),
            self.codes.p.last.eq(stages[-1].last),
        ]
        return m

    def _take(self, m: Module, waiting: StreamFIFO) -> None:
        """The range of each beat, then that of all beats so far; the last one hands it over."""
        beat, handed = self.numbers, self._parameters.range
        number = signed(FIXED_BITS)
        place = Signal(range(self._beats))
        # The range of the beat that came before, and of its group up to the one before that.
        there, first, end = Signal(), Signal(), Signal()
        least, most = Signal(number), Signal(number)
        low, high, complete = Signal(number), Signal(number), Signal()
        folds, takes = Signal(), Signal()
        m.d.comb += [
            folds.eq(~complete | handed.ready),
            beat.ready.eq(waiting.input.ready & (~there | folds)),
            takes.eq(beat.valid & beat.ready),
            waiting.input.valid.eq(beat.valid & (~there | folds)),
            waiting.input.payload.eq(beat.payload),
            handed.valid.eq(complete),
            handed.p.low.eq(low),
            handed.p.high.eq(high),
        ]
        # Bases count as 0.
        has_bases = (place & (self._base_beats - 1)) == 0
        ends = [
            Mux(has_bases, 0, beat.payload[i]) if i in self._base_lanes else beat.payload[i]
            for i in range(self._lanes)
        ]
        beat_least, beat_most = self._range(m, ends, ends)
        with m.If(takes):
            m.d.sync += [
                least.eq(beat_least),
                most.eq(beat_most),
                first.eq(place == 0),
                end.eq(place == self._beats - 1),
                place.eq(Mux(place == self._beats - 1, 0, place + 1)),
            ]
        with m.If(takes | folds):
            m.d.sync += there.eq(takes)
        with m.If(folds):
            m.d.sync += complete.eq(there & end)
            with m.If(there):
                m.d.sync += [
                    low.eq(Mux(first | (least < low), least, low)),
                    high.eq(Mux(first | (most > high), most, high)),
                ]

    def _range(self, m: Module, low: list[Value], high: list[Value]) -> tuple[Value, Value]:
        """The least of ``low`` and the most of ``high``, by halves."""
        if len(low) == 1:
            return low[0], high[0]
        half = len(low) // 2
        (low_0, high_0), (low_1, high_1) = (
            self._range(m, low[part], high[part]) for part in (slice(half), slice(half, None))
        )
        least, most = Signal(signed(FIXED_BITS)), Signal(signed(FIXED_BITS))
        m.d.comb += [
            least.eq(Mux(low_0 < low_1, low_0, low_1)),
            most.eq(Mux(high_0 < high_1, high_1, high_0)),
        ]
        return least, most
