"""Brings the words that the DRAM delivers back to their requests."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.memory.channel_port import channel_response
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.payloads import column_layout
from hw.streams import StreamFIFO


class ReadReturn(wiring.Component):
    """Latency 1 cycle from the DRAM port, at gear 2 one more if a burst begins in phase 1.

    The bursts come in the order of their commands; what they belong to waits in a queue. Words that
    the request did not ask for, because its burst is longer, are dropped.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    issued : In(stream of column_layout)
        A read whose command is issued; there is always room.
    read_data : In, read_valid : In
        The pseudo-channel's part of the DRAM port, a word per phase.
    response : Out(stream of channel_response)
        Must be ready at any time.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        super().__init__(
            {
                "issued": In(stream.Signature(column_layout(config))),
                "read_data": In(config.gear * BEAT_BITS),
                "read_valid": In(config.gear),
                "response": Out(stream.Signature(channel_response(config.id_bits, config.gear))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        _config, standard, gear = self._config, self._config.standard, self._config.gear
        words = standard.burst_cycles // gear
        beats = standard.burst_bytes // BEAT_BYTES
        # Reads under way: from the command's register to the last word.
        flight = standard["tCL"] + standard.burst_cycles + 4 * gear
        depth = -(-flight // standard["tCCD_S"]) + 2
        m.submodules.expected = expected = StreamFIFO(self.issued.payload.shape(), depth=depth)
        wiring.connect(m, wiring.flipped(self.issued), expected.input)

        valid = Signal()
        word_data = Signal(gear * BEAT_BITS)
        if (self._distances.column_phase + standard["tCL"]) % gear == 0:
            m.d.comb += [valid.eq(self.read_valid[0]), word_data.eq(self.read_data)]
        else:
            half_valid = Signal()
            half = Signal(BEAT_BITS)
            m.d.sync += [half_valid.eq(self.read_valid[1]), half.eq(self.read_data[BEAT_BITS:])]
            m.d.comb += [
                valid.eq(half_valid),
                word_data.eq(Cat(half, self.read_data[:BEAT_BITS])),
            ]

        burst = expected.output.payload
        word = Signal(range(max(2, words)))
        final = Signal()
        beat = Signal(8)
        response = self.response
        m.d.comb += [
            final.eq(word == words - 1),
            # Beats before the first one count as more than any last one.
            beat.eq(burst.place * beats + word * gear - Mux(burst.tag.second_half, beats // 2, 0)),
            expected.output.ready.eq(valid & final),
        ]
        with m.If(valid):
            m.d.sync += word.eq(Mux(final, 0, word + 1))
        m.d.sync += [
            response.valid.eq(valid & (beat <= burst.tag.beats_less_one)),
            response.payload.data.eq(Mux(burst.tag.refused, 0, word_data)),
            response.payload.id.eq(burst.tag.id),
            response.payload.beat.eq(beat),
            response.payload.error.eq(burst.tag.refused),
        ]
        return m
