"""Where caches of constant size lie in the channel: behind everything else, without pages."""

from dataclasses import dataclass

from hw.config import AttentionConfig
from hw.formats import KVFormat, Mode

#: Least bytes from one place to the next.
_LEAST_STRIDE = 4096


@dataclass(frozen=True, kw_only=True)
class SlotArea:
    """A *place* for each number of a cache: the number and the offset are the address.

    ``attention`` has slots, unless ``places`` is 0.
    """

    attention: AttentionConfig
    #: Bytes that accesses are checked in, a power of two: those of a page.
    page_bytes: int
    #: First byte of the channel that nothing else has.
    free_from: int
    #: Numbers of caches; 0 where there is no area.
    places: int

    @property
    def _cache_bytes(self) -> int:
        """Bytes of a cache: all its slots are in one region."""
        layout = KVFormat(self.attention)
        return layout.region_bytes(self.attention.slots, Mode.SLOTS)["tail"]

    @property
    def pages(self) -> int:
        """Bound of the accesses to a place, in units of ``page_bytes``."""
        return -(-self._cache_bytes // self.page_bytes) if self.places else 0

    @property
    def stride(self) -> int:
        """Bytes from one place to the next, a power of two, at least 4096 and ``page_bytes``."""
        return max(_LEAST_STRIDE, self.page_bytes, 1 << (self._cache_bytes - 1).bit_length())

    @property
    def address(self) -> int:
        """First byte of the area, a multiple of ``stride``."""
        return -(-self.free_from // self.stride) * self.stride if self.places else self.free_from

    @property
    def bytes(self) -> int:
        """Bytes of all places."""
        return self.stride * self.places
