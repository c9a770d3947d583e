"""How close a restored face is to the truth: PSNR, SSIM, FSIM and FSIMc.

Every function takes two batches of images and returns one number per image, so that callers
average over images and never over pixels of different images.

Example:
    >>> import torch
    >>> from facehall_env.metrics import psnr, ssim
    >>> hr = torch.full((2, 3, 32, 32), 0.5)
    >>> psnr(hr + 0.1, hr).round(decimals=4)
    tensor([20., 20.], dtype=torch.float64)
    >>> ssim(hr, hr)
    tensor([1., 1.], dtype=torch.float64)
"""

from __future__ import annotations

from facehall_env.metrics.colour import rgb_to_y
from facehall_env.metrics.feature_similarity import fsim
from facehall_env.metrics.fidelity import psnr, ssim
from facehall_env.metrics.scoring import METRIC_NAMES, ScoringProtocol, score

__all__ = ["METRIC_NAMES", "ScoringProtocol", "fsim", "psnr", "rgb_to_y", "score", "ssim"]
