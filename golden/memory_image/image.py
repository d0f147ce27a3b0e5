"""The memory behind the port: places caches at addresses and answers their bytes."""

from dataclasses import dataclass

from golden.memory_image.records import unpack_cache
from golden.memory_image.regions import REGIONS, pack_regions
from golden.reference import CompressedCache, DenseCache
from hw.config import BURST_BYTES, AttentionConfig
from hw.formats import KVFormat, Mode


class MemoryImageError(ValueError):
    """A cache does not fit where it should go."""


@dataclass(frozen=True)
class Placement:
    """Byte addresses of the regions of one cache, burst-aligned. Jobs may share a placement."""

    context: int
    base_address: int
    chunk_address: int
    #: Of the tail, or of a dense cache, which has nothing else.
    tail_address: int
    mode: Mode = Mode.KVO


class MemoryImage:
    """Grows from address 0; bytes that belong to no region have the value ``fill``.

    The default ``fill`` makes every FP16 number of an unused place a NaN, so that a core that reads
    where nothing was placed ends its job with ``SCALE_NOT_FINITE``.

    Parameters
    ----------
    config
        Gives the record layouts and ``memory_bytes``.
    fill
        0 to 255.
    """

    def __init__(self, config: AttentionConfig, *, fill: int = 0xFF) -> None:
        if not 0 <= fill <= 255:
            raise MemoryImageError(f"fill must be from 0 to 255, not {fill}")
        self.config = config
        self.fill = fill
        self.data = bytearray()

    def _append(self, region: bytes, gap: int) -> int:
        size = len(self.data) + gap
        address = -(-size // BURST_BYTES) * BURST_BYTES
        end = address + len(region)
        if end > self.config.memory_bytes:
            raise MemoryImageError(
                f"image must fit memory_bytes {self.config.memory_bytes}, not {end}"
            )
        self.data += bytes([self.fill]) * (address - len(self.data)) + region
        return address

    def place(self, cache: CompressedCache | DenseCache, *, gap: int = 0) -> Placement:
        """Appends the regions of ``cache`` in the order base, chunk, tail.

        Parameters
        ----------
        cache
            One KV head, without leading dimensions.
        gap
            Bytes left free before each region, rounded up to a burst.

        Raises
        ------
        MemoryImageError
            The image would exceed ``memory_bytes``; it is left as it was.
        RecordError
            The cache breaks a rule of its records.
        """
        regions = pack_regions(cache, self.config)
        before = len(self.data)
        try:
            address = {
                name: self._append(regions[name], gap) if name in regions else 0 for name in REGIONS
            }
        except MemoryImageError:
            del self.data[before:]
            raise
        return Placement(
            context=cache.context,
            base_address=address["base"],
            chunk_address=address["chunk"],
            tail_address=address["tail"],
            mode=cache.mode,
        )

    def read(self, placement: Placement) -> CompressedCache:
        """The compressed cache that lies at ``placement``."""
        size = KVFormat(self.config).region_bytes(placement.context)

        def region(name: str, address: int) -> bytes:
            return bytes(self.data[address : address + size[name]])

        return unpack_cache(
            region("base", placement.base_address),
            region("chunk", placement.chunk_address),
            region("tail", placement.tail_address),
            placement.context,
            self.config,
        )

    def full(self) -> bytes:
        """All ``memory_bytes``, free places filled."""
        return bytes(self.data) + bytes([self.fill]) * (self.config.memory_bytes - len(self.data))
