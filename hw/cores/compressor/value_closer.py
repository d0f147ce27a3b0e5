"""Value scales and value records of a window."""

from amaranth.hdl import Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BURST_BYTES, AttentionConfig
from hw.cores.compressor.payloads import BURST, BURST_ADDRESS_BITS, chunk_order
from hw.cores.compressor.pruner import Pruner
from hw.cores.compressor.record_packer import RecordPacker
from hw.cores.compressor.value_elements import ValueElements
from hw.cores.compressor.value_numbers import ValueNumbers
from hw.cores.payloads import BEAT
from hw.cores.quantiser.affine_quantiser import AffineQuantiser
from hw.formats import PAIR_BITS, KVFormat


class ValueCloser(wiring.Component):
    """Closes the values of a window group by group; the units' docstrings have the pace.

    Parameters
    ----------
    config
    lanes
        Numbers that are quantised in a cycle: 4 or 8.

    Members
    -------
    start : In(1)
        A window begins; everything of the one before must have left.
    scale_address, records : In(27)
        Where its first value scales and its first value record go, in bursts.
    order, scales, codes
        As of `ValueNumbers`.
    scale_bursts, record_bursts : Out(stream of BURST)
    """

    def __init__(self, config: AttentionConfig, *, lanes: int) -> None:
        layout = KVFormat(config)
        shape = {"group": config.value_group, "lanes": lanes, "base_every": config.chunk}
        groups = (config.window // config.value_group, layout.group_bytes // BURST_BYTES)
        self._numbers = ValueNumbers(config, lanes=lanes)
        self._quantiser = AffineQuantiser(bits=config.value_bits, **shape)
        self._pruner = Pruner(bits=config.value_bits, keep=config.value_keep, **shape)
        self._elements = ValueElements(config)
        self._scales = RecordPacker(
            element_bits=PAIR_BITS,
            elements=config.head_dim,
            records=1,
            loops=[(layout.value_scale_bytes // BURST_BYTES, 1), groups],
        )
        self._records = RecordPacker(
            element_bits=layout.value_channel_bits,
            elements=config.head_dim,
            records=config.group_chunks,
            loops=[
                (config.group_chunks, layout.chunk_bytes // BURST_BYTES),
                (layout.value_bytes // BURST_BYTES, 1),
                groups,
            ],
        )
        super().__init__(
            {
                "start": In(1),
                "scale_address": In(BURST_ADDRESS_BITS),
                "records": In(BURST_ADDRESS_BITS),
                "order": In(stream.Signature(chunk_order(config))),
                "scales": In(stream.Signature(BEAT_BITS)),
                "codes": In(stream.Signature(BEAT)),
                "scale_bursts": Out(stream.Signature(BURST)),
                "record_bursts": Out(stream.Signature(BURST)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.numbers = numbers = self._numbers
        m.submodules.quantiser = quantiser = self._quantiser
        m.submodules.pruner = pruner = self._pruner
        m.submodules.value_elements = elements = self._elements
        m.submodules.scale_packer = scales = self._scales
        m.submodules.record_packer = records = self._records
        connect(m, flipped(self.order), numbers.order)
        connect(m, flipped(self.scales), numbers.scales)
        connect(m, flipped(self.codes), numbers.codes)
        connect(m, numbers.numbers, quantiser.numbers)
        connect(m, quantiser.codes, pruner.codes)
        connect(m, pruner.groups, elements.groups)
        connect(m, elements.pairs, scales.elements)
        connect(m, scales.bursts, flipped(self.scale_bursts))
        connect(m, records.bursts, flipped(self.record_bursts))
        m.d.comb += [
            records.elements.payload.eq(Value.cast(elements.elements.payload)),
            records.elements.valid.eq(elements.elements.valid),
            elements.elements.ready.eq(records.elements.ready),
            scales.address.eq(self.scale_address),
            records.address.eq(self.records),
        ]
        m.d.comb += [unit.start.eq(self.start) for unit in (numbers, scales, records)]
        return m
