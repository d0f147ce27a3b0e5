"""The forward pass of a Llama checkpoint, as far as keys, values and queries need it.

In float32, with one layer in memory at a time. It stops where the last layer has its tensors, so
an output head, tied or not, is never read.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from golden.checkpoint.config import LlamaConfig
from golden.checkpoint.files import CheckpointError
from golden.checkpoint.weights import Weights


@dataclass(frozen=True, kw_only=True)
class CheckpointKV:
    """What attention reads, float32: L layers, G KV heads, H query heads, T tokens, D channels."""

    #: After RoPE, ``[L, G, T, D]``.
    key: Tensor
    #: ``[L, G, T, D]``.
    value: Tensor
    #: After RoPE, ``[L, H, T, D]``; head h reads KV head h // (H/G).
    query: Tensor


@torch.no_grad()
def capture_checkpoint(directory: Path, tokens: list[int]) -> CheckpointKV:
    """Run the model in ``directory`` over ``tokens`` and return what its attention reads.

    Raises
    ------
    CheckpointError
        A file is missing, damaged or of another architecture; a token is outside the vocabulary,
        or there are none or more than the model's context.
    """
    config = LlamaConfig.read(directory)
    weights = Weights(directory)
    x = _embed(weights, config, tokens)
    rotation = _rotation(config, len(tokens))
    layers: list[tuple[Tensor, Tensor, Tensor]] = []
    for index in track(range(config.layers), "layers", console=Console(stderr=True)):
        layers.append(_attention_inputs(weights, config, index, x, rotation))
        if index < config.layers - 1:
            x = _finish_layer(weights, config, index, x, *layers[-1])
    key, value, query = (torch.stack(each) for each in zip(*layers, strict=True))
    return CheckpointKV(key=key, value=value, query=query)


def _embed(weights: Weights, config: LlamaConfig, tokens: list[int]) -> Tensor:
    """``[T, hidden]``."""
    if not 1 <= len(tokens) <= config.context:
        raise CheckpointError(f"there must be 1 to {config.context} tokens, not {len(tokens)}")
    for place, token in enumerate(tokens):
        if not 0 <= token < config.vocabulary:
            raise CheckpointError(
                f"token {place} must be from 0 to {config.vocabulary - 1}, not {token}"
            )
    return weights.read(
        "embed_tokens.weight", config.vocabulary, config.hidden, rows=torch.tensor(tokens)
    )


def _rotation(config: LlamaConfig, tokens: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the RoPE angles, each ``[T, D/2]``."""
    angles = torch.arange(tokens)[:, None].float() * config.rope_frequencies()
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + D/2) of the last axis by the angle of their token."""
    cosine, sine = rotation
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)


def _normalise(x: Tensor, weights: Weights, config: LlamaConfig, name: str) -> Tensor:
    return rms_norm(x, (config.hidden,), weights.read(name, config.hidden), config.norm_eps)


def _attention_inputs(
    weights: Weights, config: LlamaConfig, layer: int, x: Tensor, rotation: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Key, value ``[G, T, D]`` and query ``[H, T, D]`` of one layer."""
    normal = _normalise(x, weights, config, f"layers.{layer}.input_layernorm.weight")

    def heads(name: str, count: int) -> Tensor:
        module = f"layers.{layer}.self_attn.{name}"
        flat = weights.linear(normal, module, count * config.head_dim, bias=config.attention_bias)
        return flat.unflatten(-1, (count, config.head_dim)).transpose(0, 1)

    return (
        _rotate(heads("k_proj", config.kv_heads), rotation),
        heads("v_proj", config.kv_heads),
        _rotate(heads("q_proj", config.query_heads), rotation),
    )


def _finish_layer(
    weights: Weights,
    config: LlamaConfig,
    layer: int,
    x: Tensor,
    key: Tensor,
    value: Tensor,
    query: Tensor,
) -> Tensor:
    """The rest of a layer: attention, its projection, and the SwiGLU block."""
    prefix = f"layers.{layer}"
    attended = scaled_dot_product_attention(
        query[None], key[None], value[None], is_causal=True, enable_gqa=True
    )[0]
    merged = attended.transpose(0, 1).flatten(1)
    x = x + weights.linear(
        merged, f"{prefix}.self_attn.o_proj", config.hidden, bias=config.attention_bias
    )
    normal = _normalise(x, weights, config, f"{prefix}.post_attention_layernorm.weight")
    gate, up = (
        weights.linear(normal, f"{prefix}.mlp.{name}", config.inner, bias=config.mlp_bias)
        for name in ("gate_proj", "up_proj")
    )
    inner = silu(gate) * up
    return x + weights.linear(inner, f"{prefix}.mlp.down_proj", config.hidden, bias=config.mlp_bias)
