"""Training: where it begins, that it learns, and that it goes on where it was."""

from pathlib import Path

import numpy as np
import pytest
import torch

from golden.model.architecture import LanguageModel, ModelConfig
from golden.model.curriculum import Curriculum, Phase, draw_batch
from golden.model.train import DEVELOPMENT_TOKENS, Trainer, learning_rate
from golden.model.weights import load_model, save_weights

SMALL = ModelConfig(d_model=32, layers=2, query_heads=4, kv_heads=2, head_dim=16, d_ff=64)
CURRICULUM = Curriculum(
    phases=(Phase(until=1.0, lengths=(64,), repeat=1.0, copy=0.0, recall=0.0, pairs=(1, 2)),),
    longest=100,
    rope_theta=777.0,
    rate=0.5,
)
TEXT = np.resize(np.arange(97, 123, dtype=np.uint16), DEVELOPMENT_TOKENS + 4000)


def trainer(start: Path, *, seed: int = 3) -> Trainer:
    return Trainer(
        TEXT,
        curriculum=CURRICULUM,
        start=start,
        seed=seed,
        tokens_per_step=256,
        matrix_lr=0.02,
        other_lr=0.004,
    )


def steps(run: Trainer, count: int) -> list[float]:
    phase = CURRICULUM.phase_at(0.0)
    batches = [
        draw_batch(run.rng, run.text, phase, longest=CURRICULUM.longest, tokens=256)
        for _ in range(count)
    ]
    return [run.update(batch, CURRICULUM.rate) for batch in batches]


def weights(tmp_path: Path) -> Path:
    path = tmp_path / "first.safetensors"
    save_weights(LanguageModel(SMALL, seed=9), path)
    return path


def test_begins_from_weights_with_the_rope_base_of_the_curriculum(tmp_path: Path) -> None:
    path = weights(tmp_path)
    begun = trainer(path).model
    assert begun.config.rope_theta == 777.0
    assert begun.config.d_model == SMALL.d_model
    for name, tensor in load_model(path).state_dict().items():
        assert torch.equal(begun.state_dict()[name], tensor)


def test_learns_and_goes_on(tmp_path: Path) -> None:
    """Segments come again and again: losses fall. A run resumed is the run."""
    path = weights(tmp_path)
    run = trainer(path)
    losses = steps(run, 12)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.3
    run.save(tmp_path / "checkpoint.pt")
    resumed = trainer(path, seed=4)
    resumed.load(tmp_path / "checkpoint.pt")
    assert (resumed.seed, resumed.step, resumed.tokens) == (3, 12, 12 * 256)
    assert steps(resumed, 2) == steps(run, 2)


def test_learning_rate() -> None:
    """Up in 60 steps, flat to 35 %, then down to 1 %."""
    assert learning_rate(0.0, step=0) == 1 / 60
    assert learning_rate(0.3, step=59) == learning_rate(0.35, step=500) == 1.0
    assert learning_rate(0.675, step=500) == pytest.approx(0.5)
    assert learning_rate(1.0, step=500) == 0.01
