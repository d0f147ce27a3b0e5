"""Every bit field of every record in DRAM and of the job descriptor, once (docs/contracts.md).

Sizes and field positions only: ``golden.memory_image`` packs and unpacks with them, the RTL derives
its layouts from them. No Amaranth and no torch here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from hw.config import BEAT_BYTES, BURST_BYTES, AttentionConfig

FP16_BITS = 16
PAIR_BITS = 2 * FP16_BITS
#: Saliency of a tail token: the attention that it has received so far, unsigned, saturating.
SALIENCY_BITS = 32


class Mode(IntEnum):
    """What the cache of a job holds."""

    #: Compressed windows and a tail.
    KVO = 0
    #: Every token, 8-bit or 16-bit signed integers with one scale each for keys and for values.
    DENSE8 = 1
    DENSE16 = 2
    #: As many tokens as there are slots, uncompressed: a new one takes the place of another.
    SLOTS = 3

    @property
    def dense(self) -> bool:
        """Whether blocks hold codes alone."""
        return self in (Mode.DENSE8, Mode.DENSE16)

    @property
    def code_bytes(self) -> int:
        """Bytes of one element of a dense cache."""
        return {Mode.DENSE8: 1, Mode.DENSE16: 2}[self]


def modes(config: AttentionConfig) -> tuple[Mode, ...]:
    """Modes that a core has: `SLOTS` only with ``slots``."""
    return tuple(mode for mode in Mode if mode != Mode.SLOTS or config.slots)


class Status(IntEnum):
    """How a job ended; the lowest code that applies is reported."""

    OK = 0
    CONFIG_MISMATCH = 1
    MODE_RANGE = 2
    CONTEXT_RANGE = 3
    LAYER_RANGE = 4
    HEAD_RANGE = 5
    ADDRESS_RANGE = 6
    MEMORY_ERROR = 7
    SCALE_NOT_FINITE = 8
    #: Of the KV-MMU: the sequence does not live, a page that the job needs is not mapped, or there
    #: is none left for what the job writes.
    NO_SEQUENCE = 9
    PAGE_FAULT = 10
    OUT_OF_PAGES = 11

    @property
    def refused(self) -> bool:
        """Whether the job made no memory access and no output."""
        ran = (Status.OK, Status.MEMORY_ERROR, Status.SCALE_NOT_FINITE)
        return self not in ran

    @property
    def of_the_mmu(self) -> bool:
        """Whether only the KV-MMU gives it, before the job reaches a core."""
        return self in (Status.NO_SEQUENCE, Status.PAGE_FAULT, Status.OUT_OF_PAGES)


class StepKind(IntEnum):
    """What the 64 digits of one step of the PE array are."""

    #: Bytes.
    KEYS = 0
    #: Up to two digits for each channel: 4-bit codes, or deltas and their mask.
    KEY_DIGITS = 1
    VALUES = 2
    TAIL_VALUES = 3


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def job_fields(config: AttentionConfig) -> dict[str, int]:
    """Fields of the job descriptor and their bits, least significant first."""
    return {
        "job_id": 16,
        "config_hash": 32,
        "layer": 8,
        "kv_head": 8,
        "mode": 8,
        "context": 16,
        "base_address": 32,
        "chunk_address": 32,
        "tail_address": 32,
        "value_scale": FP16_BITS,
        "query_scale": FP16_BITS * config.rows,
    }


@dataclass(frozen=True)
class KVFormat:
    """Sizes and offsets, in bytes unless said, of the records of ``config``."""

    config: AttentionConfig

    # --- key blocks -----------------------------------------------------------------------------

    @property
    def key_scale_bytes(self) -> int:
        """Scale section of a key block, padded to a beat."""
        c = self.config
        return _round_up(c.chunk * c.groups * PAIR_BITS // 8, BEAT_BYTES)

    @property
    def tail_scale_bytes(self) -> int:
        """Value-scale section of a tail key block, padded to a beat."""
        return _round_up(self.config.chunk * FP16_BITS // 8, BEAT_BYTES)

    @property
    def key_code_bytes(self) -> int:
        """Code section of a key block."""
        c = self.config
        return c.chunk * c.head_dim * c.key_bits // 8

    @property
    def base_block_bytes(self) -> int:
        """A base key block, padded to a burst."""
        return _round_up(self.key_scale_bytes + self.key_code_bytes, BURST_BYTES)

    @property
    def saliency_bytes(self) -> int:
        """Saliency section of a tail key block, padded to a beat."""
        return _round_up(self.config.chunk * SALIENCY_BITS // 8, BEAT_BYTES)

    @property
    def tail_header_bytes(self) -> int:
        """Saliency and scales of a tail key block, together padded to a burst."""
        sections = self.saliency_bytes + self.key_scale_bytes + self.tail_scale_bytes
        return _round_up(sections, BURST_BYTES)

    @property
    def tail_key_bytes(self) -> int:
        """A tail key block: its header, then whole bursts of codes."""
        return self.tail_header_bytes + self.key_code_bytes

    @property
    def value_tile_channels(self) -> int:
        """Channels of a tile of a tail value block: a burst of each token."""
        return 8 * BURST_BYTES // self.config.tail_value_bits

    @property
    def tail_value_bytes(self) -> int:
        """A tail value block: whole tiles."""
        c = self.config
        return c.head_dim // self.value_tile_channels * c.chunk * BURST_BYTES

    @property
    def tail_block_bytes(self) -> int:
        """A tail block: keys, then values."""
        return self.tail_key_bytes + self.tail_value_bytes

    @property
    def tail_blocks(self) -> int:
        """Blocks of the ring that the tail region of a compressed cache becomes."""
        return 2 * self.config.window // self.config.chunk

    def tail_order(self, context: int, mode: Mode = Mode.KVO) -> list[int]:
        """Blocks of the tail region that a job reads, from the oldest tail token on.

        A compressed tail is a ring of ``tail_blocks``; it begins at its start or in its middle.
        """
        closed, tail = self.tokens(context, mode)
        chunk = self.config.chunk
        blocks = range(closed // chunk, -(-(closed + tail) // chunk))
        return [block % self.tail_blocks if mode == Mode.KVO else block for block in blocks]

    @property
    def token_beats(self) -> int:
        """Beats of a new token: the key in FP16, the codes of the value."""
        c = self.config
        return c.head_dim * (FP16_BITS + c.tail_value_bits) // (8 * BEAT_BYTES)

    @property
    def prompt_record_bytes(self) -> int:
        """A token of a prompt that is to be imported, padded to a burst.

        A beat with the scale of the value (FP16, bytes 0 and 1) and the saliency (bytes 4 to 7);
        the key in FP16; the codes of the value.
        """
        return _round_up((1 + self.token_beats) * BEAT_BYTES, BURST_BYTES)

    # --- units of the formal pass that every mode has -------------------------------------------

    def block_bytes(self, mode: Mode) -> tuple[int, int]:
        """Keys and values of C tokens: a tail block, or a block of a dense cache.

        Dense blocks hold codes only: ``head_dim`` is at least 32, so that each half is a whole
        number of bursts.
        """
        if not mode.dense:
            return self.tail_key_bytes, self.tail_value_bytes
        size = self.config.chunk * self.config.head_dim * mode.code_bytes
        return size, size

    # --- group records and their chunk records ---------------------------------------------------

    @property
    def delta_mask_bytes(self) -> int:
        """Mask section of a delta record, padded to a beat; none if every token has its own."""
        if self.config.mask_scope == "token":
            return 0
        return _round_up(self.config.head_dim // 8, BEAT_BYTES)

    @property
    def delta_element_bits(self) -> int:
        """Bits of one (token, group): mask (unless the chunk has one), codes, scale, minimum."""
        c = self.config
        mask = c.group if c.mask_scope == "token" else 0
        return mask + c.key_delta_bits * c.key_keep + PAIR_BITS

    @property
    def delta_elements(self) -> int:
        """Elements of one delta record, token-major."""
        return (self.config.chunk - 1) * self.config.groups

    @property
    def delta_bytes(self) -> int:
        """A delta record, padded to a burst."""
        elements = -(-self.delta_elements * self.delta_element_bits // 8)
        return _round_up(self.delta_mask_bytes + elements, BURST_BYTES)

    @property
    def value_channel_bits(self) -> int:
        """Bits of one channel in the code section: codes, mask, base code."""
        c = self.config
        return (c.chunk - 1) * (c.value_bits + 1) + c.value_base_bits

    @property
    def value_code_bytes(self) -> int:
        """Codes of a value record, padded to a beat."""
        return _round_up(-(-self.config.head_dim * self.value_channel_bits // 8), BEAT_BYTES)

    @property
    def value_scale_bytes(self) -> int:
        """Value scales of a group record, whole bursts."""
        return self.config.head_dim * PAIR_BITS // 8

    @property
    def value_bytes(self) -> int:
        """A value record, padded to a burst."""
        return _round_up(self.value_code_bytes, BURST_BYTES)

    @property
    def chunk_bytes(self) -> int:
        """A chunk record: deltas, then values."""
        return self.delta_bytes + self.value_bytes

    @property
    def group_bytes(self) -> int:
        """A group record: value scales, then the records of its chunks."""
        return self.value_scale_bytes + self.config.group_chunks * self.chunk_bytes

    # --- regions of a job -----------------------------------------------------------------------

    def tokens(self, context: int, mode: Mode = Mode.KVO) -> tuple[int, int]:
        """Closed tokens and tail tokens of a job; only a compressed cache is not all tail."""
        closed = self.config.closed_tokens(context) if mode == Mode.KVO else 0
        return closed, context - closed

    def region_bytes(self, context: int, mode: Mode = Mode.KVO) -> dict[str, int]:
        """Bytes of the base, chunk and tail region of a job at ``context`` tokens.

        Once a window has closed, the tail region is the whole ring; that of a cache of constant
        size always has all slots.
        """
        chunk = self.config.chunk
        closed, tail = self.tokens(context, mode)
        blocks = self.tail_blocks if closed else -(-tail // chunk)
        if mode == Mode.SLOTS:
            blocks = self.config.slots // chunk
        return {
            "base": -(-(closed // chunk) // chunk) * self.base_block_bytes,
            "chunk": closed // self.config.value_group * self.group_bytes,
            "tail": blocks * sum(self.block_bytes(mode)),
        }

    def selected_groups(self, selection: Iterable[int]) -> int:
        """Value groups with a chunk of ``selection``."""
        return len({chunk // self.config.group_chunks for chunk in selection})

    def traffic_bytes(
        self, context: int, mode: Mode = Mode.KVO, groups: int | None = None
    ) -> dict[str, int]:
        """Bytes that one job reads, by kind, padding included.

        ``groups`` is the number of value groups with a selected chunk; None stands for the most.
        """
        regions = self.region_bytes(context, mode)
        closed, _ = self.tokens(context, mode)
        selected = min(closed // self.config.chunk, self.config.top_chunks)
        if groups is None:
            groups = min(closed // self.config.value_group, selected)
        return regions | {
            "chunk": selected * self.chunk_bytes + groups * self.value_scale_bytes,
            "tail": len(self.tail_order(context, mode)) * sum(self.block_bytes(mode)),
        }
