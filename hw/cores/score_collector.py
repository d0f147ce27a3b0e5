"""Front of the softmax: gathers the scores of a unit, finds what must be known beforehand."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16
from hw.config import AttentionConfig
from hw.constants import MAXIMUM_BITS, SCORE_BITS, SCORE_FRACTION
from hw.cores.payloads import score_item, slot_bits

EXPONENT_BITS = 5
#: Fraction bits of a stored value scale: an FP16 significand stays below 1, a closed token has 1.
MANTISSA_FRACTION = 11


def unit_layout(config: AttentionConfig) -> data.StructLayout:
    """What is known about a complete unit: the exponents, and the fields that its tokens share."""
    return data.StructLayout(
        {
            "exponent": data.ArrayLayout(signed(MAXIMUM_BITS), config.rows),
            "tail": 1,
            "tail_exponent": EXPONENT_BITS,
            "first": 1,
            "last": 1,
            "slot": slot_bits(config),
        }
    )


def entry_layout(config: AttentionConfig) -> data.StructLayout:
    """One stored token. Closed tokens have the value scale 1: mantissa 2**11, exponent 0."""
    return data.StructLayout(
        {
            "score": data.ArrayLayout(signed(SCORE_BITS), config.rows),
            "present": 1,
            "mantissa": MANTISSA_FRACTION + 1,
            "exponent": EXPONENT_BITS,
        }
    )


class ScoreCollector(wiring.Component):
    """Double buffer for units of scores, with each row's unit exponent and the tail exponent.

    Latency: ``units`` is valid one cycle after the transfer of the unit's last score; ``entry``
    follows ``token`` by one cycle. Throughput: one score per cycle as long as a bank is free. A
    unit is held until its transfer at ``units``; the next one is gathered meanwhile.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``chunk`` and ``jobs_in_flight`` matter.

    Members
    -------
    scores : In(stream of `score_item`)
        See `Softmax`.
    units : Out(stream of `unit_layout`)
        The oldest complete unit. The transfer gives its tokens up.
    token : In(range(chunk))
        Token of the unit at ``units`` to read.
    read : In(1)
        Reads ``token``; without it ``entry`` stays.
    entry : Out(`entry_layout`)
        The token read in the latest cycle with ``read`` high.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "scores": In(stream.Signature(score_item(config))),
                "units": Out(stream.Signature(unit_layout(config))),
                "token": In(range(config.chunk)),
                "read": In(1),
                "entry": Out(entry_layout(config)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        config = self._config
        m = Module()
        m.submodules.store = store = Memory(
            shape=entry_layout(config), depth=2 * config.chunk, init=[]
        )
        write, read = store.write_port(), store.read_port(domain="sync")
        banks = [Signal(unit_layout(config), name=f"unit_{bank}") for bank in range(2)]
        full = Signal(2)
        fill, drain, token = Signal(), Signal(), Signal(range(config.chunk))

        score = self.scores.payload
        scale = fp16(score.value_scale)
        # An absent token's scale is taken as 0, whose exponent is the smallest.
        exponent = Mux(score.tail & score.present, scale.exponent, score.tail)
        m.d.comb += [
            self.scores.ready.eq(~full.bit_select(fill, 1)),
            write.en.eq(self.scores.valid & self.scores.ready),
            write.addr.eq(Cat(token, fill)),
            write.data.score.eq(score.score),
            write.data.present.eq(score.present),
            write.data.mantissa.eq(Mux(score.tail, scale.mantissa, 1 << MANTISSA_FRACTION)),
            write.data.exponent.eq(exponent),
        ]
        start = token == 0
        for index, bank in enumerate(banks):
            with m.If(write.en & (fill == index)):
                for row in range(config.rows):
                    bound = score.score[row][SCORE_FRACTION:].as_signed() + 1
                    with m.If(start | (score.present & (bound > bank.exponent[row]))):
                        m.d.sync += bank.exponent[row].eq(bound)
                with m.If(start | (exponent > bank.tail_exponent)):
                    m.d.sync += bank.tail_exponent.eq(exponent)
                for field in ("tail", "first", "last", "slot"):
                    m.d.sync += bank[field].eq(score[field])
        with m.If(write.en):
            m.d.sync += token.eq(token + 1)
            with m.If(token == config.chunk - 1):
                m.d.sync += [full.bit_select(fill, 1).eq(1), fill.eq(~fill)]

        m.d.comb += [
            self.units.valid.eq(full.bit_select(drain, 1)),
            self.units.payload.eq(Mux(drain, banks[1].as_value(), banks[0].as_value())),
            read.addr.eq(Cat(self.token, drain)),
            read.en.eq(self.read),
            self.entry.eq(read.data),
        ]
        with m.If(self.units.valid & self.units.ready):
            m.d.sync += [full.bit_select(drain, 1).eq(0), drain.eq(~drain)]
        return m
