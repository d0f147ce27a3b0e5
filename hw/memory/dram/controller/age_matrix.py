"""Which of some things is the oldest."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class AgeMatrix(wiring.Component):
    """Keeps the order in which ``number`` things were renewed; new from the next cycle on.

    Parameters
    ----------
    number
        Things, at least 2.

    Members
    -------
    renew : In(number)
        Things that become the youngest; of several the highest is the youngest.
    older : Out(number * number)
        Bit ``i * number + j``: thing i is older than thing j.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        super().__init__({"renew": In(number), "older": Out(number * number)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i in range(self._number):
            for j in range(i + 1, self._number):
                older = Signal(name=f"older_{i}_{j}")
                with m.If(self.renew[j]):
                    m.d.sync += older.eq(1)
                with m.Elif(self.renew[i]):
                    m.d.sync += older.eq(0)
                m.d.comb += [
                    self.older[i * self._number + j].eq(older),
                    self.older[j * self._number + i].eq(~older),
                ]
        return m


def oldest(requests: Value, older: Value) -> Value:
    """Return the bit of ``requests`` that belongs to the oldest thing, and no other.

    Parameters
    ----------
    requests
        A bit per thing.
    older
        ``AgeMatrix.older``.
    """
    number = len(requests)
    return Cat(
        requests[i]
        & ~reduce(
            or_,
            (requests[j] & older[j * number + i] for j in range(number) if j != i),
            Value.cast(0),
        )
        for i in range(number)
    )
