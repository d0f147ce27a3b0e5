"""KVO in generate() of a tiny random Llama."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip(
    "transformers", reason="the optional extra 'quality' is not installed"
)

from transformers import AttentionInterface  # noqa: E402

from golden.progressive import numbers as codes  # noqa: E402
from golden.progressive.numbers import restore  # noqa: E402
from golden.progressive.reference import HeadStatistics, compress  # noqa: E402
from golden.quality import hugging_face  # noqa: E402
from golden.quality.decode import decode  # noqa: E402
from golden.quality.hugging_face import MethodCache  # noqa: E402
from golden.quality.interface import CacheMethod, Prefill  # noqa: E402
from golden.quality.methods import FP16, KVO, CrossLayer, Progressive, StreamingLLM  # noqa: E402

PROMPT, NEW = 150, 5


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture
def prompt() -> Tensor:
    return torch.randint(2, 100, (2, PROMPT), generator=torch.Generator().manual_seed(1))


def generate(model: Any, prompt: Tensor, **named: Any) -> Tensor:
    found: Tensor = model.generate(prompt, max_new_tokens=NEW, do_sample=False, **named)
    return found


def test_fp16_generates_what_the_model_does(model: Any, prompt: Tensor) -> None:
    """And the logits after the last token are the same but for the rounding of the cache."""
    expected = generate(model, prompt)
    exact = model(expected).logits[:, -1]
    cache = MethodCache(model, FP16())
    assert torch.equal(generate(model, prompt, past_key_values=cache), expected)
    last = model(expected[:, -1:], past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(last, exact, atol=1e-3, rtol=0)
    assert cache.traffic.share == 1.0
    assert cache.get_seq_length() == PROMPT + NEW
    # A cache that forgets gives other logits: the comparison sees it.
    short = MethodCache(model, StreamingLLM(budget=8))
    model(expected[:, :-1], past_key_values=short)
    other = model(expected[:, -1:], past_key_values=short).logits[:, -1]
    assert not torch.allclose(other, exact, atol=1e-3)


def attended(
    model: Any, prompt: Tensor, cache: MethodCache
) -> Iterator[tuple[int, Prefill, list[Tensor]]]:
    """By layer, the prompt, and query, key, value and output of the steps of generate()."""
    seen: dict[int, list[tuple[Tensor, ...]]] = {0: [], 1: []}
    plain = hugging_face._attention

    def record(module: Any, *tensors: Any, **named: Any) -> Any:
        found = plain(module, *tensors, **named)
        seen[module.layer_idx].append((*tensors[:3], found[0].transpose(1, 2)))
        return found

    # Until the next cache is made.
    AttentionInterface.register("kvforge", record)
    generate(model, prompt, past_key_values=cache)
    for layer, calls in seen.items():
        first, *steps = calls
        assert len(steps) == NEW - 1
        query, key, value, output = (torch.cat(each, 2) for each in zip(*steps, strict=True))
        prefill = Prefill(query=first[0].unflatten(1, (2, -1)), key=first[1], value=first[2])
        yield layer, prefill, [query.unflatten(1, (2, -1)), key, value, output]


@pytest.mark.parametrize("dense_layers", [0, 1])
@pytest.mark.parametrize("method", [KVO(budget=24), Progressive(top=16, reach=1)], ids=str)
def test_a_method_is_that_of_the_lab(
    model: Any, prompt: Tensor, method: CacheMethod, dense_layers: int
) -> None:
    """Every attention output of the decode steps, from what generate() attended with."""
    cache = MethodCache(model, method, dense_layers=dense_layers)
    for layer, prefill, (*steps, output) in attended(model, prompt, cache):
        used = FP16() if layer < dense_layers else method
        expected, _ = decode(used, prefill, *steps)
        torch.testing.assert_close(output, expected.flatten(1, 2))
        dense, _ = decode(FP16(), prefill, *steps)
        assert torch.allclose(output, dense.flatten(1, 2), atol=1e-5) is (used == FP16())
    assert cache.traffic.share < 1.0


@pytest.mark.parametrize("is_whole", [True, False])
def test_progressive_with_all_tokens_is_exact_attention(
    model: Any, prompt: Tensor, is_whole: bool
) -> None:
    """Over the keys and values as its codes hold them; with few tokens it is not."""
    top, reach = (512, 31) if is_whole else (16, 1)
    method = Progressive(part=1, screen_bits=6, top=top, reach=reach)
    form = method.form(head_dim=32)
    cache = MethodCache(model, method)
    for _, prefill, (query, key, value, output) in attended(model, prompt, cache):
        statistics = HeadStatistics.of(prefill.key, prefill.value, prefill.query.flatten(2, 3))
        keys, values = torch.cat((prefill.key, key), 2), torch.cat((prefill.value, value), 2)
        tokens = compress(keys, values, statistics, form)
        keys = restore(codes.decode(tokens.key, form.key_bits), statistics.key).float()
        values = restore(codes.decode(tokens.value, form.value_bits), statistics.value).float()
        for step in range(NEW - 1):
            scores = query[..., step, :] @ keys[..., : PROMPT + step + 1, :].mT / 32**0.5
            exact = scores.softmax(-1) @ values[..., : PROMPT + step + 1, :]
            found = output[..., step, :].unflatten(1, (2, -1))
            assert torch.allclose(found, exact, atol=1e-5) is is_whole


def test_reset(model: Any, prompt: Tensor) -> None:
    cache = MethodCache(model)
    first = generate(model, prompt, past_key_values=cache)
    counted = cache.traffic
    cache.reset()
    assert cache.get_seq_length() == 0
    assert cache.traffic == counted
    assert torch.equal(generate(model, prompt, past_key_values=cache), first)
    assert cache.traffic.read == 2 * counted.read


def test_one_prompt_for_several_methods(model: Any, prompt: Tensor) -> None:
    """Begun after a kept prompt, a method does what it does after its own."""
    source = MethodCache(model, FP16(), keep_prompt=True)
    model(prompt[:, :-1], past_key_values=source, logits_to_keep=1)
    model(prompt[:, -1:], past_key_values=source)
    seen = []
    for method in (FP16(), StreamingLLM(budget=8)):
        own = MethodCache(model, method)
        model(prompt[:, :-1], past_key_values=own)
        expected = model(prompt[:, -1:], past_key_values=own).logits
        other = source.after_prompt(method)
        assert other.get_seq_length() == PROMPT - 1
        seen.append(model(prompt[:, -1:], past_key_values=other).logits)
        assert torch.equal(seen[-1], expected)
        assert other.traffic == own.traffic
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    whole = source.after_prompt(StreamingLLM(budget=8), dense_layers=2)
    assert torch.equal(model(prompt[:, -1:], past_key_values=whole).logits, seen[0])
    with pytest.raises(ValueError, match="must be made with keep_prompt=True"):
        own.after_prompt(FP16())


def test_two_caches_of_a_model(model: Any, prompt: Tensor) -> None:
    """Each keeps its own sequence, whichever was made last."""
    first, second = MethodCache(model, FP16()), MethodCache(model, StreamingLLM(budget=8))
    for cache in (first, second):
        model(prompt[:, :-1], past_key_values=cache)
    logits = [model(prompt[:, -1:], past_key_values=cache).logits for cache in (first, second)]
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    assert first.traffic.share == 1.0 > second.traffic.share


def test_scaled_rope(model: Any) -> None:
    """Sinks stay where they are, or the model is refused; other methods do not move tokens."""
    model.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(ValueError, match="text_positions of StreamingLLM must be True"):
        MethodCache(model, StreamingLLM())
    MethodCache(model, StreamingLLM(text_positions=True))
    MethodCache(model, KVO())


def test_errors(model: Any, prompt: Tensor) -> None:
    with pytest.raises(ValueError, match="method must keep a cache in every layer"):
        MethodCache(model, CrossLayer())
    with pytest.raises(ValueError, match=r"dense_layers must be 0\.\.2, not 3"):
        MethodCache(model, dense_layers=3)
    cache = MethodCache(model)
    padded = torch.ones_like(prompt)
    padded[0, :3] = 0
    with pytest.raises(ValueError, match="attention_mask must be all ones"):
        generate(model, prompt, past_key_values=cache, attention_mask=padded)
    with pytest.raises(ValueError, match="past_key_values must be a MethodCache"):
        generate(model, prompt)
    with pytest.raises(ValueError, match="num_beams must be 1"):
        generate(model, prompt, past_key_values=MethodCache(model), num_beams=2)
