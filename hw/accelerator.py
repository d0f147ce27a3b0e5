"""The accelerator: slices behind a job distributor, a memory back end behind the slices."""

from functools import partial
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.accelerator_config import AcceleratorConfig
from hw.attention_slice import AttentionSlice, slice_streams
from hw.config import AttentionConfig
from hw.counters import CounterBank
from hw.distributor import JobDistributor
from hw.distributor.attention import brings_token, selects
from hw.memory.axi import AxiMaster
from hw.memory.axi.port import axi_port
from hw.memory.dram.controller import DramController
from hw.memory.dram.port import dram_port
from hw.memory.kv_mmu.ports import COMMAND, REPLY
from hw.shared_module import SharedModule


class Accelerator(wiring.Component):
    """Attention over caches in DRAM; each slice reads up to 16 bytes per clock.

    Slice i uses channel i: pseudo-channel ``i % channels_per_controller`` of DRAM controller
    ``i // channels_per_controller``, or AXI4 master i. Slices and controllers are shared modules
    (`SharedModule`), so `hw.tools` and the benches elaborate and emit one of each.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    job, query, selection, output, completion : stream
        See `slice_streams`. Results come in the order of the jobs.
    command, reply : stream, an array over the slices
        Of the host, to the MMU of each slice. A KV head lives in the slice `home_slice`.
    token : In(stream), only if the cores write
        Of the jobs that append one, in their order.
    prompt, imported : stream, an array over the slices, only then
        Prompts, each to the slice of its cache.
    writer : In(write_port), an array over the slices, only if they do not
        Writes to pages, see `AttentionSlice`.
    dram : Out(dram_port), an array over the controllers
        With a DRAM standard.
    axi : Out, an array over the slices
        With ``axi4``: the signals of AXI4, `axi_port`.
    counter_address, counter_data, counter_clear : an array over the slices
        The registers of each slice, behind them those of its AXI4 master.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        slices = config.slices
        self._slice = AttentionSlice(config.mmu)
        id_bits = self._slice.id_bits
        self._masters, self._banks = [], []
        if config.has_axi:
            self._masters = [
                AxiMaster(id_bits=id_bits, axi_id_bits=config.master_id_bits) for _ in range(slices)
            ]
            self._banks = [
                CounterBank(self.config, counters={"axi": master.counters}, identity="axi")
                for master in self._masters
            ]
            port = wiring.Signature(axi_port(config.master_id_bits, 1))
            memory = {"axi": Out(port).array(slices)}
        else:
            self._controller = DramController(config.controller(id_bits))
            port = dram_port(config.controller(id_bits).standard, 1)
            memory = {"dram": Out(port).array(config.controllers)}
        members = self._slice.signature.members
        #: Streams that each slice has for itself, beside those of `command` and `reply`.
        self._of_slices = ("prompt", "imported") if config.mmu.writes else ("writer",)
        super().__init__(
            {
                **slice_streams(config.mmu).signature.flip().members,
                "command": In(stream.Signature(COMMAND)).array(slices),
                "reply": Out(stream.Signature(REPLY)).array(slices),
                **{name: members[name].array(slices) for name in self._of_slices},
                **memory,
                "counter_address": In(range(len(self.counters))).array(slices),
                "counter_data": Out(32).array(slices),
                "counter_clear": In(1),
            }
        )

    @property
    def config(self) -> AttentionConfig:
        """The configuration of the cores."""
        return self._config.mmu.attention

    @property
    def counters(self) -> list[dict[str, Any]]:
        """The registers of each slice and of its channel, in address order."""
        rows = [
            *self._slice.counters,
            *(row for bank in self._banks[:1] for row in bank.describe()),
        ]
        return [row | {"address": address} for address, row in enumerate(rows)]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        streams = slice_streams(config.mmu)
        m.submodules.distributor = distributor = JobDistributor(
            streams,
            slices=config.slices,
            selects=partial(selects, self.config),
            brings_token=brings_token,
        )
        for name in streams.signature.members:
            connect(m, flipped(getattr(self, name)), getattr(distributor, name))
        parts = []
        for i in range(config.slices):
            m.submodules[f"slice_{i}"] = part = SharedModule("attention_slice", self._slice)
            for name in streams.signature.members:
                connect(m, getattr(distributor.slice[i], name), getattr(part, name))
            connect(m, flipped(self.command[i]), part.command)
            connect(m, part.reply, flipped(self.reply[i]))
            for name in self._of_slices:
                connect(m, flipped(getattr(self, name)[i]), getattr(part, name))
            m.d.comb += part.counter_clear.eq(self.counter_clear)
            parts.append(part)
        if config.has_axi:
            self._connect_axi(m, parts)
        else:
            self._connect_dram(m, parts)
        return m

    def _connect_dram(self, m: Module, parts: list[SharedModule]) -> None:
        per_controller = self._config.channels_per_controller
        for number in range(self._config.controllers):
            controller = SharedModule("dram_controller", self._controller)
            m.submodules[f"controller_{number}"] = controller
            connect(m, controller.dram, flipped(self.dram[number]))
            first = number * per_controller
            for channel, part in enumerate(parts[first : first + per_controller]):
                connect(m, part.channel, controller.channel[channel])
        for i, part in enumerate(parts):
            m.d.comb += [
                part.counter_address.eq(self.counter_address[i]),
                self.counter_data[i].eq(part.counter_data),
            ]

    def _connect_axi(self, m: Module, parts: list[SharedModule]) -> None:
        port = axi_port(self._config.master_id_bits, 1)
        registers = len(self._slice.counters)
        for i, part in enumerate(parts):
            m.submodules[f"axi_{i}"] = master = self._masters[i]
            m.submodules[f"axi_counters_{i}"] = bank = self._banks[i]
            connect(m, part.channel, master.channel)
            for name, member in port.items():
                own, inner = getattr(self.axi[i], name), getattr(master, name)
                m.d.comb += inner.eq(own) if member.flow == In else own.eq(inner)
            # A bank answers a cycle after its address.
            address, of_bank = self.counter_address[i], Signal(name=f"of_axi_{i}")
            m.d.sync += of_bank.eq(address >= registers)
            m.d.comb += [
                part.counter_address.eq(address),
                bank.address.eq(address - registers),
                bank.clear.eq(self.counter_clear),
                self.counter_data[i].eq(Mux(of_bank, bank.read_data, part.counter_data)),
            ]
