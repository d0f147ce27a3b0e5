"""The synthetic tasks, the training batches and the optimiser, on examples checked by hand."""

import numpy as np
import pytest
import torch

from golden.model.curriculum import CURRICULA, draw_batch
from golden.model.optimiser import Muon, orthogonalise
from golden.model.tasks import (
    ASK,
    BOS,
    COPY,
    KEY,
    Sample,
    ask_copy,
    ask_value,
    copy_task,
    join,
    query_order,
    random_pairs,
    recall_task,
    show_copy,
    show_pair,
)


def letters(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64)


def spell(tokens: np.ndarray) -> str:
    names = {BOS: "<B>", COPY: "<C>", KEY: "<K>", ASK: "<A>"}
    return "".join(names.get(int(token)) or chr(token) for token in tokens)


def asked(sample: Sample) -> str:
    return spell(sample.tokens[sample.answer])


def test_segments() -> None:
    segments = [
        (0, show_copy(letters("xy"))),
        (1, show_pair(letters("abc"), letters("def"))),
        (3, ask_value(letters("abc"), letters("def"))),
        (3, ask_copy(letters("xy"))),
    ]
    sample = join(letters("..."), segments)
    assert spell(sample.tokens) == "<C>xy.<K>abcdef..<A>abcdef<C>xy"
    assert asked(sample) == "defxy"
    assert np.flatnonzero(sample.answer).tolist() == [17, 18, 19, 21, 22]


@pytest.mark.parametrize("indices", [(2, 1), (0, 4), (-1, 0)])
def test_join_needs_ascending_places(indices: tuple[int, int]) -> None:
    segment = show_copy(letters("x"))
    with pytest.raises(ValueError, match="index must be in"):
        join(letters("..."), [(index, segment) for index in indices])


def test_copy_task() -> None:
    sample = copy_task(np.random.default_rng(0), letters("." * 100), letters=4)
    text = spell(sample.tokens)
    string = text[-4:]
    assert string.isalpha()
    assert asked(sample) == string
    assert len(sample.tokens) == 110
    assert text.endswith("." * 75 + "<C>" + string)
    assert text.count("<C>" + string) == 2


def test_recall_task() -> None:
    sample = recall_task(np.random.default_rng(0), letters("." * 60), pairs=3, queries=4)
    assert len(sample.tokens) == 60 + 7 * 7
    shown, *queries = spell(sample.tokens).split("<A>")
    pairs = {part[:3]: part[3:6] for part in shown.split("<K>")[1:]}
    assert len(pairs) == 3
    assert len(queries) == 4
    assert all(pairs[query[:3]] == query[3:] for query in queries)
    assert {query[:3] for query in queries[:3]} == set(pairs)
    assert asked(sample) == "".join(query[3:] for query in queries)
    assert shown.endswith("." * 30)  # all pairs stand in the first half


def test_generators_follow_the_seed() -> None:
    first, again, other = (
        recall_task(np.random.default_rng(seed), letters("." * 60)).tokens for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_keys_differ() -> None:
    keys, values = random_pairs(np.random.default_rng(0), 2000)
    assert keys.shape == values.shape == (2000, 3)
    assert len({tuple(key) for key in keys.tolist()}) == 2000
    assert keys.min() == ord("a")
    assert keys.max() == ord("z")


def test_query_order_asks_all_before_any_twice() -> None:
    order = query_order(np.random.default_rng(0), 5, 12)
    assert len(order) == 12
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]


STAGES = [(name, i) for name in CURRICULA for i in range(len(CURRICULA[name].phases))]


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_batches(name: str, stage: int) -> None:
    curriculum = CURRICULA[name]
    phase = curriculum.phases[stage]
    text = letters("The quick brown fox. " * 500).astype(np.uint16)
    batch = draw_batch(
        np.random.default_rng(0), text, phase, longest=curriculum.longest, tokens=8192
    )
    rows, length = batch.tokens.shape
    assert batch.tokens.shape == batch.positions.shape == batch.weights.shape
    assert length in phase.lengths
    assert rows == 8192 // length
    assert np.all(np.diff(batch.positions) >= 1)
    assert np.all(batch.positions[:, 0] == 0)
    assert batch.positions.max() < curriculum.longest
    assert np.all(batch.weights[:, 0] == 0)
    assert np.all(batch.weights.sum(axis=1) > 0)
    for tokens, weights in zip(batch.tokens, batch.weights, strict=True):
        if KEY in tokens:
            assert np.all(weights[tokens == ASK] == 0)  # where a query comes cannot be known
            first = int(np.flatnonzero(tokens == ASK)[0])
            assert weights[first + 1 : first + 7].tolist() == [0, 0, 0, 2, 2, 2]


def test_phases_follow_progress() -> None:
    phase_at = CURRICULA["2k"].phase_at
    assert [phase_at(progress).lengths for progress in (0.0, 0.08, 0.3, 0.7, 0.99, 1.0)] == [
        (128,),
        (256,),
        (512,),
        (1024,),
        (2048,),
        (2048,),
    ]


def test_every_length_of_a_phase_is_drawn() -> None:
    """And positions beyond the lengths that the 2k curriculum ends at."""
    curriculum = CURRICULA["4k"]
    text = letters("The quick brown fox. " * 500).astype(np.uint16)
    rng = np.random.default_rng(0)
    drawn = [
        draw_batch(rng, text, curriculum.phases[0], longest=curriculum.longest, tokens=4096)
        for _ in range(24)
    ]
    assert {batch.tokens.shape[1] for batch in drawn} == {1024, 2048, 4096}
    short = [batch.positions.max() for batch in drawn if batch.tokens.shape[1] < 4096]
    assert 4000 < max(short) < curriculum.longest


@pytest.mark.parametrize("shape", [(2, 24, 48), (2, 48, 24), (1, 32, 32)])
def test_orthogonalise(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(matrices))
    assert singular.min() > 0.3
    assert singular.max() < 1.3


def test_muon_step_has_the_size_of_its_rate() -> None:
    weight = torch.nn.Parameter(torch.zeros(16, 16))
    weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) * 1e-4
    Muon([weight], lr=0.1).step()
    assert 0.06 < torch.linalg.matrix_norm(weight.detach(), 2) < 0.13
    assert float((weight.detach() * weight.grad).sum()) < 0  # downhill
