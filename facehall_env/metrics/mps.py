"""MPS, the mean perceptual score: structure and perception in one number."""

from __future__ import annotations

from torch import Tensor

from facehall_env.metrics.fidelity import ssim
from facehall_env.metrics.perceptual import LPIPS


def mps(x: Tensor, y: Tensor, lpips: LPIPS) -> Tensor:
    """The mean of SSIM and 1 - LPIPS (SISN, Lu et al., ACM MM 2021, eq. 9).

    Higher is better. Use the network of LPIPS of the paper that you compare with.

    Args:
        x: Restored faces, float (N, 3, H, W) in [0, 1]; sides at least 11.
        y: True faces of the same shape.
        lpips: The network of LPIPS, on the same device.

    Returns:
        (N,) float64, 1 for equal images.

    Raises:
        TypeError: See `ssim`.
        ValueError: See `ssim`.
    """
    return (ssim(x, y) + (1 - lpips.forward(x, y))) / 2
