"""A prompt attended to exactly, once, and its continuations with any cache method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.load import Checkpoint
from golden.quality.decode import Traffic
from golden.quality.interface import CacheMethod, Prefill
from golden.quality.methods import FP16

if TYPE_CHECKING:
    from golden.quality.hugging_face import MethodCache

__all__ = ["Continuation", "Prefilled"]


class Prefilled:
    """One sequence up to the end of its prompt.

    Parameters
    ----------
    ids
        Token ids of the prompt, at least one.

    Raises
    ------
    CheckpointError
        There are none, or more than the model's context.
    """

    @torch.no_grad()
    def __init__(self, checkpoint: Checkpoint, ids: Sequence[int]) -> None:
        # Here, as the module needs the optional extra.
        from golden.quality.hugging_face import MethodCache

        if not 1 <= len(ids) <= checkpoint.context:
            raise CheckpointError(
                f"a prompt must have 1 to {checkpoint.context} tokens, not {len(ids)}"
            )
        self._checkpoint = checkpoint
        self._cache = MethodCache(checkpoint.model, FP16(), keep_prompt=True)
        given = torch.tensor([list(ids)], device=checkpoint.device)
        checkpoint.model(given, past_key_values=self._cache, logits_to_keep=1)

    def layer(self, index: int) -> Prefill:
        """What a layer's exact attention used."""
        return self._cache.prompts[index]

    def decode(self, method: CacheMethod, *, dense_layers: int = 0) -> Continuation:
        """Go on from the end of the prompt with ``method`` from layer ``dense_layers`` on."""
        cache = self._cache.after_prompt(method, dense_layers=dense_layers)
        return Continuation(self._checkpoint, cache)


class Continuation:
    """Decode steps of one sequence with one method."""

    def __init__(self, checkpoint: Checkpoint, cache: MethodCache) -> None:
        self._checkpoint = checkpoint
        self._cache = cache
        #: Generated, but not yet in the cache.
        self._pending: list[int] = []

    @property
    def traffic(self) -> Traffic:
        """Bytes of all layers and steps so far."""
        traffic: Traffic = self._cache.traffic
        return traffic

    @torch.no_grad()
    def feed(self, ids: Sequence[int]) -> Tensor:
        """Decode steps with tokens that are given, one after another.

        Returns
        -------
        Tensor
            Logits ``[len(ids), vocabulary]`` in float32: after each of them, of the next token.
        """
        tokens = [*self._pending, *ids]
        self._pending = []
        given = torch.tensor([tokens], device=self._checkpoint.device)
        logits: Tensor = self._checkpoint.model(given, past_key_values=self._cache).logits
        return logits[0, len(tokens) - len(ids) :].float()

    def force(self, request: Sequence[int], answer: Sequence[int]) -> Tensor:
        """Give both: logits ``[len(answer), vocabulary]``, the predictions of the answer's tokens.

        The last of them is decoded only when something follows.
        """
        logits = self.feed([*request, *answer[:-1]])
        self._pending = list(answer[-1:])
        return logits[len(request) - 1 :]

    def generate(
        self,
        ids: Sequence[int],
        *,
        limit: int,
        stop: Callable[[str], bool] = lambda text: False,
        ends: Collection[int] = (),
        at_least: int = 0,
    ) -> list[int]:
        """Greedy tokens after ``ids``: at most ``limit``, up to an end token or ``stop``.

        Parameters
        ----------
        ids
            Decode steps that are given, at least one.
        stop
            Whether the text so far is enough; the token that made it so is among the result.
        ends
            More end tokens than the checkpoint has. An end token is not among the result.
        at_least
            Tokens before the first end token.
        """
        found: list[int] = []
        last = sorted({*self._checkpoint.ends, *ends})
        logits = self.feed(ids)[-1]
        while len(found) < limit:
            if len(found) < at_least:
                logits[last] = -torch.inf
            token = int(logits.argmax())
            if token in last:
                break
            found.append(token)
            if len(found) == limit or stop(self._checkpoint.decode(found)):
                self._pending = [token]
                break
            logits = self.feed([token])[-1]
        return found
