"""Colour spaces in which the metrics are computed."""

from __future__ import annotations

import torch
from torch import Tensor

from facehall_env.metrics._inputs import check_images

# ITU-R BT.601 "studio swing": RGB in [0, 1] to luma in [16, 235], as MATLAB's rgb2ycbcr has it.
_BT601_LUMA = (65.481, 128.553, 24.966)
_BT601_OFFSET = 16.0

# NTSC YIQ with the coefficients of the reference FSIM implementation.
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def rgb_to_y(images: Tensor) -> Tensor:
    """Return the BT.601 limited-range luma of RGB images (N, 3, H, W) in [0, 1].

    It has shape (N, 1, H, W) and the same dtype, is not rounded, and goes from 16/255 (black) to
    235/255 (white). On this scale the peak value of PSNR and SSIM is 1, as 255 is for 8-bit luma.

    Raises:
        TypeError: ``images`` is not a float tensor.
        ValueError: ``images`` is not (N, 3, H, W).

    >>> rgb_to_y(torch.ones(1, 3, 1, 1)).mul(255).round().item()
    235.0
    """
    check_images("images", images, channels=(3,))
    weights = torch.tensor(_BT601_LUMA, dtype=images.dtype, device=images.device) / 255
    return torch.einsum("c,nchw->nhw", weights, images).unsqueeze(1) + _BT601_OFFSET / 255


def rgb_to_yiq(images: Tensor) -> Tensor:
    """Return the YIQ channels (N, 3, H, W) of RGB images (N, 3, H, W), in the same units."""
    matrix = torch.tensor(_YIQ, dtype=images.dtype, device=images.device)
    return torch.einsum("dc,nchw->ndhw", matrix, images)
