"""Muon: momentum whose directions are made equally long, for the matrices inside a network.

The momentum of a weight matrix is replaced by the nearest matrix with orthonormal rows or columns,
so that directions in which gradients are rarely large are learned as fast as the others. Kernels of
convolutions are matrices from all inputs of a pixel to its outputs. What is no matrix inside a
network (biases, embeddings, the first and the last layer) is left to Adam.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the length of a
step, which lets it share Adam's learning rates, is that of Liu et al., "Muon is scalable for LLM
training", 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args, overload

import torch
from torch import Tensor, nn

from facehall_env.errors import ConfigurationError
from facehall_env.literals import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of a polynomial that takes all singular values near to 1 at once."""
ITERATIONS = 5
MOMENTUM = 0.95
ADAMS_LENGTH = 0.2
"""Root mean square of the steps that Adam makes at a learning rate of 1."""
EPSILON = 1e-8


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (m, n) with nearly equal singular values, between 0.7 and 1.2, by the same vectors.

    Computed in bfloat16.
    """
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    x = x / (x.norm() + EPSILON)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


def inner_matrices(network: nn.Module) -> list[Tensor]:
    """The weights of all convolutions and linear layers of a network but the first and the last."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [layer.weight for layer in layers[1:-1]]


class Muon(torch.optim.Optimizer):
    """Muon for a network's inner matrices, Adam for the rest.

    Args:
        network: Whose parameters are trained.
        groups: The parameters, with their learning rates, as for any optimiser.
        betas: Momenta of Adam.

    >>> network = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    >>> optimizer = Muon(network, [{"params": list(network.parameters()), "lr": 0.1}])
    >>> [(group["orthogonal"], len(group["params"])) for group in optimizer.param_groups]
    [(True, 1), (False, 5)]
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Iterable[dict[str, Any]],
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        matrices = {id(weight) for weight in inner_matrices(network)}
        split = [
            {**group, "params": members, "orthogonal": wanted}
            for group in groups
            for wanted in (True, False)
            if (members := [p for p in group["params"] if (id(p) in matrices) == wanted])
        ]
        super().__init__(split, {"lr": 1e-3, "betas": betas})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            move = self._move_matrix if group["orthogonal"] else self._move_as_adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move(parameter, parameter.grad, group)
        return loss

    def _move_matrix(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        # Nesterov's: where the momentum will be after this gradient once more.
        step = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1))
        length = ADAMS_LENGTH * max(step.shape) ** 0.5
        weight.add_(step.view(weight.shape), alpha=-group["lr"] * length)

    def _move_as_adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["first"], state["second"] = (torch.zeros_like(parameter) for _ in range(2))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        first = state["first"].lerp_(gradient, 1 - beta1)
        second = state["second"].lerp_(gradient.square(), 1 - beta2)
        scale = (second / (1 - beta2 ** state["step"])).sqrt_().add_(EPSILON)
        parameter.addcdiv_(first, scale, value=-group["lr"] / (1 - beta1 ** state["step"]))


def make_optimizer(
    kind: Optimizer,
    network: nn.Module,
    groups: Iterable[dict[str, Any]],
    betas: tuple[float, float],
) -> torch.optim.Optimizer:
    """Adam, or Muon with Adam for what is no inner matrix.

    Args:
        kind: Which one.
        network: Whose parameters are trained.
        groups: The parameters, with their learning rates.
        betas: Momenta of Adam.

    Raises:
        ConfigurationError: If there is no such optimiser.
    """
    if kind not in get_args(Optimizer):
        raise ConfigurationError(
            f"optimizer={kind!r} is unknown: use one of {get_args(Optimizer)}."
        )
    if kind == "muon":
        return Muon(network, groups, betas)
    return torch.optim.Adam(groups, betas=betas)
