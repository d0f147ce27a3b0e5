"""What the model is trained on, and when: lengths, mixture of tasks, positions, loss weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.model.tasks import (
    COPY_LETTERS,
    PAIRS,
    SPELL,
    Sample,
    ask_copy,
    ask_value,
    join,
    query_order,
    random_letters,
    random_pairs,
    show_copy,
    show_pair,
)

__all__ = ["CURRICULA", "Batch", "Curriculum", "Phase", "draw_batch"]

ANSWER_WEIGHT = 2.0
"""Loss weight of an answer; ordinary text weighs 1, random letters seen first weigh 0."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stage of a curriculum.

    Arguments
    ---------
    until : share of the training budget at which the stage ends, 0..1.
    lengths : tokens in a sequence; each batch draws one of them, so one named twice comes twice
        as often.
    repeat, copy, recall : share of the sequences given to each task; the rest is text.
    pairs : fewest and most look-up pairs in a sequence.
    """

    until: float
    lengths: tuple[int, ...]
    repeat: float
    copy: float
    recall: float
    pairs: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What a training run sees from its beginning to its end.

    Arguments
    ---------
    phases : in order of ``until``; the last one ends at 1.
    longest : bound of the RoPE positions, in tokens: distances up to it are trained, those beyond
        the length of a sequence by skipping positions.
    rope_theta : base of the RoPE wavelengths.
    rate : share of the optimisers' peak learning rates.
    """

    phases: tuple[Phase, ...]
    longest: int
    rope_theta: float
    rate: float

    def phase_at(self, progress: float) -> Phase:
        """The stage for a share of the training budget; 1 and beyond give the last."""
        return next((phase for phase in self.phases if progress < phase.until), self.phases[-1])


_FULL_MIX = {"repeat": 0.02, "copy": 0.15, "recall": 0.40}

CURRICULA = {
    "2k": Curriculum(
        phases=(
            Phase(until=0.08, lengths=(128,), repeat=0.60, copy=0.05, recall=0.25, pairs=(1, 4)),
            Phase(until=0.25, lengths=(256,), repeat=0.20, copy=0.15, recall=0.40, pairs=(2, 10)),
            Phase(until=0.55, lengths=(512,), repeat=0.05, copy=0.15, recall=0.40, pairs=(4, 16)),
            Phase(until=0.78, lengths=(1024,), **_FULL_MIX, pairs=(8, 20)),
            Phase(until=1.00, lengths=(2048,), **_FULL_MIX, pairs=(8, 20)),
        ),
        longest=2304,
        rope_theta=1e4,
        rate=1.0,
    ),
    # For weights that can do 2k. With a base four times as large no distance up to 4096 turns a
    # pair that makes less than six turns in 2304 tokens further than 2304 did before: copy and
    # recall reach 99 and 95 % at 4096 before the first step; 4 and 15 % with the base left alone,
    # 80 and 88 % with it twice as large.
    "4k": Curriculum(
        phases=(Phase(until=1.0, lengths=(1024, 2048, 2048, 4096), **_FULL_MIX, pairs=(8, 20)),),
        longest=4400,
        rope_theta=4e4,
        rate=0.1,
    ),
}
"""By the context they train for."""


@dataclass(frozen=True)
class Batch:
    """One optimiser step's worth of sequences.

    Members
    -------
    tokens : int64 [B, T].
    positions : RoPE positions, int64 [B, T], ascending.
    weights : float32 [B, T]; loss weight of predicting ``tokens[b, t]``; 0 at t = 0.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]


Weighted = tuple[NDArray[np.int64], NDArray[np.float32]]


def _window(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> NDArray[np.int64]:
    start = int(rng.integers(0, len(text) - length))
    return text[start : start + length].astype(np.int64)


def _repeat(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> Weighted:
    """A segment of letters, of any byte, or of text, over and over."""
    size = int(rng.integers(8, length // 2 + 1))
    kind = rng.random()
    if kind < 0.6:
        segment = random_letters(rng, size)
    elif kind < 0.75:
        segment = rng.integers(0, 256, size)
    else:
        segment = _window(rng, text, size)
    weights = np.full(length, 1.0, np.float32)
    weights[: size + 1] = 0.0  # the first round, and the first token that shows it has ended
    return np.resize(segment, length), weights


def _in_text(
    rng: np.random.Generator, text: NDArray[np.uint16], length: int, segments: list[Sample]
) -> Weighted:
    """Scatter segments, in order, over filler; half the time bunch the gaps unevenly."""
    filler = _window(rng, text, length - sum(len(s.tokens) for s in segments))
    gaps = rng.dirichlet(np.full(len(segments) + 1, rng.choice((0.1, 0.5, 1.0))))
    places = np.floor(np.cumsum(gaps)[:-1] * len(filler)).astype(int).clip(0, len(filler))
    joined = join(filler, list(zip(places.tolist(), segments, strict=True)))
    plain = join(
        np.ones(len(filler), np.int64),
        [
            (int(place), Sample(np.zeros(len(s.tokens), np.int64), s.answer))
            for place, s in zip(places, segments, strict=True)
        ],
    )
    return joined.tokens, (plain.tokens + ANSWER_WEIGHT * joined.answer).astype(np.float32)


def _copy(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> Weighted:
    letters = COPY_LETTERS if length > 128 else 24
    string = random_letters(rng, letters)
    rounds = int(rng.integers(1, max(2, min(4, length // 128))))
    return _in_text(rng, text, length, [show_copy(string)] + [ask_copy(string)] * rounds)


def _recall(
    rng: np.random.Generator, text: NDArray[np.uint16], length: int, bounds: tuple[int, int]
) -> Weighted:
    size = 1 + 2 * SPELL
    pairs = int(rng.integers(bounds[0], bounds[1] + 1))
    room = (length - 16) // size - pairs
    queries = min(room, int(rng.integers(pairs, 3 * pairs + 1)), 3 * PAIRS)
    keys, values = random_pairs(rng, pairs)
    segments = [show_pair(key, value) for key, value in zip(keys, values, strict=True)]
    segments += [ask_value(keys[i], values[i]) for i in query_order(rng, pairs, queries)]
    return _in_text(rng, text, length, segments)


def _positions(rng: np.random.Generator, length: int, longest: int) -> NDArray[np.int64]:
    """0..T-1, two times in three with one to three skips ahead, all below ``longest``."""
    steps = np.ones(length, np.int64)
    steps[0] = 0
    if rng.random() < 2 / 3:
        cuts = int(rng.integers(1, 4))
        total = int(rng.integers(0, longest - length))
        steps[rng.integers(1, length, cuts)] += total // cuts
    return np.cumsum(steps)


def draw_batch(
    rng: np.random.Generator,
    text: NDArray[np.uint16],
    phase: Phase,
    *,
    longest: int,
    tokens: int,
) -> Batch:
    """``tokens // length`` sequences (at least one) of one length, mixed as the stage says.

    Positions are below ``longest``, which exceeds every length of the stage.
    """
    # A single length draws nothing: a run of a curriculum without choice stays the same.
    several = len(phase.lengths) > 1
    length = phase.lengths[int(rng.integers(len(phase.lengths))) if several else 0]
    rows: list[Weighted] = []
    positions = []
    for _ in range(max(1, tokens // length)):
        pick = rng.random()
        if pick < phase.repeat:
            rows.append(_repeat(rng, text, length))
        elif pick < phase.repeat + phase.copy:
            rows.append(_copy(rng, text, length))
        elif pick < phase.repeat + phase.copy + phase.recall:
            rows.append(_recall(rng, text, length, phase.pairs))
        else:
            rows.append((_window(rng, text, length), np.ones(length, np.float32)))
        positions.append(_positions(rng, length, longest))
    weights = np.stack([row[1] for row in rows])
    weights[:, 0] = 0.0
    return Batch(np.stack([row[0] for row in rows]), np.stack(positions), weights)
