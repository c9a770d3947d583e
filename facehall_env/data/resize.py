r"""Image resizing as two matrix products.

Every resampling rule used here is linear and separable: ``rows @ image @ columns.T``. A rule is
therefore fully described by one small matrix for each axis. They are built once in float64,
cached, and applied to a whole batch on any device.

| kernel | what it reproduces |
|---|---|
| ``bicubic`` | Pillow's ``BICUBIC`` and torch's ``interpolate(..., antialias=True)``: a = -0.5, the kernel is widened when shrinking and cut off at the border |
| ``matlab-bicubic`` | MATLAB's ``imresize``: as above in the interior, but the image is mirrored at the border |
| ``area`` | the mean over the area that an output pixel covers |
| ``catmull-rom-corners`` | Catmull-Rom (a = -0.5) with corner pixels on corner pixels, mirrored about the border pixel; no antialiasing, so meant for enlarging |
| ``torch7-bicubic`` | Torch7's ``image.scale(..., 'bicubic')``: the same, but beyond the border the line through the last two pixels goes on |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.literals import Kernel

_Matrix = NDArray[np.float64]

_KEYS_A = -0.5
"""The free parameter of Keys' cubic; -0.5 (Catmull-Rom) is what all rules here use."""


def cubic(x: _Matrix) -> _Matrix:
    """Keys' cubic convolution kernel with a = -0.5, at distances in input pixels; 0 from 2 on.

    Keys, "Cubic convolution interpolation for digital image processing", 1981, eq. 15.
    """
    x = np.abs(x)
    inner = (_KEYS_A + 2) * x**3 - (_KEYS_A + 3) * x**2 + 1
    outer = _KEYS_A * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _normalised(weights: _Matrix) -> _Matrix:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _bicubic(size_in: int, size_out: int) -> _Matrix:
    ratio = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * ratio
    distance = np.arange(size_in) + 0.5 - centres[:, None]
    return _normalised(cubic(distance / max(ratio, 1.0)))


def _matlab_bicubic(size_in: int, size_out: int) -> _Matrix:
    ratio = size_in / size_out
    stretch = max(ratio, 1.0)
    centres = (np.arange(size_out) + 0.5) * ratio - 0.5
    taps = int(np.ceil(4 * stretch)) + 2
    first = np.floor(centres - 2 * stretch).astype(int)
    index = first[:, None] + np.arange(taps)
    weights = _normalised(cubic((index - centres[:, None]) / stretch))
    # The image continues as its own mirror image, the border pixel being repeated.
    index = index % (2 * size_in)
    index = np.where(index < size_in, index, 2 * size_in - 1 - index)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out)[:, None], index), weights)
    return matrix


def _area(size_in: int, size_out: int) -> _Matrix:
    edges = np.arange(size_out + 1) * (size_in / size_out)
    pixel = np.arange(size_in)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    return _normalised(np.maximum(high - low, 0.0))


def _corner_aligned(size_in: int, size_out: int, mirrored: bool) -> _Matrix:
    """Catmull-Rom; beyond the border the image is mirrored, or p[-1] = 2 p[0] - p[1]."""
    if size_in == 1:
        return np.ones((size_out, 1))
    position = np.arange(size_out) * (size_in - 1) / max(size_out - 1, 1)
    first = np.minimum(position.astype(int), size_in - 2)
    index = first[:, None] + np.arange(-1, 3)
    padded = np.zeros((size_out, size_in + 2))
    padded[np.arange(size_out)[:, None], index + 1] = cubic(position[:, None] - index)
    matrix: _Matrix = padded[:, 1:-1].copy()
    for border, neighbour in ((0, 1), (-1, -2)):
        if mirrored:
            matrix[:, neighbour] += padded[:, border]
        else:
            matrix[:, border] += 2 * padded[:, border]
            matrix[:, neighbour] -= padded[:, border]
    return matrix


_BUILDERS: dict[Kernel, Callable[[int, int], _Matrix]] = {
    "bicubic": _bicubic,
    "matlab-bicubic": _matlab_bicubic,
    "area": _area,
    "catmull-rom-corners": partial(_corner_aligned, mirrored=True),
    "torch7-bicubic": partial(_corner_aligned, mirrored=False),
}


@lru_cache(maxsize=64)
def resize_matrix(kernel: Kernel, size_in: int, size_out: int) -> _Matrix:
    """The matrix that resamples one axis; each of its rows sums to one.

    Args:
        kernel: One of the rules in the table at the top of this module.
        size_in: Pixels along the axis before.
        size_out: Pixels along the axis after.

    Returns:
        Read-only float64 array (size_out, size_in).

    Raises:
        ConfigurationError: On an unknown kernel or a size below one.

    Example:
        >>> resize_matrix("area", 4, 2)
        array([[0.5, 0.5, 0. , 0. ],
               [0. , 0. , 0.5, 0.5]])
    """
    if kernel not in _BUILDERS:
        raise ConfigurationError(
            f"Unknown resize kernel {kernel!r}: use one of {', '.join(get_args(Kernel))}."
        )
    if size_in < 1 or size_out < 1:
        raise ConfigurationError(
            f"Cannot resize {size_in} pixels to {size_out}: both must be at least 1."
        )
    matrix = _BUILDERS[kernel](size_in, size_out)
    matrix.setflags(write=False)
    return matrix


@lru_cache(maxsize=64)
def _matrix_on(
    kernel: Kernel, size_in: int, size_out: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # A tensor made in inference mode could not take part in a later backward pass.
    with torch.inference_mode(False):
        matrix = torch.from_numpy(resize_matrix(kernel, size_in, size_out).copy())
        return matrix.to(device=device, dtype=dtype)


def resize(images: Tensor, size: tuple[int, int], kernel: Kernel) -> Tensor:
    """Resample a batch of images; values are neither clamped nor rounded.

    Args:
        images: Float (..., H, W) on any device.
        size: Rows and columns after, (H', W').
        kernel: One of the rules in the table at the top of this module.

    Returns:
        Float (..., H', W') of the same type and device.

    Raises:
        ConfigurationError: On an unknown kernel or a size below one.

    Example:
        >>> resize(torch.ones(1, 3, 8, 8), (2, 2), "bicubic").shape
        torch.Size([1, 3, 2, 2])
    """
    height, width = images.shape[-2:]
    rows = _matrix_on(kernel, height, size[0], images.dtype, images.device)
    columns = _matrix_on(kernel, width, size[1], images.dtype, images.device)
    # The axis that shrinks goes first where that saves work.
    if size[0] <= height:
        return (rows @ images) @ columns.T
    return rows @ (images @ columns.T)
