"""Jobs and prompts take turns at the appender and at the closer, and get what is theirs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from hw.config import preset
from hw.cores.compressor.payloads import ANSWER, window_layout
from hw.cores.compressor.sharing import JOBS, PROMPTS, AppenderShare, CloserShare
from hw.cores.compressor.tail_appender import token_layout
from hw.formats import Status
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

TINY = preset("tiny")
TOKEN, WINDOW = token_layout(TINY), window_layout(TINY)
#: Beats that the appender of the test takes of a token.
BEATS = 3


class Appender(Neighbours):
    """Holds two tokens; those that end have their writes some cycles later."""

    def __init__(
        self, tokens: tuple[int, int], seed: int, longest: int, jobs_wait_for: int
    ) -> None:
        self._rng, self._longest = random.Random(seed), longest
        #: Tokens of prompts that go before the first job's one is offered.
        self._jobs_wait_for = jobs_wait_for
        inputs: dict[str, list[int]] = {}
        for source, count in enumerate(tokens):
            inputs[f"tokens__{source}"] = [make_token(source, i) for i in range(count)]
            inputs[f"beats__{source}"] = [source << 16 | i for i in range(count * BEATS)]
        super().__init__(inputs)
        self._beats_left = 0
        #: Whose tokens it holds, the oldest first.
        self._of: list[int] = []
        self._ends_in, self._written_in = 0, -1
        self._owed = [0, 0]
        self._hold()

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        if "token" in moved:
            # A job's token is alone: none before it that has not ended, none before it is written.
            assert self._beats_left == 0
            assert self._written_in < 0
            of = unpack(TOKEN, moved["token"])["of_prompt"]
            assert self._of == [] or self._of == [of] == [PROMPTS]
            self._of.append(of)
            self._beats_left = BEATS
        ended = written = False
        if "token_beats" in moved:
            assert self._beats_left > 0
            assert moved["token_beats"] >> 16 == self._of[-1]
            self._beats_left -= 1
        if self._of:
            assert moved.get("of", 0) == self._of[-1]
        if self._written_in >= 0:
            written = self._written_in == 0
            self._written_in -= 1
        if self._ends_in:
            self._ends_in -= 1
        elif len(self._of) > (self._beats_left != 0):
            ended = True
            self._ends_in = self._rng.randint(0, self._longest - 1)
            if self._of.pop(0) == JOBS:
                self._written_in = self._rng.randint(0, self._longest - 1)
        for source in (JOBS, PROMPTS):
            self._owed[source] += BEATS * (f"tokens__{source}" in moved)
            self._owed[source] -= f"beats__{source}" in moved
        self._jobs_wait_for -= "tokens__1" in moved
        self._hold()
        return {"ended": int(ended), "written": int(written)}

    def _hold(self) -> None:
        """Without a token the appender takes no beats, and its source offers none."""
        self.held = {f"beats__{source}" for source in (JOBS, PROMPTS) if not self._owed[source]}
        if self._jobs_wait_for > 0:
            self.held.add("tokens__0")
        self.held.add("token" if self._beats_left or len(self._of) == 2 else "token_beats")


def make_token(source: int, number: int) -> int:
    """A token that tells where it comes from."""
    fields = {
        "tail_address": 32 * number,
        "place": 0,
        "value_scale": 0,
        "saliency": 0,
        "gathered": 0,
    }
    return pack(TOKEN, {**fields, "of_prompt": source})


def append(
    tokens: tuple[int, int],
    seed: int,
    longest: int = 6,
    jobs_wait_for: int = 0,
    **options: Any,
) -> Steps:
    """Tokens of jobs and of prompts; each source's come in order, with their beats."""
    print(f"tokens of seed {seed}")
    total = sum(tokens)
    steps = play(
        AppenderShare(TINY),
        lambda: Appender(tokens, seed, longest, jobs_wait_for),
        {"token": total, "token_beats": total * BEATS},
        watch=["of"],
        seed=seed,
        **options,
    )
    for source, count in enumerate(tokens):
        found = [t for t in steps.items["token"] if unpack(TOKEN, t)["of_prompt"] == source]
        assert found == [make_token(source, i) for i in range(count)]
        beats = [beat for beat in steps.items["token_beats"] if beat >> 16 == source]
        assert beats == [source << 16 | i for i in range(count * BEATS)]
    return steps


def test_tokens_in_turn(seed: int) -> None:
    steps = append((6, 6), seed)
    sources = [unpack(TOKEN, item)["of_prompt"] for item in steps.items["token"]]
    assert sources == [JOBS, PROMPTS] * 6
    offered = sorted(steps.cycles_of["tokens__0"] + steps.cycles_of["tokens__1"])
    assert steps.cycles_of["token"] == [cycle + 1 for cycle in offered]


def test_prompts_alone(seed: int) -> None:
    """The next token is there when the appender takes it, ended or not."""
    steps = append((0, 8), seed, longest=1)
    first = steps.cycles_of["token"]
    assert [b - a for a, b in pairwise(first)] == [BEATS + 1] * 7


def test_jobs_alone(seed: int) -> None:
    """The next token comes when the one before is written."""
    steps = append((5, 0), seed, longest=1)
    # Behind the last beat: 1 cycle to the end, 1 until it is written, 1 until the next is taken,
    # 1 to come out.
    first = steps.cycles_of["token"]
    assert [b - a for a, b in pairwise(first)] == [BEATS + 4] * 4


def test_a_job_comes_between_prompts(seed: int) -> None:
    """It waits for the tokens that are under way, and no other one goes before it."""
    steps = append((2, 12), seed, jobs_wait_for=5)
    sources = [unpack(TOKEN, item)["of_prompt"] for item in steps.items["token"]]
    assert sources == [PROMPTS] * 5 + [JOBS, PROMPTS, JOBS] + [PROMPTS] * 6


@pytest.mark.parametrize("stall", [0.5, {"tokens__0": 0.9}, {"token_beats": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    append((5, 7), seed, stall=stall)


@pytest.mark.parametrize("cycle", [3, 12, 20])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    append((4, 4), seed, stall=0.2, reset_at=cycle)


class Closer(Neighbours):
    """Answers a window some cycles later with a status that tells which it was."""

    def __init__(self, windows: tuple[int, int], seed: int, longest: int) -> None:
        self._rng, self._longest = random.Random(seed), longest
        super().__init__(
            {
                **{f"windows__{s}": windows_of(s, count) for s, count in enumerate(windows)},
                "answer": [],
            }
        )
        self._answer: int | None = None
        self._in = 0

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        if self._answer is not None:
            assert "window" not in moved
            self._in -= 1
            if self._in == 0:
                self.inputs["answer"].append(pack(ANSWER, {"status": self._answer}))
                self._answer = None
        if "window" in moved:
            self._answer = status_of(unpack(WINDOW, moved["window"]))
            self._in = self._rng.randint(1, self._longest)
        return {}


def windows_of(source: int, count: int) -> list[int]:
    """Windows that tell where they come from."""
    return [
        pack(
            WINDOW,
            {"base_address": source, "chunk_address": 0, "tail_address": 0, "window": i},
        )
        for i in range(count)
    ]


def status_of(window: Mapping[str, int]) -> int:
    """Other ones for jobs than for prompts."""
    kinds = ([Status.OK, Status.MEMORY_ERROR], [Status.SCALE_NOT_FINITE, Status.CONTEXT_RANGE])
    return int(kinds[window["base_address"]][window["window"] % 2])


def close(windows: tuple[int, int], seed: int, longest: int = 6, **options: Any) -> Steps:
    """Windows of jobs and of prompts; each source gets its own answers."""
    print(f"windows of seed {seed}")
    steps = play(
        CloserShare(TINY),
        lambda: Closer(windows, seed, longest),
        {"window": sum(windows), "answers__0": windows[JOBS], "answers__1": windows[PROMPTS]},
        seed=seed,
        **options,
    )
    for source, count in enumerate(windows):
        wanted = windows_of(source, count)
        found = [w for w in steps.items["window"] if unpack(WINDOW, w)["base_address"] == source]
        assert found == wanted
        answers = [unpack(ANSWER, item)["status"] for item in steps.items[f"answers__{source}"]]
        assert answers == [status_of(unpack(WINDOW, item)) for item in wanted]
    return steps


def test_windows_in_turn(seed: int) -> None:
    steps = close((5, 5), seed)
    sources = [unpack(WINDOW, item)["base_address"] for item in steps.items["window"]]
    assert sources == [JOBS, PROMPTS] * 5
    offered = sorted(steps.cycles_of["windows__0"] + steps.cycles_of["windows__1"])
    assert steps.cycles_of["window"] == [cycle + 1 for cycle in offered]


@pytest.mark.parametrize("stall", [0.5, {"answers__1": 0.9}, {"window": 0.9}], ids=str)
def test_windows_with_stalls(stall: Any, seed: int) -> None:
    close((4, 6), seed, stall=stall)


@pytest.mark.parametrize("cycle", [2, 7, 15])
def test_a_closer_is_reset(cycle: int, seed: int) -> None:
    close((4, 4), seed, stall=0.2, reset_at=cycle)
