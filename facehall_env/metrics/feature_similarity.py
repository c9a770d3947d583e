"""FSIM and FSIMc: similarity of phase congruency and gradient (Zhang et al. 2011)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env.metrics._inputs import check_pair, in_chunks, precise_dtype
from facehall_env.metrics.colour import rgb_to_yiq
from facehall_env.metrics.phase_congruency import phase_congruency

# Constants of the paper, for images on a scale of 0 to 255.
_T1, _T2, _T3, _T4, _LAMBDA = 0.85, 160.0, 200.0, 200.0, 0.03
_SCHARR = ((3.0, 0.0, -3.0), (10.0, 0.0, -10.0), (3.0, 0.0, -3.0))

_PREFERRED_SIDE = 256
_MIN_SIDE = 8
# Weight of a pixel without any feature: keeps the mean defined for featureless images.
_WEIGHT_FLOOR = 1e-8
_FLOOR = 1e-12
_CHUNK = 4


def fsim(x: Tensor, y: Tensor, chromatic: bool = False) -> Tensor:
    """Return the feature similarity of each image (Zhang et al., TIP 2011).

    Phase congruency and gradient magnitude of the luma (Y of YIQ) are compared pixel by pixel
    and averaged with the larger phase congruency as weight; FSIMc multiplies in the similarity
    of the I and Q channels. As in the authors' code, images whose shorter side exceeds 384
    pixels are first averaged down to about 256. Computed in float32 unless the images are
    float64, which is accurate to about 1e-6.

    Args:
        x: Float RGB images (N, 3, H, W) in [0, 1]; H, W at least 8.
        y: Images of the same shape.
        chromatic: Return FSIMc instead of FSIM.

    Returns:
        Similarity (N,), float64, at most 1 and 1 for equal images.

    Raises:
        TypeError: an argument is not a float tensor.
        ValueError: shapes or devices differ, the images are not RGB or smaller than 8x8, or
            values lie outside [0, 1].

    >>> _ = torch.manual_seed(0)
    >>> face = torch.rand(1, 3, 32, 32)
    >>> fsim(face, face).round(decimals=5)
    tensor([1.], dtype=torch.float64)
    """
    check_pair(x, y, channels=(3,))
    if min(x.shape[-2:]) < _MIN_SIDE:
        raise ValueError(
            f"the images are {x.shape[-2]}x{x.shape[-1]}; expected at least "
            f"{_MIN_SIDE}x{_MIN_SIDE} for FSIM: compare larger images or shave less."
        )
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    similarity = in_chunks(lambda a, b: _fsim(a.to(dtype), b.to(dtype), chromatic), x, y, _CHUNK)
    return similarity.to(precise_dtype(x.device))


def _fsim(x: Tensor, y: Tensor, chromatic: bool) -> Tensor:
    """Return FSIM or FSIMc (N,) of checked RGB images (N, 3, H, W) in [0, 1]."""
    images = torch.stack((x, y)).flatten(0, 1) * 255
    factor = int(min(images.shape[-2:]) / _PREFERRED_SIDE + 0.5)
    yiq = rgb_to_yiq(functional.avg_pool2d(images, factor) if factor > 1 else images)
    yiq_x, yiq_y = yiq.chunk(2)
    pc_x, pc_y = phase_congruency(yiq[:, 0]).chunk(2)
    gradient_x, gradient_y = _gradient_magnitude(yiq[:, :1]).squeeze(1).chunk(2)

    similarity = _similarity(pc_x, pc_y, _T1) * _similarity(gradient_x, gradient_y, _T2)
    if chromatic:
        chroma = _similarity(yiq_x[:, 1], yiq_y[:, 1], _T3)
        chroma = chroma * _similarity(yiq_x[:, 2], yiq_y[:, 2], _T4)
        # The product is negative where hues oppose; its modulus keeps the power real.
        similarity = similarity * chroma.abs().clamp_min(_FLOOR) ** _LAMBDA
    weight = torch.maximum(pc_x, pc_y) + _WEIGHT_FLOOR
    return (similarity * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _gradient_magnitude(luma: Tensor) -> Tensor:
    """Return the Scharr gradient magnitude (N, 1, H, W) of luma (N, 1, H, W), zero outside."""
    horizontal = torch.tensor(_SCHARR, dtype=luma.dtype, device=luma.device) / 16
    kernels = torch.stack((horizontal, horizontal.T)).unsqueeze(1)
    gradient = functional.conv2d(luma, kernels, padding=1)
    # The root has no derivative at zero; the floor keeps gradients of flat areas finite.
    return gradient.square().sum(dim=1, keepdim=True).clamp_min(_FLOOR).sqrt()


def _similarity(a: Tensor, b: Tensor, constant: float) -> Tensor:
    """Return (2ab + c) / (a^2 + b^2 + c), element by element."""
    return (2 * a * b + constant) / (a * a + b * b + constant)
