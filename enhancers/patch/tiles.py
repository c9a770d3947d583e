"""Whole faces by networks that only know patches: tile after tile."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facehall_env import patches
from facehall_env.enhancers.base import Enhancer
from facehall_env.errors import ConfigurationError


class Tiled(nn.Module):
    """Restores a face by as few patches as cover it, side by side.

    Each tile is restored as if it were the first patch of an episode: the enhancer sees the face
    as it came. Where the patch's sides do not divide the face's, the tiles are spread evenly and
    overlap; the later one stays, row by row.
    """

    def __init__(self, enhancer: Enhancer) -> None:
        super().__init__()
        self.enhancer = enhancer

    def forward(self, image: Tensor) -> Tensor:
        """Up-sampled faces (N, 3, H, W) in [0, 1] to restored ones, not clamped."""
        size = self.enhancer.patch_size
        restored = image
        for corner in tile_corners((image.shape[2], image.shape[3]), size):
            top_left = torch.tensor([corner], device=image.device).expand(len(image), -1)
            location = patches.centre_of(top_left, size)
            tile = self.enhancer(patches.crop(image, top_left, size), image, location)
            restored = patches.paste(restored, tile.to(image.dtype), top_left)
        return restored


def tile_corners(image_size: tuple[int, int], patch_size: tuple[int, int]) -> list[tuple[int, int]]:
    """First row and column of as few patches as cover a face, evenly spread, row by row.

    >>> tile_corners((6, 4), (3, 3))
    [(0, 0), (0, 1), (3, 0), (3, 1)]
    """
    sides = zip(image_size, patch_size, strict=True)
    rows, columns = (_spread(whole, part) for whole, part in sides)
    return [(row, column) for row in rows for column in columns]


def whole_or_tiled(enhancer: Enhancer) -> nn.Module:
    """A network of up-sampled faces: the enhancer's own if it has one, else of its tiles."""
    try:
        return enhancer.whole_face()
    except ConfigurationError:
        return Tiled(enhancer)


def _spread(whole: int, part: int) -> list[int]:
    """Where so many parts begin that cover the whole."""
    number = -(-whole // part)
    last = whole - part
    return [round(place * last / max(1, number - 1)) for place in range(number)]
