"""Caches behind an MMU: the host's commands, and the bytes of the channel (docs/kv_mmu.md)."""

from golden.memory_image.image import MemoryImage, Placement
from golden.memory_image.job import JobDescriptor
from golden.memory_image.regions import REGIONS
from golden.twin.kv_mmu import Command, KvMmuTwin, Reply
from hw.formats import FP16_BITS, KVFormat
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region, system_job_fields


class PagesError(ValueError):
    """The MMU would refuse a command; the message holds the command and the status."""


class PagedImage:
    """The channel behind an MMU, filled as a host fills it.

    The bytes of the pages can be loaded into the memory at once; the tables are written by the MMU
    when it gets ``commands``, which it must before the first job.

    Parameters
    ----------
    config

    Members
    -------
    commands, replies
        What the host sends after a reset, and what it gets.
    pages
        The bytes of each page in use; ``fill`` where there is nothing of a cache.
    places
        The bytes of each cache in the slot area, by their address in the channel.
    twin
        The MMU after the commands.
    """

    def __init__(self, config: MmuConfig, *, fill: int = 0xFF) -> None:
        self.config = config
        self.fill = fill
        self.twin = KvMmuTwin(config)
        self.commands: list[Command] = []
        self.replies: list[Reply] = []
        self.pages: dict[int, bytearray] = {}
        self.places: dict[int, bytes] = {}

    def send(self, command: Command) -> int:
        """Append a command that must succeed; the value of its reply.

        Raises
        ------
        PagesError
            It does not.
        """
        reply = self.twin.command(command)
        if reply.status != CommandStatus.OK:
            raise PagesError(f"{command} must be answered OK, not {reply.status.name}")
        self.commands.append(command)
        self.replies.append(reply)
        return reply.value

    def create(self, sequence: int) -> None:
        """Let a sequence live."""
        self.send(Command(opcode=Opcode.CREATE, sequence=sequence))

    def place(
        self, image: MemoryImage, placement: Placement, *, sequence: int, layer: int, kv_head: int
    ) -> None:
        """Allocate pages for the cache at ``placement`` of ``image`` and copy it into them.

        One that lies in the slot area gets its place there, without a command.

        Raises
        ------
        PagesError
            The sequence does not live, the place is taken, or there are not enough pages.
        """
        sizes = KVFormat(self.config.attention).region_bytes(placement.context, placement.mode)
        if placement.mode not in self.config.paged_modes:
            address = self.config.place_address(sequence, layer, kv_head)
            if not self.twin.lives(sequence) or address in self.places:
                raise PagesError(f"place {address:#x} must be free and sequence {sequence} live")
            start = placement.tail_address
            self.places[address] = bytes(image.data[start : start + sizes["tail"]])
            return
        size = self.config.page_bytes
        for name in REGIONS:
            start = getattr(placement, f"{name}_address")
            content = bytes(image.data[start : start + sizes[name]])
            for index in range(-(-len(content) // size)):
                page = self.send(
                    Command(
                        opcode=Opcode.ALLOCATE,
                        sequence=sequence,
                        layer=layer,
                        kv_head=kv_head,
                        region=Region[name.upper()],
                        index=index,
                    )
                )
                part = content[index * size : (index + 1) * size]
                self.pages[page] = bytearray(part + bytes([self.fill]) * (size - len(part)))

    def contents(self) -> dict[int, bytes]:
        """The bytes of pages and places in use by their byte address in the channel, in order."""
        size = self.config.page_bytes
        pages = {
            self.config.first_page + page * size: bytes(content)
            for page, content in sorted(self.pages.items())
        }
        return pages | dict(sorted(self.places.items()))


def pack_system_job(job: JobDescriptor, sequence: int, config: MmuConfig) -> int:
    """The payload of the MMU's ``job`` stream: ``job`` with a sequence instead of addresses.

    Raises
    ------
    ValueError
        A number does not fit its field.
    """
    scales = sum(scale << FP16_BITS * row for row, scale in enumerate(job.query_scale))
    numbers = {"sequence": sequence, "query_scale": scales}
    payload = position = 0
    for name, bits in system_job_fields(config.attention).items():
        number = numbers[name] if name in numbers else getattr(job, name)
        if not 0 <= number < 1 << bits:
            raise ValueError(f"{name} must have {bits} bits, not {number:#x}")
        payload |= number << position
        position += bits
    return payload
