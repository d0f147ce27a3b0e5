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
_WAIT = 8


def numbers_layout(lanes: int) -> data.ArrayLayout:
    """``lanes`` consecutive numbers of a group, lowest first, in units of 2**-24."""
    return data.ArrayLayout(signed(FIXED_BITS), lanes)


def base_lanes(lanes: int, base_every: int | None) -> list[int]:
    """Lanes that bases come in, if every ``base_every``-th number of a group is one."""
    return [] if base_every is None else list(range(0, lanes, base_every))


def codes_layout(bits: int, lanes: int, base_every: int | None = None) -> data.StructLayout:
    """Their codes, with the parameters of the group; ``last`` marks the end of the group."""
    bases = base_lanes(lanes, base_every)
    return data.StructLayout(
        {
            "code": data.ArrayLayout(bits, lanes),
            #: Where the beat has bases; the ``code`` of a base has no meaning.
            "base": data.ArrayLayout(2 * bits, len(bases)),
            "scale": FP16_BITS,
            "minimum": FP16_BITS,
            "last": 1,
        }
    )


class AffineQuantiser(wiring.Component):
    """AQ_``bits`` over groups of numbers: the codes, FP16 scale and FP16 minimum of each.

    Throughput one beat a cycle, of a group shorter than 6 beats a group in 6 cycles. From the last
    beat of a group to its first codes it takes 6 cycles and the latency of `CodeDivider`.

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

    def __init__(
        self, *, bits: int, group: int, lanes: int, base_every: int | None = None
    ) -> None:
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
        bases = zip(self._base_dividers.items(), self.codes.p.base, strict=True)
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
        """The range grows with each beat; the last one of a group hands it over."""
        beat, handed = self.numbers, self._parameters.range
        place = Signal(range(self._beats))
        low, high = Signal(signed(FIXED_BITS)), Signal(signed(FIXED_BITS))
        first, end = place == 0, place == self._beats - 1
        # The first number of a group may be a base, which counts as 0.
        start = 0 if self._base_lanes else beat.payload[0]
        least: Value = Mux(first, start, low)
        most: Value = Mux(first, start, high)
        has_bases = (place & (self._base_beats - 1)) == 0
        for i in range(self._lanes):
            number = Mux(has_bases, 0, beat.payload[i]) if i in self._base_lanes else beat.payload[i]
            lower = Signal(signed(FIXED_BITS), name=f"least_{i}")
            higher = Signal(signed(FIXED_BITS), name=f"most_{i}")
            m.d.comb += [
                lower.eq(Mux(number < least, number, least)),
                higher.eq(Mux(number > most, number, most)),
            ]
            least, most = lower, higher
        m.d.comb += [
            beat.ready.eq(waiting.input.ready & (~end | handed.ready)),
            waiting.input.valid.eq(beat.valid & (~end | handed.ready)),
            waiting.input.payload.eq(beat.payload),
            handed.valid.eq(beat.valid & end & waiting.input.ready),
            handed.p.low.eq(least),
            handed.p.high.eq(most),
        ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += [low.eq(least), high.eq(most), place.eq(Mux(end, 0, place + 1))]
