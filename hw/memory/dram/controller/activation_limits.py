"""What the rank allows in the way of activations and refreshes."""

from amaranth.hdl import Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.one_hot import select
from hw.memory.dram.controller.timer import Timer

#: Activations, and refreshes of single banks, in a window of tFAW.
WINDOW = 4


class ActivationLimits(wiring.Component):
    """The timers of tRRD, tFAW and, where banks are refreshed one by one, tREFPB to others.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    activated : In(bank groups)
        An activation of the group ends in this cycle.
    refreshing : In(1)
        A refresh is issued in this cycle.
    target_groups : In(bank groups)
        Groups of the banks that a refresh would refresh.
    may_activate : Out(bank groups)
        An activation may begin.
    may_refresh : Out(1)
        A refresh of the target may be issued.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        groups = config.standard.bank_groups
        super().__init__(
            {
                "activated": In(groups),
                "refreshing": In(1),
                "target_groups": In(groups),
                "may_activate": Out(groups),
                "may_refresh": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        distances = self._distances
        activated = self.activated.any()
        activate = Signal()
        refresh = Signal()
        near = Signal(len(self.activated))
        near_refresh = Signal(len(self.activated))

        m.submodules.since_activate = any_group = self._since_activate("tRRD_S")
        m.d.comb += any_group.start.eq(activated)
        for i in range(len(self.activated)):
            m.submodules[f"since_activate_{i}"] = timer = self._since_activate("tRRD_L")
            m.d.comb += [
                timer.start.eq(self.activated[i]),
                near[i].eq(timer["activate"]),
                near_refresh[i].eq(timer["refresh"] | ~self.target_groups[i]),
            ]
            with m.If(near[i] & activate):
                m.d.comb += self.may_activate[i].eq(1)

        if not self._config.per_bank_refresh:
            # All banks are precharged then, for as long as they say themselves.
            m.d.comb += [
                activate.eq(any_group["activate"] & self._window(m, activated)[0]),
                self.may_refresh.eq(1),
            ]
            return m
        m.submodules.since_refresh = since_refresh = Timer(
            tpbR2act=distances.row_to_activate("tpbR2act"),
            tpbR2pbr=distances.row("tpbR2pbr"),
        )
        window, refresh_window = self._window(m, activated)
        m.d.comb += [
            since_refresh.start.eq(self.refreshing),
            activate.eq(any_group["activate"] & window & since_refresh["tpbR2act"]),
            refresh.eq(any_group["refresh"] & refresh_window & since_refresh["tpbR2pbr"]),
            self.may_refresh.eq(refresh & near_refresh.all()),
        ]
        return m

    def _since_activate(self, name: str) -> Timer:
        return Timer(
            activate=self._distances.activate_to_activate(name),
            refresh=self._distances.activate_to_row(name),
        )

    def _window(self, m: Module, activated: Value) -> tuple[Value, Value]:
        """Return whether tFAW allows an activation, and a refresh that counts as one."""
        distances = self._distances
        refreshing = self.refreshing if self._config.per_bank_refresh else Value.cast(0)
        turn = Signal(WINDOW, init=1)
        activate = []
        refresh = []
        with m.If(activated | refreshing):
            m.d.sync += turn.eq(turn.rotate_left(1))
        for i in range(WINDOW):
            m.submodules[f"activation_{i}"] = by_activation = self._since_activate("tFAW")
            m.submodules[f"refresh_{i}"] = by_refresh = Timer(
                activate=distances.refresh_to_activation_end("tFAW"),
                refresh=distances.row("tFAW"),
            )
            m.d.comb += [
                by_activation.start.eq(activated & turn[i]),
                by_refresh.start.eq(refreshing & turn[i]),
            ]
            activate.append(by_activation["activate"] & by_refresh["activate"])
            refresh.append(by_activation["refresh"] & by_refresh["refresh"])
        return select(turn, activate), select(turn, refresh)
