"""Constants beside conditions: refused where they would be lost, and nowhere else."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.tools.settled import UnsettledError, check_settled
from tb.harness import simulate
from tb.harness.elaborate import elaborate

PAIR = data.StructLayout({"constant": 4, "chosen": 4, "always": 4})


class Parts(wiring.Component):
    """A constant part, a chosen part and a part that is always assigned."""

    def __init__(self, *, conditional: bool) -> None:
        self._conditional = conditional
        super().__init__({"choose": In(1), "into": In(4), "pair": Out(PAIR)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [self.pair.constant.eq(0), self.pair.always.eq(self.into)]
        if self._conditional:
            with m.If(self.choose):
                m.d.comb += self.pair.chosen.eq(self.into)
        else:
            m.d.comb += self.pair.chosen.eq(Mux(self.choose, self.into, 0))
        return m


def test_constant_beside_a_condition_is_refused() -> None:
    with pytest.raises(UnsettledError, match=r"pair\[3:0\] is a constant beside parts"):
        elaborate(Parts(conditional=True), "lost_part")


def test_constant_beside_a_choice_is_fine() -> None:
    run = simulate(
        Parts(conditional=False),
        name="kept_part",
        inputs={},
        outputs={},
        settings={"choose": 1, "into": 9},
        observe=["pair"],
    )
    assert run.observed == {"pair": 0x990}


@pytest.mark.parametrize(
    "text",
    [
        "  always @*\n    x[1:0] = y[1:0];\n",
        "  assign x = 2'h0;\n",
        "  always @(posedge clk)\n    x = 2'h0;\n",
        "  always @* begin\n    if (at_time_zero ) begin end\n    x = 2'h0;\n",
    ],
)
def test_other_assignments_are_fine(text: str) -> None:
    check_settled(text)


@pytest.mark.parametrize("what", ["x", "x[3]", r"\x.y [3:2]"])
def test_lost_constants(what: str) -> None:
    with pytest.raises(UnsettledError):
        check_settled(f"module m;\n  always @*\n    {what} = 2'h0;\n")
