"""Losses on pixels."""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.literals import Loss

CHARBONNIER_EPSILON = 1e-3


def patch_loss(restored: Tensor, truth: Tensor, inside: Tensor, kind: Loss = "mse") -> Tensor:
    """Mean loss over the pixels that lie in the image (Attention-FH, section 3.3).

    Args:
        restored: (N, 3, h, w), an enhancer's output, not clamped.
        truth: (N, 3, h, w).
        inside: (N, 1, h, w) bool; other pixels are left out.
        kind: ``"mse"``, ``"l1"``, or ``"charbonnier"``, an l1 that is smooth at zero.

    Returns:
        A scalar.

    Raises:
        ConfigurationError: If there is no such loss.
    """
    error = restored - truth
    if kind == "mse":
        error = error.square()
    elif kind == "l1":
        error = error.abs()
    elif kind == "charbonnier":
        error = (error.square() + CHARBONNIER_EPSILON**2).sqrt()
    else:
        raise ConfigurationError(f"loss={kind!r} is unknown: use one of {get_args(Loss)}.")
    inside = inside.expand_as(error)
    return (error * inside).sum() / inside.sum()
