"""Which settings of which methods are compared, and the settings that move equal traffic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from golden.model.architecture import LanguageModel, LayerTensors
from golden.model.corpus import held_out_tokens
from golden.quality.decode import decode
from golden.quality.interface import CacheMethod, Prefill
from golden.quality.methods import (
    FP16,
    H2O,
    INT8,
    KIVI,
    KVO,
    RCE,
    ArkVale,
    CrossLayer,
    Progressive,
    QuaRot,
    Quest,
    Scissorhands,
    SnapKV,
    SnapStream,
    StreamingLLM,
    ZipCache,
)
from golden.quality.tasks import make_batch

__all__ = [
    "BUDGETED",
    "DEFINED",
    "FIXED",
    "SWEEP_SHARES",
    "Point",
    "Probe",
    "matched",
    "quick_points",
    "sweep_points",
]

#: Methods whose traffic is set by a budget of tokens.
BUDGETED: tuple[CacheMethod, ...] = (
    KVO(),
    Progressive(),
    Quest(),
    ArkVale(),
    SnapKV(),
    SnapStream(),
    H2O(),
    Scissorhands(),
    RCE(),
    StreamingLLM(),
)
#: Of these, the ones measured at their own setting too, whatever it moves.
DEFINED: tuple[CacheMethod, ...] = (
    KVO(),
    Progressive(),
    Progressive(part=8, plane_bits=2),
    Progressive(top=192, part=8),
    Progressive(top=512),
)
#: Methods that read every token.
FIXED: tuple[CacheMethod, ...] = (
    CrossLayer(),
    INT8(),
    KIVI(bits=4),
    QuaRot(),
    ZipCache(),
    KIVI(bits=2),
)
#: Shares of FP16's traffic at which a sweep compares, beside that of KVO as published.
SWEEP_SHARES = (0.04, 0.15, 0.3)
#: Layers that the papers of KVO and Quest leave whole.
WHOLE = 2


@dataclass(frozen=True, kw_only=True)
class Point:
    """One line of the table.

    Members
    -------
    method : with its parameters.
    dense_layers : layers below stay in FP16.
    trained : False for the control whose weights are those before training.
    """

    method: CacheMethod
    dense_layers: int = 0
    trained: bool = True

    @property
    def is_control(self) -> bool:
        """Whether the point shows what a method without information scores."""
        return self.method.shuffled or not self.trained

    @property
    def label(self) -> str:
        """For people."""
        return self.method.label + ("" if self.trained else ", untrained model")


class Probe:
    """Traffic of settings, from decode steps at the end of a sequence of one layer.

    Bytes depend on the data only where ArkVale recalls pages and where KVO reads scales of groups.

    Parameters
    ----------
    query, key, value
        ``[B, G, R, T, D]`` and ``[B, G, T, D]``, post-RoPE.
    steps
        Decode steps, fewer than T; the tail of KVO breathes with a period of 64.
    rope_theta
        Base of the RoPE wavelengths.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        steps: int = 64,
        rope_theta: float = 10000.0,
    ) -> None:
        self.context = key.shape[-2]
        first = self.context - steps
        if not 0 < steps < self.context:
            raise ValueError(f"steps must be 1 to {self.context - 1}, not {steps!r}")
        self._prefill = Prefill(
            query=query[..., :first, :],
            key=key[..., :first, :],
            value=value[..., :first, :],
            rope_theta=rope_theta,
        )
        self._shares: dict[CacheMethod, float] = {}
        self._steps = (query[..., first:, :], key[..., first:, :], value[..., first:, :])

    @staticmethod
    @torch.no_grad()
    def of_model(model: LanguageModel, context: int) -> Probe:
        """The second layer of a model over a recall prompt of ``context`` tokens."""
        batch = make_batch("recall", held_out_tokens(), length=context, sequences=1, seed=0)
        captured: dict[int, LayerTensors] = {}
        model(batch.tokens, captured=captured)
        layer = captured[min(1, len(captured) - 1)]
        groups = model.config.kv_heads
        query = layer.query.unflatten(1, (groups, -1))
        return Probe(query, layer.key, layer.value, rope_theta=model.config.rope_theta)

    @torch.no_grad()
    def share(self, method: CacheMethod) -> float:
        """Traffic over that of FP16."""
        if method not in self._shares:
            self._shares[method] = decode(method, self._prefill, *self._steps)[1].share
        return self._shares[method]


def matched(method: CacheMethod, share: float, probe: Probe) -> CacheMethod | None:
    """``method`` with the largest setting of its knob that moves at most ``share`` of FP16.

    None if even the lowest moves more, or what was found less than 90 % of it.
    """
    knob = method.knob
    if knob is None:
        raise ValueError(f"{method.name} has no knob")

    def at(index: int) -> CacheMethod:
        setting: dict[str, Any] = {knob.name: knob.lowest + index * knob.step}
        return replace(method, **setting)

    low, high = 0, ((knob.highest or probe.context) - knob.lowest) // knob.step
    if probe.share(at(low)) > share:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if probe.share(at(middle)) <= share:
            low = middle
        else:
            high = middle - 1
    found = at(low)
    return found if probe.share(found) >= 0.9 * share else None


def _controls(methods: list[CacheMethod]) -> list[Point]:
    ranked = [m for m in methods if isinstance(m, KVO | Progressive | Quest | H2O | SnapKV)]
    return [Point(method=FP16(), trained=False)] + [
        Point(method=replace(method, shuffled=True)) for method in ranked
    ]


def quick_points(probe: Probe, *, whole_layers: bool = False) -> list[Point]:
    """Every method once: the budgeted ones at the traffic of KVO as published, and controls.

    Those of `DEFINED` come at their own setting too, KVO only so: a larger budget may move no more
    in a short context. ``whole_layers`` adds the budgeted ones with the first layers in FP16.
    """
    share = probe.share(KVO())
    found = [matched(method, share, probe) for method in BUDGETED if method != KVO()]
    equal = [method for method in found if method is not None]
    defined = {method.name for method in DEFINED}
    once = [KVO(), Progressive(), *(m for m in equal if m.name not in defined)]
    points = [Point(method=method) for method in (FP16(), *FIXED, *DEFINED, *equal)]
    if whole_layers:
        points += [Point(method=method, dense_layers=WHOLE) for method in once]
    return list(dict.fromkeys(points + _controls(once)))


def sweep_points(probe: Probe) -> list[Point]:
    """`quick_points`, whole layers, and the budgeted methods at `SWEEP_SHARES`, every layer."""
    points = quick_points(probe, whole_layers=True)
    for share in SWEEP_SHARES:
        settings = [matched(method, share, probe) for method in BUDGETED]
        points += [Point(method=setting) for setting in settings if setting is not None]
    return list(dict.fromkeys(points))
