"""Sends jobs and their queries to the slices in which their caches live."""

from collections.abc import Callable

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.distributor.port import JobStreams
from hw.placement import home_slice
from hw.streams import StreamFIFO


def order_layout(slices: int) -> data.StructLayout:
    """What is remembered of a job: its slice, and whether it selects unless it is refused."""
    return data.StructLayout({"home": range(max(2, slices)), "selects": 1})


class Dispatch(wiring.Component):
    """No latency; one job and one query beat a cycle.

    A job waits until its slice takes it, and those behind it wait with it; so do its query beats.

    Parameters
    ----------
    streams : JobStreams
    slices : int
        1, 2 or 4.
    selects : callable
        Of a job's payload: whether it has items on ``selection``, if it is not refused.

    Members
    -------
    job, query : In(stream)
    sent_job, sent_query : Out(stream), per slice
    order : Out(stream of order_layout)
        An item for each job, in order; holds as many as fit into the slices.
    """

    def __init__(
        self, streams: JobStreams, slices: int, selects: Callable[[data.View], Value]
    ) -> None:
        self._streams = streams
        self._slices = slices
        self._selects = selects
        job, query = stream.Signature(streams.job), stream.Signature(streams.query)
        super().__init__(
            {
                "job": In(job),
                "query": In(query),
                "sent_job": Out(job).array(slices),
                "sent_query": Out(query).array(slices),
                "order": Out(stream.Signature(order_layout(slices))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slices = self._slices
        depth = max(2, slices * self._streams.jobs_in_flight)
        m.submodules.order_queue = order = StreamFIFO(order_layout(slices), depth=depth)
        m.submodules.homes = homes = StreamFIFO(order_layout(slices)["home"].shape, depth=depth)
        wiring.connect(m, order.output, wiring.flipped(self.order))

        payload = self.job.payload
        home = Signal(range(max(2, slices)))
        room, taken = Signal(), Signal()
        m.d.comb += [
            home.eq(home_slice(payload.sequence, payload.layer, payload.kv_head, slices)),
            room.eq(order.input.ready & homes.input.ready),
            taken.eq(self.job.valid & self.job.ready),
            order.input.valid.eq(taken),
            order.input.payload.home.eq(home),
            order.input.payload.selects.eq(self._selects(payload)),
            homes.input.valid.eq(taken),
            homes.input.payload.eq(home),
        ]
        beat = Signal(range(max(2, self._streams.query_beats)))
        moved, last = Signal(), Signal()
        m.d.comb += [
            moved.eq(self.query.valid & self.query.ready),
            last.eq(beat == self._streams.query_beats - 1),
            homes.output.ready.eq(moved & last),
        ]
        with m.If(moved):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last):
                m.d.sync += beat.eq(0)
        job_ready, query_ready = Const(0), Const(0)
        for i in range(slices):
            sent, beats = self.sent_job[i], self.sent_query[i]
            to_it, of_it = Signal(name=f"job_to_{i}"), Signal(name=f"query_to_{i}")
            m.d.comb += [
                to_it.eq(room & (home == i)),
                of_it.eq(homes.output.valid & (homes.output.payload == i)),
                sent.payload.eq(payload),
                sent.valid.eq(self.job.valid & to_it),
                beats.payload.eq(self.query.payload),
                beats.valid.eq(self.query.valid & of_it),
            ]
            job_ready |= to_it & sent.ready
            query_ready |= of_it & beats.ready
        m.d.comb += [self.job.ready.eq(job_ready), self.query.ready.eq(query_ready)]
        return m
