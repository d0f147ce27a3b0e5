"""Which segments of the tail a closing window reads, in which order."""

from enum import IntEnum

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.compressor.address_walk import AddressWalk
from hw.cores.compressor.payloads import BURST_ADDRESS_BITS
from hw.formats import KVFormat
from hw.memory.fetch import SEGMENT_LAYOUT


class Section(IntEnum):
    """What a segment of a tail block holds."""

    HEADER = 0
    KEYS = 1
    #: A tile of one block.
    VALUES = 2


PLANNED = data.StructLayout({"segment": SEGMENT_LAYOUT, "section": Section})


class ReadPlan(wiring.Component):
    """One segment a cycle; the first one the cycle after the start.

    The headers of the first value group come first: without the order of its chunks a group cannot
    be read channel by channel. Then the tiles of values, and among them, evenly, the key codes of a
    chunk, each with a header of the next group, so that keys and values are worked on at once.

    Parameters
    ----------
    config

    Members
    -------
    start : In(1)
        A window begins; all segments of the one before must have left.
    address : In(27)
        Its first tail block, in bursts.
    segments : Out(stream)
        ``segment`` to be fetched, and the ``section`` that it is.
    """

    def __init__(self, config: AttentionConfig) -> None:
        layout = KVFormat(config)

        def bursts(size: int) -> int:
            return size // BURST_BYTES

        self._header = bursts(layout.tail_header_bytes)
        self._keys = bursts(layout.key_code_bytes)
        self._tile = config.chunk
        block = bursts(layout.tail_block_bytes)
        self._chunks = config.group_chunks
        self._tiles = config.head_dim // layout.value_tile_channels
        chunks = (self._chunks, block)
        groups = (config.window // config.value_group, self._chunks * block)
        self._walks = {
            Section.HEADER: AddressWalk([chunks, groups], bits=BURST_ADDRESS_BITS),
            Section.KEYS: AddressWalk([chunks, groups], bits=BURST_ADDRESS_BITS),
            Section.VALUES: AddressWalk(
                [chunks, (self._tiles, self._tile), groups], bits=BURST_ADDRESS_BITS
            ),
        }
        super().__init__(
            {
                "start": In(1),
                "address": In(BURST_ADDRESS_BITS),
                "segments": Out(stream.Signature(PLANNED)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        segments = self.segments
        active = Signal()
        section = Signal(Section)
        moves = Signal()
        m.d.comb += [segments.valid.eq(active), moves.eq(active & segments.ready)]
        offsets = {
            Section.HEADER: 0,
            Section.KEYS: self._header,
            Section.VALUES: self._header + self._keys,
        }
        sizes = {
            Section.HEADER: self._header,
            Section.KEYS: self._keys,
            Section.VALUES: self._tile,
        }
        address = Signal(BURST_ADDRESS_BITS)
        bursts = Signal(segments.p.segment.bursts.shape())
        for kind, walk in self._walks.items():
            m.submodules[f"walk_{kind.name.lower()}"] = walk
            m.d.comb += [
                walk.start.eq(self.start),
                walk.base.eq(self.address + offsets[kind]),
                walk.step.eq(moves & (section == kind)),
            ]
            with m.If(section == kind):
                m.d.comb += [address.eq(walk.address), bursts.eq(sizes[kind])]
        shift = (BURST_BYTES - 1).bit_length()
        m.d.comb += [
            segments.p.segment.address.eq(address << shift),
            segments.p.segment.bursts.eq(bursts),
            segments.p.section.eq(section),
        ]
        headers, values = self._walks[Section.HEADER], self._walks[Section.VALUES]
        # Chunks of keys that are due, less those that were read, in parts of a chunk. One is due in
        # the middle of its tiles.
        due = Signal(range(self._chunks + self._tiles + 1))
        now_due = Signal.like(due)
        m.d.comb += now_due.eq(
            due
            + Mux((section == Section.VALUES) & values.ends[0], self._chunks, 0)
            - Mux(section == Section.KEYS, self._tiles, 0)
        )
        first_group, headers_left, values_left = Signal(), Signal(), Signal()
        ends_values = (section == Section.VALUES) & values.ends[-1]
        with m.If(moves):
            m.d.sync += due.eq(now_due)
            with m.If(
                (section == Section.HEADER) & first_group & ~headers.ends[0]
                | (section == Section.KEYS) & headers_left
            ):
                m.d.sync += section.eq(Section.HEADER)
            with m.Elif((section != Section.VALUES) | values.ends[0]):
                with m.If(now_due >= self._tiles):
                    m.d.sync += section.eq(Section.KEYS)
                with m.Else():
                    m.d.sync += [
                        section.eq(Section.VALUES),
                        active.eq(values_left & ~ends_values),
                    ]
            with m.If((section == Section.HEADER) & headers.ends[0]):
                m.d.sync += first_group.eq(0)
            with m.If((section == Section.HEADER) & headers.ends[-1]):
                m.d.sync += headers_left.eq(0)
            with m.If(ends_values):
                m.d.sync += values_left.eq(0)
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                first_group.eq(1),
                headers_left.eq(1),
                values_left.eq(1),
                section.eq(Section.HEADER),
                due.eq(self._tiles // 2),
            ]
        return m
