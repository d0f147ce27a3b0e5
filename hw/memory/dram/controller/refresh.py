"""When to refresh which bank."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.timer import Timer


class RefreshManager(wiring.Component):
    """Claims the banks of one refresh at a time; a claim ends with the refresh.

    A refresh comes due every tREFI over the refreshes of a round. One that is due is done as soon
    as some set of banks that the round still lacks has nothing to do; when ``refresh_debt`` rounds
    are owed, the next set is claimed whatever it has to do, until no more than half of them are
    owed. A round is complete before the next begins.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    idle : In(banks)
        Banks without a job.
    ready : In(banks)
        Banks that are precharged for long enough.
    claimed : Out(banks)
        Banks that have to stop.
    request : Out(1)
        All claimed banks are ready: refresh the set ``target`` once the rank allows it.
    grant : In(1)
        The refresh is issued in this cycle.
    target : Out
        Number of the set.
    debt : Out
        Refreshes owed, of all sets together.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        banks = config.standard.banks
        sets = len(config.bank_sets)
        super().__init__(
            {
                "idle": In(banks),
                "ready": In(banks),
                "claimed": Out(banks),
                "request": Out(1),
                "grant": In(1),
                "target": Out(range(max(2, sets))),
                "debt": Out(range(sets * config.standard.postponed_refreshes + 1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, bank_sets = self._config, self._config.bank_sets
        sets = len(bank_sets)

        interval = config.standard["tREFI"] // (config.gear * sets)
        count = Signal(range(interval))
        due = Signal()
        m.d.comb += due.eq(count == interval - 1)
        m.d.sync += [
            count.eq(Mux(due, 0, count + 1)),
            self.debt.eq(self.debt + due - self.grant),
        ]

        # Once forced, several are done in a row: what it costs to stop is paid once.
        forced = Signal()
        with m.If(self.debt >= config.refresh_debt * sets):
            m.d.sync += forced.eq(1)
        with m.Elif(self.debt <= config.refresh_debt * sets // 2):
            m.d.sync += forced.eq(0)

        left = Signal(sets, init=-1)
        idle = Signal(sets)
        wanted = Signal(sets)
        for i, banks in enumerate(bank_sets):
            m.d.comb += idle[i].eq(Cat(self.idle[bank] for bank in banks).all())
        m.d.comb += wanted.eq(Mux((left & idle).any(), left & idle, Mux(forced, left, 0)))

        active = Signal()
        chosen = Signal(sets)
        with m.If(self.grant):
            m.d.sync += [active.eq(0), left.eq(Mux(left == chosen, -1, left & ~chosen))]
        with m.Elif(~active & (self.debt != 0) & wanted.any()):
            m.d.sync += [active.eq(1), chosen.eq(wanted & -wanted)]

        ready = Signal()
        may_begin = Signal(init=1)
        m.d.comb += self.request.eq(active & ready & may_begin)
        for i, banks in enumerate(bank_sets):
            with m.If(chosen[i]):
                m.d.comb += [
                    self.target.eq(i),
                    ready.eq(Cat(self.ready[bank] for bank in banks).all()),
                    self.claimed.eq(Mux(active, sum(1 << bank for bank in banks), 0)),
                ]
        if config.per_bank_refresh:
            m.submodules.round = between_rounds = Timer(tpbRround=self._distances.row("tpbRround"))
            m.d.comb += [
                between_rounds.start.eq(self.grant),
                may_begin.eq(~left.all() | between_rounds["tpbRround"]),
            ]
        return m
