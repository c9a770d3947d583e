"""How layers start: at nothing, or as in He et al. 2015."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def start_at_zero(*layers: Any) -> None:
    """Sets the weight and the bias of each layer to zero, so that it adds nothing at first."""
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def rectified(convolutions: Iterable[nn.Conv2d]) -> list[nn.Module]:
    """The convolutions, which start as in He et al. 2015 and without bias, a ReLU behind each."""
    modules: list[nn.Module] = []
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
        modules += [layer, nn.ReLU(inplace=True)]
    return modules
