"""Captured keys, values and queries: consistent, cached, and checked when read back."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from golden.model.architecture import LanguageModel, ModelConfig
from golden.model.capture import CapturedKV, capture
from golden.model.prompts import PROMPT_TOKENS, PROMPTS, load_prompt, make_prompts
from golden.model.weights import save_weights

CONFIG = ModelConfig(d_model=32, layers=3, query_heads=4, kv_heads=2, head_dim=16, d_ff=64)
TOKENS = list(b"to be, or not to be")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_weights(LanguageModel(CONFIG), path)
    return path


def cache_file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def attend(captured: CapturedKV, layer: int) -> torch.Tensor:
    """Attention written out, in float64, from the captured tensors alone."""
    query, key, value = (
        getattr(captured, name)[layer].double() for name in ("query", "key", "value")
    )
    heads, tokens, width = query.shape
    outputs = []
    for head in range(heads):
        group = head // (heads // len(key))
        scores = query[head] @ key[group].T / width**0.5
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        outputs.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ value[group])
    return torch.stack(outputs)


def test_default_capture_matches_plain_attention() -> None:
    captured = capture(cache=None)
    assert captured.layers == (0, 1, 2, 3)
    assert captured.key.shape == captured.value.shape == (4, 2, PROMPT_TOKENS, 64)
    assert captured.query.shape == captured.output.shape == (4, 4, PROMPT_TOKENS, 64)
    assert captured.key.dtype == captured.query.dtype == torch.float32
    for layer in range(4):
        expected = attend(captured, layer).float()
        torch.testing.assert_close(captured.output[layer], expected, atol=1e-4, rtol=1e-4)


def test_layers_are_selected(weights: Path) -> None:
    whole = capture(TOKENS, weights=weights, cache=None)
    part = capture(TOKENS, weights=weights, layers=[2, 0], cache=None)
    assert part.layers == (0, 2)
    for name in ("key", "value", "query", "output"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[[0, 2]])
    for layers in ([], [3], [1, 1], [-1]):
        with pytest.raises(ValueError, match="layers must be distinct ones of"):
            whole.select(layers)


def test_second_capture_comes_from_the_cache(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = capture(TOKENS, weights=weights, cache=tmp_path / "cache")
    monkeypatch.setattr("golden.model.capture.load_model", pytest.fail)
    again = capture(TOKENS, weights=weights, cache=tmp_path / "cache")
    assert again.digest == first.digest
    assert again.layers == first.layers
    for name in ("key", "value", "query", "output", "tokens"):
        assert torch.equal(getattr(again, name), getattr(first, name))


@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "not safetensors", "other file"])
def test_corrupt_cache_is_reported_and_made_anew(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    cache = tmp_path / "cache"
    first = capture(TOKENS, weights=weights, cache=cache)
    file = cache_file(cache)
    good = file.read_bytes()
    if damage == "flipped bit":
        file.write_bytes(good[:-100] + bytes([good[-100] ^ 1]) + good[-99:])
    elif damage == "cut short":
        file.write_bytes(good[: len(good) // 2])
    elif damage == "not safetensors":
        file.write_bytes(b"nonsense")
    else:
        capture(TOKENS[:-1], weights=weights, cache=tmp_path / "other")
        file.write_bytes(cache_file(tmp_path / "other").read_bytes())
    with caplog.at_level(logging.WARNING):
        again = capture(TOKENS, weights=weights, cache=cache)
    assert "capturing again" in caplog.text
    torch.testing.assert_close(again.key, first.key)
    caplog.clear()
    capture(TOKENS, weights=weights, cache=cache)
    assert not caplog.text


def test_digest_follows_weights_and_tokens(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_weights(LanguageModel(CONFIG, seed=1), other)
    digests = {
        capture(tokens, weights=path, cache=None).digest
        for tokens in (TOKENS, TOKENS[::-1])
        for path in (weights, other)
    }
    assert len(digests) == 4


def test_input_errors(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"prompt must be one of .*, not 'sonnet'"):
        capture("sonnet", weights=weights, cache=None)
    with pytest.raises(ValueError, match=r"token ids must be 0\.\.263, not 5\.\.264"):
        capture([5, 264], weights=weights, cache=None)
    with pytest.raises(ValueError, match="prompt must be token ids"):
        capture([], weights=weights, cache=None)


def test_committed_prompts() -> None:
    assert sorted(json.loads(PROMPTS.read_text())) == ["copy", "mixed", "recall", "text"]
    for name, made in make_prompts().items():
        prompt = load_prompt(name)
        assert len(prompt.tokens) == PROMPT_TOKENS
        assert np.array_equal(prompt.tokens, made.tokens)
        assert np.array_equal(prompt.answer, made.answer)
    assert [
        int(load_prompt(name).answer.sum()) for name in ("text", "copy", "recall", "mixed")
    ] == [
        0,
        32,
        48,
        80,
    ]
