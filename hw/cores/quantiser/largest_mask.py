"""Which codes of a group stand for its largest numbers: channel and token pruning."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import add_by_halves, counts_before, fixed_size, fp16
from hw.constants import FIXED_BITS
from hw.formats import FP16_BITS

LEGAL_BITS = (2, 4)


def group_layout(bits: int, group: int) -> data.StructLayout:
    """Codes of a whole group, lowest index first, with its FP16 parameters."""
    return data.StructLayout(
        {"code": data.ArrayLayout(bits, group), "scale": FP16_BITS, "minimum": FP16_BITS}
    )


class LargestMask(wiring.Component):
    """The ``keep`` numbers of a group that are largest in size; of equal ones the lowest indices.

    Latency 2 to ``2**bits + 1`` cycles, and as many a group, less one: a cycle for each size that
    is looked at, from the largest on, until enough are kept. A number is
    ``code * scale + minimum``, so of the codes ``low..high`` not yet looked at one of both ends is
    the largest: the upper one if the numbers of both add up to more than 0. With exactly 0 both are
    equal and looked at together. One sum, changed by a scale at a time, thus replaces every
    comparison of sizes.

    Parameters
    ----------
    bits : int
        Bits of a code: 2 or 4.
    group : int
        Numbers of a group.
    keep : int
        Numbers to keep, at least 1.
    excluded : iterable of int
        Indices that are never kept and do not count.

    Members
    -------
    codes : In(stream)
        ``code[group]``, ``scale`` (positive) and ``minimum``, FP16.
    mask : Out(stream)
        ``group`` bits, of which ``keep`` are 1.

    Raises
    ------
    ValueError
        A parameter has an illegal value.
    """

    def __init__(
        self, *, bits: int, group: int, keep: int, excluded: Iterable[int] = frozenset()
    ) -> None:
        if bits not in LEGAL_BITS:
            raise ValueError(f"bits must be one of {LEGAL_BITS}, not {bits!r}")
        places = [i for i in range(group) if i not in set(excluded)]
        if not 1 <= keep <= len(places):
            raise ValueError(f"keep must be from 1 to {len(places)}, not {keep!r}")
        self._bits = bits
        self._keep = keep
        self._places = places
        super().__init__(
            {
                "codes": In(stream.Signature(group_layout(bits, group))),
                "mask": Out(stream.Signature(group)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        codes = Signal.like(self.codes.p.code)
        kept = Signal(len(self.mask.payload))
        left = Signal(range(self._keep + 1))
        low, high = Signal(self._bits), Signal(self._bits)
        # Numbers of the lowest and the highest code left, added.
        ends = Signal(signed(FIXED_BITS + 2))
        step = Signal(FIXED_BITS - 1)

        upper, lower = ends >= 0, ends <= 0
        # How many of this size have a lower index, and this one: of each index.
        here = [((codes[i] == high) & upper) | ((codes[i] == low) & lower) for i in self._places]
        counts = counts_before(m, Cat(*here))
        now = [one & (count < left) for one, count in zip(here, counts[:-1], strict=True)]
        found = counts[-1]
        chosen = Signal.like(kept)
        m.d.comb += [chosen[i].eq(one) for i, one in zip(self._places, now, strict=True)]

        # Twice the minimum and the whole range; then one scale less, or more.
        scale, minimum = fp16(self.codes.p.scale), fp16(self.codes.p.minimum)
        whole, twice, change = (Signal.like(ends) for _ in range(3))
        steps = (scale.mantissa << self._bits) - scale.mantissa
        size = fixed_size(minimum) << 1
        m.d.comb += [
            self.mask.payload.eq(kept),
            whole.eq(steps << (scale.exponent - 1)[:5]),
            twice.eq(size ^ minimum.sign.replicate(len(ends))),
            change.eq(Mux(upper & lower, 0, step ^ upper.replicate(len(ends)))),
        ]
        with m.FSM():
            with m.State("CODES"):
                m.d.comb += self.codes.ready.eq(1)
                m.d.sync += [
                    codes.eq(self.codes.p.code),
                    kept.eq(0),
                    left.eq(self._keep),
                    low.eq(0),
                    high.eq(-1),
                    step.eq(fixed_size(scale)),
                    ends.eq(add_by_halves(m, whole, twice, minimum.sign)),
                ]
                with m.If(self.codes.valid):
                    m.next = "SIZES"
            with m.State("SIZES"):
                m.d.sync += [
                    kept.eq(kept | chosen),
                    left.eq(left - found),
                    low.eq(low + lower),
                    high.eq(high - upper),
                    ends.eq(add_by_halves(m, ends, change, upper & ~lower)),
                ]
                with m.If(found >= left):
                    m.next = "MASK"
            with m.State("MASK"):
                m.d.comb += self.mask.valid.eq(1)
                with m.If(self.mask.ready):
                    m.next = "CODES"
        return m
