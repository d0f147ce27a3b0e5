"""Which sequences the test ``generate_kv`` lets grow."""

from __future__ import annotations

import random
from collections.abc import Sequence

from golden.captured import captured_tensors, check_model
from golden.generation import Generation, generate
from golden.model.capture import capture
from golden.tensors import CASES, Tensors
from hw.config import AttentionConfig, ConfigError
from tb.attention.catalogue import SHORT_CONTEXT, has_model_shape

#: Layer of the trained model whose tensors are taken: with the sharpest look-ups.
LAYER = 1


def spans(config: AttentionConfig) -> list[tuple[int, int]]:
    """Prompt and last context of each sequence.

    From nothing over the first window that closes; to where the budget begins to prune; to the
    longest context that there is.
    """
    window, longest = config.window, config.max_context
    limit = min(longest, config.budget + 2 * window)
    return [
        (0, min(longest, 2 * window + window // 4)),
        (limit - window, min(longest, limit + window // 2)),
        (longest - window - window // 2, longest),
    ]


def tensors_of(
    config: AttentionConfig, seed: int, sequences: Sequence[tuple[int, int]], layer: int
) -> tuple[list[Tensors], str]:
    """The tensors of each sequence, and where they come from.

    Parameters
    ----------
    sequences
        The last context of each, and its KV head.
    layer
        Of the trained model, if the tensors are captured.

    Raises
    ------
    ConfigError
        The contexts are long and the shape is not the trained model's.
    """
    if has_model_shape(config):
        captured = capture("mixed")
        check_model(captured, config)
        heads = [
            captured_tensors(captured, config, layer=layer, kv_head=head, context=last)
            for last, head in sequences
        ]
        return heads, f"captured from layer {layer} of the trained model"
    if config.max_context > SHORT_CONTEXT:
        raise ConfigError(
            f"max_context must be at most {SHORT_CONTEXT} in another shape than the trained "
            f"model's, not {config.max_context}"
        )
    kinds = ("random", "sink", "outlier_channels")
    made = [
        CASES[kinds[i % len(kinds)]](config, last, seed + i)
        for i, (last, _) in enumerate(sequences)
    ]
    return made, "synthetic"


def make_generation(
    config: AttentionConfig, seed: int, layer: int | None = None, *, imported: bool = False
) -> tuple[Generation, str]:
    """The steps of the sequences in random order, and where their tensors come from.

    Parameters
    ----------
    layer
        Of the trained model: each sequence for every KV head. If not given, `LAYER`, and the KV
        heads take turns.
    imported
        Whether the hardware is to make the caches of the prompts.
    """
    if layer is None:
        lives = [(*span, i % config.kv_heads) for i, span in enumerate(spans(config))]
    else:
        lives = [(*span, head) for span in spans(config) for head in range(config.kv_heads)]
    sequences = [(last, head) for _, last, head in lives]
    tensors, source = tensors_of(config, seed, sequences, LAYER if layer is None else layer)
    order = [i for i, (prompt, last, _) in enumerate(lives) for _ in range(last - prompt)]
    random.Random(seed).shuffle(order)
    prompts = [prompt for prompt, _, _ in lives]
    made = [i for i, prompt in enumerate(prompts) if prompt] if imported else []
    return generate(tensors, prompts, order, config, imported=made), source
