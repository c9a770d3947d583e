"""Checks and helpers shared by the metrics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Float32 arithmetic may leave an image a few ulps outside [0, 1]; more than this is a mistake.
RANGE_TOLERANCE = 1e-5
_ACCELERATOR_CHUNKS = 32


def check_images(name: str, images: Tensor, channels: tuple[int, ...] = (1, 3)) -> None:
    """Raise a TypeError or ValueError unless ``images`` is a float (N, C, H, W) tensor.

    It must not be empty, and C is one of ``channels``.
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"{name} is a {type(images).__name__}; expected a float torch.Tensor (N, C, H, W) "
            "in [0, 1]: convert it with torch.as_tensor."
        )
    if not images.is_floating_point():
        raise TypeError(
            f"{name} has dtype {images.dtype}; expected floats in [0, 1]: "
            "convert 8-bit images with images.float() / 255."
        )
    if images.ndim != 4 or images.shape[1] not in channels:
        raise ValueError(
            f"{name} has shape {tuple(images.shape)}; expected (N, C, H, W) with C = "
            f"{' or '.join(map(str, channels))}: add the batch axis or move the channels to axis 1."
        )
    if images.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(images.shape)}; expected at least one image of at least "
            "one pixel."
        )


def check_pair(x: Tensor, y: Tensor, channels: tuple[int, ...] = (1, 3)) -> None:
    """`check_images` for two, of equal shape on one device, with values in [0, 1]."""
    check_images("x", x, channels)
    check_images("y", y, channels)
    if x.shape != y.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} but y has {tuple(y.shape)}; expected equal shapes: "
            "crop or resize one of them."
        )
    if x.device != y.device:
        raise ValueError(
            f"x is on {x.device} but y on {y.device}; expected one device: move one of them."
        )
    for name, images in (("x", x), ("y", y)):
        low, high = (bound.item() for bound in torch.aminmax(images.detach()))
        # Written so that NaN, which compares false, is refused too.
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise ValueError(
                f"{name} has values from {low:g} to {high:g}; expected [0, 1]: "
                "divide 8-bit images by 255, clamp overshoot."
            )


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return the widest float of the device: float64, but float32 on Apple's MPS."""
    return torch.float32 if device.type == "mps" else torch.float64


def in_chunks(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, size: int
) -> Tensor:
    """Apply a function of two batches (n, C, H, W) to a few images at a time; join its (n,).

    The maps of ``size`` images fit in a CPU's cache; an accelerator gets more of them, to fill it
    within bounded memory.
    """
    if x.device.type != "cpu":
        size *= _ACCELERATOR_CHUNKS
    return torch.cat([function(*pair) for pair in zip(x.split(size), y.split(size), strict=True)])
