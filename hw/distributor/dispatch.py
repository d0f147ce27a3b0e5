"""Sends jobs and their queries to the slices in which their caches live."""

from collections.abc import Callable

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from hw.distributor.port import JobStreams
from hw.placement import home_slice
from hw.streams import StreamFIFO


def order_layout(slices: int) -> data.StructLayout:
    """What is remembered of a job: its slice, and whether it selects unless it is refused."""
    return data.StructLayout({"home": range(max(2, slices)), "selects": 1})


class Dispatch(wiring.Component):
    """No latency; one job, one query beat and one token beat a cycle.

    A job waits until its slice takes it, and those behind it wait with it; so do its beats.

    Parameters
    ----------
    streams : JobStreams
    slices : int
        1, 2 or 4.
    selects : callable
        Of a job's payload: whether it has items on ``selection``, if it is not refused.
    brings_token : callable
        Of a job's payload: whether it has beats on ``token``, if there is such a stream.

    Members
    -------
    job, query, token : In(stream)
    sent_job, sent_query, sent_token : Out(stream), per slice
    order : Out(stream of order_layout)
        An item for each job, in order; holds as many as fit into the slices.
    """

    def __init__(
        self,
        streams: JobStreams,
        slices: int,
        selects: Callable[[data.View], Value],
        brings_token: Callable[[data.View], Value],
    ) -> None:
        self._streams = streams
        self._slices = slices
        self._selects = selects
        self._brings_token = brings_token
        #: Streams of beats that follow the jobs, and the beats of a job.
        self._beats = {"query": streams.query_beats}
        if streams.token_beats:
            self._beats["token"] = streams.token_beats
        sent = streams.signature.members
        names = ("job", *self._beats)
        super().__init__(
            {
                **{name: sent[name].flip() for name in names},
                **{f"sent_{name}": sent[name].array(slices) for name in names},
                "order": Out(stream.Signature(order_layout(slices))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slices = self._slices
        depth = max(2, slices * self._streams.jobs_in_flight)
        m.submodules.order_queue = order = StreamFIFO(order_layout(slices), depth=depth)
        wiring.connect(m, order.output, wiring.flipped(self.order))

        payload = self.job.payload
        home = Signal(range(max(2, slices)))
        taken, room = Signal(), order.input.ready
        m.d.comb += [
            home.eq(home_slice(payload.sequence, payload.layer, payload.kv_head, slices)),
            taken.eq(self.job.valid & self.job.ready),
            order.input.valid.eq(taken),
            order.input.payload.home.eq(home),
            order.input.payload.selects.eq(self._selects(payload)),
        ]
        for name in self._beats:
            homes = self._send_beats(m, name)
            room = room & homes.ready
            has_beats = self._brings_token(payload) if name == "token" else 1
            m.d.comb += [homes.valid.eq(taken & has_beats), homes.payload.eq(home)]
        job_ready = Const(0)
        for i in range(slices):
            sent, to_it = self.sent_job[i], Signal(name=f"job_to_{i}")
            m.d.comb += [
                to_it.eq(room & (home == i)),
                sent.payload.eq(payload),
                sent.valid.eq(self.job.valid & to_it),
            ]
            job_ready |= to_it & sent.ready
        m.d.comb += self.job.ready.eq(job_ready)
        return m

    def _send_beats(self, m: Module, name: str) -> stream.Interface:
        """Send the beats of each job to its slice; return the queue of where they go."""
        slices, beats = self._slices, self._beats[name]
        depth = max(2, slices * self._streams.jobs_in_flight)
        homes = StreamFIFO(order_layout(slices)["home"].shape, depth=depth)
        m.submodules[f"{name}_homes"] = homes
        source, sinks = getattr(self, name), getattr(self, f"sent_{name}")
        beat = Signal(range(max(2, beats)), name=f"{name}_beat")
        moved, last = Signal(name=f"{name}_moved"), Signal(name=f"{name}_last")
        m.d.comb += [
            moved.eq(source.valid & source.ready),
            last.eq(beat == beats - 1),
            homes.output.ready.eq(moved & last),
        ]
        with m.If(moved):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last):
                m.d.sync += beat.eq(0)
        ready = Const(0)
        for i in range(slices):
            sent, of_it = sinks[i], Signal(name=f"{name}_to_{i}")
            m.d.comb += [
                of_it.eq(homes.output.valid & (homes.output.payload == i)),
                sent.payload.eq(source.payload),
                sent.valid.eq(source.valid & of_it),
            ]
            ready |= of_it & sent.ready
        m.d.comb += source.ready.eq(ready)
        return homes.input
