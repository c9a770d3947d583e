"""How a learning rate falls over a training, and weights averaged along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from facehall_env.errors import ConfigurationError
from facehall_env.literals import Schedule

LOWEST = 0.01
"""Where the cosine ends, as a part of where it began."""


def learning_rate(
    kind: Schedule,
    highest: float,
    update: int,
    total: int,
    *,
    step_updates: int = 50_000,
    warm_up: int = 0,
    lowest: float = LOWEST,
) -> float:
    """The learning rate of an update.

    Args:
        kind: ``"cosine"`` falls along half a cosine to ``lowest``, ``"step"`` is halved every
            ``step_updates`` updates, ``"constant"`` stays.
        highest: Where it begins.
        update: Number of the update, from 0.
        total: Updates of the whole training.
        step_updates: Between two steps of ``"step"``.
        warm_up: Number of updates over which it first rises in equal parts to what it would be.
        lowest: Where ``"cosine"`` ends, as a share of ``highest``.

    Raises:
        ConfigurationError: If there is no such schedule.

    >>> [learning_rate("step", 1.0, update, 9, step_updates=3) for update in (0, 2, 3, 6)]
    [1.0, 1.0, 0.5, 0.25]
    >>> [learning_rate("constant", 1.0, update, 9, warm_up=4) for update in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    if kind == "cosine":
        share = lowest + (1 - lowest) * (1 + math.cos(math.pi * update / total)) / 2
    elif kind == "step":
        share = 0.5 ** (update // step_updates)
    elif kind == "constant":
        share = 1.0
    else:
        raise ConfigurationError(f"schedule={kind!r} is unknown: use one of {get_args(Schedule)}.")
    return highest * share * min(1.0, (update + 1) / max(1, warm_up))


def milestone_rate(
    highest: float, update: int, total: int, milestones: Sequence[float], factor: float = 0.1
) -> float:
    """A learning rate that falls to its tenth at some shares of the training.

    Args:
        highest: Where it begins.
        update: Number of the update, from 0.
        total: Updates of the whole training.
        milestones: Shares of it in [0, 1] at which the rate falls.
        factor: To which part of it.

    >>> [round(milestone_rate(1.0, n, 10, (0.5, 0.8)), 6) for n in (0, 4, 5, 7, 8)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    passed = sum(update >= share * total for share in milestones)
    return highest * factor**passed


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network whose parameters follow it as an exponential moving average.

    Each ``update_parameters(network)`` moves them by 1 - d of the way to the network's. The decay d
    rises to ``decay``, which is in (0, 1), as (1 + n) / (10 + n) after n updates, so that the
    average of a short training is not that of its random start; the first update copies; 0.999
    remembers about 1000 updates. Buffers, such as the statistics of batch normalisation, are
    averages already and are copied.

    Returns:
        The average, whose ``module`` is a network of the same kind.
    """

    def follow(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        taken = int(updates)
        return torch.lerp(average, current, 1 - min(decay, (1 + taken) / (10 + taken)))

    return AveragedModel(network, avg_fn=follow)
