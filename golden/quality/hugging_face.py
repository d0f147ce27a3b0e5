"""Cache methods in ``generate()`` of a Hugging Face Llama; needs ``transformers``.

Three lines run KVO on a model of your own::

    from golden.quality.hugging_face import MethodCache
    cache = MethodCache(model)
    model.generate(input_ids, past_key_values=cache)
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import AttentionMaskInterface

from golden.quality.decode import Traffic, attend
from golden.quality.interface import CacheMethod, CacheState, Prefill
from golden.quality.methods import FP16, KVO

__all__ = ["MethodCache"]

_NAME = "kvforge"
#: The cache layer whose new tokens an attention module is about to attend with.
_updated: WeakKeyDictionary[nn.Module, _Layer] = WeakKeyDictionary()


class _Layer(CacheLayerMixin):  # type: ignore[misc, unused-ignore]
    """The cache of one layer: the prompt first, then step by step."""

    def __init__(self, method: CacheMethod, module: nn.Module, rope_theta: float) -> None:
        super().__init__()
        self._method = method
        self._module = module
        self._rope_theta = rope_theta
        self.traffic = Traffic()
        self._tokens = 0
        self._state: CacheState | None = None

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
        if self._state is None:
            prefill = Prefill(query=by_group, key=keys, value=values, rope_theta=self._rope_theta)
            self._state = self._method.start(prefill)
            return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        outputs = torch.empty_like(by_group)
        batch, groups, steps, width = key.shape
        for t in range(steps):
            reading = self._state.step(by_group[..., t, :], keys[..., t, :], values[..., t, :])
            outputs[..., t, :], probability = attend(by_group[..., t, :], reading)
            self._state.observe(probability)
            context = self._tokens - steps + t + 1
            dense = FP16.step_bytes(batch * groups, context, width)
            self.traffic.add(Traffic(reading.read, reading.written, dense))
        return outputs.flatten(1, 2).to(query.dtype)

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
        self._tokens = 0
        self._state = None

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

    Raises
    ------
    ValueError
        The method shares caches between layers, or ``dense_layers`` is out of range; later: padding
        in the attention mask, or beam search.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        method: CacheMethod | None = None,
        *,
        dense_layers: int = 0,
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
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, _mask)
        model.set_attn_implementation(_NAME)
        theta = _rope_theta(model.config)
        super().__init__(
            layers=[
                _Layer(FP16() if layer < dense_layers else method, modules[layer], theta)
                for layer in range(count)
            ]
        )

    @property
    def traffic(self) -> Traffic:
        """Bytes of all layers and steps since the cache was made."""
        total = Traffic()
        for layer in self.layers:
            total.add(layer.traffic)
        return total


def _rope_theta(config: Any) -> float:
    parameters = getattr(config, "rope_parameters", None) or {}
    return float(parameters.get("rope_theta", getattr(config, "rope_theta", 10000.0)))
