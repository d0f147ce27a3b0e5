"""Muon for the weight matrices, AdamW for the embedding and the norm gains.

Muon (K. Jordan, 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a
matrix by its nearest semi-orthogonal matrix. torch.optim.Muon orthogonalises in bfloat16, which
many CPUs emulate; this one works in float32 and takes equal shapes together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "make_optimisers", "orthogonalise"]

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """Bring all singular values of each matrix [N, rows, columns] near one (0.7 to 1.2)."""
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised.

    Arguments
    ---------
    parameters : matrices only.
    lr : step size; the spectral norm of an update of a square matrix.
    momentum : decay of the (Nesterov) momentum.
    weight_decay : decoupled, times lr per step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("closure must be None")
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for parameters in shapes.values():
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        nesterov = []
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            nesterov.append(gradient.lerp(state["momentum"], group["momentum"]))
        rows, columns = parameters[0].shape
        scale = group["lr"] * max(1.0, rows / columns) ** 0.5
        updates = orthogonalise(torch.stack(nesterov))
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-scale)


def make_optimisers(
    model: nn.Module, *, matrix_lr: float, other_lr: float
) -> list[torch.optim.Optimizer]:
    """Muon over the matrices of the layers and AdamW over the rest.

    Each group remembers its ``peak_lr``, from which a schedule sets ``lr``.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_matrix else rest).append(parameter)
    optimisers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=matrix_lr, weight_decay=0.05),
        torch.optim.AdamW(rest, lr=other_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return optimisers
