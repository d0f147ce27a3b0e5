"""The host of a generation in a system: sequences, prompts, and where each cache lives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from golden.generation import Generation
from golden.twin.kv_mmu import Command, KvMmuTwin, Reply
from hw.accelerator_config import AcceleratorConfig
from hw.config import ConfigError
from hw.cores.prompt_import import IMPORTED
from hw.formats import KVFormat, Mode, Status
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region
from hw.memory.kv_mmu.ports import SYSTEM_PROMPT
from hw.placement import home_slice
from tb.accelerator.bench import AFTER
from tb.accelerator.placing import unpack_job
from tb.harness import Run, pack, unpack


def after(*, replied: int = 0, imported: int = 0, completed: int = 0) -> int:
    """The payload of `AFTER`: what an item waits for."""
    return pack(AFTER, {"replied": replied, "imported": imported, "completed": completed})


@dataclass(frozen=True)
class Home:
    """Where a cache lives."""

    sequence: int
    layer: int
    kv_head: int

    def slice(self, slices: int) -> int:
        """The slice that it lives in."""
        return int(home_slice(self.sequence, self.layer, self.kv_head, slices))


class Host:
    """Creates a sequence for each cache, has the prompts imported, and ends the sequences.

    A prompt of a cache of constant size that is not imported is placed in the slot area.

    Parameters
    ----------
    golden
        Caches without a prompt, with one that is imported, or of mode `SLOTS`.
    config
        The accelerator.
    ends
        Whether each sequence ends when its last step has completed.
    spare_pages
        With one slice: pages that are left when the prompts are imported; other sequences have the
        others. None for all.

    Members
    -------
    homes
        Of each cache.
    commands
        Per slice, with what each waits for.
    prompts, contents
        Per slice the payloads of the prompts, and the bytes of the channel with their records and
        the caches that are placed.

    Raises
    ------
    ConfigError
        There are more caches than sequences, or too few tables for the pages of the others.
    """

    def __init__(
        self,
        golden: Generation,
        config: AcceleratorConfig,
        *,
        ends: bool = True,
        spare_pages: int | None = None,
    ) -> None:
        core, slices = config.mmu.attention, config.slices
        if len(golden.placements) >= config.mmu.sequences:
            raise ConfigError(
                f"sequences must be above the {len(golden.placements)} caches, not "
                f"{config.mmu.sequences}"
            )
        self._golden, self._config = golden, config
        self.homes = [
            Home(number, number % core.layers, number % core.kv_heads)
            for number in range(len(golden.placements))
        ]
        self.commands: list[list[tuple[Command, int]]] = [[] for _ in range(slices)]
        self.prompts: list[list[int]] = [[] for _ in range(slices)]
        records = [bytearray() for _ in range(slices)]
        for home in self.homes:
            self._command(home, Opcode.CREATE, after())
        record = KVFormat(golden.config).prompt_record_bytes
        for prompt in golden.prompts:
            home = self.homes[prompt.cache]
            own = records[home.slice(slices)]
            fields = {
                "source_address": len(own),
                "sequence": home.sequence,
                "layer": home.layer,
                "kv_head": home.kv_head,
                "first": prompt.first,
                "tokens": prompt.tokens,
                "mode": prompt.mode,
            }
            self.prompts[home.slice(slices)].append(pack(SYSTEM_PROMPT, fields))
            source = prompt.source_address
            own += golden.image[source : source + prompt.tokens * record]
        self.contents = [self._content(i, bytes(own)) for i, own in enumerate(records)]
        if spare_pages is not None:
            self._occupy(spare_pages)
        #: What jobs wait for.
        self.jobs_after = after(replied=sum(map(len, self.commands)), imported=len(golden.prompts))
        if ends:
            last = {step.cache: number + 1 for number, step in enumerate(golden.steps)}
            for cache, completed in sorted(last.items(), key=lambda item: item[1]):
                self._command(self.homes[cache], Opcode.FREE, after(completed=completed))

    def _content(self, number: int, records: bytes) -> bytes:
        """What a channel holds, up to the last byte of it."""
        golden, mmu, slices = self._golden, self._config.mmu, self._config.slices
        found = bytes(mmu.staging_address) + records if records else b""
        for home, place, sizes in zip(self.homes, golden.placements, golden.sizes, strict=True):
            cache = golden.image[place.tail_address : place.tail_address + sizes["tail"]]
            placed = place.mode not in mmu.paged_modes and any(cache)
            if placed and home.slice(slices) == number:
                address = mmu.place_address(home.sequence, home.layer, home.kv_head)
                found += bytes(address - len(found)) + cache
        return found

    def _command(self, home: Home, opcode: Opcode, gate: int) -> None:
        command = Command(opcode=opcode, sequence=home.sequence)
        self.commands[home.slice(self._config.slices)].append((command, gate))

    def _occupy(self, spare_pages: int) -> None:
        """Let other sequences have pages, once all prompts have theirs."""
        mmu, commands = self._config.mmu, self.commands[0]
        imported = after(imported=len(self._golden.prompts))
        entries = [(region, i) for region in Region for i in range(mmu.region_entries(region))]
        core = mmu.attention
        each = list(itertools.product(range(core.layers), range(core.kv_heads), entries))
        pages = self._begin().free_pages - spare_pages
        for hog in range(len(self.homes), mmu.sequences):
            commands.append((Command(opcode=Opcode.CREATE, sequence=hog), imported))
            for layer, kv_head, (region, index) in each[:pages]:
                command = Command(
                    opcode=Opcode.ALLOCATE,
                    sequence=hog,
                    layer=layer,
                    kv_head=kv_head,
                    region=region,
                    index=index,
                )
                commands.append((command, imported))
            pages -= min(pages, len(each))
            if not pages:
                return
        raise ConfigError(f"spare_pages must be at least {pages} more, not {spare_pages}")

    def _begin(self) -> KvMmuTwin:
        """The MMU of a single slice before the first job."""
        twin = KvMmuTwin(self._config.mmu)
        commands = [command for command, _ in self.commands[0] if command.opcode != Opcode.FREE]
        created = len(self.homes)
        for command in commands[:created]:
            twin.command(command)
        for prompt in self._golden.prompts:
            home = self.homes[prompt.cache]
            where = (home.sequence, home.layer, home.kv_head)
            twin.start_prompt(*where, prompt.first, prompt.tokens, Mode(prompt.mode))
            twin.end_job(home.sequence)
        for command in commands[created:]:
            twin.command(command)
        return twin

    def statuses(self) -> list[Status]:
        """How the MMU of a single slice lets each step begin, if no sequence ends before."""
        twin, found = self._begin(), []
        for step in self._golden.steps:
            home = self.homes[step.cache]
            mode = Mode(unpack_job(self._golden.config, step.job).mode)
            status, _ = twin.start_job(home.sequence, home.layer, home.kv_head, step.context, mode)
            twin.end_job(home.sequence)
            found.append(status)
        return found

    def check(self, run: Run) -> tuple[list[str], dict[int, int]]:
        """What is wrong with replies and imports; the pages that each sequence gave back."""
        wrong: list[str] = []
        returned: dict[int, int] = {}
        slices = self._config.slices
        for i in range(slices):
            replies = [Reply.unpack(payload) for payload in run.outputs[f"reply__{i}"]]
            for (command, _), reply in zip(self.commands[i], replies, strict=True):
                if reply.status != CommandStatus.OK:
                    wrong.append(f"{command} must be answered OK, not {reply.status.name}")
                elif command.opcode == Opcode.FREE:
                    returned[command.sequence] = reply.value
            own = [p for p in self._golden.prompts if self.homes[p.cache].slice(slices) == i]
            for prompt, item in zip(own, run.outputs[f"imported__{i}"], strict=True):
                imported: dict[str, Any] = unpack(IMPORTED, item)
                if imported != {"status": int(Status.OK), "tokens": prompt.tokens}:
                    wrong.append(f"prompt of cache {prompt.cache}: {imported}")
        return wrong, returned
