"""The trained language model: architecture, committed weights and what they can do."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from golden.model.architecture import LanguageModel, LayerTensors, ModelConfig, causal_attention
from golden.model.corpus import DATA, HELD_OUT, held_out_text, held_out_tokens
from golden.model.evaluate import LENGTHS, TARGET, TARGET_LENGTH
from golden.model.metrics import TASKS, bits_per_byte, task_accuracy
from golden.model.weights import MODELS, load_model, save_weights, weights_sha256

SMALL = ModelConfig(d_model=32, layers=2, query_heads=4, kv_heads=2, head_dim=16, d_ff=64)
RESULTS = {
    name: Path(__file__).parents[2] / "results" / f"{file}.json"
    for name, file in (("lm", "model"), ("lm4k", "model4k"))
}


@pytest.fixture(scope="module")
def trained() -> LanguageModel:
    return load_model()


@pytest.fixture(scope="module")
def untrained(trained: LanguageModel) -> LanguageModel:
    return LanguageModel(trained.config, seed=1).eval()


def random_tokens(length: int, *, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (batch, length), generator=torch.Generator().manual_seed(seed))


def test_shapes() -> None:
    seen: dict[int, LayerTensors] = {}
    logits = LanguageModel(SMALL)(random_tokens(7, batch=3), captured=seen)
    assert logits.shape == (3, 7, SMALL.vocabulary)
    assert sorted(seen) == [0, 1]
    for tensors in seen.values():
        assert tensors.query.shape == tensors.output.shape == (3, 4, 7, 16)
        assert tensors.key.shape == tensors.value.shape == (3, 2, 7, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers must be a positive integer, not 0"),
        ({"d_model": 1.5}, "d_model must be a positive integer, not 1.5"),
        ({"vocabulary": 256}, "vocabulary must be an integer above 256, not 256"),
        ({"query_heads": 3}, "query_heads must be a multiple of kv_heads 2, not 3"),
        ({"head_dim": 63}, "head_dim must be even, not 63"),
        ({"rope_theta": 0.0}, "rope_theta must be positive, not 0.0"),
    ],
)
def test_config_errors(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


def test_input_errors() -> None:
    model = LanguageModel(SMALL)
    with pytest.raises(ValueError, match="tokens must be"):
        model(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"sequence length must be 1\.\.4096, not 4097"):
        model(torch.zeros(1, 4097, dtype=torch.int64))


def test_initial_weights_follow_the_seed() -> None:
    first, again, other = (LanguageModel(SMALL, seed=seed) for seed in (1, 1, 2))
    name = "layers.0.self_attn.q_proj.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


@torch.no_grad()
def test_rope_makes_scores_depend_on_distance_only() -> None:
    """Moving all positions changes keys and queries, not their products, nor the prediction."""
    model = LanguageModel(SMALL)
    tokens = random_tokens(24)
    here: dict[int, LayerTensors] = {}
    there: dict[int, LayerTensors] = {}
    logits = model(tokens, captured=here)
    moved = model(tokens, positions=torch.arange(24) + 1000, captured=there)
    torch.testing.assert_close(moved, logits, atol=1e-3, rtol=0)
    assert not torch.allclose(here[0].key, there[0].key, atol=0.1)
    scores = [s[0].query[:, ::2] @ s[0].key.mT for s in (here, there)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-3, rtol=0)


@torch.no_grad()
def test_rope_angles() -> None:
    """Pair i turns by position * theta ** (-2 i / D)."""
    cosine, sine = LanguageModel(SMALL).rotation(torch.tensor([[0, 3]]))
    assert cosine.shape == sine.shape == (1, 1, 2, 8)
    assert torch.all(cosine[0, 0, 0] == 1)
    assert torch.all(sine[0, 0, 0] == 0)
    expected = [np.cos(3 * 10000 ** (-2 * i / 16)) for i in range(8)]
    np.testing.assert_allclose(cosine[0, 0, 1].numpy(), expected, atol=1e-6)


@torch.no_grad()
def test_causal() -> None:
    """A later token changes nothing before it, and something after it."""
    model = LanguageModel(SMALL)
    tokens = random_tokens(20)
    changed = tokens.clone()
    changed[0, 12] = (tokens[0, 12] + 1) % 256
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 13:], after[:, 13:])


@torch.no_grad()
def test_attention_can_be_replaced() -> None:
    calls: list[int] = []

    def attention(
        layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        calls.append(layer)
        return causal_attention(layer, query, key, torch.zeros_like(value))

    model = LanguageModel(SMALL)
    assert not torch.allclose(model(random_tokens(9), attention=attention), model(random_tokens(9)))
    assert calls == [0, 1]


def test_saved_weights_are_the_model_in_bfloat16(tmp_path: Path) -> None:
    model = LanguageModel(SMALL, seed=4)
    path = tmp_path / "lm.safetensors"
    save_weights(model, path, notes={"seed": "4"})
    loaded = load_model(path)
    assert loaded.config == SMALL
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.bfloat16().float())
    assert (tmp_path / "lm.sha256").read_text().split() == [weights_sha256(path), path.name]


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights must exist"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", MODELS)
def test_recorded_hash_is_that_of_the_weights(name: str) -> None:
    path = MODELS[name].path
    digest = weights_sha256(path)
    assert path.with_suffix(".sha256").read_text().split() == [digest, path.name]
    recorded = json.loads(RESULTS[name].read_text())
    assert recorded["weights_sha256"] == digest
    assert recorded["config"] == dataclasses.asdict(load_model(path).config)


@pytest.mark.parametrize("name", MODELS)
def test_recorded_figures_meet_the_targets(name: str) -> None:
    """To the context that the model was trained for, copy and recall 95 % from 2048 on."""
    recorded = json.loads(RESULTS[name].read_text())
    lengths = [length for length in LENGTHS if length <= MODELS[name].context]
    assert [int(length) for length in recorded["trained"]["recall"]] == lengths
    asked = [(target["task"], target["length"]) for target in recorded["targets"]]
    assert asked == [
        (task, length) for task in TASKS for length in lengths if length >= TARGET_LENGTH
    ]
    for target in recorded["targets"]:
        score = recorded["trained"][target["task"]][str(target["length"])]
        assert score >= target["wanted"] == TARGET
        assert target["met"]


@torch.no_grad()
def test_second_model_recalls_where_the_first_does_not() -> None:
    """At 4096 tokens; results/model4k.json holds the figures proper."""
    text = held_out_tokens()
    scores = {
        name: task_accuracy(
            load_model(MODELS[name].path), "recall", text, length=4096, prompts=2, seed=7
        )
        for name in MODELS
    }
    assert scores["lm4k"] > 0.8
    assert scores["lm"] < 0.5


def test_committed_data_stays_small() -> None:
    assert all(model.path.stat().st_size <= 8_000_000 for model in MODELS.values())
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= 300_000


def test_held_out_text_is_what_the_corpus_leaves_out() -> None:
    names = {name.removesuffix(".txt") for name in held_out_text()}
    assert names == {name for name in HELD_OUT if name != "topics.py"} | {"topics"}


def test_trained_predicts_held_out_text(trained: LanguageModel, untrained: LanguageModel) -> None:
    text = held_out_tokens()[:4096]
    assert bits_per_byte(trained, text, length=1024) < 2.5
    assert bits_per_byte(untrained, text, length=1024) > 7.5


@pytest.mark.parametrize(("task", "least"), [("copy", 0.95), ("recall", 0.85)])
def test_trained_recalls(
    trained: LanguageModel, untrained: LanguageModel, task: str, least: float
) -> None:
    """Far above the control, on few prompts; results/model.json holds the figures proper."""
    text = held_out_tokens()
    score = task_accuracy(trained, task, text, length=1024, prompts=3, seed=7)
    control = task_accuracy(untrained, task, text, length=1024, prompts=3, seed=7)
    assert score >= least
    assert control <= 0.15


def test_unknown_task(trained: LanguageModel) -> None:
    with pytest.raises(ValueError, match="task must be one of"):
        task_accuracy(trained, "sing", held_out_tokens(), length=512, prompts=1, seed=0)
