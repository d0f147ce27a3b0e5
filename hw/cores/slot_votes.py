"""Who receives less than others in a step: the vote rule (docs/contracts.md, section 11)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import RECEIVED_FRACTION, THRESHOLD_FRACTION, VOTE_FRACTION
from hw.cores.payloads import slot_uses
from hw.cores.score_tap import received_layout


def received_sum_bits(config: AttentionConfig) -> int:
    """Bits of what all slots receive in a step.

    A row gives 1 and, as the sum of its softmax misses up to half a unit of 2**-12 of every token
    and is at least a half, up to 2**-12 more for each; a second 1 is room for rounding.
    """
    row = (2 << RECEIVED_FRACTION) + (config.slots << RECEIVED_FRACTION - 12)
    return (config.rows * row).bit_length()


class SlotVotes(wiring.Component):
    """A vote, or none, for each token of a job of mode `SLOTS`; other jobs pass as they are.

    Latency: ``latency`` cycles from a job's last token to its first vote. Throughput: a token
    a cycle in, then a vote a cycle out; while a job waits and leaves, the next one is not taken.
    Other jobs have latency 0.

    All tokens count in mean and deviation, which are those of the step itself: what they received
    waits here. With n tokens, ``n * n`` variances are ``n * sum(x * x) - sum(x)**2``, one bit a
    cycle, and n deviations the root of it, one bit a cycle; products with n replace the division.

    Parameters
    ----------
    config : AttentionConfig
        With the rule ``votes``.

    Members
    -------
    received : In(stream of `received_layout`)
        A job's numbers add up to less than `received_sum_bits`.
    votes : Out(stream of `received_layout`)
        In the place of what a token received ``2**VOTE_FRACTION`` for a vote, or 0.
    uses : In(`slot_uses`)
        Of each job in flight, from its first ``received`` on.

    Raises
    ------
    ValueError
        ``config`` has another rule.
    """

    def __init__(self, config: AttentionConfig) -> None:
        if not config.votes:
            raise ValueError(
                f"slot_rule must be 'votes' and slots above 0, not {config.slot_rule!r} "
                f"and {config.slots}"
            )
        self._config = config
        layout = received_layout(config)
        self._total_bits = received_sum_bits(config)
        # A sum of squares is at most the largest number times the sum.
        self._square_bits = layout["received"].width + self._total_bits
        variance_bits = self._square_bits + config.slots.bit_length()
        self._root_bits = -(-variance_bits // 2)
        super().__init__(
            {
                "received": In(stream.Signature(layout)),
                "votes": Out(stream.Signature(layout)),
                "uses": In(slot_uses(config)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from the last token of a job to its first vote."""
        return self._total_bits + self._root_bits + 5

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, received, votes = self._config, self.received, self.votes
        value = received.payload.received
        m.submodules.waiting = waiting = Memory(shape=value.shape(), depth=config.slots, init=[])
        write, read = waiting.write_port(), waiting.read_port(domain="sync")

        count, token = Signal(range(config.slots + 1)), Signal(range(config.slots + 1))
        total, squares = Signal(self._total_bits), Signal(self._square_bits)
        giving, squaring, advance = Signal(), Signal(), Signal()
        # One multiplier: squares on the way in, n times a number on the way out.
        left, right = Signal(value.shape()), Signal(max(len(value), len(count)))
        product = Signal(len(left) + len(right))
        m.d.comb += [
            left.eq(Mux(giving, read.data, value)),
            right.eq(Mux(giving, count, value)),
            write.addr.eq(count),
            write.data.eq(value),
            read.addr.eq(token),
            read.en.eq(advance),
        ]
        with m.If(advance | ~giving):
            m.d.sync += product.eq(left * right)
        m.d.sync += squaring.eq(0)
        with m.If(squaring):
            m.d.sync += squares.eq(squares + product)

        slot = Signal.like(received.payload.slot)
        step = Signal(range(max(self._total_bits, self._root_bits)))
        # The variance may be negative on its way, not in the end.
        variance = Signal(signed(2 * self._root_bits + 2))
        root, remainder = Signal(self._root_bits), Signal(self._root_bits + 2)
        limit_bits = max(self._total_bits, self._root_bits) + 12
        limit = Signal(signed(limit_bits))
        uses = [self.uses[i].in_slots for i in range(config.jobs_in_flight)]
        in_slots = Array(uses)[received.payload.slot]
        with m.FSM():
            with m.State("TAKE"):
                with m.If(~in_slots):
                    m.d.comb += [
                        votes.payload.eq(received.payload),
                        votes.valid.eq(received.valid),
                        received.ready.eq(votes.ready),
                    ]
                with m.Else():
                    m.d.comb += [received.ready.eq(1), write.en.eq(received.valid)]
                with m.If(received.valid & in_slots):
                    m.d.sync += [
                        count.eq(count + 1),
                        total.eq(total + value),
                        squaring.eq(1),
                        slot.eq(received.payload.slot),
                    ]
                    with m.If(received.payload.last):
                        m.next = "SQUARE"
            with m.State("SQUARE"):
                # The last square is added.
                m.d.sync += [step.eq(self._total_bits - 1), variance.eq(0)]
                m.next = "VARIANCE"
            with m.State("VARIANCE"):
                more = Mux((count >> step)[0], squares, 0)
                less = Mux((total >> step)[0], total, 0)
                m.d.sync += [variance.eq((variance << 1) + more - less), step.eq(step - 1)]
                with m.If(step == 0):
                    m.d.sync += [step.eq(self._root_bits - 1), root.eq(0), remainder.eq(0)]
                    m.next = "ROOT"
            with m.State("ROOT"):
                pair = variance[2 * self._root_bits - 2 : 2 * self._root_bits]
                brought = Cat(pair, remainder)
                trial = Cat(1, 0, root)
                fits = brought >= trial
                m.d.sync += [
                    variance.eq(variance << 2),
                    remainder.eq(Mux(fits, brought - trial, brought)),
                    root.eq(Cat(fits, root)),
                    step.eq(step - 1),
                ]
                with m.If(step == 0):
                    m.next = "LIMIT"
            with m.State("LIMIT"):
                m.d.sync += [
                    limit.eq(total * config.slot_vote_mean - root * config.slot_vote_sigma),
                    token.eq(0),
                ]
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += giving.eq(1)
                self._give(m, token=token, count=count, slot=slot, advance=advance)
                vote = (product << THRESHOLD_FRACTION) < limit
                m.d.comb += votes.payload.received.eq(Mux(vote, 1 << VOTE_FRACTION, 0))
                with m.If(votes.valid & votes.ready & votes.payload.last):
                    m.d.sync += [count.eq(0), total.eq(0), squares.eq(0)]
                    m.next = "TAKE"
        return m

    def _give(
        self, m: Module, *, token: Signal, count: Signal, slot: Signal, advance: Signal
    ) -> None:
        """Read | multiply | compare: what is known of each token beside its number."""
        votes = self.votes
        there = [Signal(name=f"there_{i}") for i in range(2)]
        last = [Signal(name=f"last_{i}") for i in range(2)]
        reads = token != count
        m.d.comb += [
            advance.eq(~there[1] | votes.ready),
            votes.valid.eq(there[1]),
            votes.payload.last.eq(last[1]),
            votes.payload.slot.eq(slot),
        ]
        with m.If(advance):
            m.d.sync += [
                token.eq(token + reads),
                Cat(there).eq(Cat(reads, there[0])),
                Cat(last).eq(Cat(token + 1 == count, last[0])),
            ]
