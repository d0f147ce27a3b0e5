"""The end of a job of a core that writes its caches: saliency, and a window that closes."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.compressor.burst_builder import HALF_ADDRESS_BITS, PIECE
from hw.cores.compressor.payloads import ANSWER, ENABLED_BYTES, window_count, window_layout
from hw.cores.job_admission import started_layout
from hw.cores.job_retire import completion_layout
from hw.cores.saliency_update import SALIENCY_BEAT
from hw.counters import Counter
from hw.formats import KVFormat, Mode, Status


class JobFinish(wiring.Component):
    """Holds a completion until all that its job writes is written.

    Latency beside the writes and the closing of a window: 2 cycles of a job that writes nothing,
    else a beat of saliency a cycle and 4 more. Completions stay in order. A job that did not end
    with OK leaves saliency and windows as they were; its token stays behind the end of the cache.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    done : In(stream of `completion_layout`)
        The core's completions.
    started : In(stream of `started_layout`)
        The jobs among them that the core did not refuse.
    saliency : In(stream of `SALIENCY_BEAT`)
        Of each of these in mode `KVO`.
    pieces : Out(stream of PIECE)
        Saliencies to be written; ``last`` marks the last one of a job.
    written, failed : In(1)
        For a cycle: all pieces of the job are written; a write of them failed, not after it.
    window : Out(stream of `window_layout`), answer : In(stream of ANSWER)
        To the closer of windows and back.
    completion : Out(stream of `completion_layout`)
        ``status`` is that of the job, or else of its token, its saliency or its window.
    finished : Out(1)
        For a cycle: a job that started has ended.
    counters
        Windows that jobs closed.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.windows = Counter("windows_closed", "windows closed after a job", unit="windows")
        self.counters = [self.windows]
        completion = stream.Signature(completion_layout(config))
        super().__init__(
            {
                "done": In(completion),
                "started": In(stream.Signature(started_layout(config))),
                "saliency": In(stream.Signature(SALIENCY_BEAT)),
                "pieces": Out(stream.Signature(PIECE)),
                "written": In(1),
                "failed": In(1),
                "window": Out(stream.Signature(window_layout(config))),
                "answer": In(stream.Signature(ANSWER)),
                "completion": Out(completion),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        done, started, job = self.done, self.started, self.started.payload.job
        status, runs = Signal(Status), Signal()
        refused = Const(0, 1)
        for code in Status:
            if code.refused:
                refused = refused | (done.payload.status == code)

        shift = (config.window // config.chunk - 1).bit_length()
        windows = job.chunks >> shift
        due = (job.tail == 2 * config.window) & (windows < window_count(config))
        m.d.comb += [
            self.completion.payload.eq(done.payload),
            self.completion.payload.status.eq(status),
            self.window.payload.base_address.eq(job.base_address),
            self.window.payload.chunk_address.eq(job.chunk_address),
            self.window.payload.tail_address.eq(job.tail_address),
            self.window.payload.window.eq(windows),
        ]
        passes, discards = Signal(), Signal()
        self._place(m, job, windows[0])
        m.d.comb += [
            self.pieces.valid.eq(self.saliency.valid & passes),
            self.saliency.ready.eq(Mux(passes, self.pieces.ready, discards)),
        ]
        last = self.saliency.valid & self.saliency.ready & self.saliency.payload.last

        # The first writes of a job may end while its last saliencies come, which then go on: half a
        # burst must not stay behind.
        spoilt = Signal()
        with m.If(self.failed):
            m.d.sync += spoilt.eq(1)
        with m.FSM():
            with m.State("JOB"):
                m.d.sync += [status.eq(done.payload.status), runs.eq(~refused), spoilt.eq(0)]
                with m.If(done.valid & refused):
                    m.next = "COMPLETE"
                with m.Elif(done.valid & started.valid):
                    with m.If(done.payload.status == Status.OK):
                        m.d.sync += status.eq(started.payload.status)
                    m.next = "WRITE"
                    with m.If(job.mode != Mode.KVO):
                        m.next = "COMPLETE"
            with m.State("WRITE"):
                m.d.comb += [passes.eq(status == Status.OK), discards.eq(1)]
                with m.If(last):
                    m.next = "COMPLETE"
                    with m.If(passes):
                        m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(self.failed | spoilt):
                    m.d.sync += status.eq(Status.MEMORY_ERROR)
                with m.If(self.written):
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                m.next = "COMPLETE"
                with m.If((status == Status.OK) & due):
                    m.d.comb += self.window.valid.eq(1)
                    m.next = "CLOSE"
                    with m.If(self.window.ready):
                        m.next = "CLOSED"
            with m.State("CLOSED"):
                m.d.comb += self.answer.ready.eq(1)
                m.d.sync += status.eq(self.answer.payload.status)
                with m.If(self.answer.valid):
                    m.d.comb += self.windows.event.eq(self.answer.payload.status == Status.OK)
                    m.next = "COMPLETE"
            with m.State("COMPLETE"):
                m.d.comb += self.completion.valid.eq(1)
                with m.If(self.completion.ready):
                    m.d.comb += [
                        done.ready.eq(1),
                        started.ready.eq(runs),
                        self.finished.eq(runs),
                    ]
                    m.next = "JOB"
        return m

    def _place(self, m: Module, job: data.View, upper_half: Signal) -> None:
        """Where the saliencies of the blocks go, from the oldest block of the ring on."""
        layout = KVFormat(self._config)
        blocks = layout.tail_blocks
        beats = layout.saliency_bytes * 8 // SALIENCY_BEAT["data"].width
        size = layout.saliency_bytes // ENABLED_BYTES // beats
        step = layout.tail_block_bytes // ENABLED_BYTES
        block, beat = Signal(range(blocks)), Signal(range(max(2, beats)))
        offset, begin = Signal(HALF_ADDRESS_BITS), Signal(init=1)
        saliency, piece = self.saliency.payload, self.pieces.payload
        moved = self.saliency.valid & self.saliency.ready
        block_end = beat == beats - 1
        at_block, at = Signal.like(block), Signal.like(offset)
        m.d.comb += [
            at_block.eq(Mux(begin, Mux(upper_half, blocks // 2, 0), block)),
            at.eq(Mux(begin, Mux(upper_half, blocks // 2 * step, 0), offset)),
            piece.address.eq(
                job.tail_address[(ENABLED_BYTES - 1).bit_length() :] + at + beat * size
            ),
            piece.data.eq(saliency.data),
            piece.size.eq(size.bit_length() - 1),
            piece.end.eq(block_end),
            piece.last.eq(saliency.last),
        ]
        wraps = at_block == blocks - 1
        with m.If(moved):
            m.d.sync += [
                begin.eq(saliency.last),
                beat.eq(Mux(block_end, 0, beat + 1)),
                block.eq(Mux(block_end, Mux(wraps, 0, at_block + 1), at_block)),
                offset.eq(Mux(block_end, Mux(wraps, 0, at + step), at)),
            ]
