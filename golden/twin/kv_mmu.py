"""The KV-MMU in Python: what every command, job and access gives, page numbers included."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

from hw.config import BURST_BYTES
from hw.formats import Mode, Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import (
    COMMAND_FIELDS,
    OFFSET_BITS,
    REGION_BITS,
    REPLY_FIELDS,
    CommandStatus,
    Opcode,
    Region,
    Violation,
    pack_entry,
    unpack_entry,
)


@dataclass(frozen=True)
class Place:
    """What a page is for: the key of one table entry."""

    sequence: int
    layer: int
    kv_head: int
    region: Region
    index: int


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the host; every field is the number of the command field of that name."""

    opcode: int
    sequence: int = 0
    layer: int = 0
    kv_head: int = 0
    region: int = 0
    index: int = 0

    def pack(self) -> int:
        """The payload of the ``command`` stream.

        Raises
        ------
        ValueError
            A number does not fit its field.
        """
        payload = position = 0
        for (name, bits), value in zip(COMMAND_FIELDS.items(), astuple(self), strict=True):
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} must have {bits} bits, not {value:#x}")
            payload |= value << position
            position += bits
        return payload


@dataclass(frozen=True)
class Reply:
    """How a command ended; ``value`` is a page or a number of pages (`REPLY_FIELDS`)."""

    status: CommandStatus
    value: int = 0

    @classmethod
    def unpack(cls, payload: int) -> "Reply":
        """The reply with the payload of the ``reply`` stream."""
        bits = REPLY_FIELDS["status"]
        return cls(CommandStatus(payload & ((1 << bits) - 1)), payload >> bits)


@dataclass(frozen=True)
class Grant:
    """What a job may access: the pages of each region, in order, or a place in the slot area."""

    sequence: int
    pages: Mapping[Region, tuple[int, ...]]
    #: Byte address of the place.
    place: int | None = None


class KvMmuTwin:
    """The state of a KV-MMU and of its tables.

    Parameters
    ----------
    config

    Members
    -------
    table
        The 4-byte entries in the channel by byte address; what is absent is not valid. A test may
        change it, as a fault of the memory would.
    """

    def __init__(self, config: MmuConfig) -> None:
        self.config = config
        self.table: dict[int, int] = {}
        self._live: set[int] = set()
        self._in_flight: dict[int, int] = {}
        # The page that came back last goes out first.
        self._free = list(reversed(range(config.pages)))
        self._places: dict[int, Place] = {}
        self._layers = list(range(config.attention.layers))

    @property
    def free_pages(self) -> int:
        """Pages that belong to nobody."""
        return len(self._free)

    def owner(self, page: int) -> int | None:
        """The sequence that ``page`` belongs to."""
        place = self._places.get(page)
        return None if place is None else place.sequence

    @property
    def places(self) -> list[Place]:
        """What the pages in use are for."""
        return list(self._places.values())

    def lives(self, sequence: int) -> bool:
        """Whether a sequence lives."""
        return sequence in self._live

    def layer(self, layer: int) -> int:
        """The layer whose cache jobs of ``layer`` use."""
        return self._layers[layer]

    # --- commands -------------------------------------------------------------------------------

    def command(self, command: Command) -> Reply:
        """Execute a command."""
        if command.opcode not in list(Opcode):
            return Reply(CommandStatus.OPCODE)
        if not self._in_range(command):
            return Reply(CommandStatus.RANGE)
        sequence = command.sequence
        if command.opcode == Opcode.SET_LAYER:
            self._layers[command.layer] = command.index
            return Reply(CommandStatus.OK)
        if command.opcode == Opcode.CREATE:
            if sequence in self._live:
                return Reply(CommandStatus.SEQUENCE_EXISTS)
            self._live.add(sequence)
            return Reply(CommandStatus.OK)
        if sequence not in self._live:
            return Reply(CommandStatus.NO_SEQUENCE)
        if command.opcode == Opcode.FREE:
            return self._release(sequence)
        region = Region(command.region)
        place = Place(sequence, command.layer, command.kv_head, region, command.index)
        if command.opcode == Opcode.LOOKUP:
            page = self.mapped(place)
            found = page is not None
            return Reply(CommandStatus.OK if found else CommandStatus.NOT_MAPPED, page or 0)
        return self._allocate(place)

    def _allocate(self, place: Place) -> Reply:
        page = self.mapped(place)
        if page is not None:
            return Reply(CommandStatus.ALREADY_MAPPED, page)
        if not self._free:
            return Reply(CommandStatus.OUT_OF_PAGES)
        page = self._free.pop()
        self._places[page] = place
        self.table[self.config.entry_address(*astuple(place))] = pack_entry(page)
        return Reply(CommandStatus.OK, page)

    def _in_range(self, command: Command) -> bool:
        config, attention = self.config, self.config.attention
        if command.opcode == Opcode.SET_LAYER:
            return command.layer < attention.layers and command.index < attention.layers
        if command.sequence >= config.sequences:
            return False
        if command.opcode in (Opcode.CREATE, Opcode.FREE):
            return True
        return (
            command.layer < attention.layers
            and command.kv_head < attention.kv_heads
            and command.region in list(Region)
            and command.index < config.region_entries(Region(command.region))
        )

    def _release(self, sequence: int) -> Reply:
        if self._in_flight.get(sequence):
            return Reply(CommandStatus.BUSY)
        self._live.remove(sequence)
        mine = sorted(p for p, place in self._places.items() if place.sequence == sequence)
        for page in mine:
            del self._places[page]
            self._free.append(page)
        return Reply(CommandStatus.OK, len(mine))

    def mapped(self, place: Place) -> int | None:
        """The page that the table names for ``place``, if it was given out for just that."""
        page = unpack_entry(self.table.get(self.config.entry_address(*astuple(place)), 0))
        return page if page is not None and self._places.get(page) == place else None

    # --- jobs -----------------------------------------------------------------------------------

    def start_job(
        self, sequence: int, layer: int, kv_head: int, context: int, mode: Mode = Mode.KVO
    ) -> tuple[Status, Grant]:
        """Begin a job whose other fields are legal: its status so far, and what it may access.

        It is in flight until `end_job`, whatever the status.
        """
        first = context if mode.dense else context - 1
        return self._start(sequence, layer, kv_head, first, context, mode)

    def start_prompt(
        self,
        sequence: int,
        layer: int,
        kv_head: int,
        first: int,
        tokens: int,
        mode: Mode = Mode.KVO,
    ) -> tuple[Status, Grant]:
        """The same of a prompt of ``tokens`` tokens, behind ``first`` ones that are there."""
        return self._start(sequence, layer, kv_head, first, first + tokens, mode)

    def begin(self, sequence: int) -> None:
        """A job or a prompt of ``sequence`` is in flight."""
        self._in_flight[sequence] = self._in_flight.get(sequence, 0) + 1

    def _start(
        self, sequence: int, layer: int, kv_head: int, first: int, context: int, mode: Mode
    ) -> tuple[Status, Grant]:
        self.begin(sequence)
        nothing = Grant(sequence, dict.fromkeys(Region, ()))
        if sequence not in self._live:
            return Status.NO_SEQUENCE, nothing
        if mode not in self.config.paged_modes:
            address = self.config.place_address(sequence, self._layers[layer], kv_head)
            return Status.OK, replace(nothing, place=address)
        new = self.config.new_pages(first, context, mode) if self.config.writes else {}
        grant = {}
        for region in Region:
            place = Place(sequence, self._layers[layer], kv_head, region, 0)
            for index in new.get(region, ()):
                if self._allocate(replace(place, index=index)).status == CommandStatus.OUT_OF_PAGES:
                    return Status.OUT_OF_PAGES, nothing
            found = self._walk(place, self.config.pages_of(context, mode)[region])
            if found is None:
                return Status.PAGE_FAULT, nothing
            grant[region] = found
        return Status.OK, Grant(sequence, grant)

    def could_run(
        self, sequence: int, layer: int, kv_head: int, context: int, mode: Mode = Mode.KVO
    ) -> bool:
        """Whether a job would start with status OK, its new pages put aside."""
        if sequence not in self._live:
            return False
        pages = self.config.pages_of(context, mode)
        if self.config.writes and not mode.dense:
            new = self.config.new_pages(context - 1, context, mode)
            pages = {region: new[region].start for region in Region}
        return all(
            self._walk(Place(sequence, self._layers[layer], kv_head, region, 0), number) is not None
            for region, number in pages.items()
        )

    def _walk(self, place: Place, number: int) -> tuple[int, ...] | None:
        """The first pages of a region, or None if one is missing."""
        found = [self.mapped(replace(place, index=index)) for index in range(number)]
        pages = tuple(page for page in found if page is not None)
        return pages if len(pages) == number else None

    def end_job(self, sequence: int) -> None:
        """End a job of ``sequence``."""
        self._in_flight[sequence] -= 1

    def limit(self, grant: Grant, region: Region) -> int:
        """Bound of a job's accesses to a region, in units of ``page_bytes``."""
        if grant.place is None:
            return len(grant.pages[region])
        return self.config.slot_area.pages if region == Region.TAIL else 0

    def access(self, grant: Grant, address: int, bursts: int) -> int | Violation:
        """The physical address of an access within a page, or why it is refused.

        Parameters
        ----------
        grant
            Of the job in the slot that ``address`` names.
        address, bursts
            Virtual byte address, and the length of the access.
        """
        number = address >> OFFSET_BITS & ((1 << REGION_BITS) - 1)
        in_region = address & ((1 << OFFSET_BITS) - 1)
        index, offset = divmod(in_region, self.config.page_bytes)
        over = offset + bursts * BURST_BYTES > self.config.page_bytes
        if over or number not in list(Region) or index >= self.limit(grant, Region(number)):
            return Violation.BOUNDS
        if grant.place is not None:
            return grant.place + in_region
        page = grant.pages[Region(number)][index]
        if self.owner(page) != grant.sequence:
            return Violation.OWNER
        return self.config.first_page + page * self.config.page_bytes + offset
