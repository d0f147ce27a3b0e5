"""Collects writes and gives their data to the DRAM when their turn comes."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES
from hw.memory.channel_port import channel_request, channel_written
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.payloads import place_bits
from hw.memory.dram.controller.request_splitter import (
    dram_bursts,
    first_half_skipped,
    leaves_channel,
    most_bursts,
    split_layout,
)
from hw.memory.port import write_data
from hw.streams import StreamFIFO

#: Requests that wait for the words of those before them.
_WAITING = 4


class WriteBuffer(wiring.Component):
    """One word a cycle in and out; a request is split the cycle after its last word has come.

    Requests wait in a queue of their own, so that reads behind them at the channel need not.
    The bursts of a request lie one after the other in a ring of ``write_buffer`` bursts. A burst is
    free again once it and all before it have left, so the ends of the requests are told in order.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    request : In(stream of channel_request)
        Writes only.
    data : In(stream of write_data)
    split : Out(stream of split_layout)
        Requests that are complete; ``place`` is that of the first burst in the ring.
    launch : In(1), place : In
        A write of this burst is being granted; its command is at the DRAM port a cycle later.
    write_data, write_mask : Out
        The pseudo-channel's part of the DRAM port, a word per phase.
    written : Out(stream of channel_written)
        Must be ready at any time.
    pending : Out
        Bursts that are complete and not launched.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        super().__init__(
            {
                "request": In(stream.Signature(channel_request(config.id_bits))),
                "data": In(stream.Signature(write_data(config.gear))),
                "split": Out(stream.Signature(split_layout(config))),
                "launch": In(1),
                "place": In(place_bits(config)),
                "write_data": Out(config.gear * BEAT_BITS),
                "write_mask": Out(config.gear * BEAT_BYTES),
                "written": Out(stream.Signature(channel_written(config.id_bits))),
                "pending": Out(range(config.write_buffer + 1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, standard, gear = self._config, self._config.standard, self._config.gear
        places = config.write_buffer
        words = standard.burst_cycles // gear
        port_words = BURST_BYTES // (BEAT_BYTES * gear)
        m.submodules.ring = ring = Memory(shape=write_data(gear), depth=places * words, init=[])

        # Filling: a request at a time. Words of its bursts that it does not have write nothing.
        m.submodules.waiting = waiting = StreamFIFO(self.request.payload.shape(), depth=_WAITING)
        connect(m, flipped(self.request), waiting.input)
        offered = waiting.output.payload
        held = Signal(channel_request(config.id_bits))
        filling = Signal()
        head = Signal(range(places))
        bursts = Signal(range(most_bursts(config) + 1))
        word = Signal(range(most_bursts(config) * words))
        begin = Signal(range(max(2, words)))
        absent, final = Signal(), Signal()
        room, stored, filled = Signal(), Signal(), Signal()
        free = Signal(range(places + 1), init=places)
        wanted = Signal.like(bursts)
        write = ring.write_port()
        split = Signal.like(self.split.payload)
        split_bursts = Signal.like(bursts)
        complete, sent, accepted = Signal(), Signal(), Signal()
        m.d.comb += [
            wanted.eq(dram_bursts(config, offered)),
            accepted.eq(waiting.output.valid & waiting.output.ready),
            waiting.output.ready.eq((~filling | filled) & (free >= wanted)),
            bursts.eq(dram_bursts(config, held)),
            begin.eq(first_half_skipped(config, held) * port_words),
            absent.eq((word < begin) | (word >= begin + (held.bursts_less_one + 1) * port_words)),
            final.eq(word + 1 == bursts * words),
            # The last word waits for the request before to be split.
            room.eq(filling & (~final | ~complete | sent)),
            self.data.ready.eq(room & ~absent),
            stored.eq(room & (absent | self.data.valid)),
            filled.eq(stored & final),
            write.en.eq(stored),
            write.addr.eq(head * words + word),
            write.data.data.eq(self.data.payload.data),
            write.data.enable.eq(
                Mux(absent | leaves_channel(config, held), 0, self.data.payload.enable)
            ),
            self.split.valid.eq(complete),
            self.split.payload.eq(split),
            sent.eq(self.split.valid & self.split.ready),
        ]
        with m.If(accepted):
            m.d.sync += [held.eq(offered), filling.eq(1), word.eq(0)]
        with m.Elif(filled):
            m.d.sync += filling.eq(0)
        with m.Elif(stored):
            m.d.sync += word.eq(word + 1)
        with m.If(filled):
            m.d.sync += [
                split.request.eq(held),
                split.place.eq(head),
                split.refused.eq(leaves_channel(config, held)),
                split_bursts.eq(bursts),
                complete.eq(1),
                head.eq(head + bursts),
            ]
        with m.Elif(sent):
            m.d.sync += complete.eq(0)

        emptied, emptied_place = self._launch(m, ring, words)
        retired = self._retire(m, sent, split, split_bursts, emptied, emptied_place)
        m.d.sync += [
            free.eq(free - Mux(accepted, wanted, 0) + retired),
            self.pending.eq(self.pending + Mux(sent, split_bursts, 0) - self.launch),
        ]
        return m

    def _launch(self, m: Module, ring: Memory, words: int) -> tuple[Value, Value]:
        """Read a burst so that it meets its command's latency; return when and which has left."""
        _config, standard, gear = self._config, self._config.standard, self._config.gear
        read = ring.read_port(transparent_for=())
        late = self._distances.column_phase + standard["tCWL"]
        # The command is at the port a cycle after the grant, the memory's data after the address.
        launch, place = self.launch, self.place
        for stage in range(late // gear):
            later = Signal(name=f"launch_{stage}")
            later_place = Signal.like(place, name=f"place_{stage}")
            m.d.sync += [later.eq(launch), later_place.eq(place)]
            launch, place = later, later_place
        # Further words of the burst.
        word = Signal(range(max(2, words)))
        current = Signal.like(self.place)
        active = Signal()
        reading = Signal()
        m.d.comb += [
            reading.eq(launch | active),
            read.en.eq(reading),
            read.addr.eq(Mux(launch, place * words, current * words + word)),
        ]
        final = Signal()
        m.d.comb += final.eq(reading & (Mux(launch, 0, word) == words - 1))
        with m.If(launch):
            m.d.sync += [current.eq(place), word.eq(1), active.eq(words > 1)]
        with m.Elif(active):
            m.d.sync += [word.eq(word + 1), active.eq(~final)]

        if late % gear == 0:
            m.d.comb += [
                self.write_data.eq(read.data.data),
                self.write_mask.eq(~read.data.enable),
            ]
        else:
            half = Signal(BEAT_BITS)
            half_enable = Signal(BEAT_BYTES)
            m.d.sync += [
                half.eq(read.data.data[BEAT_BITS:]),
                half_enable.eq(read.data.enable[BEAT_BYTES:]),
            ]
            m.d.comb += [
                self.write_data.eq(Cat(half, read.data.data[:BEAT_BITS])),
                self.write_mask.eq(~Cat(half_enable, read.data.enable[:BEAT_BYTES])),
            ]
        return final, Mux(launch, place, current)

    def _retire(
        self,
        m: Module,
        sent: Value,
        split: data.View,
        bursts: Value,
        emptied: Value,
        emptied_place: Value,
    ) -> Value:
        """Free the bursts in order; return whether one is freed in this cycle."""
        places = self._config.write_buffer
        ended = Signal(places)
        done = Signal(places)
        tail = Signal(range(places))
        retired = Signal()
        at_tail = Signal(places)
        written = self.written.payload.shape()
        m.submodules.requests = requests = StreamFIFO(written, depth=places)
        m.d.comb += [
            requests.input.valid.eq(sent),
            requests.input.payload.id.eq(split.request.id),
            requests.input.payload.error.eq(split.refused),
            at_tail.eq(1 << tail),
            retired.eq((done & at_tail).any()),
            self.written.valid.eq(retired & (ended & at_tail).any()),
            self.written.payload.eq(requests.output.payload),
            requests.output.ready.eq(self.written.valid),
        ]
        last = (1 << (split.place + bursts - 1)[: len(tail)]) & ((1 << places) - 1)
        m.d.sync += [
            tail.eq(tail + retired),
            ended.eq(Mux(retired, ended & ~at_tail, ended) | Mux(sent, last, 0)),
            done.eq(Mux(retired, done & ~at_tail, done) | Mux(emptied, 1 << emptied_place, 0)),
        ]
        return retired
