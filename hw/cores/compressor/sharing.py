"""The appender and the closer of windows serve jobs and prompts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.compressor.payloads import ANSWER, window_layout
from hw.cores.compressor.tail_appender import token_layout
from hw.memory.round_robin import RoundRobin
from hw.streams import StreamRegister

#: Who asks: jobs, and the import of prompts.
JOBS, PROMPTS = range(2)
#: Tokens that the appender and the register before it hold.
_UNDER_WAY = 3


class AppenderShare(wiring.Component):
    """Whole tokens in turn, each 1 cycle later than it was offered.

    Tokens of prompts follow each other as the appender takes them, until one of a job waits; that
    one is next when they have ended. A job's token keeps the appender until it is written, so that
    a prompt cannot hold it up.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    tokens, beats : In(stream) per source
        A source offers no beats before their token was taken.
    token, token_beats : Out(stream)
        To the appender.
    ended : In(1)
        The appender's last burst of a token is on its way.
    written : In(1)
        All of the appender's bursts are written.
    of : Out(1)
        Whose tokens are under way, or were.
    """

    def __init__(self, config: AttentionConfig) -> None:
        token, beat = stream.Signature(token_layout(config)), stream.Signature(BEAT_BITS)
        super().__init__(
            {
                "tokens": In(token).array(2),
                "beats": In(beat).array(2),
                "token": Out(token),
                "token_beats": Out(beat),
                "ended": In(1),
                "written": In(1),
                "of": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.turn = turn = RoundRobin(2)
        m.submodules.register = register = StreamRegister(self.token.payload.shape())
        connect(m, register.output, flipped(self.token))
        #: Tokens that have not ended; and whether a job's one is not written.
        under_way, unwritten = Signal(range(_UNDER_WAY + 1)), Signal()
        token, beats = register.input, self.token_beats
        free = (under_way == 0) & ~unwritten
        follows = (self.of == PROMPTS) & ~self.tokens[JOBS].valid & (under_way != _UNDER_WAY)
        m.d.comb += turn.enable.eq(token.ready & (free | follows))
        for i in (JOBS, PROMPTS):
            m.d.comb += [
                turn.waiting[i].eq(self.tokens[i].valid),
                self.tokens[i].ready.eq(turn.grant[i]),
                self.beats[i].ready.eq((self.of == i) & beats.ready),
            ]
        m.d.comb += [
            token.valid.eq(turn.grant.any()),
            token.payload.eq(
                Mux(
                    turn.grant[PROMPTS],
                    self.tokens[PROMPTS].payload.as_value(),
                    self.tokens[JOBS].payload.as_value(),
                )
            ),
            beats.valid.eq(Mux(self.of, self.beats[PROMPTS].valid, self.beats[JOBS].valid)),
            beats.payload.eq(Mux(self.of, self.beats[PROMPTS].payload, self.beats[JOBS].payload)),
        ]
        m.d.sync += under_way.eq(under_way + token.valid - self.ended)
        with m.If(token.valid):
            m.d.sync += [self.of.eq(turn.grant[PROMPTS]), unwritten.eq(turn.grant[JOBS])]
        with m.Elif(self.written):
            m.d.sync += unwritten.eq(0)
        return m


class CloserShare(wiring.Component):
    """Windows in turn, each until its answer, 1 cycle later than it was offered.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    windows : In(stream), answers : Out(stream) per source
    window : Out(stream), answer : In(stream)
        To the closer and back.
    """

    def __init__(self, config: AttentionConfig) -> None:
        window, answer = stream.Signature(window_layout(config)), stream.Signature(ANSWER)
        super().__init__(
            {
                "windows": In(window).array(2),
                "answers": Out(answer).array(2),
                "window": Out(window),
                "answer": In(answer),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.turn = turn = RoundRobin(2)
        m.submodules.register = register = StreamRegister(self.window.payload.shape())
        connect(m, register.output, flipped(self.window))
        busy, of = Signal(), Signal()
        window = register.input
        m.d.comb += [
            turn.enable.eq(~busy & window.ready),
            window.valid.eq(turn.grant.any()),
            window.payload.eq(
                Mux(
                    turn.grant[PROMPTS],
                    self.windows[PROMPTS].payload.as_value(),
                    self.windows[JOBS].payload.as_value(),
                )
            ),
            self.answer.ready.eq(Mux(of, self.answers[PROMPTS].ready, self.answers[JOBS].ready)),
        ]
        for i in (JOBS, PROMPTS):
            m.d.comb += [
                turn.waiting[i].eq(self.windows[i].valid),
                self.windows[i].ready.eq(turn.grant[i]),
                self.answers[i].valid.eq(self.answer.valid & (of == i)),
                self.answers[i].payload.eq(self.answer.payload),
            ]
        with m.If(window.valid):
            m.d.sync += [busy.eq(1), of.eq(turn.grant[PROMPTS])]
        with m.Elif(self.answer.valid & self.answer.ready):
            m.d.sync += busy.eq(0)
        return m
