"""Sizes of one KV-MMU: its sequences, and where tables, pages and slots lie in the channel.

No Amaranth and no torch here, so that the RTL and the twin share this file.
"""

from dataclasses import dataclass

from hw.config import BURST_BYTES, AttentionConfig, ConfigError
from hw.formats import KVFormat, Mode, modes
from hw.memory.kv_mmu.formats import ENTRY_BYTES, PAGE_BITS, Region
from hw.memory.kv_mmu.slot_area import SlotArea

#: Table entries of a burst: what the regions of a table are aligned to.
BURST_ENTRIES = BURST_BYTES // ENTRY_BYTES


@dataclass(frozen=True, kw_only=True)
class MmuConfig:
    """Parameters of the KV-MMU of one slice.

    Raises
    ------
    ConfigError
        A field has an illegal value, tables and pages overlap, or an area leaves the channel.
    """

    #: The core behind the MMU; its layers, KV heads and longest context size the tables.
    attention: AttentionConfig
    #: Sequences that may live at once: 2 to 64.
    sequences: int = 8
    #: Bytes of a page: a power of two, 1024 to 65536.
    page_bytes: int = 4096
    #: Pages of the channel: 2 to 2**20.
    pages: int = 1024
    #: First byte of the page tables in the channel, a multiple of 4096.
    table_address: int = 0
    #: First byte of page 0, a multiple of ``page_bytes``; None for the first one behind the tables.
    page_address: int | None = None
    #: Bytes of the channel, up to 2**32.
    channel_bytes: int = 1 << 32
    #: Whether the core writes its caches: jobs and prompts then get the pages that they need.
    writes: bool = False
    #: Bytes behind the pages from which prompts are read, a multiple of 4096.
    staging_bytes: int = 0

    def __post_init__(self) -> None:
        def between(field: str, low: int, high: int, multiple: int = 1) -> None:
            value = getattr(self, field)
            legal = isinstance(value, int) and not isinstance(value, bool)
            if not legal or not low <= value <= high or value % multiple:
                step = f" and a multiple of {multiple}" if multiple > 1 else ""
                raise ConfigError(
                    f"{field} must be an integer from {low} to {high}{step}, not {value!r}"
                )

        between("sequences", 2, 64)
        if self.page_bytes not in (1 << bits for bits in range(10, 17)):
            raise ConfigError(
                f"page_bytes must be a power of two from 1024 to 65536, not {self.page_bytes!r}"
            )
        between("pages", 2, 1 << PAGE_BITS)
        between("channel_bytes", 4096, 1 << 32, 4096)
        between("table_address", 0, self.channel_bytes, 4096)
        if self.page_address is not None:
            between("page_address", 0, self.channel_bytes, self.page_bytes)
        between("staging_bytes", 0, self.channel_bytes, 4096)
        if self.staging_bytes and not self.writes:
            raise ConfigError(
                f"staging_bytes must be 0 if the core does not write, not {self.staging_bytes}"
            )
        if self.writes and self.attention.slots and self.attention.slot_caches < self.caches:
            raise ConfigError(
                f"slot_caches must be at least {self.caches}, one of each sequence, layer and KV "
                f"head, not {self.attention.slot_caches}"
            )
        tables = range(self.table_address, self.table_address + self.table_bytes)
        pages = range(self.first_page, self.first_page + self.pages * self.page_bytes)
        areas = {
            "tables": tables.stop,
            "pages": pages.stop,
            "staging": self.staging_address + self.staging_bytes,
            "slots": self.slot_area.address + self.slot_area.bytes,
        }
        for what, end in areas.items():
            if end > self.channel_bytes:
                raise ConfigError(
                    f"{what} must end within channel_bytes {self.channel_bytes}, not at {end}"
                )
        if tables.start < pages.stop and pages.start < tables.stop:
            raise ConfigError(
                f"page_address must keep the pages off the tables "
                f"({tables.start:#x} to {tables.stop:#x}), not {pages.start:#x}"
            )

    # --- tables ---------------------------------------------------------------------------------

    def region_entries(self, region: Region) -> int:
        """Entries of ``region`` in one table: pages at the longest context of any mode with pages.

        At least one burst of entries, and whole bursts, so that every region starts on a burst.
        """
        layout, longest = KVFormat(self.attention), self.attention.max_context
        name = region.name.lower()
        size = max(layout.region_bytes(longest, mode)[name] for mode in self.paged_modes)
        pages = max(1, -(-size // self.page_bytes))
        return -(-pages // BURST_ENTRIES) * BURST_ENTRIES

    def first_entry(self, region: Region) -> int:
        """Place of the first entry of ``region`` within a table."""
        return sum(self.region_entries(other) for other in Region if other < region)

    @property
    def entries(self) -> int:
        """Entries of a table: one (sequence, KV layer, KV head), or one job slot on chip."""
        return sum(self.region_entries(region) for region in Region)

    @property
    def table_stride(self) -> int:
        """Bytes from one table to the next, a power of two."""
        return 1 << (self.entries * ENTRY_BYTES - 1).bit_length()

    @property
    def table_bytes(self) -> int:
        """Bytes of all tables: (sequence, layer, head), the head varying fastest."""
        return self.table_stride * self.caches

    def entry_address(
        self, sequence: int, layer: int, head: int, region: Region, index: int
    ) -> int:
        """Byte address of one table entry in the channel."""
        table = self.cache_number(sequence, layer, head)
        place = self.first_entry(region) + index
        return self.table_address + table * self.table_stride + place * ENTRY_BYTES

    # --- pages ----------------------------------------------------------------------------------

    @property
    def first_page(self) -> int:
        """Byte address of page 0."""
        if self.page_address is not None:
            return self.page_address
        end = self.table_address + self.table_bytes
        return -(-end // self.page_bytes) * self.page_bytes

    @property
    def staging_address(self) -> int:
        """First byte behind pages and tables."""
        end = max(
            self.first_page + self.pages * self.page_bytes, self.table_address + self.table_bytes
        )
        return -(-end // 4096) * 4096

    def pages_of(self, context: int, mode: Mode = Mode.KVO) -> dict[Region, int]:
        """Pages of each region that a job at ``context`` tokens needs.

        If the core writes, also those of the window that closes when the job has run; and none of
        a cache in the slot area.
        """
        if mode not in self.paged_modes:
            return dict.fromkeys(Region, 0)
        layout = KVFormat(self.attention)
        sizes = layout.region_bytes(context, mode)
        if self.writes and mode == Mode.KVO and context:
            after = layout.region_bytes(min(context + 1, self.attention.max_context), mode)
            sizes = after | {"tail": sizes["tail"]}
        return {region: -(-sizes[region.name.lower()] // self.page_bytes) for region in Region}

    def new_pages(self, first: int, context: int, mode: Mode) -> dict[Region, range]:
        """Indexes of the pages that a cache of ``first`` tokens gets to have ``context``."""
        after = self.pages_of(context, mode)
        before = self.pages_of(first, mode) if first else dict.fromkeys(Region, 0)
        return {region: range(before[region], after[region]) for region in Region}

    @property
    def most_pages(self) -> int:
        """Entries of the largest region."""
        return max(self.region_entries(region) for region in Region)

    # --- slot area ------------------------------------------------------------------------------

    @property
    def has_slot_area(self) -> bool:
        """Whether caches of mode `SLOTS` lie in places of their own: if the core writes them."""
        return self.writes and self.attention.slots > 0

    @property
    def paged_modes(self) -> tuple[Mode, ...]:
        """Modes whose caches have pages."""
        area = self.has_slot_area
        return tuple(m for m in modes(self.attention) if not (area and m == Mode.SLOTS))

    @property
    def slot_area(self) -> SlotArea:
        """These places, behind the staging area."""
        return SlotArea(
            attention=self.attention,
            page_bytes=self.page_bytes,
            free_from=self.staging_address + self.staging_bytes,
            places=self.caches if self.has_slot_area else 0,
        )

    def place_address(self, sequence: int, layer: int, head: int) -> int:
        """Byte address of the place of a cache in the slot area; ``layer`` is that of the cache."""
        area = self.slot_area
        return area.address + self.cache_number(sequence, layer, head) * area.stride

    # --- widths ---------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Job slots: as many as the core has, and if it writes, one for a prompt behind them."""
        return self.attention.jobs_in_flight + self.writes

    @property
    def caches(self) -> int:
        """Places of caches: numbers that `cache_number` gives."""
        return 1 << self.sequence_bits + self.cache_bits

    @property
    def cache_bits(self) -> int:
        """Bits of a cache's number below those of its sequence."""
        return self.layer_bits + self.head_bits

    def cache_number(self, sequence: int, layer: int, head: int) -> int:
        """The number of a cache; ``layer`` is that of the cache itself."""
        return ((sequence << self.layer_bits) | layer) << self.head_bits | head

    @property
    def page_shift(self) -> int:
        """log2 of ``page_bytes``."""
        return self.page_bytes.bit_length() - 1

    @property
    def sequence_bits(self) -> int:
        """Bits of a sequence number."""
        return (self.sequences - 1).bit_length()

    @property
    def layer_bits(self) -> int:
        """Bits of a layer number, at least 1."""
        return max(1, (self.attention.layers - 1).bit_length())

    @property
    def head_bits(self) -> int:
        """Bits of a KV head number, at least 1."""
        return max(1, (self.attention.kv_heads - 1).bit_length())

    @property
    def page_bits(self) -> int:
        """Bits of a page number."""
        return (self.pages - 1).bit_length()

    @property
    def index_bits(self) -> int:
        """Bits of a page's place within a region."""
        return (self.most_pages - 1).bit_length()
