"""The study: its steps at once are the lab's steps one by one."""

from dataclasses import replace

import pytest
import torch

from golden.model.corpus import held_out_tokens
from golden.model.weights import load_model
from golden.quality.decode import decode
from golden.quality.interface import Prefill
from golden.quality.methods.fp16 import FP16
from golden.quality.methods.progressive import Progressive
from golden.quality.progressive_study.attention import Counts, LevelStore, study_attention
from golden.quality.progressive_study.document import document, label
from golden.quality.progressive_study.measure import StudyPrompt, derived_share
from golden.quality.progressive_study.variant import DEFAULT, GROUPS, Variant, every_variant
from golden.quality.tasks import make_batch
from tb.golden.quality.small import random_prompt


def tensors(tokens: int, seed: int = 0) -> Prefill:
    """Channels of different size; queries that weigh them unevenly and have a part in common.

    Their scores differ by many powers of two.
    """
    plain = random_prompt(tokens, width=64, seed=seed)
    size = torch.linspace(-2, 2, 64).exp2()
    query = (2 * plain.query + 2) / size * torch.linspace(1, -1, 64).exp2()
    return Prefill(query=query, key=plain.key * size, value=plain.value)


def outputs(variant: Variant, tokens: int = 300, steps: int = 5) -> tuple[torch.Tensor, Counts]:
    new = tensors(steps, 1)
    counts = Counts()
    attention = study_attention(variant, {0: tensors(tokens)}, counts, LevelStore())
    return attention(0, new.query.flatten(1, 2), new.key, new.value), counts


def test_equals_the_method() -> None:
    """Outputs and every byte, at a context where pages close and the window slides."""
    new = tensors(5, 1)
    method = Progressive(top=40, window=16, reach=3)
    expected, traffic = decode(method, tensors(510), new.query, new.key, new.value)
    variant = replace(DEFAULT, top=40, window=16, reach=3)
    found, counts = outputs(variant, 510)
    assert torch.allclose(found, expected.flatten(1, 2), atol=1e-4)
    assert counts.traffic == traffic


@pytest.mark.parametrize("change", ["outliers", "sink"])
def test_changes_keep_the_function(change: str) -> None:
    """With everything read in 7 bits the output is nearly that without the change."""
    whole = replace(DEFAULT, top=400, reach=31, key_bits=7, screen_bits=7, value_bits=7)
    found, _ = outputs(replace(whole, change=change))
    expected, _ = outputs(whole)
    assert float(torch.cosine_similarity(found, expected, -1).min()) > 0.97
    exact, _ = outputs(replace(whole, dense_layers=1))
    assert float(torch.cosine_similarity(expected, exact, -1).min()) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in every_variant() if v != DEFAULT], ids=label)
def test_every_variant_differs(variant: Variant) -> None:
    """Each one runs, and changes the output or the bytes."""
    found, counts = outputs(variant, 700, 2)
    default, read = outputs(DEFAULT, 700, 2)
    assert bool(torch.isfinite(found).all())
    assert not torch.equal(found, default) or counts.traffic != read.traffic


def test_nothing_of_the_future() -> None:
    """Later steps do not change earlier outputs."""
    new = tensors(5, 1)
    long, _ = outputs(DEFAULT)
    attention = study_attention(DEFAULT, {0: tensors(300)}, Counts(), LevelStore())
    short = attention(
        0, new.query.flatten(1, 2)[..., :2, :], new.key[..., :2, :], new.value[..., :2, :]
    )
    assert torch.allclose(short, long[..., :2, :], atol=1e-5)


def test_derived_share_is_the_measured_one() -> None:
    """At the model's own width, with the tokens kept that were kept."""
    _, counts = outputs(DEFAULT, 700, 256)
    kept = counts.kept / counts.heads
    # 955 is the last context of 256 steps after 700 tokens; all candidates exist.
    assert derived_share(DEFAULT, 64, 956, kept) == pytest.approx(counts.traffic.share, rel=1e-3)


def test_prompt_and_document() -> None:
    """A short text: nearly FP16's bits per byte; the page has its line."""
    model = load_model()
    prompt = StudyPrompt(
        model, make_batch("text", held_out_tokens(), length=512, sequences=1, seed=1)
    )
    scores, counts = prompt.study(DEFAULT, LevelStore())
    assert scores[0] == pytest.approx(prompt.evaluate(FP16()).scores[0], rel=0.05)
    assert 0 < counts.traffic.share < 0.3
    task = {
        "mean": scores[0],
        "difference": {"mean": 0.01, "low": -0.01, "high": 0.02},
        "share": 0.03,
        "kept": 50.0,
    }
    row = {
        "variant": {**vars(DEFAULT)},
        "tasks": dict.fromkeys(("text", "copy", "recall"), task),
        "kept": 50.0,
        "derived": {"64/4096": 0.03, "128/4096": 0.025, "128/32768": 0.012},
    }
    one = {
        "rows": [row],
        "fp16": {"text": 1.5, "copy": 0.99, "recall": 0.95},
        "settings": {"context": 4096, "seeds": [1, 2], "text": 12, "copy": 4, "recall": 8},
        "weights_sha256": "0" * 64,
    }
    entropy = dict.fromkeys(("plane", "screen", "key", "value", "scale", "zero"), 0.5)
    facts = {"study": one, "confirmed": one, "torch": "2", "entropy": entropy}
    page = document(facts)
    assert "| default | +0.7 (-0.7 .. +1.3) % |" in page
    assert page.count("3.00% | 2.50% / 1.20% | 50 |") == 2
    assert "Sequences: 24 (text), 8 (copy), 16 (recall), seeds 1, 2. FP16: 1.500" in page


def test_choices() -> None:
    with pytest.raises(ValueError, match="estimate must be one of plane, sign"):
        Variant(estimate="none")
    assert len(set(every_variant())) == len(every_variant())
    assert all(DEFAULT not in group for group in GROUPS.values())
