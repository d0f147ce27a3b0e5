"""Who goes next: deficit round robin by bytes, and a cap on the wait."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.port import REQUEST_BURSTS

#: Bits of a wait, in cycles; it stops at its largest value.
WAIT_BITS = 16


class Schedule(wiring.Component):
    """One grant in every cycle of ``enable`` with a client that can go, in the same cycle.

    Deficit round robin (Shreedhar and Varghese, 1995): a turn adds the quantum to the client's
    deficit, its requests go while the deficit covers them, and what is left is kept while the
    client has more. So under load the bytes are shared as the quanta are.

    A client that has waited ``patience`` cycles goes first, the one that came first of several. So
    none sees more than one grant to each of the others from then on in cycles in which it could go.

    Parameters
    ----------
    quanta
        Per client the bursts of a turn, at least those of the longest request.
    patience
        Cycles of ``waiting`` until a client goes first: 1 to 65535.

    Members
    -------
    waiting : In
        A bit for each client: it has a request. It stays until the grant.
    blocked : In
        A bit for each client: its request cannot go in this cycle.
    bursts : In, per client
        Bursts of its request, 1 to 16.
    enable : In(1)
        A request may go in this cycle.
    grant : Out
        At most one bit: whose request goes in this cycle.
    wait : Out(16), per client
        Cycles that its request has waited.

    Raises
    ------
    ValueError
        A parameter is not legal.
    """

    def __init__(self, quanta: Sequence[int], *, patience: int) -> None:
        for quantum in quanta:
            if quantum < REQUEST_BURSTS:
                raise ValueError(f"quanta must be at least {REQUEST_BURSTS}, not {quantum!r}")
        if not 1 <= patience < 1 << WAIT_BITS:
            raise ValueError(f"patience must be 1 to {(1 << WAIT_BITS) - 1}, not {patience!r}")
        self._quanta = tuple(quanta)
        self._patience = patience
        clients = len(self._quanta)
        super().__init__(
            {
                "waiting": In(clients),
                "blocked": In(clients),
                "bursts": In(range(REQUEST_BURSTS + 1)).array(clients),
                "enable": In(1),
                "grant": Out(clients),
                "wait": Out(WAIT_BITS).array(clients),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        clients = range(len(self._quanta))
        ready = Signal(len(clients))
        m.d.comb += ready.eq(self.waiting & ~self.blocked)

        impatient = Signal(len(clients))
        first = self._first_come(m, impatient)
        for i in clients:
            wait = self.wait[i]
            m.d.comb += impatient[i].eq(ready[i] & (wait >= self._patience))
            with m.If(~self.waiting[i] | self.grant[i]):
                m.d.sync += wait.eq(0)
            with m.Elif(wait != (1 << WAIT_BITS) - 1):
                m.d.sync += wait.eq(wait + 1)

        # The turn, and whose it is next: the first one behind it that can go.
        turn = Signal(len(clients), init=1)
        covered = Signal(len(clients))
        following = Signal(len(clients))
        for i in clients:
            order = [*clients[i + 1 :], *clients[: i + 1]]
            with m.If(turn[i]):
                for j in reversed(order):
                    with m.If(ready[j]):
                        m.d.comb += following.eq(1 << j)
        goes_on = (turn & ready & covered).any()
        chosen = Signal(len(clients))
        m.d.comb += [
            chosen.eq(Mux(impatient.any(), first, Mux(goes_on, turn, following))),
            self.grant.eq(Mux(self.enable, chosen, 0)),
        ]
        new_turn = Signal()
        m.d.comb += new_turn.eq(self.enable & ready.any() & ~impatient.any() & ~goes_on)
        with m.If(new_turn):
            m.d.sync += turn.eq(following)

        for i, quantum in enumerate(self._quanta):
            bursts = self.bursts[i]
            deficit = Signal(range(quantum + REQUEST_BURSTS), name=f"deficit_{i}")
            funds = Signal(range(quantum + REQUEST_BURSTS), name=f"funds_{i}")
            m.d.comb += [
                covered[i].eq(deficit >= bursts),
                funds.eq(deficit + Mux(new_turn, quantum, 0)),
            ]
            with m.If(self.grant[i]):
                # Out of turn it may go beyond what it has.
                m.d.sync += deficit.eq(Mux(funds >= bursts, funds - bursts, 0))
            with m.Elif(~self.waiting[i] & (~turn[i] | new_turn)):
                m.d.sync += deficit.eq(0)
        return m

    def _first_come(self, m: Module, among: Value) -> Value:
        """Return the one of ``among`` whose request came first.

        A bit for each pair says who did, which is exact however long they wait.
        """
        clients = range(len(self._quanta))
        renewed = ~self.waiting | self.grant
        before: dict[tuple[int, int], Value] = {}
        for i in clients:
            for j in clients[i + 1 :]:
                earlier = Signal(init=1, name=f"before_{i}_{j}")
                with m.If(renewed[i] | renewed[j]):
                    m.d.sync += earlier.eq(renewed[j])
                before[i, j] = earlier
                before[j, i] = ~earlier
        return Cat(
            among[i] & ~reduce(or_, (among[j] & before[j, i] for j in clients if j != i), Cat(0))
            for i in clients
        )
