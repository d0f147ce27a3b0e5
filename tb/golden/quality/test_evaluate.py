"""The trained model with a method in every layer."""

import pytest
import torch

from golden.model.corpus import held_out_tokens
from golden.model.weights import load_model
from golden.quality.evaluate import Prompt, evaluate
from golden.quality.lab import load_models
from golden.quality.methods import FP16, INT8, StreamingLLM
from golden.quality.tasks import Batch, make_batch

LENGTH = 256


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch("copy", held_out_tokens(), length=LENGTH, sequences=2, seed=1)


@pytest.fixture(scope="module")
def ready(batch: Batch) -> Prompt:
    return Prompt(load_model(), batch, device=torch.device("cpu"))


def test_fp16_is_the_model(ready: Prompt, batch: Batch) -> None:
    """As exact attention over the whole sequence scores it; all bytes are those of FP16."""
    found = ready.evaluate(FP16())
    with torch.no_grad():
        logits = load_model()(batch.tokens)[:, batch.prompt : -1]
    assert found.scores == batch.scores(logits)
    assert sum(found.scores) / 2 > 0.95
    assert found.traffic.share == 1.0


def test_forgetting_the_prompt_fails(ready: Prompt) -> None:
    """A window of 40 tokens does not reach back to the string; whole layers do."""
    forgetful = StreamingLLM(budget=40)
    assert sum(ready.evaluate(forgetful).scores) / 2 < 0.3
    whole = ready.evaluate(forgetful, dense_layers=4)
    assert whole.scores == ready.evaluate(FP16()).scores
    assert whole.traffic.share == 1.0
    half = ready.evaluate(forgetful, dense_layers=2)
    none = ready.evaluate(forgetful)
    assert half.traffic.share == pytest.approx((1 + none.traffic.share) / 2)


def test_untrained_model_knows_nothing(batch: Batch) -> None:
    found = evaluate(load_models()[False], batch, INT8())
    assert max(found.scores) < 0.1


def test_dense_layers_are_checked(ready: Prompt) -> None:
    with pytest.raises(ValueError, match=r"dense_layers must be 0\.\.4, not 5"):
        ready.evaluate(FP16(), dense_layers=5)
