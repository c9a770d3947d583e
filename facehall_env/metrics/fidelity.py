"""Pixel fidelity: PSNR, and SSIM as Wang et al. defined it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facehall_env.metrics._inputs import check_pair, in_chunks, precise_dtype

_WINDOW_RADIUS, _WINDOW_SIGMA = 5, 1.5
# The window's weights at offsets 0, 1, ..., 5 from its centre.
_HALF_WINDOW = [math.exp(-0.5 * (k / _WINDOW_SIGMA) ** 2) for k in range(_WINDOW_RADIUS + 1)]
_WINDOW = [weight / (2 * sum(_HALF_WINDOW) - _HALF_WINDOW[0]) for weight in _HALF_WINDOW]
_C1, _C2 = 0.01**2, 0.03**2
_PSNR_CHUNK, _SSIM_CHUNK = 8, 1


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image, 10 log10(1 / MSE).

    The MSE is over the channels and pixels of one image; average the results over images. It
    is accumulated in float64.

    Args:
        x: Float images (N, 3, H, W), or (N, 1, H, W) for luma, in [0, 1].
        y: Images of the same shape.

    Returns:
        Decibels (N,), float64; ``inf`` where the images are equal.

    Raises:
        TypeError: an argument is not a float tensor.
        ValueError: shapes or devices differ, or values lie outside [0, 1].

    >>> grey = torch.full((1, 3, 4, 4), 0.5)
    >>> psnr(grey, grey + 0.1).round(decimals=4)
    tensor([20.], dtype=torch.float64)
    """
    check_pair(x, y)
    return -10 * torch.log10(in_chunks(_mse, x, y, _PSNR_CHUNK))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean structural similarity of each image (Wang et al. 2004, equations 13 and 17).

    Local moments are taken under a Gaussian window of 11 x 11 pixels (sigma 1.5) and without
    Bessel's correction; windows that leave the image are left out, and colour images score the
    mean over their channels. scikit-image computes the same with ``gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=...``. All of it is in
    float64, for the variances are small differences of large numbers.

    Args:
        x: Float images (N, 3, H, W), or (N, 1, H, W) for luma, in [0, 1]; H, W at least 11.
        y: Images of the same shape.

    Returns:
        Similarity (N,), float64, at most 1 and 1 for equal images.

    Raises:
        TypeError: an argument is not a float tensor.
        ValueError: shapes or devices differ, values lie outside [0, 1], or the images are
            smaller than the window.

    >>> black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    >>> ssim(black, white).item() < 1e-3
    True
    """
    check_pair(x, y)
    window = 2 * _WINDOW_RADIUS + 1
    if min(x.shape[-2:]) < window:
        raise ValueError(
            f"the images are {x.shape[-2]}x{x.shape[-1]}; expected at least {window}x{window}, "
            "the window of SSIM: compare larger images or shave less."
        )
    return in_chunks(_ssim, x, y, _SSIM_CHUNK)


def _mse(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared error (N,) of checked images (N, C, H, W)."""
    dtype = precise_dtype(x.device)
    return (x.to(dtype) - y.to(dtype)).square().mean(dim=(1, 2, 3))


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean SSIM (N,) of checked images (N, C, H, W)."""
    dtype = precise_dtype(x.device)
    x, y = x.to(dtype), y.to(dtype)
    # The index needs only the sum of the two variances: four maps to filter instead of five.
    maps = torch.stack((x, y, x * x + y * y, x * y))
    mean_x, mean_y, mean_squares, mean_xy = _gaussian_window(maps).unbind()
    products = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    variances = mean_squares - squares
    covariance = mean_xy - products
    luminance = (2 * products + _C1) / (squares + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _gaussian_window(maps: Tensor) -> Tensor:
    """Return the windowed means (..., H-10, W-10) of maps (..., H, W).

    The window is separable and symmetric: sums of shifted maps are faster than a convolution.
    """
    for axis in (-1, -2):
        length = maps.shape[axis] - 2 * _WINDOW_RADIUS
        means = _WINDOW[0] * maps.narrow(axis, _WINDOW_RADIUS, length)
        for offset, weight in enumerate(_WINDOW[1:], start=1):
            before = maps.narrow(axis, _WINDOW_RADIUS - offset, length)
            after = maps.narrow(axis, _WINDOW_RADIUS + offset, length)
            means = means.add(before + after, alpha=weight)
        maps = means
    return maps
