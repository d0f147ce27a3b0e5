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


def codes_layout(bits: int, lanes: int) -> data.StructLayout:
    """Their codes, with the parameters of the group; ``last`` marks the end of the group."""
    return data.StructLayout(
        {
            "code": data.ArrayLayout(bits, lanes),
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

    Members
    -------
    numbers : In(stream)
        ``lanes`` signed numbers of 43 bits, in units of 2**-24.
    codes : Out(stream)
        ``code[lanes]``, ``scale`` and ``minimum`` of the group, ``last``.

    Raises
    ------
    ValueError
        A parameter has an illegal value.
    """

    def __init__(self, *, bits: int, group: int, lanes: int) -> None:
        if lanes not in LANES:
            raise ValueError(f"lanes must be one of {LANES}, not {lanes!r}")
        if group < 2 * lanes or group % lanes:
            raise ValueError(
                f"group must be a multiple of lanes = {lanes}, at least {2 * lanes}, not {group!r}"
            )
        self._parameters = GroupParameters(bits)
        self._dividers = [CodeDivider(bits) for _ in range(lanes)]
        self._beats = group // lanes
        self._lanes = lanes
        super().__init__(
            {
                "numbers": In(stream.Signature(numbers_layout(lanes))),
                "codes": Out(stream.Signature(codes_layout(bits, lanes))),
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
        stages = [Signal(tag, name=f"stage_{i}") for i in range(self._dividers[0].latency + 1)]
        m.d.comb += [
            stages[0].parameters.eq(ready.output.payload),
            stages[0].last.eq(end),
            stages[0].valid.eq(there),
        ]
        with m.If(move):
            m.d.sync += [after.eq(before) for before, after in pairwise(stages)]
        for i, divider in enumerate(self._dividers):
            m.submodules[f"divider_{i}"] = divider
            m.d.comb += [
                divider.move.eq(move),
                divider.x.eq(waiting.output.payload[i]),
                divider.minimum.eq(stages[0].parameters.minimum),
                divider.scale.eq(stages[0].parameters.scale),
                self.codes.p.code[i].eq(divider.code),
            ]
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
        least: Value = Mux(first, beat.payload[0], low)
        most: Value = Mux(first, beat.payload[0], high)
        for i in range(self._lanes):
            number = beat.payload[i]
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
