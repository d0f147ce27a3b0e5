"""Quality and traffic of a cache method in every layer of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.model.architecture import (
    AttentionFunction,
    LanguageModel,
    LayerTensors,
    causal_attention,
)
from golden.quality.decode import Traffic, method_attention
from golden.quality.generate import Generation, check_generation, generate
from golden.quality.interface import CacheMethod, Prefill
from golden.quality.tasks import Batch

__all__ = ["Figures", "Prompt", "evaluate"]


@dataclass(frozen=True)
class Figures:
    """What one method made of a batch."""

    #: One per sequence: share of right answers, or bits per byte.
    scores: list[float]
    traffic: Traffic


class Prompt:
    """A batch with its prompt attended to exactly, once for all methods.

    Parameters
    ----------
    model, batch
        Both are moved to ``device``.
    device
        By default a GPU if torch sees one.
    """

    @torch.no_grad()
    def __init__(
        self, model: LanguageModel, batch: Batch, *, device: torch.device | None = None
    ) -> None:
        if device is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch = batch
        self._model = model.to(device)
        self._tokens = batch.tokens.to(device)
        captured: dict[int, LayerTensors] = {}
        model(self._tokens[:, : batch.prompt], captured=captured, attention=causal_attention)
        groups = model.config.kv_heads
        #: The prompt by layer.
        self.prefills = {
            layer: Prefill(
                query=tensors.query.unflatten(1, (groups, -1)),
                key=tensors.key,
                value=tensors.value,
                rope_theta=model.config.rope_theta,
            )
            for layer, tensors in captured.items()
        }

    @torch.no_grad()
    def evaluate(
        self,
        method: CacheMethod,
        *,
        dense_layers: int = 0,
        generation: Generation = "teacher-forced",
    ) -> Figures:
        """Decode the rest of every sequence with ``method`` from layer ``dense_layers`` on.

        Raises
        ------
        ValueError
            ``dense_layers`` is out of range, or the task cannot be generated freely.
        """
        if not 0 <= dense_layers <= self._model.config.layers:
            raise ValueError(
                f"dense_layers must be 0..{self._model.config.layers}, not {dense_layers!r}"
            )
        traffic = Traffic()
        attention = method_attention(method, self.prefills, traffic, dense_layers=dense_layers)
        logits = self.decode(attention, generation=generation)
        return Figures(self.batch.scores(logits), traffic)

    @torch.no_grad()
    def decode(
        self, attention: AttentionFunction, *, generation: Generation = "teacher-forced"
    ) -> Tensor:
        """Decode the rest of every sequence: logits as `Batch.scores` takes them.

        ``attention`` goes on with every call, from `prefills` on.
        """
        check_generation(generation, self.batch)
        if generation == "free":
            return generate(self._model, self.batch, attention)
        rest = slice(self.batch.prompt, self._tokens.shape[1] - 1)
        positions = torch.arange(rest.start, rest.stop, device=self._tokens.device)
        logits: Tensor = self._model(
            self._tokens[:, rest], positions=positions, attention=attention
        )
        return logits


def evaluate(
    model: LanguageModel,
    batch: Batch,
    method: CacheMethod,
    *,
    dense_layers: int = 0,
    generation: Generation = "teacher-forced",
) -> Figures:
    """One method on one batch; for several methods on a batch make a `Prompt`."""
    prompt = Prompt(model, batch)
    return prompt.evaluate(method, dense_layers=dense_layers, generation=generation)
