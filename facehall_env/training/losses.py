"""Losses on pixels of patches and of faces."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.literals import FaceLoss, Loss

CHARBONNIER_EPSILON = 1e-3
SMALLEST_ERROR = 1e-10
"""Mean squared error below which faces count as equal: 100 dB."""


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


def face_loss(restored: Tensor, truth: Tensor, kind: FaceLoss) -> Tensor:
    """A loss on all pixels of faces.

    Args:
        restored: (N, 3, H, W), not clamped.
        truth: (N, 3, H, W) in [0, 1].
        kind: ``"psnr"``, minus the mean PSNR over the faces in tens of dB, or a loss that
            `patch_loss` knows. The mean squared error is ruled by the difficult faces, where the
            mean of its logarithm, which tables report, counts all alike.

    Returns:
        A scalar.

    Raises:
        ConfigurationError: If there is no such loss.

    >>> face_loss(torch.full((1, 3, 2, 2), 0.1), torch.zeros(1, 3, 2, 2), "psnr")
    tensor(-2.)
    """
    if kind == "psnr":
        error = (restored - truth).square().mean((1, 2, 3))
        return (error + SMALLEST_ERROR).log10().mean()
    everywhere = torch.ones_like(restored[:, :1], dtype=torch.bool)
    return patch_loss(restored, truth, everywhere, kind)
