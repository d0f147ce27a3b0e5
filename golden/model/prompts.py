"""Prompts over held-out text, fixed once and committed: ``python -m golden.model.prompts``.

They are committed as token ids, so that a capture does not depend on a random generator.

text : held-out prose and code only.
copy : the copy task of `golden.model.tasks`.
recall : the look-up task.
mixed : both. A string and 16 pairs are scattered over the first half; half of the keys are
    asked for from three quarters on, the other half and the string at the end.
"""

import json

import numpy as np
from numpy.typing import NDArray

from golden.model.corpus import DATA, held_out_tokens
from golden.model.metrics import copy_prompt, filler, recall_prompt
from golden.model.tasks import (
    COPY_LETTERS,
    PAIRS,
    SPELL,
    Sample,
    ask_copy,
    ask_value,
    join,
    random_letters,
    random_pairs,
    show_copy,
    show_pair,
)

__all__ = ["PROMPTS", "PROMPT_TOKENS", "load_prompt", "make_prompts", "mixed_prompt"]

PROMPTS = DATA / "prompts.json"
PROMPT_TOKENS = 2048
SEED = 20_481


def mixed_prompt(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> Sample:
    """A string and ``PAIRS`` pairs, shown and then asked for, in ``length`` tokens."""
    body = filler(rng, text, length - 2 * (COPY_LETTERS + 1) - 2 * PAIRS * (1 + 2 * SPELL))
    string = random_letters(rng, COPY_LETTERS)
    keys, values = random_pairs(rng, PAIRS)
    shown = [show_copy(string)]
    shown += [show_pair(key, value) for key, value in zip(keys, values, strict=True)]
    places = np.sort(rng.integers(1, len(body) // 2 + 1, len(shown)))
    segments = [
        (int(place), shown[i]) for place, i in zip(places, rng.permutation(len(shown)), strict=True)
    ]
    order = rng.permutation(PAIRS)
    late = [3 * len(body) // 4] * (PAIRS // 2) + [len(body)] * (PAIRS - PAIRS // 2)
    segments += [
        (place, ask_value(keys[i], values[i])) for place, i in zip(late, order, strict=True)
    ]
    return join(body, [*segments, (len(body), ask_copy(string))])


def make_prompts() -> dict[str, Sample]:
    """All prompts by name, each of `PROMPT_TOKENS` tokens."""
    rng = np.random.default_rng(SEED)
    text = held_out_tokens()
    plain = filler(rng, text, PROMPT_TOKENS)
    return {
        "text": Sample(plain, np.zeros(PROMPT_TOKENS, bool)),
        "copy": copy_prompt(rng, text, PROMPT_TOKENS),
        "recall": recall_prompt(rng, text, PROMPT_TOKENS),
        "mixed": mixed_prompt(rng, text, PROMPT_TOKENS),
    }


def load_prompt(name: str) -> Sample:
    """A committed prompt.

    Raises ValueError when there is none of that name.
    """
    prompts = json.loads(PROMPTS.read_text())
    if name not in prompts:
        raise ValueError(f"prompt must be one of {sorted(prompts)}, not {name!r}")
    tokens = np.array(prompts[name]["tokens"], np.int64)
    answer = np.zeros(len(tokens), bool)
    answer[prompts[name]["answers"]] = True
    return Sample(tokens, answer)


def main() -> None:
    """Write ``data/prompts.json``."""
    entries = {
        name: {"tokens": sample.tokens.tolist(), "answers": np.flatnonzero(sample.answer).tolist()}
        for name, sample in make_prompts().items()
    }
    lines = [
        f'"{name}": {json.dumps(entry, separators=(",", ":"))}' for name, entry in entries.items()
    ]
    PROMPTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
