"""Scores of restored faces under a named evaluation protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from facehall_env.metrics._inputs import check_images, precise_dtype
from facehall_env.metrics.colour import rgb_to_y
from facehall_env.metrics.feature_similarity import fsim
from facehall_env.metrics.fidelity import psnr, ssim
from facehall_env.registry import unknown_name

_Metrics = dict[str, Callable[[Tensor, Tensor], Tensor]]
_PIXEL_METRICS: _Metrics = {"psnr": psnr, "ssim": ssim}
_COLOUR_METRICS: _Metrics = {"fsim": fsim, "fsimc": partial(fsim, chromatic=True)}
METRIC_NAMES: tuple[str, ...] = (*_PIXEL_METRICS, *_COLOUR_METRICS)


class ScoringProtocol(Protocol):
    """What `score` needs of a protocol; `facehall_env.data.protocols.Protocol` has it."""

    @property
    def colour(self) -> str:
        """``"rgb"``, or ``"y"`` for BT.601 limited-range luma."""

    @property
    def round_sr(self) -> bool:
        """Whether the restored image is rounded to 8 bits before it is scored."""

    def shave(self, scale: int, /) -> int:
        """Return the number of border pixels left out on every side."""


def score(
    sr: Tensor,
    hr: Tensor,
    protocol: ScoringProtocol,
    scale: int,
    names: Iterable[str] = ("psnr", "ssim", "fsim"),
) -> dict[str, Tensor]:
    """Score restored faces as an evaluation protocol prescribes.

    The restored images are clamped to [0, 1], rounded to 8 bits if the protocol says so, and
    both are shaved. PSNR and SSIM are then taken of RGB or of luma, as the protocol says. FSIM
    and FSIMc are defined on RGB and take their own luma (Y of YIQ) from it: they see the
    clamped, rounded and shaved RGB images whatever the colour of the protocol.

    Args:
        sr: Restored RGB images (N, 3, H, W), float.
        hr: True RGB images of the same shape in [0, 1].
        protocol: Colour, rounding and shave.
        scale: Factor of the super-resolution; the shave may depend on it.
        names: Which metrics, of ``"psnr"``, ``"ssim"``, ``"fsim"`` and ``"fsimc"``.

    Returns:
        For each name, in order, the (N,) float64 scores of the images.

    Raises:
        UnknownNameError: a name is not one of the above.
        TypeError: an argument is not a float tensor.
        ValueError: the images cannot be compared, the protocol's colour is unknown, or its
            shave leaves nothing of the images.
    """
    names = tuple(names)
    for name in names:
        if name not in METRIC_NAMES:
            raise unknown_name("metric", name, METRIC_NAMES)
    check_images("sr", sr, channels=(3,))
    check_images("hr", hr, channels=(3,))
    sr = sr.clamp(0, 1)
    if protocol.round_sr:
        sr = torch.round(sr * 255) / 255
    sr, hr = (_shave(images, protocol.shave(scale)) for images in (sr, hr))

    scores = {name: metric(sr, hr) for name, metric in _COLOUR_METRICS.items() if name in names}
    if any(name in names for name in _PIXEL_METRICS):
        sr, hr = (_pixels(images, protocol.colour) for images in (sr, hr))
        scores |= {name: metric(sr, hr) for name, metric in _PIXEL_METRICS.items() if name in names}
    return {name: scores[name] for name in names}


def _pixels(images: Tensor, colour: str) -> Tensor:
    """Return the values that PSNR and SSIM compare, precise enough for a luma difference."""
    if colour not in ("rgb", "y"):
        raise ValueError(f"the protocol's colour is {colour!r}; expected 'rgb' or 'y'.")
    return images if colour == "rgb" else rgb_to_y(images.to(precise_dtype(images.device)))


def _shave(images: Tensor, border: int) -> Tensor:
    """Return images (N, C, H, W) without ``border`` pixels on every side."""
    height, width = images.shape[-2:]
    if not 0 <= 2 * border < min(height, width):
        raise ValueError(
            f"the protocol shaves {border} pixels from images of {height}x{width}; expected a "
            "border that leaves something: use larger images or another protocol."
        )
    return images[..., border : height - border, border : width - border]
