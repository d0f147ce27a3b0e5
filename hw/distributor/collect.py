"""Brings the results of the slices into the order of the jobs."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.distributor.dispatch import order_layout
from hw.distributor.port import JobStreams
from hw.formats import Status
from hw.streams import StreamFIFO


class Collect(wiring.Component):
    """A job's results leave when its completion has come and it is the oldest; a beat a cycle.

    Only the completion says whether a job was refused, that is, whether there are results. So the
    results of one job and the list of the next one wait in queues, which also keeps a slice busy
    while an older job of another slice is the oldest.

    Parameters
    ----------
    streams : JobStreams
    slices : int
        1, 2 or 4.

    Members
    -------
    order : In(stream of order_layout)
    from_selection, from_output, from_completion : In(stream), per slice
    selection, output, completion : Out(stream)
        In the order of the jobs; a job's completion after its last item of the others.
    """

    def __init__(self, streams: JobStreams, slices: int) -> None:
        self._streams = streams
        self._slices = slices
        payloads = {name: getattr(streams, name) for name in ("selection", "output", "completion")}
        super().__init__(
            {
                "order": In(stream.Signature(order_layout(slices))),
                **{
                    f"from_{name}": In(stream.Signature(payload)).array(slices)
                    for name, payload in payloads.items()
                },
                **{name: Out(stream.Signature(payload)) for name, payload in payloads.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        streams = self._streams
        home = self.order.payload.home
        depths = {
            # The list of a job that is not complete, and that of the job behind it.
            "selection": 2 * streams.most_selected,
            # All of a job: its completion comes behind them.
            "output": max(2, streams.output_beats),
            "completion": 2,
        }
        waiting = {}
        for name, depth in depths.items():
            queues = []
            for i in range(self._slices):
                queue = StreamFIFO(getattr(streams, name), depth=depth)
                m.submodules[f"{name}_queue_{i}"] = queue
                wiring.connect(m, wiring.flipped(getattr(self, f"from_{name}")[i]), queue.input)
                queues.append(queue.output)
            waiting[name] = queues

        chosen = {}
        go = {name: Signal(name=f"{name}_goes") for name in depths}
        for name, queues in waiting.items():
            out = getattr(self, name)
            chosen[name] = valid = Signal(name=f"{name}_waits")
            m.d.comb += [
                valid.eq(Array(queue.valid for queue in queues)[home]),
                out.payload.eq(Array(queue.payload.as_value() for queue in queues)[home]),
                out.valid.eq(valid & go[name]),
            ]
            for i, queue in enumerate(queues):
                m.d.comb += queue.ready.eq(go[name] & out.ready & (home == i))

        # The oldest job.
        complete, refused, done = Signal(), Signal(), Signal()
        listed = Signal()
        sent = Signal(range(streams.output_beats + 1))
        status = self.completion.payload.status
        m.d.comb += [
            complete.eq(self.order.valid & chosen["completion"]),
            refused.eq(Cat(status == code for code in Status if code.refused).any()),
            go["output"].eq(complete & ~refused & (sent != streams.output_beats)),
            go["selection"].eq(complete & ~refused & self.order.payload.selects & ~listed),
            go["completion"].eq(complete & ~go["output"] & ~go["selection"]),
            done.eq(self.completion.valid & self.completion.ready),
            self.order.ready.eq(done),
        ]
        with m.If(self.output.valid & self.output.ready):
            m.d.sync += sent.eq(sent + 1)
        with m.If(self.selection.valid & self.selection.ready & self.selection.payload.last):
            m.d.sync += listed.eq(1)
        with m.If(done):
            m.d.sync += [sent.eq(0), listed.eq(0)]
        return m
