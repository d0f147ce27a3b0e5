"""Legal configurations far from the presets: two fixed ones, and random ones."""

from __future__ import annotations

import random

from hw.config import AttentionConfig

#: Sizes that are no powers of two, other widths of codes, and ends of the ranges, as many at once
#: as will go together.
AWKWARD = {
    "channels96": AttentionConfig(
        name="channels96",
        head_dim=96,
        rows=3,
        window=16,
        chunk=4,
        group=16,
        key_bits=4,
        key_delta_bits=4,
        mask_scope="chunk",
        key_keep=3,
        value_bits=4,
        value_group=16,
        value_keep=5,
        budget=48,
        group_combine="mean",
        max_context=144,
        layers=3,
        kv_heads=5,
        memory_bytes=1 << 21,
        jobs_in_flight=2,
        memory_tags=4,
        reorder_beats=64,
    ),
    "channels192": AttentionConfig(
        name="channels192",
        head_dim=192,
        rows=5,
        window=32,
        chunk=16,
        group=64,
        key_delta_bits=4,
        key_keep=32,
        value_bits=4,
        value_group=32,
        value_keep=30,
        budget=64,
        tail_value_bits=8,
        max_context=160,
        memory_bytes=1 << 22,
        jobs_in_flight=8,
        memory_tags=2,
    ),
}


def draw(generator: random.Random, name: str) -> AttentionConfig:
    """Any legal configuration whose jobs are short enough to simulate."""
    choose = generator.choice
    head_dim = choose((32, 64, 96, 128, 192, 256))
    chunk = choose((4, 8, 16))
    group = choose([g for g in (16, 32, 64) if head_dim % g == 0])
    value_group = choose((16, 32, 64))
    window = choose([w for w in (16, 32, 64) if w >= value_group])
    max_context = window * generator.randint(2, 6)
    # Half of the cores have no slots.
    slots = choose((0, chunk * generator.randint(2 * window // chunk, max_context // chunk)))
    recent = generator.randint(1, min(32, (slots or max_context) - 1))
    return AttentionConfig(
        name=name,
        head_dim=head_dim,
        rows=generator.randint(1, 8),
        window=window,
        chunk=chunk,
        group=group,
        key_bits=choose((8, 4)),
        key_delta_bits=choose((2, 4)),
        mask_scope=choose(("token", "chunk")),
        value_bits=choose((2, 4)),
        key_keep=generator.randint(1, group // 2),
        value_group=value_group,
        value_keep=generator.randint(1, value_group - value_group // chunk),
        budget=chunk * generator.randint(3, 96 // chunk),
        tail_value_bits=choose((8, 16)),
        group_combine=choose(("max", "mean")),
        max_context=max_context,
        slots=slots,
        slot_sinks=generator.randint(0, (slots or max_context) - recent - 1),
        slot_recent=recent,
        slot_decay=choose((0, generator.randint(1, 255), 256)),
        slot_rule=choose(("score", "votes")),
        slot_vote_mean=generator.randint(1, 1024),
        slot_vote_sigma=choose((0, generator.randint(1, 1024))),
        slot_caches=choose((1, 3, 64, 1000)),
        layers=generator.randint(1, 256),
        kv_heads=generator.randint(1, 256),
        memory_bytes=1 << 23,
        jobs_in_flight=choose((2, 4, 8)),
        memory_tags=choose((2, 4, 8, 16)),
        reorder_beats=choose((64, 128, 256, 512)),
    )
