"""Record sizes worked out by hand, and the rules that every configuration keeps."""

from dataclasses import replace
from itertools import product

import pytest

from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.formats import KVFormat, Mode, Status, StepKind, job_fields
from tb.configurations import AWKWARD

#: Head dimension and parameters of the published method.
PUBLISHED = AttentionConfig(head_dim=128, rows=1)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (
            preset("tiny"),
            {
                "key_scale_bytes": 64,  # 8 keys x 2 groups x 4 B
                "saliency_bytes": 32,  # 8 tokens x 4 B
                "tail_scale_bytes": 16,  # 8 tokens x 2 B
                "tail_header_bytes": 128,  # 32 + 64 + 16 = 112, to a burst
                "key_code_bytes": 256,  # 8 keys x 32 channels
                "base_block_bytes": 320,
                "tail_key_bytes": 384,  # 128 + 256
                "value_tile_channels": 16,
                "tail_value_bytes": 512,  # 8 tokens x 32 channels x 2 B
                "tail_block_bytes": 896,
                "tail_blocks": 4,
                "delta_element_bits": 56,  # 16 mask + 4 x 2 codes + 32
                "delta_elements": 14,  # 7 tokens x 2 groups
                "delta_bytes": 128,  # 98, to a burst
                "value_channel_bits": 25,  # 7 x 2 codes + 7 mask + 4 base
                "value_code_bytes": 112,  # 32 x 25 bits = 100 B, to a beat
                "value_scale_bytes": 128,  # 32 x 4 B
                "value_bytes": 128,  # 112, to a burst
                "chunk_bytes": 256,
                "group_bytes": 640,  # 2 chunks
            },
        ),
        (
            preset("lm"),
            {
                "key_scale_bytes": 64,
                "tail_scale_bytes": 16,
                "key_code_bytes": 512,
                "base_block_bytes": 576,
                "tail_key_bytes": 640,  # 128 + 512
                "tail_value_bytes": 1024,
                "tail_block_bytes": 1664,
                "tail_blocks": 16,
                "delta_element_bits": 80,  # 32 mask + 8 x 2 codes + 32
                "delta_elements": 14,
                "delta_bytes": 160,  # 140, to a burst
                "value_channel_bits": 25,
                "value_code_bytes": 208,  # 200, to a beat
                "value_scale_bytes": 256,
                "value_bytes": 224,  # 208, to a burst
                "chunk_bytes": 384,
                "group_bytes": 1792,  # 4 chunks
            },
        ),
        (
            PUBLISHED,
            {
                "base_block_bytes": 8 * 144,  # 128 B codes + 16 B scales per chunk, no padding
                "delta_bytes": 288,  # 7 x 4 x 80 bits = 280 B, to a burst
                "value_code_bytes": 400,  # 64 B bases + 224 B codes + 112 B masks
                "value_scale_bytes": 512,
                "value_bytes": 416,  # 400, to a burst
                "chunk_bytes": 704,
                "group_bytes": 3328,
            },
        ),
        (
            replace(preset("tiny"), tail_value_bits=8),
            {"tail_value_bytes": 256, "value_tile_channels": 32},
        ),
        (
            replace(PUBLISHED, key_bits=4, mask_scope="chunk"),
            {
                "base_block_bytes": 640,  # 8 x (64 B codes + 16 B scales)
                "delta_mask_bytes": 16,
                "delta_bytes": 192,  # 16 + 7 x 4 x 48 bits = 184
            },
        ),
        (
            AWKWARD["channels96"],
            {
                "key_scale_bytes": 96,  # 4 keys x 6 groups x 4 B
                "saliency_bytes": 16,
                "tail_scale_bytes": 16,  # 8 B, to a beat
                "tail_header_bytes": 128,
                "key_code_bytes": 192,  # 4 keys x 96 channels of 4 bits
                "tail_key_bytes": 320,  # 128 + 192
                "tail_value_bytes": 768,
                "delta_mask_bytes": 16,  # 96 bits
                "delta_element_bits": 44,  # 4 x 3 + 32
                "delta_elements": 18,
                "delta_bytes": 128,  # 16 + 99
                "value_channel_bits": 23,  # 3 x 5 + 8
                "value_code_bytes": 288,  # 276
                "value_bytes": 288,
            },
        ),
        (
            AWKWARD["channels192"],
            {
                "key_scale_bytes": 192,  # 16 keys x 3 groups x 4 B
                "saliency_bytes": 64,
                "tail_scale_bytes": 32,  # two beats
                "tail_header_bytes": 288,  # 64 + 192 + 32
                "tail_key_bytes": 3360,  # 288 + 3072
                "tail_value_bytes": 3072,
                "delta_mask_bytes": 0,
                "delta_element_bits": 224,  # 64 + 4 x 32 + 32
                "delta_elements": 45,
                "delta_bytes": 1280,  # 1260
                "value_channel_bits": 83,  # 15 x 5 + 8
                "value_code_bytes": 2000,  # 1992
                "value_bytes": 2016,  # 2000, to a burst
            },
        ),
    ],
)
def test_sizes(config: AttentionConfig, sizes: dict[str, int]) -> None:
    layout = KVFormat(config)
    assert {name: getattr(layout, name) for name in sizes} == sizes


@pytest.mark.parametrize(
    ("head_dim", "group", "key_keep", "chunk", "wide", "mask_scope"),
    [
        sizes
        for sizes in product(
            (32, 64, 96, 128, 192, 256),
            (16, 32, 64),
            (1, 5, 8),
            (4, 8, 16),
            (False, True),
            ("token", "chunk"),
        )
        if sizes[0] % sizes[1] == 0
    ],
)
def test_alignment(
    head_dim: int, group: int, key_keep: int, chunk: int, wide: bool, mask_scope: str
) -> None:
    config = AttentionConfig(
        head_dim=head_dim,
        group=group,
        key_keep=key_keep,
        chunk=chunk,
        key_bits=8 if wide else 4,
        key_delta_bits=4 if wide else 2,
        mask_scope=mask_scope,
        value_bits=4 if wide else 2,
        tail_value_bits=16 if wide else 8,
    )
    layout = KVFormat(config)
    for size in (
        layout.base_block_bytes,
        layout.tail_header_bytes,
        layout.tail_key_bytes,
        layout.tail_value_bytes,
        layout.delta_bytes,
        layout.value_bytes,
        layout.value_scale_bytes,
        *(half for mode in Mode for half in layout.block_bytes(mode)),
    ):
        assert size % BURST_BYTES == 0
    for section in (
        layout.saliency_bytes,
        layout.key_scale_bytes,
        layout.tail_scale_bytes,
        layout.key_code_bytes,
        layout.delta_mask_bytes,
        layout.value_code_bytes,
    ):
        assert section % 16 == 0
    # Padding is less than a burst in each record, none in the values of a tail.
    sections = layout.saliency_bytes + layout.key_scale_bytes + layout.tail_scale_bytes
    assert 0 <= layout.tail_header_bytes - sections < 32
    assert 8 * layout.tail_value_bytes == chunk * head_dim * config.tail_value_bits
    assert layout.tail_block_bytes == layout.tail_key_bytes + layout.tail_value_bytes
    elements = layout.delta_elements * layout.delta_element_bits
    assert 0 <= 8 * (layout.delta_bytes - layout.delta_mask_bytes) - elements < 256
    assert 0 <= layout.value_bytes - layout.value_code_bytes < 32


@pytest.mark.parametrize(
    ("context", "base", "chunk", "tail"),
    [
        (1, 0, 0, 1),
        (32, 0, 0, 4),
        (33, 1, 2, 3),  # 16 closed, 2 chunks, 17 in the tail
        (48, 1, 2, 4),
        (97, 2, 10, 3),  # 80 closed: 10 chunks in two blocks
        (256, 4, 28, 4),  # 224 closed
    ],
)
def test_regions(context: int, base: int, chunk: int, tail: int) -> None:
    layout = KVFormat(preset("tiny"))
    regions = {"base": base * 320, "chunk": chunk // 2 * 640, "tail": (4 if base else tail) * 896}
    assert layout.region_bytes(context) == regions
    expected = {**regions, "tail": tail * 896}
    # At most 4 chunks are selected, of as many groups if there are.
    selected = min(chunk, 4)
    for groups, known in ((min(chunk // 2, 4), None), (selected // 2, selected // 2)):
        size = selected * 256 + groups * 128
        assert layout.traffic_bytes(context, groups=known) == {**expected, "chunk": size}


def test_selected_groups() -> None:
    assert KVFormat(preset("tiny")).selected_groups([5, 0, 4, 1, 9]) == 3
    assert KVFormat(replace(preset("lm"), chunk=16)).selected_groups([5, 0, 4, 1, 9]) == 3
    assert KVFormat(replace(preset("lm"), chunk=4)).selected_groups([5, 0, 4, 1, 9]) == 2
    assert KVFormat(preset("tiny")).selected_groups([]) == 0


@pytest.mark.parametrize(
    ("config", "mode", "sizes"),
    [
        (preset("tiny"), Mode.KVO, (384, 512)),  # those of a tail block
        (preset("tiny"), Mode.DENSE8, (256, 256)),  # 8 tokens x 32 channels
        (preset("tiny"), Mode.DENSE16, (512, 512)),
        # The width of tail values plays no part in a dense block.
        (replace(preset("tiny"), tail_value_bits=8), Mode.KVO, (384, 256)),
        (replace(preset("tiny"), tail_value_bits=8), Mode.DENSE16, (512, 512)),
        (PUBLISHED, Mode.DENSE8, (1024, 1024)),
        (PUBLISHED, Mode.DENSE16, (2048, 2048)),
    ],
)
def test_block_bytes(config: AttentionConfig, mode: Mode, sizes: tuple[int, int]) -> None:
    assert KVFormat(config).block_bytes(mode) == sizes


@pytest.mark.parametrize(("mode", "block"), [(Mode.DENSE8, 512), (Mode.DENSE16, 1024)])
@pytest.mark.parametrize(
    ("context", "blocks"), [(1, 1), (8, 1), (9, 2), (32, 4), (33, 5), (255, 32), (256, 32)]
)
def test_dense_regions(mode: Mode, block: int, context: int, blocks: int) -> None:
    """All tokens are tail, whatever a window would have closed, and all of them are read."""
    layout = KVFormat(preset("tiny"))
    assert layout.tokens(context, mode) == (0, context)
    expected = {"base": 0, "chunk": 0, "tail": blocks * block}
    assert layout.region_bytes(context, mode) == expected
    assert layout.traffic_bytes(context, mode) == expected


def test_tail_order() -> None:
    """A ring of four blocks; token 16 begins block 2, token 32 block 0 again."""
    layout = KVFormat(preset("tiny"))
    for context, order in (
        (1, [0]),
        (32, [0, 1, 2, 3]),
        (33, [2, 3, 0]),
        (48, [2, 3, 0, 1]),
        (49, [0, 1, 2]),
        (64, [0, 1, 2, 3]),
        (65, [2, 3, 0]),
    ):
        assert layout.tail_order(context) == order
    assert layout.tail_order(65, Mode.DENSE8) == list(range(9))


def test_tokens() -> None:
    layout = KVFormat(preset("tiny"))
    for context, tokens in ((1, (0, 1)), (32, (0, 32)), (33, (16, 17)), (256, (224, 32))):
        assert layout.tokens(context) == layout.tokens(context, Mode.KVO) == tokens


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_job_fields(rows: int) -> None:
    fields = job_fields(AttentionConfig(rows=rows))
    assert list(fields) == [
        "job_id",
        "config_hash",
        "layer",
        "kv_head",
        "mode",
        "context",
        "base_address",
        "chunk_address",
        "tail_address",
        "value_scale",
        "query_scale",
    ]
    assert sum(fields.values()) == 200 + 16 * rows
    assert (fields["mode"], fields["value_scale"]) == (8, 16)


def test_codes() -> None:
    assert [status.name for status in sorted(Status)] == [
        "OK",
        "CONFIG_MISMATCH",
        "MODE_RANGE",
        "CONTEXT_RANGE",
        "LAYER_RANGE",
        "HEAD_RANGE",
        "ADDRESS_RANGE",
        "MEMORY_ERROR",
        "SCALE_NOT_FINITE",
        "NO_SEQUENCE",
        "PAGE_FAULT",
        "OUT_OF_PAGES",
    ]
    assert [status.value for status in Status] == list(range(12))
    # Those with a memory access and outputs.
    ran = {Status.OK, Status.MEMORY_ERROR, Status.SCALE_NOT_FINITE}
    assert {status for status in Status if not status.refused} == ran
    assert [(mode.name, mode.value) for mode in Mode] == [
        ("KVO", 0),
        ("DENSE8", 1),
        ("DENSE16", 2),
        ("SLOTS", 3),
    ]
    assert (Mode.DENSE8.code_bytes, Mode.DENSE16.code_bytes) == (1, 2)
    assert [(kind.name, kind.value) for kind in StepKind] == [
        ("KEYS", 0),
        ("KEY_DIGITS", 1),
        ("VALUES", 2),
        ("TAIL_VALUES", 3),
    ]
