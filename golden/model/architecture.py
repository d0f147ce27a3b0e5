"""A byte-level, Llama-shaped language model, small enough to be trained and committed.

Shapes are written with B = sequences, T = tokens, H = query heads, G = KV heads, D = head_dim.
Parameter names are those of a Hugging Face Llama checkpoint without its ``model.`` prefix.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "AttentionFunction",
    "LanguageModel",
    "LayerTensors",
    "ModelConfig",
    "apply_rope",
    "causal_attention",
]

AttentionFunction = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""``f(layer, query[B,H,T,D], key[B,G,T,D], value[B,G,T,D]) -> [B,H,T,D]``, post-RoPE inputs."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the model.

    Arguments
    ---------
    vocabulary : number of token ids; 0..255 are bytes, the rest special tokens.
    d_model : width of the residual stream, in elements.
    layers : number of decoder layers.
    query_heads, kv_heads : attention heads; query_heads is a multiple of kv_heads.
    head_dim : elements per head; even, because RoPE rotates pairs.
    d_ff : inner width of the SwiGLU block, in elements.
    context : longest sequence accepted, in tokens.
    rope_theta : base of the RoPE wavelengths.
    norm_eps : added to the mean square in RMSNorm.

    Raises
    ------
    ValueError : a size is out of range or does not divide as required.
    """

    vocabulary: int = 264
    d_model: int = 128
    layers: int = 4
    query_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    d_ff: int = 384
    context: int = 4096
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("d_model", "layers", "query_heads", "kv_heads", "head_dim", "d_ff", "context"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if not isinstance(self.vocabulary, int) or self.vocabulary <= 256:
            raise ValueError(f"vocabulary must be an integer above 256, not {self.vocabulary!r}")
        if self.query_heads % self.kv_heads:
            raise ValueError(
                f"query_heads must be a multiple of kv_heads {self.kv_heads}, "
                f"not {self.query_heads!r}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even, not {self.head_dim!r}")
        for name in ("rope_theta", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class LayerTensors:
    """What one layer's attention reads and writes.

    Members
    -------
    query : post-RoPE, [B, H, T, D].
    key : post-RoPE, [B, G, T, D].
    value : [B, G, T, D].
    output : attention output per head, before the output projection, [B, H, T, D].
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def apply_rope(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (i, i + D/2) of the last axis, as Llama does.

    ``x`` is [B, heads, T, D]; ``cosine`` and ``sine`` are broadcastable to [B, heads, T, D/2].
    """
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)


def causal_attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Exact causal attention, scores scaled by 1/sqrt(D); an `AttentionFunction`."""
    del layer  # every layer is treated alike
    groups = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(groups, dim=1)
    value = value.repeat_interleave(groups, dim=1)
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


class Attention(nn.Module):
    """Grouped-query attention with RoPE; query head h reads KV head h // (H / G)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        d, width = config.d_model, config.head_dim
        self.q_proj = nn.Linear(d, config.query_heads * width, bias=False)
        self.k_proj = nn.Linear(d, config.kv_heads * width, bias=False)
        self.v_proj = nn.Linear(d, config.kv_heads * width, bias=False)
        self.o_proj = nn.Linear(config.query_heads * width, d, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        layer: int,
        attention: AttentionFunction,
    ) -> tuple[Tensor, LayerTensors]:
        """[B, T, d_model] -> ([B, T, d_model], the tensors attention used)."""
        batch, tokens, _ = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, tokens, -1, self.config.head_dim).transpose(1, 2)

        query = apply_rope(heads(self.q_proj(x)), *rotation)
        key = apply_rope(heads(self.k_proj(x)), *rotation)
        value = heads(self.v_proj(x))
        output = attention(layer, query, key, value)
        merged = output.transpose(1, 2).reshape(batch, tokens, -1)
        tensors = LayerTensors(query=query, key=key, value=value, output=output)
        return self.o_proj(merged), tensors


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, d_model] -> [B, T, d_model]."""
        result: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


class DecoderLayer(nn.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        layer: int,
        attention: AttentionFunction,
    ) -> tuple[Tensor, LayerTensors]:
        """[B, T, d_model] -> ([B, T, d_model], the tensors attention used)."""
        mixed, tensors = self.self_attn(self.input_layernorm(x), rotation, layer, attention)
        x = x + mixed
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x, tensors


class LanguageModel(nn.Module):
    """Decoder-only language model with a tied embedding.

    Arguments
    ---------
    config : sizes.
    seed : seeds the initial weights; the global generator is left untouched.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.d_model)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue  # norm gains stay at one
            std = 0.05 if "embed" in name else float(parameter.shape[1]) ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                std *= (2 * self.config.layers) ** -0.5  # keep the residual stream near unit size
            with torch.no_grad():
                parameter.normal_(0.0, std, generator=generator)

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the RoPE angles: positions [B or 1, T] -> two [B or 1, 1, T, D/2]."""
        width = self.config.head_dim
        exponents = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
        angles = positions[:, None, :, None].float() * self.config.rope_theta**-exponents
        return angles.cos(), angles.sin()

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        attention: AttentionFunction = causal_attention,
        captured: dict[int, LayerTensors] | None = None,
    ) -> Tensor:
        """Predict the next token at every position.

        Arguments
        ---------
        tokens : ids, integer [B, T].
        positions : RoPE positions, integer [B, T] or [T]; by default 0..T-1.
        attention : replaces exact causal attention, to measure a compressed KV cache.
        captured : when given, receives ``{layer: LayerTensors}``.

        Returns
        -------
        Logits, [B, T, vocabulary].

        Raises
        ------
        ValueError : tokens is not [B, T], or T exceeds the context.
        """
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be [batch, time], not {tuple(tokens.shape)!r}")
        if not 1 <= tokens.shape[1] <= self.config.context:
            raise ValueError(
                f"sequence length must be 1..{self.config.context}, not {tokens.shape[1]!r}"
            )
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        rotation = self.rotation(positions if positions.ndim == 2 else positions[None])
        x = self.embed_tokens(tokens)
        for index, layer in enumerate(self.layers):
            x, tensors = layer(x, rotation, index, attention)
            if captured is not None:
                captured[index] = tensors
        return functional.linear(self.norm(x), self.embed_tokens.weight)
