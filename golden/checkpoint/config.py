"""``config.json`` of a Llama checkpoint, as Hugging Face stores it."""

from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.checkpoint.files import CheckpointError, read_json


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How the RoPE frequencies were changed after pretraining."""

    #: ``default`` (not at all), ``linear`` or ``llama3``.
    kind: str = "default"
    #: Slow rotations are slower by this factor; with ``linear`` all of them.
    factor: float = 1.0
    #: ``llama3``: rotations slower than this many turns in the original context are slow,
    slow_turns: float = 1.0
    #: and those faster than this many are left as they are.
    fast_turns: float = 4.0
    original_context: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """What ``config.json`` says of the architecture; sizes in elements."""

    vocabulary: int
    hidden: int
    inner: int
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    #: Most tokens.
    context: int
    norm_eps: float
    attention_bias: bool
    mlp_bias: bool
    rope_theta: float
    rope_scaling: RopeScaling

    @classmethod
    def read(cls, directory: Path) -> "LlamaConfig":
        """The configuration in ``directory``.

        Raises
        ------
        CheckpointError
            The file cannot be read, or a field has a value that this forward pass does not know.
        """
        path = directory / "config.json"
        content = read_json(path)
        if not isinstance(content, dict):
            raise CheckpointError(f"{path}: must be an object, not {type(content).__name__}")
        try:
            return cls._from_fields(content)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def _from_fields(cls, content: dict[str, Any]) -> "LlamaConfig":
        fields = _Fields(content)
        fields.only("model_type", "llama")
        fields.only("hidden_act", "silu", missing="silu")
        fields.only("quantization_config", None, missing=None)
        hidden = fields.size("hidden_size")
        query_heads = fields.size("num_attention_heads")
        kv_heads = fields.size("num_key_value_heads", query_heads)
        if query_heads % kv_heads:
            raise CheckpointError(
                f"num_attention_heads must be a multiple of num_key_value_heads {kv_heads}, "
                f"not {query_heads}"
            )
        head_dim = fields.size("head_dim", hidden // query_heads)
        if head_dim % 2:
            raise CheckpointError(f"head_dim must be even, not {head_dim}")
        # Newer files keep all that concerns RoPE in one object, older ones only the scaling.
        rope = content.get("rope_parameters") or content.get("rope_scaling") or {}
        if not isinstance(rope, dict):
            raise CheckpointError(f"rope_scaling must be an object, not {rope!r}")
        theta = rope if "rope_theta" in rope else content
        return cls(
            vocabulary=fields.size("vocab_size"),
            hidden=hidden,
            inner=fields.size("intermediate_size"),
            layers=fields.size("num_hidden_layers"),
            query_heads=query_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            context=fields.size("max_position_embeddings", 2048),
            norm_eps=fields.positive("rms_norm_eps", 1e-6),
            attention_bias=fields.flag("attention_bias"),
            mlp_bias=fields.flag("mlp_bias"),
            rope_theta=_Fields(theta).positive("rope_theta", 10000.0),
            rope_scaling=_rope_scaling(_Fields(rope)),
        )

    def rope_frequencies(self) -> Tensor:
        """Angle of each pair per token, float32 ``[D/2]``."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        frequencies = self.rope_theta**-exponents
        scaling = self.rope_scaling
        if scaling.kind == "default":
            return frequencies
        slowed = frequencies / scaling.factor
        if scaling.kind == "linear":
            return slowed
        turns = scaling.original_context * frequencies / (2 * pi)
        share = (turns - scaling.slow_turns) / (scaling.fast_turns - scaling.slow_turns)
        return torch.lerp(slowed, frequencies, share.clamp(0, 1))


def _rope_scaling(fields: "_Fields") -> RopeScaling:
    kind = fields.content.get("rope_type", fields.content.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise CheckpointError(f"rope type must be default, linear or llama3, not {kind!r}")
    fields.only("partial_rotary_factor", 1.0, missing=1.0)
    if kind == "default":
        return RopeScaling()
    factor = fields.positive("factor")
    if kind == "linear":
        return RopeScaling(kind=kind, factor=factor)
    slow, fast = fields.positive("low_freq_factor"), fields.positive("high_freq_factor")
    if fast <= slow:
        raise CheckpointError(f"high_freq_factor must be above low_freq_factor {slow}, not {fast}")
    return RopeScaling(
        kind=kind,
        factor=factor,
        slow_turns=slow,
        fast_turns=fast,
        original_context=fields.positive("original_max_position_embeddings"),
    )


@dataclass(frozen=True)
class _Fields:
    """Fields of a JSON object; one that is null counts as missing."""

    content: dict[str, Any]

    def only(self, name: str, legal: object, missing: object = None) -> None:
        value = self._get(name, missing)
        if value != legal:
            wanted = "be left out" if legal is None else f"be {legal!r}"
            raise CheckpointError(f"{name} must {wanted}, not {value!r}")

    def size(self, name: str, missing: int | None = None) -> int:
        value = self._get(name, missing)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{name} must be a positive integer, not {value!r}")
        return value

    def positive(self, name: str, missing: float | None = None) -> float:
        value = self._get(name, missing)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise CheckpointError(f"{name} must be a positive number, not {value!r}")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise CheckpointError(f"{name} must be true or false, not {value!r}")
        return value

    def _get(self, name: str, missing: object) -> object:
        value = self.content.get(name)
        return missing if value is None else value
