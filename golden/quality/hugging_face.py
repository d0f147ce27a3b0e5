"""Cache methods in ``generate()`` of a Hugging Face Llama; needs ``transformers``.

Three lines run KVO on a model of your own::

    from golden.quality.hugging_face import MethodCache
    cache = MethodCache(model)
    model.generate(input_ids, past_key_values=cache)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from golden.quality.decode import Decoding, Traffic
from golden.quality.interface import CacheMethod, Prefill
from golden.quality.methods import FP16, KVO, StreamingLLM
from golden.quality.optional import missing

try:
    from transformers import AttentionInterface, PreTrainedModel
    from transformers.cache_utils import Cache, CacheLayerMixin
    from transformers.masking_utils import AttentionMaskInterface
except ModuleNotFoundError as error:
    raise missing(error) from error

__all__ = ["MethodCache", "moves_wrongly"]

_NAME = "kvforge"
#: The cache layer whose new tokens an attention module is about to attend with.
_updated: WeakKeyDictionary[nn.Module, _Layer] = WeakKeyDictionary()


class _Layer(CacheLayerMixin):  # type: ignore[misc, unused-ignore]
    """The cache of one layer: the prompt first, then step by step."""

    def __init__(
        self, method: CacheMethod, module: nn.Module, rope_theta: float, *, keep_prompt: bool
    ) -> None:
        super().__init__()
        self._method = method
        self._module = module
        self._rope_theta = rope_theta
        self._keep_prompt = keep_prompt
        self._tokens = 0
        #: What exact attention used; None before the prompt, and after it unless it is kept.
        self.prompt: Prefill | None = None
        self._decoding: Decoding | None = None
        self._earlier = Traffic()

    @property
    def traffic(self) -> Traffic:
        """Bytes of all steps since the layer was made."""
        total = replace(self._earlier)
        if self._decoding is not None:
            total.add(self._decoding.traffic)
        return total

    def start(self, prompt: Prefill) -> None:
        """Go on after a prompt that another cache was given."""
        self._tokens = prompt.tokens
        self.prompt = prompt

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """There is nothing to reserve."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *arguments: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        """Announce new tokens; `attention` takes them, with their queries."""
        del arguments, named
        self._tokens += key_states.shape[-2]
        _updated[self._module] = self
        return key_states, value_states

    def attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Of new tokens: ``[B, H, S, D]`` from ``[B, H, S, D]`` and twice ``[B, G, S, D]``."""
        by_group = query.unflatten(1, (key.shape[1], -1)).float()
        keys, values = key.float(), value.float()
        if self.prompt is None and self._decoding is None:
            self.prompt = Prefill(
                query=by_group, key=keys, value=values, rope_theta=self._rope_theta
            )
            return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        if self._decoding is None:
            assert self.prompt is not None
            self._decoding = Decoding(self._method, self.prompt)
            if not self._keep_prompt:
                self.prompt = None
        return self._decoding.run(by_group, keys, values).flatten(1, 2).to(query.dtype)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the mask that is not made."""
        return self._tokens + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self._tokens

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def reset(self) -> None:
        """Forget the sequence; the traffic stays counted."""
        self._earlier = self.traffic
        self._tokens = 0
        self.prompt = None
        self._decoding = None

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beams would have to copy caches."""
        raise ValueError("num_beams must be 1: a MethodCache cannot be reordered")


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **named: Any
) -> tuple[Tensor, None]:
    """The attention function that `MethodCache` gives the model."""
    del mask
    layer = _updated.pop(module, None)
    if layer is None:
        raise ValueError(
            "past_key_values must be a MethodCache of this model "
            "(model.set_attn_implementation('sdpa') takes its attention out again)"
        )
    scaling = named.get("scaling")
    if scaling is not None and abs(scaling * query.shape[-1] ** 0.5 - 1) > 1e-6:
        raise ValueError(f"scores must be scaled by 1/sqrt(head dimension), not {scaling!r}")
    return layer.attention(query, key, value).transpose(1, 2).contiguous(), None


def _mask(*arguments: Any, attention_mask: Tensor | None = None, **named: Any) -> None:
    """No mask: the steps are causal. Padding would need one."""
    del arguments, named
    if attention_mask is not None and not bool(attention_mask.all()):
        raise ValueError("attention_mask must be all ones: padding is not supported")


class MethodCache(Cache):  # type: ignore[misc, unused-ignore]
    """``past_key_values`` that keeps the tokens as a cache method does.

    The prompt, whatever a first forward pass gets, is attended to exactly; every later token with
    the method, in float32. It computes what a method would compute; it saves no memory and no time.
    A cache serves one sequence (or batch of equal length); ``reset()`` makes it ready for another.

    Parameters
    ----------
    model
        A Llama or another model with the same attention module; its attention implementation
        becomes ``"kvforge"``.
    method
        By default KVO as published.
    dense_layers
        Layers below stay in FP16.
    keep_prompt
        Hold what the prompt was attended to with, in float32, so that `after_prompt` can start
        other methods from it.

    Raises
    ------
    ValueError
        The method shares caches between layers or moves tokens in a model with scaled RoPE, or
        ``dense_layers`` is out of range; later: padding in the attention mask, or beam search.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        method: CacheMethod | None = None,
        *,
        dense_layers: int = 0,
        keep_prompt: bool = False,
    ) -> None:
        method = KVO() if method is None else method
        modules = {
            int(module.layer_idx): module
            for name, module in model.named_modules()
            if name.endswith("self_attn") and isinstance(getattr(module, "layer_idx", None), int)
        }
        count = model.config.num_hidden_layers
        if sorted(modules) != list(range(count)):
            raise ValueError(f"model must have {count} attention modules, not {sorted(modules)}")
        if any(method.producer(layer) != layer for layer in range(count)):
            raise ValueError(f"method must keep a cache in every layer, not {method.name}")
        if not 0 <= dense_layers <= count:
            raise ValueError(f"dense_layers must be 0..{count}, not {dense_layers!r}")
        if moves_wrongly(method, model.config):
            raise ValueError(
                f"text_positions of {method.name} must be True in a model with scaled RoPE"
            )
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, _mask)
        model.set_attn_implementation(_NAME)
        theta = _rope_theta(model.config)
        self._model = model
        self._kept = [
            _Layer(
                FP16() if layer < dense_layers else method,
                modules[layer],
                theta,
                keep_prompt=keep_prompt,
            )
            for layer in range(count)
        ]
        super().__init__(layers=[*self._kept])

    @property
    def prompts(self) -> list[Prefill]:
        """By layer, what the prompt was attended to with.

        Raises
        ------
        ValueError
            There was no prompt, or it was not kept.
        """
        found = [layer.prompt for layer in self._kept if layer.prompt is not None]
        if len(found) < len(self._kept):
            raise ValueError("the cache must be made with keep_prompt=True and given a prompt")
        return found

    def after_prompt(
        self, method: CacheMethod | None = None, *, dense_layers: int = 0
    ) -> MethodCache:
        """Another cache that begins where this one's prompt ended, whatever came after it.

        One prefill serves many methods. Raises ValueError as the class and `prompts` do.
        """
        other = MethodCache(self._model, method, dense_layers=dense_layers)
        for layer, prompt in zip(other._kept, self.prompts, strict=True):
            layer.start(prompt)
        return other

    @property
    def traffic(self) -> Traffic:
        """Bytes of all layers and steps since the cache was made."""
        total = Traffic()
        for layer in self._kept:
            total.add(layer.traffic)
        return total


def _rope(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return found


def _rope_theta(config: Any) -> float:
    return float(_rope(config).get("rope_theta", getattr(config, "rope_theta", 10000.0)))


def moves_wrongly(method: CacheMethod, config: Any) -> bool:
    """Whether a method moves tokens by wavelengths that the model has not.

    StreamingLLM turns the sinks by plain RoPE; a model whose RoPE is scaled, as Llama 3.1's, has
    other wavelengths.
    """
    scaled = _rope(config).get("rope_type", "default") != "default"
    return scaled and isinstance(method, StreamingLLM) and not method.text_positions
