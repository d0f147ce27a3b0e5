"""The jobs of a system: to the slices and back, in order."""

from collections.abc import Callable

from amaranth.hdl import Const, Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from hw.distributor.collect import Collect
from hw.distributor.dispatch import Dispatch
from hw.distributor.port import JobStreams
from hw.placement import home_slice


class JobDistributor(wiring.Component):
    """No latency to the slices; results leave 2 or 3 cycles after the completion of the oldest job.

    Outside it looks like one slice: everything comes in the order of the jobs, so the results do
    not depend on the number of slices. One slice is connected as it is, without queues.

    Parameters
    ----------
    streams : JobStreams
    slices : int
        1, 2 or 4.
    selects : callable
        Of a job's payload: whether it has items on ``selection``, if it is not refused.
    brings_token : callable
        Of a job's payload: whether it has beats on ``token``; by default every job does.

    Members
    -------
    job, query, token : In(stream), selection, output, completion : Out(stream)
        As those of a slice; ``token`` if it has one.
    slice : Out(JobStreams.signature), per slice

    Raises
    ------
    ValueError
        ``slices`` is not legal.
    """

    def __init__(
        self,
        streams: JobStreams,
        *,
        slices: int,
        selects: Callable[[data.View], Value],
        brings_token: Callable[[data.View], Value] = lambda job: Const(1),
    ) -> None:
        home_slice(0, 0, 0, slices)  # refuses a wrong number
        self._streams = streams
        self._slices = slices
        self._selects = selects
        self._brings_token = brings_token
        outside = streams.signature.flip().members
        super().__init__({**outside, "slice": Out(streams.signature).array(slices)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self._slices == 1:
            only = self.slice[0]
            for name in self._streams.signature.members:
                inside, outside = getattr(only, name), getattr(self, name)
                wiring.connect(m, wiring.flipped(inside), wiring.flipped(outside))
            return m
        m.submodules.dispatch = dispatch = Dispatch(
            self._streams, self._slices, self._selects, self._brings_token
        )
        m.submodules.collect = collect = Collect(self._streams, self._slices)
        wiring.connect(m, dispatch.order, collect.order)
        for name in ("job", "query", *(["token"] if self._streams.token_beats else [])):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(dispatch, name))
            for i in range(self._slices):
                source = getattr(dispatch, f"sent_{name}")[i]
                wiring.connect(m, source, wiring.flipped(getattr(self.slice[i], name)))
        for name in ("selection", "output", "completion"):
            wiring.connect(m, getattr(collect, name), wiring.flipped(getattr(self, name)))
            for i in range(self._slices):
                sink = getattr(collect, f"from_{name}")[i]
                wiring.connect(m, wiring.flipped(getattr(self.slice[i], name)), sink)
        return m
