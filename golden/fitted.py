"""Synthetic tensors of any shape whose statistics are fitted to KV captured from the trained model.

For configurations that the trained model does not have. Means, spreads and the correlation between
neighbouring tokens are measured channel by channel; scores get the spread of the captured ones; an
attention sink and outlier channels are put in. What a model would do with them is not claimed.
"""

from dataclasses import dataclass
from functools import cache
from math import sqrt

import torch
from torch import Tensor

from golden.model.capture import capture
from golden.tensors import Tensors, as_half
from hw.config import AttentionConfig

PROMPT = "mixed"
#: One channel in so many is an outlier, so many times as large.
OUTLIER_SHARE = 64
OUTLIER_FACTOR = 6.0
#: The sink's score lies so many of the captured spreads above the mean.
SINK_SPREADS = 3.0


@dataclass(frozen=True)
class Statistics:
    """Channels of one kind of tensor, ``[channels]`` each."""

    mean: Tensor
    spread: Tensor
    #: Between neighbouring tokens.
    correlation: Tensor

    def draw(self, tokens: int, channels: int, generator: torch.Generator) -> Tensor:
        """``[tokens, channels]`` of a first-order process, statistics of random channels."""
        chosen = torch.randint(len(self.mean), (channels,), generator=generator)
        mean, spread, rho = self.mean[chosen], self.spread[chosen], self.correlation[chosen]
        noise = torch.randn(tokens, channels, generator=generator)
        fresh = (1 - rho**2).sqrt()
        state = noise[0]
        states = [state]
        for token in range(1, tokens):
            state = rho * state + fresh * noise[token]
            states.append(state)
        return mean + spread * torch.stack(states)


@cache
def statistics() -> tuple[Statistics, Statistics, Statistics, float]:
    """Keys, values and queries over all layers and heads, and the spread of the scores."""
    captured = capture(PROMPT)
    layers, kv_heads = captured.key.shape[:2]
    per_head = captured.query.shape[1] // kv_heads
    spreads = []
    for layer in range(layers):
        for head in range(kv_heads):
            query = captured.query[layer, head * per_head, -256:].double()
            scores = query @ captured.key[layer, head].double().T / sqrt(query.shape[-1])
            spreads.append(scores.std(-1).mean())
    return (
        _fit(captured.key),
        _fit(captured.value),
        _fit(captured.query),
        float(torch.stack(spreads).mean()),
    )


def _fit(x: Tensor) -> Statistics:
    """Statistics of ``[L, heads, T, D]``, the channels of all heads one after the other."""
    flat = x.double().permute(0, 1, 3, 2).reshape(-1, x.shape[2])
    mean = flat.mean(-1, keepdim=True)
    centred = flat - mean
    variance = centred.square().mean(-1)
    rho = (centred[:, 1:] * centred[:, :-1]).mean(-1) / variance.clamp(min=1e-12)
    return Statistics(
        mean.squeeze(-1).float(), variance.sqrt().float(), rho.clamp(-0.99, 0.99).float()
    )


def fitted(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """One KV head with ``config.rows`` query heads, ``context`` tokens."""
    generator = torch.Generator().manual_seed(seed)
    of_keys, of_values, of_queries, spread = statistics()
    d = config.head_dim
    keys = of_keys.draw(context, d, generator)
    values = of_values.draw(context, d, generator)
    queries = torch.stack([of_queries.draw(context, d, generator) for _ in range(config.rows)])
    outliers = torch.randperm(d, generator=generator)[: max(1, d // OUTLIER_SHARE)]
    keys[:, outliers] *= OUTLIER_FACTOR

    # Scores as spread as the captured ones, whatever the outliers and the head dimension did.
    latest = queries[:, -min(context, 256) :]
    scores = latest @ keys.T / sqrt(d)
    if context > 1:
        queries *= spread / float(scores.std(-1).mean())
    # The sink: the key that the mean query weighs most, and a small value.
    towards = queries.mean((0, 1))
    length = float(towards.norm())
    if length > 0:
        keys[0] = towards / length**2 * SINK_SPREADS * spread * sqrt(d)
    values[0] *= 0.05
    return as_half(keys, values, queries)
