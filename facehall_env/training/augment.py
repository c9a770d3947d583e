"""Views of training faces: mirrored, cropped from an enlarged one, turned.

The truth is varied before it is degraded, so the low resolution always fits it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from facehall_env.data.resize import resize
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Augmentation

LARGEST_ZOOM = 1.3
"""SPARNet's faces are enlarged by up to so much before they are cropped (section IV-A)."""


class Views(NamedTuple):
    """How to look at each of N faces.

    Attributes:
        flip: (N,) bool, whether to mirror it left to right.
        zoom: (N,) float, by how much to enlarge it, 1 or more.
        place: (N, 2) float in [0, 1], how far down and right the crop of the enlarged one lies.
        turns: (N,) int64, by how many quarters to turn it, counter-clockwise.
    """

    flip: Tensor
    zoom: Tensor
    place: Tensor
    turns: Tensor


def draw_views(number: int, kinds: Collection[Augmentation], generator: torch.Generator) -> Views:
    """Draws views of N faces.

    Args:
        number: Number of views, N.
        kinds: What to vary: ``"flip"``, ``"scale"`` (by up to 1.3), ``"rotate"``.
        generator: Random generator; advanced by the same amount whatever ``kinds`` holds.
    """
    flip = torch.rand(number, generator=generator) < 0.5
    zoom = 1 + (LARGEST_ZOOM - 1) * torch.rand(number, generator=generator)
    place = torch.rand(number, 2, generator=generator)
    turns = torch.randint(4, (number,), generator=generator)
    return Views(
        flip=flip if "flip" in kinds else torch.zeros_like(flip),
        zoom=zoom if "scale" in kinds else torch.ones_like(zoom),
        place=place,
        turns=turns if "rotate" in kinds else torch.zeros_like(turns),
    )


def look(images: Tensor, views: Views) -> Tensor:
    """The faces as the views show them.

    Args:
        images: (N, 3, H, W) uint8, on any device.
        views: N views, on the CPU.

    Returns:
        (N, 3, H, W), float in [0, 1] if any face is enlarged, else still uint8.

    Raises:
        ConfigurationError: If a face that is not square is to be turned by a quarter.
    """
    height, width = images.shape[-2:]
    if height != width and bool((views.turns % 2).any()):
        raise ConfigurationError(
            f"Faces of {height}x{width} pixels cannot be turned by a quarter: leave 'rotate' out "
            "of the augmentations, or crop the faces to squares."
        )
    if bool((views.zoom > 1).any()):
        images = images.float() / 255
    each = (setting.tolist() for setting in views)
    return torch.stack([_look(*one) for one in zip(images, *each, strict=True)])


def _look(image: Tensor, flip: bool, zoom: float, place: list[float], turns: int) -> Tensor:
    if zoom > 1:
        image = _enlarged(image, zoom, place)
    if flip:
        image = image.flip(2)
    return image.rot90(turns, (1, 2))


def _enlarged(image: Tensor, zoom: float, place: list[float]) -> Tensor:
    """A window of the image (3, H, W), 1 / ``zoom`` as large, enlarged to the image's size."""
    height, width = image.shape[-2:]
    rows, columns = round(height / zoom), round(width / zoom)
    top, left = round(place[0] * (height - rows)), round(place[1] * (width - columns))
    window = image[:, top : top + rows, left : left + columns]
    return resize(window, (height, width), "bicubic").clamp(0, 1)
