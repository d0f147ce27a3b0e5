"""Cuts requests into visits of banks."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES
from hw.memory.channel_port import channel_request
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.payloads import place_bits, visit_layout
from hw.memory.dram.port import locate_value
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS


def split_layout(config: ControllerConfig) -> data.StructLayout:
    """A request, the place of its first burst, and whether it is refused."""
    return data.StructLayout(
        {"request": channel_request(config.id_bits), "place": place_bits(config), "refused": 1}
    )


def leaves_channel(config: ControllerConfig, request: data.View) -> Value:
    """Return whether a request goes beyond the end of the channel."""
    bursts = (request.address >> offset_of(BURST_BYTES)) + request.bursts_less_one
    return bursts >= config.standard.bytes // BURST_BYTES


def dram_bursts(config: ControllerConfig, request: data.View) -> Value:
    """Return the bursts of the DRAM that a request touches."""
    ratio = config.standard.burst_bytes // BURST_BYTES
    return (request.bursts_less_one + first_half_skipped(config, request) + ratio) >> offset_of(
        ratio
    )


def first_half_skipped(config: ControllerConfig, request: data.View) -> Value:
    """Return how many bursts of 32 bytes of the first burst of the DRAM are not asked for."""
    return request.address[offset_of(BURST_BYTES) : config.address_map.offset_bits]


def most_bursts(config: ControllerConfig) -> int:
    """Bursts of the DRAM that a request may touch at most."""
    ratio = config.standard.burst_bytes // BURST_BYTES
    return REQUEST_BURSTS // ratio + (ratio > 1)


class RequestSplitter(wiring.Component):
    """Latency 1 cycle; one visit a cycle, each of up to ``visit_bursts`` bursts of one row.

    A request covers one or more blocks: the bursts that share a row number and differ in the bank
    group and the lower bits of the column. Within a block there is a visit per bank group.

    Parameters
    ----------
    config : ControllerConfig

    Members
    -------
    request : In(stream of split_layout)
    visit : Out(stream of visit_layout)
    """

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        super().__init__(
            {
                "request": In(stream.Signature(split_layout(config))),
                "visit": Out(stream.Signature(visit_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, standard = self._config, self._config.standard
        address_map = config.address_map
        groups = standard.groups_per_stack
        block_bursts = groups * config.visit_bursts
        most = most_bursts(config)

        held = Signal(split_layout(config))
        active = Signal()
        #: Bursts of the request before the current block, and visits of the block before this one.
        before = Signal(range(most + 1))
        visited = Signal(range(groups))
        request = held.request

        # The request in bursts of the DRAM.
        first = Signal(address_map.index_bits)
        count = Signal(range(most + 1))
        m.d.comb += [
            first.eq(request.address[address_map.offset_bits :]),
            count.eq(dram_bursts(config, request)),
        ]

        # The current block: bursts `low` up to `high` of it, and where it begins in the request.
        start = Signal(address_map.index_bits)
        low = Signal(range(block_bursts))
        left = Signal(range(most + 1))
        high = Signal(range(block_bursts + 1))
        here = Signal(range(block_bursts + 1))
        final_block = Signal()
        final_visit = Signal()
        m.d.comb += [
            start.eq(first + before),
            low.eq(start % block_bursts),
            left.eq(count - before),
            final_block.eq(low + left <= block_bursts),
            high.eq(Mux(final_block, low + left, block_bursts)),
            here.eq(high - low),
            final_visit.eq((visited == groups - 1) | (visited + 1 == here)),
        ]

        # The visit: its bursts are `groups` apart.
        visit = self.visit.payload
        index = Signal(address_map.index_bits)
        place = {
            name: _with_width(value) for name, value in locate_value(address_map, index).items()
        }
        m.d.comb += [
            index.eq(start + visited),
            self.visit.valid.eq(active),
            visit.bank.eq(place["bank_group"] * standard.banks_per_group + place["bank"]),
            visit.job.row.eq(place["row"]),
            visit.job.column.eq(place["column"]),
            visit.job.bursts_less_one.eq((here - 1 - visited) >> offset_of(groups)),
            visit.job.place.eq(held.place + before + visited),
            visit.job.tag.id.eq(request.id),
            visit.job.tag.beats_less_one.eq(
                request.bursts_less_one * BURST_BEATS + BURST_BEATS - 1
            ),
            visit.job.tag.second_half.eq(first_half_skipped(config, request)),
            visit.job.tag.refused.eq(held.refused),
            self.request.ready.eq(~active | (self.visit.ready & final_block & final_visit)),
        ]
        with m.If(self.request.ready):
            m.d.sync += [
                active.eq(self.request.valid),
                held.eq(self.request.payload),
                before.eq(0),
                visited.eq(0),
            ]
        with m.Elif(self.visit.ready):
            m.d.sync += [
                visited.eq(Mux(final_visit, 0, visited + 1)),
                before.eq(Mux(final_visit, before + here, before)),
            ]
        return m


def offset_of(power: int) -> int:
    """Return the exponent of a power of two."""
    return power.bit_length() - 1


def _with_width(value: Value) -> Value:
    """Return a value, or 0 for a field without bits."""
    return value if len(value) else Value.cast(0)
