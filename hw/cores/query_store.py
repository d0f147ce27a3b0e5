"""The query operands of the jobs in flight."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import OPERAND_BITS, QUERY_SUM_BITS
from hw.cores.payloads import slot_bits

#: Query elements of one input beat, 16 bits each.
ELEMENTS_PER_BEAT = 8
ELEMENT_BITS = 16
QUERY_BEAT = data.ArrayLayout(ELEMENT_BITS, ELEMENTS_PER_BEAT)


def operand_layout(config: AttentionConfig) -> data.ArrayLayout:
    """``[row][channel of the group]``: query codes as raw bits."""
    return data.ArrayLayout(data.ArrayLayout(OPERAND_BITS, config.group), config.rows)


def query_sum_layout(config: AttentionConfig) -> data.ArrayLayout:
    """``[row]``: the sum of the codes of one group."""
    return data.ArrayLayout(signed(QUERY_SUM_BITS), config.rows)


class QueryStore(wiring.Component):
    """Reads with a latency of 1 cycle; loads a beat a cycle, ``rows * head_dim / 8`` per job.

    Beside the 12-bit codes it keeps their sum over each key group, which multiplies the group's
    minimum. A load of a slot may overlap with reads of other slots.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    load : stream of a slot number; taken when the slot's queries are complete
    query : stream of 8 elements
    read_enable, read_slot, read_group : in
    operand : out, rows x group codes of 12 bits
    query_sum : out, rows sums
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        slot = slot_bits(config)
        super().__init__(
            {
                "load": In(stream.Signature(slot)),
                "query": In(stream.Signature(QUERY_BEAT)),
                "read_enable": In(1),
                "read_slot": In(slot),
                "read_group": In(range(max(2, config.groups))),
                "operand": Out(operand_layout(config)),
                "query_sum": Out(query_sum_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        depth = config.jobs_in_flight * config.groups
        part_bits = ELEMENTS_PER_BEAT * OPERAND_BITS
        parts = config.group // ELEMENTS_PER_BEAT

        m.submodules.codes = codes = memory.Memory(
            shape=config.rows * config.group * OPERAND_BITS, depth=depth, init=[]
        )
        m.submodules.sums = sums = memory.Memory(
            shape=config.rows * QUERY_SUM_BITS, depth=depth, init=[]
        )
        code_write = codes.write_port(granularity=part_bits)
        sum_write = sums.write_port(granularity=QUERY_SUM_BITS)
        code_read, sum_read = codes.read_port(), sums.read_port()

        row = Signal(range(max(2, config.rows)))
        group = Signal(range(max(2, config.groups)))
        part = Signal(range(max(2, parts)))
        running = Signal(signed(QUERY_SUM_BITS))

        elements = [self.query.payload[i][:OPERAND_BITS] for i in range(ELEMENTS_PER_BEAT)]
        total = sum((e.as_signed() for e in elements), start=Mux(part == 0, 0, running))
        part_end = part == parts - 1
        group_end = group == config.groups - 1
        row_end = row == config.rows - 1
        take = self.query.valid & self.query.ready
        address = self.load.payload * config.groups + group

        m.d.comb += [
            self.query.ready.eq(self.load.valid),
            self.load.ready.eq(take & part_end & group_end & row_end),
            code_write.addr.eq(address),
            code_write.data.eq(Cat(*elements).replicate(config.rows * parts)),
            sum_write.addr.eq(address),
            sum_write.data.eq(total[:QUERY_SUM_BITS].replicate(config.rows)),
            code_read.en.eq(self.read_enable),
            sum_read.en.eq(self.read_enable),
            code_read.addr.eq(self.read_slot * config.groups + self.read_group),
            sum_read.addr.eq(self.read_slot * config.groups + self.read_group),
            self.operand.eq(code_read.data),
            self.query_sum.eq(sum_read.data),
        ]
        with m.If(take):
            m.d.comb += Array(list(code_write.en))[row * parts + part].eq(1)
            m.d.comb += Array(list(sum_write.en))[row].eq(part_end)
            m.d.sync += [running.eq(total), part.eq(part + 1)]
            with m.If(part_end):
                m.d.sync += [part.eq(0), group.eq(group + 1)]
                with m.If(group_end):
                    m.d.sync += [group.eq(0), row.eq(row + 1)]
                    with m.If(row_end):
                        m.d.sync += row.eq(0)
        return m
