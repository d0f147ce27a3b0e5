"""Which settings of which methods are compared, and the settings that move equal traffic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from golden.quality.decode import decode
from golden.quality.interface import CacheMethod, Prefill
from golden.quality.methods import (
    FP16,
    H2O,
    INT8,
    KIVI,
    KVO,
    Quest,
    SnapKV,
    StreamingLLM,
)

__all__ = ["FULL_SHARES", "Point", "Probe", "full_points", "matched", "quick_points"]

#: Methods whose traffic is set by a budget of tokens.
BUDGETED: tuple[CacheMethod, ...] = (KVO(), Quest(), H2O(), SnapKV(), StreamingLLM())
#: Methods that read every token.
FIXED: tuple[CacheMethod, ...] = (INT8(), KIVI(bits=4), KIVI(bits=2))
#: Shares of FP16's traffic at which a full sweep compares, beside that of KVO as published.
FULL_SHARES = (0.1, 0.2, 0.3, 0.45)
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
    """Traffic of settings, from decode steps on random numbers: bytes do not depend on the data.

    (But for ArkVale's recalls, which depend on how selections change.)

    Parameters
    ----------
    width, rows
        Channels of a head, and query heads that share it.
    context
        Tokens at the last step.
    steps
        Decode steps; the tail of KVO breathes with a period of 64.
    """

    def __init__(self, *, width: int, rows: int, context: int, steps: int = 64) -> None:
        source = torch.Generator().manual_seed(0)

        def numbers(*shape: int) -> torch.Tensor:
            return torch.randn(1, 1, *shape, width, generator=source)

        query, key, value = numbers(rows, context), numbers(context), numbers(context)
        first = context - steps
        if first < 1:
            raise ValueError(f"context must be above {steps}, not {context!r}")
        self._prefill = Prefill(
            query=query[..., :first, :], key=key[..., :first, :], value=value[..., :first, :]
        )
        self._steps = (query[..., first:, :], key[..., first:, :], value[..., first:, :])

    @torch.no_grad()
    def share(self, method: CacheMethod) -> float:
        """Traffic over that of FP16."""
        return decode(method, self._prefill, *self._steps)[1].share


def matched(method: CacheMethod, share: float, probe: Probe, *, context: int) -> CacheMethod | None:
    """``method`` with the largest setting of its knob that moves at most ``share`` of FP16.

    None if even the lowest moves more, or the highest less than 95 % of it.
    """
    knob = method.knob
    if knob is None:
        raise ValueError(f"{method.name} has no knob")

    def at(index: int) -> CacheMethod:
        setting: dict[str, Any] = {knob.name: knob.lowest + index * knob.step}
        return replace(method, **setting)

    low, high = 0, ((knob.highest or context) - knob.lowest) // knob.step
    if probe.share(at(low)) > share:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if probe.share(at(middle)) <= share:
            low = middle
        else:
            high = middle - 1
    found = at(low)
    return found if probe.share(found) >= 0.95 * share else None


def _controls(methods: list[CacheMethod]) -> list[Point]:
    ranked = [m for m in methods if isinstance(m, KVO | Quest | H2O | SnapKV)]
    return [Point(method=FP16(), trained=False)] + [
        Point(method=replace(method, shuffled=True)) for method in ranked
    ]


def quick_points(probe: Probe, *, context: int) -> list[Point]:
    """Every method once: the budgeted ones at the traffic of KVO as published, and controls."""
    share = probe.share(KVO())
    budgeted = [matched(method, share, probe, context=context) for method in BUDGETED]
    equal = [method for method in budgeted if method is not None]
    points = [Point(method=method) for method in (FP16(), *FIXED, *equal)]
    points += [Point(method=method, dense_layers=WHOLE) for method in equal]
    return points + _controls(equal)


def full_points(probe: Probe, *, context: int) -> list[Point]:
    """`quick_points`, and the budgeted methods at `FULL_SHARES`, with and without whole layers."""
    points = quick_points(probe, context=context)
    for share in FULL_SHARES:
        for method in BUDGETED:
            setting = matched(method, share, probe, context=context)
            if setting is not None:
                points += [Point(method=setting, dense_layers=whole) for whole in (0, WHOLE)]
    points += [Point(method=method, dense_layers=WHOLE) for method in FIXED]
    return list(dict.fromkeys(points))
