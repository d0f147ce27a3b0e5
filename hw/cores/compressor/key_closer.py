"""Base keys and delta records of a window."""

from amaranth.hdl import Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BURST_BYTES, AttentionConfig
from hw.cores.compressor.base_rows import BaseRows
from hw.cores.compressor.delta_elements import DeltaElements
from hw.cores.compressor.key_differences import KeyDifferences
from hw.cores.compressor.payloads import (
    BURST,
    BURST_ADDRESS_BITS,
    WORD_ADDRESS_BITS,
    chunk_order,
)
from hw.cores.compressor.pruner import Pruner
from hw.cores.compressor.record_packer import RecordPacker
from hw.cores.payloads import BEAT
from hw.cores.quantiser.affine_quantiser import AffineQuantiser
from hw.formats import KVFormat


class KeyCloser(wiring.Component):
    """Closes the keys of a window chunk by chunk; the units' docstrings have the pace.

    Parameters
    ----------
    config
        ``mask_scope`` must be ``token``.
    lanes
        Numbers that are quantised in a cycle: 4 or 8.

    Members
    -------
    start : In(1)
        A window begins; everything of the one before must have left.
    base_pairs, base_codes : In(30)
        Where the parameters and the codes of its first base key go, in words of 4 bytes.
    deltas : In(27)
        Where its first delta record goes, in bursts.
    order, pairs, codes
        As of `KeyDifferences`.
    base_bursts, delta_bursts : Out(stream of BURST)

    Raises
    ------
    ValueError
        ``mask_scope`` is not ``token``.
    """

    def __init__(self, config: AttentionConfig, *, lanes: int) -> None:
        if config.mask_scope != "token":
            raise ValueError(
                f"mask_scope must be 'token' to close windows, not {config.mask_scope!r}"
            )
        layout = KVFormat(config)
        bits = config.key_delta_bits
        self._differences = KeyDifferences(config, lanes=lanes)
        self._quantiser = AffineQuantiser(bits=bits, group=config.group, lanes=lanes)
        self._pruner = Pruner(bits=bits, group=config.group, lanes=lanes, keep=config.key_keep)
        self._elements = DeltaElements(config)
        self._packer = RecordPacker(
            element_bits=layout.delta_element_bits,
            elements=layout.delta_elements,
            records=1,
            loops=[
                (layout.delta_bytes // BURST_BYTES, 1),
                (config.group_chunks, layout.chunk_bytes // BURST_BYTES),
                (config.window // config.value_group, layout.group_bytes // BURST_BYTES),
            ],
        )
        self._rows = BaseRows(config)
        super().__init__(
            {
                "start": In(1),
                "base_pairs": In(WORD_ADDRESS_BITS),
                "base_codes": In(WORD_ADDRESS_BITS),
                "deltas": In(BURST_ADDRESS_BITS),
                "order": In(stream.Signature(chunk_order(config))),
                "pairs": In(stream.Signature(BEAT_BITS)),
                "codes": In(stream.Signature(BEAT)),
                "base_bursts": Out(stream.Signature(BURST)),
                "delta_bursts": Out(stream.Signature(BURST)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.differences = differences = self._differences
        m.submodules.quantiser = quantiser = self._quantiser
        m.submodules.pruner = pruner = self._pruner
        m.submodules.delta_elements = elements = self._elements
        m.submodules.packer = packer = self._packer
        m.submodules.rows = rows = self._rows
        connect(m, flipped(self.order), differences.order)
        connect(m, flipped(self.pairs), differences.pairs)
        connect(m, flipped(self.codes), differences.codes)
        connect(m, differences.numbers, quantiser.numbers)
        connect(m, quantiser.codes, pruner.codes)
        connect(m, pruner.groups, elements.groups)
        connect(m, differences.base, rows.items)
        connect(m, rows.bursts, flipped(self.base_bursts))
        connect(m, packer.bursts, flipped(self.delta_bursts))
        m.d.comb += [
            packer.elements.payload.eq(Value.cast(elements.elements.payload)),
            packer.elements.valid.eq(elements.elements.valid),
            elements.elements.ready.eq(packer.elements.ready),
            packer.address.eq(self.deltas),
            rows.pairs.eq(self.base_pairs),
            rows.codes.eq(self.base_codes),
        ]
        m.d.comb += [unit.start.eq(self.start) for unit in (differences, packer, rows)]
        return m
