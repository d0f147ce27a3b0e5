"""The accelerator and its DRAM devices, as one component that the harness can run.

With AXI4 masters there are no devices: the masters are ports of the bench.
"""

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.accelerator import Accelerator
from hw.accelerator_config import AcceleratorConfig
from hw.attention_slice import slice_streams
from hw.config import BEAT_BYTES
from hw.memory.dram import load_standard
from hw.memory.kv_mmu.ports import COMMAND, REPLY
from tb.memory.dram.device import COUNTERS, instance_parameters

#: How many replies, imports and completions there have been.
AFTER = data.StructLayout({"replied": 16, "imported": 16, "completed": 16})
#: What is counted of imports, see `AcceleratorBench`.
IMPORT_COUNTS = ("import_cycles", "import_busy")


class AcceleratorBench(wiring.Component):
    """Runs the commands of the host first, then the jobs; counts from the first job to the last.

    When ``jobs`` completions have come, every register of every slice is read and sent to
    ``register``, slice after slice.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    job, query : In(stream), selection, output, completion : Out(stream)
    command : In(stream), reply : Out(stream), arrays over the slices
    token : In(stream), prompt : In(stream), imported : Out(stream), if the cores write
        ``prompt`` and ``imported`` are arrays over the slices.
    job_after : In(stream of AFTER), command_after, prompt_after, if the cores write
        What must have happened before each job, command and prompt; the latter two are arrays over
        the slices.
    register : Out(stream)
    jobs, commands : In(16)
        How many there are; commands of all slices, not looked at if the cores write.
    cycles : Out(32)
        From the first cycle in which jobs may come to the last completion.
    bytes_moved and so on : Out
        What the devices counted in these cycles, all together.
    import_cycles, import_busy : Out(32), if the cores write
        From the end of the first import to that of the last one: cycles, and in how many of them
        the devices moved data, all together. 0 with ``axi4``.
    axi : Out
        With ``axi4`` in the place of the devices: as that of `Accelerator`.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._accelerator = Accelerator(config)
        slices = config.slices
        super().__init__(
            {
                **slice_streams(config.mmu).signature.flip().members,
                "command": In(stream.Signature(COMMAND)).array(slices),
                "reply": Out(stream.Signature(REPLY)).array(slices),
                **self._writing_members(),
                "register": Out(stream.Signature(32)),
                "jobs": In(16),
                "commands": In(16),
                "cycles": Out(32),
                **self._memory_members(),
            }
        )

    def _writing_members(self) -> dict[str, wiring.Member]:
        if not self._config.mmu.writes:
            return {}
        members, slices = self._accelerator.signature.members, self._config.slices
        after = In(stream.Signature(AFTER))
        gates = {"command_after": after.array(slices), "prompt_after": after.array(slices)}
        counts = {name: Out(32) for name in IMPORT_COUNTS}
        return {"job_after": after, **gates, **counts} | {
            name: members[name] for name in ("prompt", "imported")
        }

    def _memory_members(self) -> dict[str, wiring.Member]:
        if self._config.has_axi:
            return {"axi": self._accelerator.signature.members["axi"]}
        return {name: Out(64) for name in COUNTERS}

    @property
    def registers(self) -> list[str]:
        """``owner.name`` of the registers of a slice, in address order."""
        return [f"{row['owner']}.{row['name']}" for row in self._accelerator.counters]

    def elaborate(self, platform: object) -> Module:
        """Connect everything, and watch over the order of the run."""
        m = Module()
        config = self._config
        m.submodules.accelerator = accelerator = self._accelerator
        for name in slice_streams(config.mmu).signature.members:
            if name != "job":
                connect(m, flipped(getattr(self, name)), getattr(accelerator, name))
        replies = []
        for i in range(config.slices):
            connect(m, accelerator.reply[i], flipped(self.reply[i]))
            replies.append(self.reply[i].valid & self.reply[i].ready)

        # Jobs wait for the last reply, and all counts for the first job.
        happened = Signal(AFTER)
        replied, completed = happened.replied, happened.completed
        ready, started, ended = Signal(), Signal(), Signal()
        m.d.sync += replied.eq(replied + sum(replies))
        m.d.comb += [
            ended.eq(completed == self.jobs),
            accelerator.counter_clear.eq(ready & ~started),
        ]
        if config.mmu.writes:
            self._release(m, happened, ready)
            m.d.sync += started.eq(started | ready)
        else:
            for i in range(config.slices):
                connect(m, flipped(self.command[i]), accelerator.command[i])
            m.d.comb += [
                ready.eq(replied == self.commands),
                accelerator.job.valid.eq(self.job.valid & started),
                accelerator.job.payload.eq(self.job.payload),
                self.job.ready.eq(accelerator.job.ready & started),
            ]
            m.d.sync += started.eq(ready)
        m.d.sync += self.cycles.eq(self.cycles + (started & ~ended))
        with m.If(self.completion.valid & self.completion.ready):
            m.d.sync += completed.eq(completed + 1)
        if config.has_axi:
            for i in range(config.slices):
                connect(m, accelerator.axi[i], flipped(self.axi[i]))
        else:
            busy = self._devices(m, started, ended)
            if config.mmu.writes:
                self._count_imports(m, happened.imported, busy)
        self._read_registers(m, ended)
        return m

    def _release(self, m: Module, happened: Any, ready: Signal) -> None:
        """Let jobs, commands and prompts through in their time; the first job is ``ready``."""
        accelerator = self._accelerator
        imports = []
        for i in range(self._config.slices):
            outside, inside = self.imported[i], accelerator.imported[i]
            connect(m, inside, flipped(outside))
            imports.append(outside.valid & outside.ready)
            self._gate(m, happened, self.command[i], self.command_after[i], accelerator.command[i])
            self._gate(m, happened, self.prompt[i], self.prompt_after[i], accelerator.prompt[i])
        self._gate(m, happened, self.job, self.job_after, accelerator.job)
        m.d.sync += happened.imported.eq(happened.imported + sum(imports))
        m.d.comb += ready.eq(accelerator.job.valid)

    @staticmethod
    def _gate(m: Module, happened: Any, source: Any, after: Any, sink: Any) -> None:
        """Pass an item of ``source`` with each item of ``after``, once so much has happened."""
        passes = Cat(happened[name] >= after.payload[name] for name, _ in AFTER).all()
        m.d.comb += [
            sink.payload.eq(source.payload),
            sink.valid.eq(source.valid & after.valid & passes),
            source.ready.eq(sink.ready & after.valid & passes),
            after.ready.eq(sink.ready & source.valid & passes),
        ]

    def _count_imports(self, m: Module, imported: Signal, busy: Signal) -> None:
        """Keep what has passed since the first import ended whenever a further one ends."""
        before = Signal.like(imported)
        m.d.sync += before.eq(imported)
        for amount, count in ((1, self.import_cycles), (busy, self.import_busy)):
            running = Signal(32)
            with m.If(imported != 0):
                m.d.sync += running.eq(running + amount)
            with m.If(imported != before):
                m.d.sync += count.eq(running)

    def _devices(self, m: Module, started: Signal, ended: Signal) -> Signal:
        """Put a device behind every controller; keep what they count between start and end.

        Return how many of them move data in a cycle.
        """
        config = self._config
        standard = load_standard(config.standard)
        # What an image may fill, in whole rows of all banks.
        filled = config.mmu.pages * config.mmu.page_bytes
        area = config.mmu.slot_area
        if config.mmu.staging_bytes or area.places:
            filled = area.address + area.bytes
        stripe = standard.banks * standard.row_bytes
        counts: dict[str, list[Signal]] = {name: [] for name in COUNTERS}
        for i in range(config.controllers):
            dram = self._accelerator.dram[i]
            read_data = Signal.like(dram.read_data.as_value(), name=f"read_data_{i}")
            m.d.comb += dram.read_data.eq(read_data)
            for name, group in counts.items():
                width = 64 if name == "bytes_moved" else 32
                group.append(Signal(width, name=f"{name}_{i}"))
            m.submodules[f"dram_{i}"] = Instance(
                "dram_device",
                **instance_parameters(standard),
                p_NAME=f"dram{i}",
                p_STANDARD=standard.name,
                p_DENSE_WORDS=-(-filled // stripe) * stripe // BEAT_BYTES,
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                i_command=dram.command,
                i_write_data=dram.write_data,
                i_write_mask=dram.write_mask,
                o_read_data=read_data,
                o_read_valid=dram.read_valid,
                **{f"o_{name}": counts[name][i] for name in COUNTERS},
            )
        totals = {name: Signal(64, name=f"{name}_total") for name in counts}
        for name, total in totals.items():
            before = Signal(64, name=f"{name}_before")
            m.d.comb += total.eq(sum(counts[name]))
            with m.If(~started):
                m.d.sync += before.eq(total)
            with m.If(~ended):
                m.d.sync += getattr(self, name).eq(total - before)
        busy_before, busy = Signal(64), Signal(8)
        m.d.sync += busy_before.eq(totals["busy"])
        m.d.comb += busy.eq(totals["busy"] - busy_before)
        return busy

    def _read_registers(self, m: Module, ended: Signal) -> None:
        """Send the registers of every slice, once all jobs are through."""
        accelerator = self._accelerator
        registers = len(self.registers)
        number = Signal(range(self._config.slices))
        address = Signal(range(registers))
        words = [accelerator.counter_data[i] for i in range(self._config.slices)]
        for i in range(self._config.slices):
            m.d.comb += accelerator.counter_address[i].eq(address)
        word = Signal(32)
        m.d.comb += word.eq(sum(((number == i).replicate(32) & w) for i, w in enumerate(words)))
        with m.FSM():
            with m.State("RUN"):
                with m.If(ended & (self.jobs != 0)):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [self.register.payload.eq(word), self.register.valid.eq(1)]
                m.next = "SEND"
            with m.State("SEND"):
                with m.If(self.register.ready):
                    m.d.sync += [self.register.valid.eq(0), address.eq(address + 1)]
                    m.next = "READ"
                    with m.If(address == registers - 1):
                        m.d.sync += [address.eq(0), number.eq(number + 1)]
                        with m.If(number == self._config.slices - 1):
                            m.next = "END"
            with m.State("END"):
                pass
