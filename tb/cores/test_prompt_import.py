"""Tokens of prompts, and windows that close beside them; what fails or is refused."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from hw.config import BEAT_BYTES, BURST_BYTES, AttentionConfig, preset
from hw.cores.compressor.payloads import ANSWER, window_count, window_layout
from hw.cores.compressor.tail_appender import token_layout
from hw.cores.compressor.window_closer import reading_config
from hw.cores.prompt_import import IMPORTED, PROMPT, PromptImport
from hw.formats import KVFormat, Mode, Status
from hw.memory.port import BURST_BEATS, request_layout, response_layout
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

WITHOUT_SLOTS = preset("tiny")
CONFIG = replace(WITHOUT_SLOTS, slots=40)
READING = reading_config(CONFIG)
RECORD = KVFormat(CONFIG).prompt_record_bytes
RECORD_BEATS = RECORD // BEAT_BYTES
#: Beats of key and value; the header comes before them, padding behind.
BEATS = CONFIG.head_dim * (16 + CONFIG.tail_value_bits) // 8 // BEAT_BYTES
#: Tokens that the appender holds.
UNDER_WAY = 3
#: Regions of a cache.
CACHE = ("base_address", "chunk_address", "tail_address")


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what goes wrong with which of its tokens."""

    first: int = 0
    tokens: int = 1
    source: int = 0
    tail_address: int = 1 << 16
    base_address: int = 1 << 17
    mode: Mode = Mode.KVO
    #: Whether the core has caches of the mode.
    known: bool = True
    bad_record: int | None = None
    not_finite: int | None = None
    failed: int | None = None
    #: How the window of this number ends, of those that close.
    window: Status = Status.OK
    bad_window: int = 0

    @property
    def refused(self) -> Status | None:
        """Why it is not begun."""
        if self.mode.dense or not self.known:
            return Status.MODE_RANGE
        in_slots = self.mode == Mode.SLOTS
        longest = CONFIG.slots - 1 if in_slots else CONFIG.max_context
        if not 1 <= self.tokens <= longest - self.first:
            return Status.CONTEXT_RANGE
        addresses = [self.source, self.tail_address, 0 if in_slots else self.base_address]
        aligned = all(address % BURST_BYTES == 0 for address in addresses)
        return None if aligned else Status.ADDRESS_RANGE

    @property
    def windows(self) -> list[int]:
        """Those that close, in order."""
        if self.refused is not None or self.mode == Mode.SLOTS:
            return []
        found = []
        for context in range(self.first + 1, self.first + self.tokens + 1):
            windows, rest = divmod(context, CONFIG.window)
            if rest == 0 and 0 <= windows - 2 < window_count(CONFIG):
                found.append(windows - 2)
        return found

    def gathers(self, number: int) -> bool:
        """Whether all tokens of the block of a token are its."""
        block = (self.first + number) // CONFIG.chunk * CONFIG.chunk
        return self.first <= block and block + CONFIG.chunk <= self.first + self.tokens

    @property
    def status(self) -> Status:
        """How it ends."""
        if self.refused is not None:
            return self.refused
        window = self.window if self.windows else Status.OK
        if self.bad_record is not None or self.failed is not None:
            return Status.MEMORY_ERROR
        if self.not_finite is not None and window != Status.MEMORY_ERROR:
            return Status.SCALE_NOT_FINITE
        return window

    @property
    def fields(self) -> dict[str, int]:
        """Of the stream."""
        return {
            "source_address": self.source,
            "base_address": self.base_address,
            "chunk_address": 1 << 18,
            "tail_address": self.tail_address,
            "first": self.first,
            "tokens": self.tokens,
            "mode": self.mode,
        }


class Core(Neighbours):
    """Memory with random answers, an appender whose writes end in any order, and a closer."""

    def __init__(
        self,
        prompts: list[Prompt],
        image: list[int],
        seed: int,
        *,
        longest: int,
        late: int,
        closing: int | None,
    ) -> None:
        items = [pack(PROMPT, prompt.fields) for prompt in prompts]
        super().__init__({"prompt": items, "memory__response": [], "answer": []})
        self._rng, self._image = random.Random(seed), image
        self._longest, self._late, self._closing = longest, late, closing
        good = [prompt for prompt in prompts if prompt.refused is None]
        self._bad = {
            (prompt.source + RECORD * prompt.bad_record) // BEAT_BYTES + 1
            for prompt in good
            if prompt.bad_record is not None
        }
        #: Tokens to come, those that the appender holds, and those that are not written.
        self._tokens = [(prompt, i) for prompt in good for i in range(prompt.tokens)]
        self._appending: list[tuple[Prompt, int]] = []
        #: Tokens of a block that is not complete.
        self._gathered: list[tuple[Prompt, int]] = []
        self._writing: dict[tuple[Prompt, int], int] = {}
        self._fence: set[tuple[Prompt, int]] = set()
        #: Windows to come, and the one that closes.
        self._windows = [(prompt, window) for prompt in good for window in prompt.windows]
        self._cycle = 0
        self._due: list[tuple[int, int, int, int]] = []
        self._beats = 0
        self._ends_in, self._answer_in = 0, 0

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        self._cycle += 1
        self._answer_requests(moved)
        found = {"appended": 0, "not_finite": 0, "failed": 0}
        if "fence" in moved:
            assert not self._fence
            self._fence = set(self._writing)
        for token in [*self._writing]:
            self._writing[token] -= 1
            if self._writing[token] == 1 and token[0].failed == token[1]:
                found["failed"] = 1
            if self._writing[token] == 0:
                del self._writing[token]
                self._fence.discard(token)
        if "token" in moved:
            self._take()
        if "token_beats" in moved:
            self._beats -= 1
            prompt, number = self._appending[-1]
            found["not_finite"] = int(self._beats == 0 and prompt.not_finite == number)
        if self._ends_in:
            self._ends_in -= 1
        # The newest token ends when its beats have come.
        elif len(self._appending) > (self._beats != 0):
            token = self._appending.pop(0)
            self._gathered.append(token)
            prompt, number = token
            if not prompt.gathers(number) or (prompt.first + number + 1) % CONFIG.chunk == 0:
                found["appended"] = len(self._gathered)
                for each in self._gathered:
                    self._writing[each] = self._rng.randint(2, 1 + self._longest)
                self._gathered = []
            self._ends_in = self._rng.randint(0, self._longest)
        full = self._beats or len(self._appending) == UNDER_WAY
        self.held = {"token"} if full else set()
        self._close(moved)
        if "imported" in moved:
            assert not self._appending
            assert not self._gathered
            assert not self._writing
            assert not self._answer_in
        return {**found, "fenced": int(not self._fence)}

    def _take(self) -> None:
        """A token, whose place in the ring must be free."""
        token = self._tokens.pop(0)
        prompt, number = token
        assert self._beats == 0
        self._beats = BEATS
        self._appending.append(token)
        before = (prompt.first + number) // CONFIG.window - 2
        assert (prompt, before) not in self._windows

    def _close(self, moved: Mapping[str, int]) -> None:
        """One window at a time, all of whose tokens must be written."""
        if "window" in moved:
            assert self._answer_in == 0
            prompt, window = self._windows[0]
            end = (window + 1) * CONFIG.window
            unwritten = [*self._tokens, *self._appending, *self._gathered, *self._writing]
            assert not [i for of, i in unwritten if of is prompt and prompt.first + i < end]
            closing = self._closing
            self._answer_in = 1 + (
                self._rng.randint(1, self._longest) if closing is None else closing
            )
        if self._answer_in > 1:
            self._answer_in -= 1
            if self._answer_in == 1:
                prompt, window = self._windows[0]
                bad = prompt.windows.index(window) == prompt.bad_window
                status = prompt.window if bad else Status.OK
                self.inputs["answer"].append(pack(ANSWER, {"status": status}))
        if "answer" in moved:
            self._answer_in = 0
            self._windows.pop(0)

    def _answer_requests(self, moved: Mapping[str, int]) -> None:
        """One beat a cycle of those that are due, any of them; the last of a record is late."""
        if "memory__request" in moved:
            asked = unpack(request_layout(READING), moved["memory__request"])
            first = asked["address"] // BEAT_BYTES
            for beat in range((asked["bursts_less_one"] + 1) * BURST_BEATS):
                # Records begin at a multiple of their size.
                padding = (first + beat) % RECORD_BEATS == RECORD_BEATS - 1
                when = self._cycle + (self._late if padding else 0)
                self._due.append((when, asked["tag"], beat, first + beat))
        due = [answer for answer in self._due if answer[0] <= self._cycle]
        if due:
            answer = self._rng.choice(due)
            self._due.remove(answer)
            _, tag, beat, place = answer
            error = int(place in self._bad)
            fields = {"data": self._image[place], "tag": tag, "beat": beat, "error": error}
            self.inputs["memory__response"].append(pack(response_layout(READING), fields))


def check(
    prompts: list[Prompt],
    seed: int,
    longest: int = 8,
    late: int = 0,
    closing: int | None = None,
    config: AttentionConfig = CONFIG,
    **options: Any,
) -> Steps:
    """Import the prompts, compare everything that comes out; the run comes back."""
    print(f"prompts of seed {seed}")
    rng = random.Random(seed)
    size = max(prompt.source + RECORD * prompt.tokens for prompt in prompts) // BEAT_BYTES + 1
    image = [rng.getrandbits(128) for _ in range(size)]
    unit = PromptImport(config)
    good = [prompt for prompt in prompts if prompt.refused is None]
    tokens = [(prompt, i) for prompt in good for i in range(prompt.tokens)]
    windows = [(prompt, window) for prompt in good for window in prompt.windows]
    steps = play(
        unit,
        lambda: Core(prompts, image, seed, longest=longest, late=late, closing=closing),
        {
            # A record is shorter than the longest request.
            "memory__request": len(tokens),
            "token": len(tokens),
            "token_beats": len(tokens) * BEATS,
            "window": len(windows),
            "imported": len(prompts),
        },
        watch=["fence"],
        counters=unit.counters,
        seed=seed,
        **options,
    )
    wanted, beats = [], []
    for prompt, i in tokens:
        at = (prompt.source + RECORD * i) // BEAT_BYTES
        ring = CONFIG.slots if prompt.mode == Mode.SLOTS else 2 * CONFIG.window
        wanted.append(
            {
                "tail_address": prompt.tail_address,
                "place": (prompt.first + i) % ring,
                "value_scale": image[at] & 0xFFFF,
                "of_prompt": 1,
                "gathered": int(prompt.gathers(i)),
                "saliency": image[at] >> 32 & 0xFFFFFFFF,
            }
        )
        beats += image[at + 1 : at + 1 + BEATS]
    assert [unpack(token_layout(config), item) for item in steps.items["token"]] == wanted
    assert steps.items["token_beats"] == beats
    closed = [
        {**{name: prompt.fields[name] for name in CACHE}, "window": window}
        for prompt, window in windows
    ]
    assert [unpack(window_layout(CONFIG), item) for item in steps.items["window"]] == closed
    ends = [
        {"status": prompt.status, "tokens": 0 if prompt.refused is not None else prompt.tokens}
        for prompt in prompts
    ]
    assert [unpack(IMPORTED, item) for item in steps.items["imported"]] == ends
    assert len(steps.seen["tokens_imported"]) == len(tokens)
    return steps


def test_prompts(seed: int) -> None:
    """From nothing over two windows that close; one more token; over the end of the ring."""
    prompts = [
        Prompt(tokens=3 * CONFIG.window + 1),
        Prompt(first=2, source=RECORD * 8),
        Prompt(first=2 * CONFIG.window - 2, tokens=4),
    ]
    assert prompts[0].windows == [0, 1]
    check(prompts, seed)


def test_slots(seed: int) -> None:
    """All but one in a row, and the last of these behind the others; no window closes."""
    most = CONFIG.slots - 1
    prompts = [
        Prompt(mode=Mode.SLOTS, tokens=most),
        Prompt(tokens=2 * CONFIG.window + 1),
        Prompt(mode=Mode.SLOTS, first=most - 1, base_address=8),
    ]
    check(prompts, seed)


def test_the_last_windows_stay(seed: int) -> None:
    """Up to the longest cache: the last window of all never closes."""
    prompt = Prompt(first=CONFIG.max_context - 18, tokens=18)
    assert len(prompt.windows) == 1
    check([prompt], seed)


def test_refused(seed: int) -> None:
    """Nothing is read or written, and the next one goes on."""
    prompts = [
        Prompt(tokens=0),
        Prompt(first=CONFIG.max_context - 1, tokens=2),
        Prompt(source=16),
        Prompt(tail_address=8),
        Prompt(first=0xFFFF, tokens=0xFF),
        Prompt(first=CONFIG.max_context - 1),
    ]
    steps = check(prompts, seed)
    # Taken, checked, told.
    assert steps.cycles_of["imported"][:5] == [3, 6, 9, 12, 15]


def test_refused_by_mode(seed: int) -> None:
    """Every slot taken, or more; modes that nobody imports, or not this core."""
    slots = Prompt(mode=Mode.SLOTS)
    prompts = [
        replace(slots, tokens=CONFIG.slots),
        replace(slots, first=CONFIG.slots - 1),
        replace(slots, tokens=0),
        replace(slots, tail_address=8),
        Prompt(mode=Mode.DENSE16, tokens=0),
        Prompt(base_address=8),
        replace(slots, first=3, tokens=2),
    ]
    check(prompts, seed)
    check([replace(slots, known=False), Prompt()], seed, config=WITHOUT_SLOTS)


FAILURES = {
    "first record": Prompt(tokens=3, bad_record=0),
    "last record": Prompt(tokens=3, bad_record=2),
    "not finite": Prompt(tokens=3, not_finite=2),
    "not finite, then a record": Prompt(tokens=4, not_finite=0, bad_record=2),
    "write": Prompt(tokens=3, failed=2),
    "window": Prompt(first=30, tokens=2, window=Status.MEMORY_ERROR),
    "not finite, and a window": Prompt(
        first=30, tokens=3, not_finite=1, window=Status.MEMORY_ERROR
    ),
    "window, and a token": Prompt(first=30, tokens=3, failed=1, window=Status.SCALE_NOT_FINITE),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures(name: str, seed: int) -> None:
    """One of memory outweighs a number that is not finite; the next prompt begins anew."""
    check([FAILURES[name], Prompt(tokens=2, source=RECORD * 8)], seed)


def test_padding_comes_late(seed: int) -> None:
    """Long after the token is written."""
    check([Prompt(tokens=3), Prompt(first=31)], seed, longest=2, late=60)


def closings(steps: Steps) -> list[tuple[int, int]]:
    """From when to when each window closed."""
    return list(zip(steps.cycles_of["window"], steps.cycles_of["answer"], strict=True))


def test_windows_close_beside_tokens(seed: int) -> None:
    """All of the next window's tokens, but for one at each end, come while a window closes."""
    pace = RECORD_BEATS + 1
    closing = CONFIG.window * pace
    steps = check([Prompt(tokens=5 * CONFIG.window)], seed, longest=2, closing=closing)
    for start, end in closings(steps):
        beside = [cycle for cycle in steps.cycles_of["token"] if start < cycle <= end]
        assert len(beside) >= CONFIG.window - 2
    # The first window's tokens, and one after the other all that close; some cycles for each.
    assert steps.cycles_of["imported"][0] < 5 * (closing + 30)


def test_closings_slower_than_tokens(seed: int) -> None:
    """The closer never waits for tokens, only these for it; the end waits for the last window."""
    steps = check([Prompt(tokens=5 * CONFIG.window + 3)], seed, longest=2, closing=250)
    spans = closings(steps)
    assert [start - end for (_, end), (start, _) in pairwise(spans)] == [2, 2, 2]
    assert steps.cycles_of["imported"][0] > spans[-1][1]
    last = Prompt(tokens=4 * CONFIG.window)
    steps = check([last], seed, longest=2, closing=250)
    assert steps.cycles_of["imported"][0] == closings(steps)[-1][1] + 2


def test_writes_that_take_long(seed: int) -> None:
    """A window waits for all of its tokens, whatever comes behind them."""
    check([Prompt(tokens=4 * CONFIG.window)], seed, longest=50, max_cycles=9000)


@pytest.mark.parametrize(
    ("bad", "status"),
    [(0, Status.SCALE_NOT_FINITE), (1, Status.MEMORY_ERROR), (2, Status.SCALE_NOT_FINITE)],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_window_fails_beside_tokens(bad: int, status: Status, seed: int) -> None:
    """All goes on to the end, which tells it."""
    prompt = Prompt(tokens=4 * CONFIG.window + 1, window=status, bad_window=bad)
    steps = check([prompt, Prompt(source=RECORD * 8)], seed, closing=60)
    answered = steps.cycles_of["answer"][bad]
    assert any(cycle > answered for cycle in steps.cycles_of["token"][: prompt.tokens])


@pytest.mark.parametrize(
    "stall", [0.5, {"token_beats": 0.9}, {"memory__request": 0.9, "imported": 0.9}], ids=str
)
def test_stalls(stall: Any, seed: int) -> None:
    check([Prompt(first=29, tokens=4), Prompt(tokens=2)], seed, stall=stall)


@pytest.mark.parametrize("cycle", [5, 40, 77])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check([Prompt(first=29, tokens=6)], seed, stall=0.1, reset_at=cycle)


def test_pace(seed: int) -> None:
    """Records are read ahead: of an appender that never waits, a beat a cycle and 1 a token."""
    steps = check([Prompt(tokens=12)], seed, longest=2)
    starts = steps.cycles_of["token"]
    assert [b - a for a, b in pairwise(starts)][2:] == [RECORD_BEATS + 1] * 9
