"""The stream payloads inside the attention core, each a function of the configuration.

Only the layouts of this file travel between the core's units; those at the core's ports are in
docs/contracts.md.
"""

from enum import IntEnum

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from hw.config import BEAT_BITS, AttentionConfig
from hw.constants import (
    KEY_SUM_BITS,
    OPERAND_BITS,
    QUERY_SUM_BITS,
    SCALED_BITS,
    SCORE_BITS,
    SHIFT_BITS,
)
from hw.cores.lanes import LANES
from hw.formats import FP16_BITS, Mode, StepKind, job_fields


class SegmentKind(IntEnum):
    """What the beats of one fetched segment are."""

    BASE_KEYS = 0
    TAIL_KEYS = 1
    DELTAS = 2
    VALUES = 3
    TAIL_VALUES = 4
    VALUE_SCALES = 5


#: FP16 scale and minimum of one quantisation group.
PAIR = data.StructLayout({"scale": FP16_BITS, "minimum": FP16_BITS})
PAIRS = data.ArrayLayout(PAIR, LANES)

#: One beat of a segment, in order.
BEAT = data.StructLayout({"data": BEAT_BITS, "error": 1, "last": 1})


def slot_bits(config: AttentionConfig) -> int:
    """Bits of a job slot number."""
    return (config.jobs_in_flight - 1).bit_length()


def chunk_bits(config: AttentionConfig) -> int:
    """Bits of a chunk index."""
    return max(1, (config.max_chunks - 1).bit_length())


def job_layout(config: AttentionConfig) -> data.StructLayout:
    """The job descriptor (docs/contracts.md, section 3)."""
    return data.StructLayout({k: unsigned(v) for k, v in job_fields(config).items()})


def planned_job(config: AttentionConfig) -> data.StructLayout:
    """A checked job on its way to the sequencer."""
    return data.StructLayout(
        {
            "slot": slot_bits(config),
            #: Closed chunks.
            "chunks": range(config.max_chunks + 1),
            #: Tokens of the tail, at least 1; in the dense modes all.
            "tail": range(config.max_context + 1),
            "base_address": 32,
            "chunk_address": 32,
            "tail_address": 32,
            "mode": Mode,
        }
    )


def segment_header(config: AttentionConfig) -> data.StructLayout:
    """What the unpacker knows of a segment before its beats come."""
    return data.StructLayout(
        {
            "kind": SegmentKind,
            "slot": slot_bits(config),
            #: Keys of the block that exist, less one.
            "present_less_one": range(config.chunk),
            #: Keys or values of a dense cache; 16-bit rather than 8-bit codes of dense keys or any
            #: values.
            "dense": 1,
            "wide": 1,
            #: First and last segment of the pass (base keys), first and last unit (formal pass).
            "first": 1,
            "last": 1,
        }
    )


def key_tag(config: AttentionConfig) -> data.StructLayout:
    """What travels beside a key's dot products."""
    return data.StructLayout(
        {
            #: A base key: its score is an estimate for the selector.
            "base": 1,
            #: A tail key: it brings the scale of its value; a dense one has that of its job.
            "tail": 1,
            "dense": 1,
            "slot": slot_bits(config),
            #: First group of a delta record: the base's own key sum comes before it.
            "opening": 1,
            #: Last step of the group, of the key. Where four value channels take two steps, the
            #: second one has ``group_end``.
            "group_end": 1,
            "key_end": 1,
            "present": 1,
            "first": 1,
            "last": 1,
            "value_scale": FP16_BITS,
        }
    )


def work_layout(config: AttentionConfig) -> data.StructLayout:
    """One unpacked step on its way to its operands."""
    return data.StructLayout(
        {
            "kind": StepKind,
            "digits": BEAT_BITS,
            #: The bytes are two's complement: the high plane of 16-bit codes (``wide``), or 8-bit
            #: codes.
            "signed": 1,
            "wide": 1,
            #: The digits are the upper ones of 4-bit codes, which count four times.
            "upper": 1,
            "pairs": PAIRS,
            #: Key group, and which 16 channels of it bytes meet, or which 32 single digits.
            "group": range(max(2, config.groups)),
            "part": range(max(2, config.group // 16)),
            "key": key_tag(config),
            #: Last step of its segment.
            "last": 1,
        }
    )


def step_tag(config: AttentionConfig) -> data.StructLayout:
    """What travels beside a step through the PE array."""
    return data.StructLayout(
        {
            "kind": StepKind,
            "signed": 1,
            "wide": 1,
            "upper": 1,
            "pairs": PAIRS,
            "query_sum": data.ArrayLayout(signed(QUERY_SUM_BITS), config.rows),
            "key": key_tag(config),
        }
    )


def scaled_tag(config: AttentionConfig) -> data.StructLayout:
    """What travels beside a product through the scale bank."""
    return data.StructLayout({"kind": StepKind, "key": key_tag(config)})


def key_sums(config: AttentionConfig) -> data.StructLayout:
    """The finished dot products of one key with the job's queries."""
    return data.StructLayout(
        {
            "key_sum": data.ArrayLayout(signed(KEY_SUM_BITS), config.rows),
            "key": key_tag(config),
        }
    )


def score_item(config: AttentionConfig) -> data.StructLayout:
    """One token's scores on their way to the softmax."""
    return data.StructLayout(
        {
            "score": data.ArrayLayout(signed(SCORE_BITS), config.rows),
            "present": 1,
            "value_scale": FP16_BITS,
            "tail": 1,
            "first": 1,
            "last": 1,
            "slot": slot_bits(config),
        }
    )


def candidate(config: AttentionConfig) -> data.StructLayout:
    """One chunk's estimate on its way to the selector."""
    return data.StructLayout(
        {
            "score": signed(config.selection_bits),
            "chunk": chunk_bits(config),
            "key_sum": data.ArrayLayout(signed(KEY_SUM_BITS), config.rows),
            "last": 1,
        }
    )


def unit_weights(config: AttentionConfig) -> data.StructLayout:
    """The weights of one unit of tokens and the shifts that go with them."""
    per_token = data.ArrayLayout(unsigned(OPERAND_BITS), config.chunk)
    return data.StructLayout(
        {
            "weight": data.ArrayLayout(per_token, config.rows),
            "maximum_shift": data.ArrayLayout(unsigned(SHIFT_BITS), config.rows),
            "unit_shift": data.ArrayLayout(unsigned(SHIFT_BITS), config.rows),
            "tail": 1,
            "tail_exponent": 5,
            "first": 1,
            "last": 1,
            "slot": slot_bits(config),
        }
    )


def unit_header(config: AttentionConfig) -> data.StructLayout:
    """What the value accumulator knows of a unit before its contributions come."""
    weights = unit_weights(config)
    names = ("maximum_shift", "unit_shift", "tail", "tail_exponent", "first", "last")
    return data.StructLayout({name: weights[name].shape for name in names})


def contribution(config: AttentionConfig) -> data.StructLayout:
    """What one unit adds to four channels of every row."""
    per_row = data.ArrayLayout(signed(SCALED_BITS), LANES)
    return data.StructLayout(
        {
            "y": data.ArrayLayout(per_row, config.rows),
            #: Quad of channels, 0 to head_dim / 4 - 1 in each unit.
            "quad": range(config.head_dim // LANES),
            "maximum_shift": data.ArrayLayout(SHIFT_BITS, config.rows),
            "unit_shift": data.ArrayLayout(SHIFT_BITS, config.rows),
            #: The unit is the job's first, its last.
            "first": 1,
            "last": 1,
        }
    )


def tail_sum_bits(config: AttentionConfig) -> int:
    """Bits of a tail value sum: a chunk's weights of 12 bits times signed 16-bit codes.

    8-bit codes count 256.
    """
    return OPERAND_BITS + (config.chunk - 1).bit_length() + 16


def tail_sums(config: AttentionConfig) -> data.StructLayout:
    """Weighted sums of the tail codes of four channels, before the common exponent."""
    per_row = data.ArrayLayout(signed(tail_sum_bits(config)), LANES)
    return data.StructLayout({"v": data.ArrayLayout(per_row, config.rows)})
