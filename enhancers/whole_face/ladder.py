"""``light-s`` to ``light-xl``: one-shot networks that look at the low resolution itself."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype
from facehall_env.enhancers.layers.checks import check_counts, check_multiple
from facehall_env.enhancers.patch.compact import ResidualBlock
from facehall_env.enhancers.whole_face.light import FaceMixer
from facehall_env.errors import ConfigurationError

BLOCKS_PER_STAGE = 2
"""Residual blocks between two places where positions and distant parts come in."""
BLIND_SHARE = 1 / 16
"""Share of the training updates in which a network may not know where on the face it is."""


class Size(NamedTuple):
    """How large a network is.

    Attributes:
        width: Channels on the grid of the low resolution.
        blocks: Residual blocks there.
        fine_width: Channels on the grid twice as fine.
        fine_blocks: Residual blocks there; without any, there is no such grid.
    """

    width: int
    blocks: int
    fine_width: int = 0
    fine_blocks: int = 0


class Place(nn.Module):
    """Scales and shifts features by what was learned for each cell of an aligned face.

    Untrained, it changes nothing.

    Args:
        width: Channels.
        grid: Rows and columns of cells of the faces that it is trained on; for others, what was
            learned is stretched.
    """

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 2 * width, *grid))

    def forward(self, features: Tensor, trust: float) -> Tensor:
        """Features (N, width, h, w) to the same.

        Args:
            features: Features of the faces, (N, width, h, w).
            trust: From 0 to 1: how far cells differ. At 0, all are treated as the average cell.
        """
        position: Tensor = self.position
        if position.shape[-2:] != features.shape[-2:]:
            position = functional.interpolate(
                position, size=features.shape[-2:], mode="bilinear", align_corners=False
            )
        if trust < 1:
            average = self.position.mean((2, 3), keepdim=True)
            position = average + trust * (position - average)
        position = position.to(features.dtype).contiguous(memory_format=torch.channels_last)
        gain, shift = position.chunk(2, dim=1)
        placed: Tensor = features * (1 + gain) + shift
        return placed


class Stage(nn.Module):
    """What is learned of each position, a few residual blocks, and a mixer."""

    def __init__(self, width: int, blocks: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.place = Place(width, grid)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.mixer = FaceMixer(width)

    def forward(self, features: Tensor, trust: float) -> Tensor:
        """Features (N, width, h, w) to the same; ``trust`` as in `Place`."""
        mixed: Tensor = self.mixer(self.blocks(self.place(features, trust)), trust)
        return mixed


class LadderNetwork(nn.Module):
    """Residual blocks on the low resolution's grid, then perhaps on one twice as fine.

    The last convolution predicts, for all pixels of a cell, what the face's bicubic enlargement
    lacks. That enlargement is the network's own, so it lies where the truth does, whatever
    enlargement a protocol starts from.

    Aligned faces have their eyes and mouths in the same cells: every stage scales and shifts its
    features by what was learned for each cell, and its mixer carries what one part of the face
    shows to the others. How far that is trusted falls from 1 for faces of the trained size to 0
    for those half or twice as large; in a few updates of the training it is 0, so that the network
    knows how to do without.

    Args:
        scale: Factor between the resolutions.
        size: Widths and numbers of blocks.
        image_size: Height and width of the (large) faces that it is trained on.
        mirrored: Whether the result is the mean of what it makes of the face and of its mirror
            image, at twice the cost.
    """

    def __init__(
        self, scale: int, size: Size, image_size: tuple[int, int], mirrored: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        self.mirrored = mirrored
        self.grid = (max(image_size[0] // scale, 1), max(image_size[1] // scale, 1))
        width, fine = size.width, size.fine_blocks > 0
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.stages = nn.ModuleList(
            Stage(width, min(BLOCKS_PER_STAGE, size.blocks - first), self.grid)
            for first in range(0, size.blocks, BLOCKS_PER_STAGE)
        )
        self.up: nn.Conv2d | None = None
        self.fine: Place | None = None
        last = width
        if fine:
            last = size.fine_width
            self.up = nn.Conv2d(width, 4 * last, 1)
            self.fine = Place(last, (2 * self.grid[0], 2 * self.grid[1]))
        self.fine_blocks = nn.Sequential(*(ResidualBlock(last) for _ in range(size.fine_blocks)))
        self.cell = scale // 2 if fine else scale
        self.tail = nn.Conv2d(last, 3 * self.cell**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, lr: Tensor) -> Tensor:
        """Low-resolution faces (N, 3, h, w) in [0, 1] to restored ones.

        Returns:
            (N, 3, scale * h, scale * w), not clamped.

        Raises:
            ConfigurationError: If ``lr`` is no batch of colour images.
        """
        check_multiple("light", lr, 1)
        trust = self.trust(lr.shape[-2], lr.shape[-1])
        if self.training and float(torch.rand(())) < BLIND_SHARE:
            trust = 0.0
        cells = lr - patches.GREY
        residual = self.residual(cells, trust)
        if self.mirrored:
            residual = (residual + self.residual(cells.flip(3), trust).flip(3)) / 2
        return enlarge(lr, self.scale) + residual

    def residual(self, cells: Tensor, trust: float) -> Tensor:
        """What the enlargement lacks, (N, 3, scale * h, scale * w) in float32.

        Args:
            cells: (N, 3, h, w), the low resolution less mid-grey.
            trust: How far positions are trusted, from 0 to 1.
        """
        cells = cells.to(compute_dtype(self)).contiguous(memory_format=torch.channels_last)
        head = self.head(cells)
        features = head
        for stage in self.stages:
            features = stage(features, trust)
        features = features + head
        if self.up is not None and self.fine is not None:
            features = self.fine(functional.pixel_shuffle(self.up(features), 2), trust)
        return functional.pixel_shuffle(self.tail(self.fine_blocks(features)).float(), self.cell)

    def trust(self, height: int, width: int) -> float:
        """How far faces of so many low-resolution pixels are like those of the training.

        1 for the same size, 0 where a side, or both together, differ by a factor of two or more.

        >>> network = LadderNetwork(4, Size(width=8, blocks=1), image_size=(128, 128))
        >>> network.trust(32, 32), network.trust(64, 32), round(network.trust(32, 36), 2)
        (1.0, 0.0, 0.83)
        """
        octaves = [abs(math.log2(a / b)) for a, b in zip((height, width), self.grid, strict=True)]
        return max(0.0, 1.0 - sum(octaves))


def enlarge(lr: Tensor, scale: int) -> Tensor:
    """Faces (N, 3, h, w) enlarged bicubically, as Pillow does: (N, 3, scale h, scale w) in [0, 1].

    Pixels are areas, so that each lies in the middle of the ``scale`` x ``scale`` that come of it.
    """
    size = (scale * lr.shape[-2], scale * lr.shape[-1])
    # Only with antialias=True torch's kernel is Pillow's; enlarging, it does nothing else. On CPUs
    # it does not know bfloat16.
    large = functional.interpolate(lr.float(), size=size, mode="bicubic", antialias=True)
    return large.to(lr.dtype).clamp(0, 1)


class LightLadder(OneShot):
    """Base of the ladder of one-shot networks, cheap to heavy; the untrained network is bicubic.

    Unlike `light`, which looks at cells of the enlarged face, they look at the low resolution
    itself. Its enlargement by another rule, as in protocol ``afh``, so has nothing to be undone.

    Args:
        scale: Factor between the resolutions.
        patch_size: Height and width of the pieces that an environment pastes.
        width: Channels on the low resolution's grid; by default, as the others, those of the name.
        blocks: Residual blocks there.
        fine_width: Channels on the grid twice as fine.
        fine_blocks: Residual blocks there; with 0 there is no such grid.
        image_size: Height and width of the faces that it is trained on; others are possible.
        mirrored: Whether the result is the mean of those of the face and of its mirror image. It
            costs twice as much, is a little better, and needs no training of its own.

    Raises:
        ConfigurationError: If a setting is out of its range.
    """

    recipe: ClassVar[Recipe] = Recipe(
        loss="charbonnier", learning_rate=2e-3, betas=(0.9, 0.99), optimizer="muon"
    )
    sizes: ClassVar[tuple[Size, Size]]
    """Sizes of the network for scales below 8, and from 8 on."""

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        width: int | None = None,
        blocks: int | None = None,
        fine_width: int | None = None,
        fine_blocks: int | None = None,
        image_size: tuple[int, int] = (128, 128),
        mirrored: bool = False,
    ) -> None:
        default = self.sizes[int(scale >= 8)]
        given = (width, blocks, fine_width, fine_blocks)
        size = Size(*(d if g is None else g for g, d in zip(given, default, strict=True)))
        check_counts(self.name, scale=scale, width=size.width, blocks=size.blocks)
        if size.fine_blocks < 0:
            raise ConfigurationError(
                f"{self.name} has fine_blocks={size.fine_blocks}: give 0 for none, or more."
            )
        if size.fine_blocks:
            check_counts(self.name, fine_width=size.fine_width)
            if scale % 2:
                raise ConfigurationError(
                    f"{self.name} has scale={scale} and fine blocks, on a grid twice as fine as "
                    "the low resolution: give an even scale, or fine_blocks=0."
                )
        sides = (image_size[0], image_size[1])
        super().__init__(
            LadderNetwork(scale, size, sides, mirrored),
            scale,
            patch_size,
            takes="lr",
            image_size=sides,
            mirrored=mirrored,
            **size._asdict(),
        )


class LightS(LightLadder):
    """The smallest: 0.15 GMAC for a face of 128x128."""

    name = "light-s"
    sizes = (Size(32, 6), Size(64, 4, 32, 2))


class LightM(LightLadder):
    """The second: 0.6 GMAC for a face of 128x128."""

    name = "light-m"
    sizes = (Size(64, 7), Size(128, 4, 64, 3))


class LightL(LightLadder):
    """The third: 1.5 GMAC for a face of 128x128."""

    name = "light-l"
    sizes = (Size(96, 8), Size(192, 4, 64, 9))


class LightXL(LightLadder):
    """The heaviest: 6 GMAC for a face of 128x128."""

    name = "light-xl"
    sizes = (Size(160, 12), Size(256, 6, 128, 12))
