"""The configuration: derived sizes, every error message, presets and the hash."""

import re
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from hw.config import PRESETS, AttentionConfig, ConfigError, preset

TINY = preset("tiny")
LM = preset("lm")


@pytest.mark.parametrize(
    ("config", "derived"),
    [
        (
            TINY,
            {
                "groups": 2,
                "top_chunks": 4,
                "max_chunks": 28,  # 224 of 256 tokens closed
                "max_attended": 256,  # a dense cache; 32 selected and 32 in the tail are fewer
                "value_step_ratio": 5,
                "accumulator_bits": 50,  # 1 + 18 + 20 + 11 bits of 5 * 256
                "sum_bits": 29,  # 20 + 9 bits of 256
                "selection_bits": 24,
            },
        ),
        (
            LM,
            {
                "groups": 2,
                "top_chunks": 48,
                "max_chunks": 240,  # 1920 of 2048 tokens closed
                "max_attended": 2048,  # a dense cache; 384 and 128 are fewer
                "accumulator_bits": 53,  # 1 + 18 + 20 + 14 bits of 10240
                "sum_bits": 32,  # 20 + 12 bits of 2048
                "selection_bits": 24,
            },
        ),
        (
            replace(LM, max_context=128),
            {
                "max_attended": 512,  # 384 + 128, although a job never has them
                "accumulator_bits": 51,  # 1 + 18 + 20 + 12 bits of 2560
                "sum_bits": 30,  # 20 + 10 bits of 512
            },
        ),
        (
            replace(LM, max_context=32768),
            {
                "max_attended": 32768,
                "accumulator_bits": 57,  # 1 + 18 + 20 + 18 bits of 163840
                "sum_bits": 36,  # 20 + 16 bits of 32768
            },
        ),
        (
            replace(LM, value_bits=4),
            {
                "value_base_bits": 8,
                "value_step_ratio": 17,  # 255 / 15
                "value_magnitude_bits": 20,
                "accumulator_bits": 57,  # 1 + 20 + 20 + 16 bits of 34816
                "reciprocal_fraction": 36,
            },
        ),
        (LM, {"value_base_bits": 4, "value_magnitude_bits": 18, "reciprocal_fraction": 34}),
        (replace(LM, budget=24), {"top_chunks": 3}),
        (replace(LM, chunk=4), {"top_chunks": 96, "max_chunks": 480, "max_attended": 2048}),
        (replace(LM, chunk=16, budget=48), {"top_chunks": 3, "max_chunks": 120}),
        (replace(LM, head_dim=192, group=64), {"groups": 3}),
        (replace(LM, head_dim=128, group=16), {"groups": 8}),
        (replace(LM, group_combine="mean", rows=1), {"selection_bits": 24}),
        (replace(LM, group_combine="mean", rows=2), {"selection_bits": 25}),
        (replace(LM, group_combine="mean", rows=3), {"selection_bits": 26}),
    ],
)
def test_derived(config: AttentionConfig, derived: dict[str, int]) -> None:
    assert {name: getattr(config, name) for name in derived} == derived


def test_widths_hold_the_largest_numbers() -> None:
    for config in (
        TINY,
        LM,
        replace(LM, budget=512, window=128),
        replace(LM, budget=512, window=128, max_context=256),
        replace(LM, max_context=32768),
        replace(TINY, budget=24),
        replace(LM, max_context=32768, value_bits=4),
    ):
        tokens = config.max_attended
        assert tokens >= config.max_context
        assert tokens >= config.top_chunks * config.chunk + 2 * config.window
        # Every attended token with probability 1 and the largest value: the scale times the
        # largest code and the minimum, in steps of 1/R. The twin counts in 64 bits.
        ratio, codes = {2: (5, 3), 4: (17, 15)}[config.value_bits]
        assert 65504 * (codes + 1) < 2**config.value_magnitude_bits
        assert tokens * ratio * 2**config.value_magnitude_bits * 2**20 < 2 ** (
            config.accumulator_bits - 1
        )
        assert config.accumulator_bits < 63
        # The reciprocal has 17 bits whatever the sum, its product with a mean fits the twin too.
        for mantissa in (1 << 15, (1 << 16) - 1):
            quotient = (1 << config.reciprocal_fraction) // (ratio * mantissa)
            assert 1 << 15 < quotient < 1 << 17
            assert ratio * quotient << config.value_magnitude_bits + 19 < 1 << 62
        assert tokens * 2**20 < 2**config.sum_bits
        scores = config.rows if config.group_combine == "mean" else 1
        assert scores * 2**23 <= 2 ** (config.selection_bits - 1)


@pytest.mark.parametrize("config", [TINY, LM], ids=lambda config: config.name)
def test_closed_tokens_follow_decoding(config: AttentionConfig) -> None:
    """Token by token: a step sees the whole tail, then at ``2 * window`` the older half closes."""
    closed = 0
    for context in range(1, config.max_context + 1):
        assert config.closed_tokens(context) == closed
        tail = context - closed
        assert tail <= 2 * config.window
        assert closed == 0 or tail > config.window
        if tail == 2 * config.window:
            closed += config.window


@pytest.mark.parametrize(
    ("context", "head_dim", "message"),
    [
        (0, 32, "context must be from 1 to 256, not 0"),
        (257, 32, "context must be from 1 to 256, not 257"),
        (1, 64, "head dimension must be 32, not 64"),
        # The shape of a token comes before the number of tokens.
        (0, 31, "head dimension must be 32, not 31"),
    ],
)
def test_check_cache(context: int, head_dim: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        TINY.check_cache(context, head_dim)
    TINY.check_cache(1, 32)
    TINY.check_cache(256, 32)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "name must be letters, digits, - and _, not ''"),
        ("name", "a b", "name must be letters, digits, - and _, not 'a b'"),
        ("head_dim", 48, "head_dim must be one of 32, 64, 96, 128, 192, 256, not 48"),
        ("rows", 0, "rows must be an integer from 1 to 8, not 0"),
        ("rows", 9, "rows must be an integer from 1 to 8, not 9"),
        ("rows", True, "rows must be an integer from 1 to 8, not True"),
        ("rows", 2.0, "rows must be an integer from 1 to 8, not 2.0"),
        ("window", 16, "window must be one of 32, 64, 128, not 16"),
        ("window", 96, "window must be one of 32, 64, 128, not 96"),
        ("chunk", 12, "chunk must be one of 4, 8, 16, not 12"),
        ("group", 8, "group must be one of 16, 32, 64, not 8"),
        ("key_keep", 0, "key_keep must be an integer from 1 to 16, not 0"),
        ("key_keep", 17, "key_keep must be an integer from 1 to 16, not 17"),
        ("value_group", 8, "value_group must be one of 16, 32, 64, not 8"),
        ("value_keep", 0, "value_keep must be an integer from 1 to 28, not 0"),
        ("value_keep", 29, "value_keep must be an integer from 1 to 28, not 29"),
        ("budget", 16, "budget must be an integer from 24 to 512 and a multiple of 8, not 16"),
        ("budget", 100, "budget must be an integer from 24 to 512 and a multiple of 8, not 100"),
        ("budget", 520, "budget must be an integer from 24 to 512 and a multiple of 8, not 520"),
        ("tail_value_bits", 4, "tail_value_bits must be one of 16, 8, not 4"),
        ("group_combine", "sum", "group_combine must be one of 'max', 'mean', not 'sum'"),
        *(
            (
                "slots",
                wrong,
                f"slots must be 0 or an integer from 128 to 2048 and a multiple of 8, not {wrong}",
            )
            for wrong in (127, 120, 132, 2056, False)
        ),
        ("slot_sinks", -1, "slot_sinks must be an integer from 0 to 2031, not -1"),
        ("slot_recent", 0, "slot_recent must be an integer from 1 to 32, not 0"),
        ("slot_decay", 257, "slot_decay must be an integer from 0 to 256, not 257"),
        ("slot_rule", "vote", "slot_rule must be one of 'score', 'votes', not 'vote'"),
        ("slot_vote_mean", 0, "slot_vote_mean must be an integer from 1 to 1024, not 0"),
        ("slot_vote_sigma", 1025, "slot_vote_sigma must be an integer from 0 to 1024, not 1025"),
        ("slot_caches", 0, "slot_caches must be an integer from 1 to 65536, not 0"),
        (
            "max_context",
            64,
            "max_context must be an integer from 128 to 32768 and a multiple of 64, not 64",
        ),
        (
            "max_context",
            1000,
            "max_context must be an integer from 128 to 32768 and a multiple of 64, not 1000",
        ),
        (
            "max_context",
            32832,
            "max_context must be an integer from 128 to 32768 and a multiple of 64, not 32832",
        ),
        ("layers", 0, "layers must be an integer from 1 to 256, not 0"),
        ("layers", 257, "layers must be an integer from 1 to 256, not 257"),
        ("kv_heads", 0, "kv_heads must be an integer from 1 to 256, not 0"),
        ("kv_heads", 257, "kv_heads must be an integer from 1 to 256, not 257"),
        (
            "memory_bytes",
            5000,
            "memory_bytes must be an integer from 4096 to 4294967296 and a multiple of 4096, "
            "not 5000",
        ),
        (
            "memory_bytes",
            1 << 33,
            "memory_bytes must be an integer from 4096 to 4294967296 and a multiple of 4096, "
            "not 8589934592",
        ),
        ("jobs_in_flight", 3, "jobs_in_flight must be one of 2, 4, 8, not 3"),
        ("memory_tags", 32, "memory_tags must be one of 2, 4, 8, 16, not 32"),
        ("reorder_beats", 100, "reorder_beats must be one of 64, 128, 256, 512, not 100"),
    ],
)
def test_errors(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        AttentionConfig(**{field: value})  # type: ignore[arg-type]


def test_every_field_is_checked() -> None:
    for field in fields(AttentionConfig):
        wrong = "a b" if field.name == "name" else None
        with pytest.raises((ConfigError, TypeError)):
            AttentionConfig(**{field.name: wrong})  # type: ignore[arg-type]


def test_fields_limit_each_other() -> None:
    # Fewer channels in a group and fewer tokens in a value group leave less to keep.
    with pytest.raises(ConfigError, match=r"^key_keep must be an integer from 1 to 8, not 9$"):
        AttentionConfig(group=16, key_keep=9)
    with pytest.raises(ConfigError, match=r"^value_keep must be an integer from 1 to 14, not 15$"):
        AttentionConfig(value_group=16, value_keep=15)
    assert AttentionConfig(value_group=16, window=16).window == 16
    # A group divides the head, a window holds a value group, a budget has three chunks.
    for head_dim in (32, 96):
        with pytest.raises(ConfigError, match=r"^group must be one of 16, 32, not 64$"):
            AttentionConfig(head_dim=head_dim, group=64)
    with pytest.raises(ConfigError, match=r"^window must be one of 64, 128, not 32$"):
        AttentionConfig(value_group=64, window=32)
    for chunk, keep in ((4, 24), (16, 30)):
        message = f"^value_keep must be an integer from 1 to {keep}, not {keep + 1}$"
        with pytest.raises(ConfigError, match=message):
            AttentionConfig(chunk=chunk, value_keep=keep + 1)
        message = f"^budget must be an integer from {3 * chunk} to 512 and a multiple of {chunk}, "
        for budget in (2 * chunk, 512 + chunk, 100 + chunk // 2):
            with pytest.raises(ConfigError, match=f"{message}not {budget}$"):
                AttentionConfig(chunk=chunk, budget=budget)
    with pytest.raises(ConfigError, match=r"^max_context must be an integer from 256 to"):
        AttentionConfig(window=128, max_context=128)


def test_presets() -> None:
    for name, config in PRESETS.items():
        assert config.name == name
        assert preset(name) is config
    listed = re.escape(", ".join(PRESETS))
    with pytest.raises(ConfigError, match=rf"^preset must be one of {listed}, not 'huge'$"):
        preset("huge")
    with pytest.raises(FrozenInstanceError):
        LM.rows = 1  # type: ignore[misc]


def test_hash_covers_everything_but_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert replace(LM, name="other").config_hash == LM.config_hash
    other: dict[str, object] = {
        "head_dim": 128,
        "rows": 1,
        "window": 32,
        "chunk": 4,
        "group": 16,
        "key_bits": 4,
        "key_delta_bits": 4,
        "mask_scope": "chunk",
        "key_keep": 7,
        "value_bits": 4,
        "value_group": 16,
        "value_keep": 11,
        "budget": 256,
        "tail_value_bits": 8,
        "group_combine": "mean",
        "max_context": 4096,
        "slots": 1024,
        "slot_sinks": 0,
        "slot_recent": 32,
        "slot_decay": 255,
        "slot_caches": 17,
        "layers": 5,
        "kv_heads": 3,
        "memory_bytes": 1 << 25,
        "jobs_in_flight": 8,
        "memory_tags": 8,
        "reorder_beats": 128,
    }
    of_votes = {"slot_rule", "slot_vote_mean", "slot_vote_sigma"}
    assert set(other) == {field.name for field in fields(LM)} - {"name"} - of_votes
    hashes = {replace(LM, **{k: v}).config_hash for k, v in other.items()}  # type: ignore[arg-type]
    assert len(hashes | {LM.config_hash, TINY.config_hash}) == len(other) + 2
    before = LM.config_hash
    monkeypatch.setattr("hw.config.FORMAT_VERSION", 0)
    assert LM.config_hash != before


def test_the_vote_rule_counts_where_it_is_the_rule() -> None:
    """Hashes of cores without it are those of before there was one."""
    slots = replace(LM, slots=128)
    votes = replace(slots, slot_rule="votes")
    for config in (LM, slots):
        assert replace(config, slot_vote_mean=1, slot_vote_sigma=0).config_hash == (
            config.config_hash
        )
    assert replace(LM, slot_rule="votes").config_hash == LM.config_hash
    different = [
        slots,
        votes,
        replace(votes, slot_vote_mean=255),
        replace(votes, slot_vote_sigma=15),
    ]
    assert [config.votes for config in (LM, *different)] == [False, False, True, True, True]
    assert len({config.config_hash for config in different}) == 4


def test_hash_never_changes_by_accident() -> None:
    """A difference here means that golden data and generated Verilog made before are refused."""
    assert {name: f"{config.config_hash:#010x}" for name, config in PRESETS.items()} == {
        "tiny": "0x4488a661",
        "lm": "0x295b3373",
        "paper": "0x29d8e655",
        "paper-gqa": "0x3d03ee7c",
    }


def test_slots_have_room_for_what_stays() -> None:
    with pytest.raises(ConfigError, match="slot_sinks must be an integer from 0 to 111, not 112"):
        replace(LM, slots=128, slot_sinks=112)
    replace(LM, slots=128, slot_sinks=111)


def test_describe() -> None:
    assert TINY.describe() == asdict(TINY)
