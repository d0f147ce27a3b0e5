"""The one description of an accelerator: parameters, named presets, derived sizes, config hash.

Nothing here imports Amaranth or torch, so RTL, golden model and tools share this file. Every width
or count that follows from the parameters is derived here once; contradictions are refused on
construction.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from math import ceil, log2
from typing import Any

from hw.selection import PolicyError, selection_policy

BEAT_BITS = 128
BEAT_BYTES = BEAT_BITS // 8
BURST_BYTES = 32
#: 2-bit digits of one beat; the number of digit multipliers of one row of the PE array.
DIGITS = BEAT_BITS // 2

#: Bumped whenever a record layout, a stream payload or a rounding step changes.
FORMAT_VERSION = 5


#: Fields that mean nothing to a core that does not vote.
_OF_VOTES = ("slot_rule", "slot_vote_mean", "slot_vote_sigma")


class ConfigError(ValueError):
    """A parameter has an illegal value; the message names the field and the legal values."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Parameters of one attention core and of the cache format it reads.

    Raises
    ------
    ConfigError
        A field has an illegal value, or two fields contradict each other.
    """

    #: Name shown in reports and file names; letters, digits, ``-`` and ``_``.
    name: str = "custom"
    #: Channels of one head: 32, 64, 96, 128, 192 or 256.
    head_dim: int = 64
    #: Query heads that share one KV head (rows of the PE array): 1 to 8.
    rows: int = 2
    #: Tokens of one window: 16, 32, 64 or 128, at least ``value_group``.
    window: int = 64
    #: Tokens of one chunk: 4, 8 or 16.
    chunk: int = 8
    #: Channels of one key quantisation group: 16, 32 or 64, a divisor of ``head_dim``.
    group: int = 32
    #: Bits of a key code, base and tail: 8 or 4.
    key_bits: int = 8
    #: Bits of a kept key delta: 2 or 4.
    key_delta_bits: int = 2
    #: Which tokens of a chunk keep their deltas in the same channels: none (``token``: a mask for
    #: each of them) or all (``chunk``: one mask).
    mask_scope: str = "token"
    #: Channels that keep their delta code in each group: 1 to ``group``/2.
    key_keep: int = 8
    #: Bits of a kept value code: 2 or 4. A base value has twice as many.
    value_bits: int = 2
    #: Reordered tokens of one value quantisation group: 16, 32 or 64.
    value_group: int = 32
    #: Not-base tokens whose value code is kept, per channel and value group.
    value_keep: int = 12
    #: Closed tokens read in the formal pass, a multiple of ``chunk``, 3 * chunk to 512.
    budget: int = 384
    #: Bits of a tail value: 16 or 8.
    tail_value_bits: int = 16
    #: How the estimates of a group's query heads become one selection score: ``max``, ``mean``, or
    #: a policy of your own (docs/extending.md).
    group_combine: str = "max"
    #: Longest context in tokens, 2 * window to 32768, a multiple of ``window``.
    max_context: int = 2048
    #: Tokens of a cache of constant size (mode ``SLOTS``): 0 for a core without that mode, or
    #: 2 * window to ``max_context``, a multiple of ``chunk``.
    slots: int = 0
    #: First tokens that never leave such a cache, from 0, and newest ones that do not, 1 to 32;
    #: ``slots`` is larger than both together.
    slot_sinks: int = 4
    slot_recent: int = 16
    #: What is left of a slot's score, or votes, in each step, in units of 1/256: 0 to 256.
    slot_decay: int = 256
    #: What a slot's word of memory counts: ``score``, what it has received, and the least leaves;
    #: or ``votes``, steps in which it received less than others, and the most leaves.
    slot_rule: str = "score"
    #: A vote in a step is for each slot that receives less than the mean times ``slot_vote_mean``
    #: / 256 less the standard deviation times ``slot_vote_sigma`` / 256: 1 to 1024, 0 to 1024.
    slot_vote_mean: int = 256
    slot_vote_sigma: int = 16
    #: Caches of constant size at a time: 1 to 65536.
    slot_caches: int = 16
    #: Layers of the model; a job's layer must be below.
    layers: int = 4
    #: KV heads of a layer; a job's head must be below.
    kv_heads: int = 2
    #: Bytes of DRAM behind the memory port, a multiple of 4096 up to 2**32.
    memory_bytes: int = 1 << 26
    #: Jobs that the core holds at once, from descriptor to completion: 2, 4 or 8.
    jobs_in_flight: int = 4
    #: Outstanding requests at the memory port: 2, 4, 8 or 16.
    memory_tags: int = 16
    #: Beats of the reorder buffer: 64, 128, 256 or 512.
    reorder_beats: int = 256

    def __post_init__(self) -> None:
        def among(field: str, legal: tuple[object, ...]) -> None:
            value = getattr(self, field)
            if value not in legal or isinstance(value, bool):
                listed = ", ".join(map(repr, legal))
                raise ConfigError(f"{field} must be one of {listed}, not {value!r}")

        def between(field: str, low: int, high: int, multiple: int = 1) -> None:
            value = getattr(self, field)
            if (
                isinstance(value, bool)
                or not isinstance(value, int)
                or not low <= value <= high
                or value % multiple
            ):
                step = f" and a multiple of {multiple}" if multiple > 1 else ""
                raise ConfigError(
                    f"{field} must be an integer from {low} to {high}{step}, not {value!r}"
                )

        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ConfigError(f"name must be letters, digits, - and _, not {self.name!r}")
        among("head_dim", (32, 64, 96, 128, 192, 256))
        between("rows", 1, 8)
        among("chunk", (4, 8, 16))
        among("group", tuple(g for g in (16, 32, 64) if self.head_dim % g == 0))
        among("key_bits", (8, 4))
        among("key_delta_bits", (2, 4))
        among("mask_scope", ("token", "chunk"))
        between("key_keep", 1, self.group // 2)
        among("value_bits", (2, 4))
        among("value_group", (16, 32, 64))
        between("value_keep", 1, self.value_group - self.group_chunks)
        among("window", tuple(w for w in (16, 32, 64, 128) if w >= self.value_group))
        between("budget", 3 * self.chunk, 512, self.chunk)
        among("tail_value_bits", (16, 8))
        try:
            selection_policy(self.group_combine)
        except PolicyError as error:
            raise ConfigError(f"group_combine {error}") from error
        between("max_context", 2 * self.window, 32768, self.window)
        self._check_slots(between)
        between("slot_decay", 0, 256)
        among("slot_rule", ("score", "votes"))
        between("slot_vote_mean", 1, 1024)
        between("slot_vote_sigma", 0, 1024)
        between("slot_caches", 1, 65536)
        between("layers", 1, 256)
        between("kv_heads", 1, 256)
        between("memory_bytes", 4096, 1 << 32, 4096)
        among("jobs_in_flight", (2, 4, 8))
        among("memory_tags", (2, 4, 8, 16))
        among("reorder_beats", (64, 128, 256, 512))

    def _check_slots(self, between: Callable[..., None]) -> None:
        """Raise `ConfigError` unless a cache of constant size has room for what must stay."""
        low, high, chunk, slots = 2 * self.window, self.max_context, self.chunk, self.slots
        whole = isinstance(slots, int) and not isinstance(slots, bool)
        if not whole or (slots != 0 and not low <= slots <= high) or slots % chunk:
            raise ConfigError(
                f"slots must be 0 or an integer from {low} to {high} and a multiple of {chunk}, "
                f"not {slots!r}"
            )
        between("slot_recent", 1, 32)
        between("slot_sinks", 0, (slots or high) - self.slot_recent - 1)

    # --- method ---------------------------------------------------------------------------------

    @property
    def groups(self) -> int:
        """Key quantisation groups of one token."""
        return self.head_dim // self.group

    @property
    def group_chunks(self) -> int:
        """Chunks of one value group, 1 to 16: they follow each other and share value scales."""
        return self.value_group // self.chunk

    @property
    def top_chunks(self) -> int:
        """Chunks that the selector keeps: ``max(3, budget / chunk)``."""
        return max(3, self.budget // self.chunk)

    @property
    def max_chunks(self) -> int:
        """Closed chunks at ``max_context``."""
        return self.closed_tokens(self.max_context) // self.chunk

    @property
    def tail_tokens(self) -> int:
        """Most tokens of a tail that receive attention: two windows, or all slots."""
        return max(2 * self.window, self.slots)

    @property
    def max_attended(self) -> int:
        """Most tokens that one job attends to: all of a dense cache, or the selected and a tail."""
        return max(self.max_context, self.top_chunks * self.chunk + 2 * self.window)

    def closed_tokens(self, context: int) -> int:
        """Closed tokens of a decode step at ``context`` tokens, the new one included.

        The step that brings the tail to ``2 * window`` still attends to all of them; the older
        window closes after it. So the tail holds ``window + 1`` to ``2 * window`` tokens once one
        has closed.
        """
        return max(0, (context - 1) // self.window - 1) * self.window

    def check_cache(self, context: int, head_dim: int) -> None:
        """Raise `ConfigError` unless a cache of this shape fits the configuration."""
        if head_dim != self.head_dim:
            raise ConfigError(f"head dimension must be {self.head_dim}, not {head_dim}")
        if not 1 <= context <= self.max_context:
            raise ConfigError(f"context must be from 1 to {self.max_context}, not {context}")

    @property
    def votes(self) -> bool:
        """Whether a core votes on who leaves its caches of constant size."""
        return self.slots > 0 and self.slot_rule == "votes"

    # --- numerics, see docs/contracts.md --------------------------------------------------------

    @property
    def value_base_bits(self) -> int:
        """Bits of a base value code."""
        return 2 * self.value_bits

    @property
    def value_step_ratio(self) -> int:
        """Steps of a base value code in one step of the other codes: 15 / 3 or 255 / 15."""
        return (2**self.value_base_bits - 1) // (2**self.value_bits - 1)

    @property
    def value_magnitude_bits(self) -> int:
        """Whatever a record holds, the size of a dequantised value is below 2 to this power."""
        return 16 + self.value_bits

    @property
    def accumulator_bits(self) -> int:
        """Signed bits of one output accumulator (20 of them fraction); see docs/contracts.md."""
        steps = ceil(log2(self.max_attended * self.value_step_ratio + 1))
        return 1 + self.value_magnitude_bits + 20 + steps

    @property
    def reciprocal_fraction(self) -> int:
        """Fraction bits of ``1 / (value_step_ratio * sum mantissa)``: 17 bits with the top one set.

        The mantissa has 16 bits, its top one set too; then the reciprocal is at least half of that.
        """
        return 32 + self.value_step_ratio.bit_length() - 1

    @property
    def sum_bits(self) -> int:
        """Unsigned bits of the softmax sum (20 of them fraction)."""
        return 20 + ceil(log2(self.max_attended + 1))

    @property
    def selection_bits(self) -> int:
        """Signed bits of a selection score: those of a score, or what the policy adds to them."""
        return selection_policy(self.group_combine).bits(24, self.rows)

    # --- identity -------------------------------------------------------------------------------

    @property
    def config_hash(self) -> int:
        """32 bits over every parameter but the name, and over the format version.

        The vote rule counts where it is the rule: without it a core is what it was before there was
        one, and so is its hash.
        """
        facts: dict[str, object] = asdict(self)
        del facts["name"]
        if not self.votes:
            for field in _OF_VOTES:
                del facts[field]
        facts["format_version"] = FORMAT_VERSION
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "big")

    def describe(self) -> dict[str, object]:
        """Every parameter by name, for reports and the JSON sidecar."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_PAPER: dict[str, Any] = {
    "head_dim": 128,
    "max_context": 8192,
    "layers": 32,
    "jobs_in_flight": 8,
}

PRESETS: dict[str, AttentionConfig] = {
    config.name: config
    for config in (
        # Small enough for unit tests to visit every boundary.
        AttentionConfig(
            name="tiny",
            head_dim=32,
            rows=2,
            window=16,
            group=16,
            key_keep=4,
            value_group=16,
            value_keep=6,
            budget=32,
            max_context=256,
            layers=4,
            kv_heads=2,
            memory_bytes=1 << 20,
        ),
        # The trained model of golden/model with the published parameters.
        AttentionConfig(name="lm"),
        # The published size, multi-head and with four query heads to a KV head.
        AttentionConfig(name="paper", rows=1, kv_heads=32, **_PAPER),
        AttentionConfig(name="paper-gqa", rows=4, kv_heads=8, **_PAPER),
    )
}


def preset(name: str) -> AttentionConfig:
    """The preset called ``name``.

    Raises
    ------
    ConfigError
        There is no such preset; the message lists the presets.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]
