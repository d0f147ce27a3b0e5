"""Gathers quantised groups and says which of their codes are kept."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.cores.compressor.payloads import pruned_layout
from hw.cores.quantiser.affine_quantiser import codes_layout
from hw.cores.quantiser.largest_mask import LargestMask


class Pruner(wiring.Component):
    """One group in as many cycles as `LargestMask` takes, or its beats if they are more.

    The next group comes while the mask of this one is found.

    Parameters
    ----------
    bits, group, lanes, base_every
        As of `AffineQuantiser`.
    keep
        Codes that are kept. Bases are not, and do not count.

    Members
    -------
    codes : In(stream)
        What `AffineQuantiser` makes.
    groups : Out(stream)
        ``code[group]``, ``mask``, ``base``, ``scale``, ``minimum``.
    """

    def __init__(
        self, *, bits: int, group: int, lanes: int, keep: int, base_every: int | None = None
    ) -> None:
        bases: Iterable[int] = () if base_every is None else range(0, group, base_every)
        self._mask = LargestMask(bits=bits, group=group, keep=keep, excluded=bases)
        self._lanes = lanes
        self._has_bases = base_every is not None
        #: Of so many beats the first has bases.
        self._base_beats = max(1, (base_every or 1) // lanes)
        super().__init__(
            {
                "codes": In(stream.Signature(codes_layout(bits, lanes, base_every))),
                "groups": Out(stream.Signature(pruned_layout(bits, group, base_every))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.mask = mask = self._mask
        codes, groups = self.codes, self.groups
        shape = groups.p.code.shape()
        taken = codes.valid & codes.ready
        # The newest beat comes in above; the last one need not be held.
        gathered = Signal(len(groups.p.code.as_value()))
        with_this = Cat(gathered[len(codes.p.code.as_value()) :], codes.p.code)
        with m.If(taken):
            m.d.sync += gathered.eq(with_this)
        m.d.comb += [
            mask.codes.valid.eq(codes.valid & codes.p.last),
            mask.codes.p.code.as_value().eq(with_this),
            mask.codes.p.scale.eq(codes.p.scale),
            mask.codes.p.minimum.eq(codes.p.minimum),
            codes.ready.eq(~codes.p.last | mask.codes.ready),
            groups.valid.eq(mask.mask.valid),
            groups.p.mask.eq(mask.mask.payload),
            mask.mask.ready.eq(groups.ready),
        ]
        held = Signal(shape)
        scale, minimum = Signal.like(codes.p.scale), Signal.like(codes.p.minimum)
        with m.If(mask.codes.valid & mask.codes.ready):
            m.d.sync += [
                held.eq(with_this),
                scale.eq(codes.p.scale),
                minimum.eq(codes.p.minimum),
            ]
        m.d.comb += [
            groups.p.code.eq(held),
            groups.p.scale.eq(scale),
            groups.p.minimum.eq(minimum),
        ]
        if self._has_bases:
            self._hold_bases(m, taken, mask.codes.valid & mask.codes.ready)
        return m

    def _hold_bases(self, m: Module, taken: Value, ends: Value) -> None:
        """Gather the bases of a group, and hold them when it ends."""
        codes, groups = self.codes, self.groups
        bases = Signal(len(groups.p.base.as_value()))
        held = Signal.like(bases)
        place = Signal(range(max(2, self._base_beats)))
        new = Cat(bases[len(codes.p.base.as_value()) :], codes.p.base)
        with_base = Mux(place == 0, new, bases)
        with m.If(taken):
            m.d.sync += [
                bases.eq(with_base),
                place.eq(Mux(codes.p.last | (place == self._base_beats - 1), 0, place + 1)),
            ]
        with m.If(ends):
            m.d.sync += held.eq(with_base)
        m.d.comb += groups.p.base.as_value().eq(held)
