"""``light``: a small one-shot network on the grid of the low resolution."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype, given
from facehall_env.enhancers.layers.checks import check_counts, check_multiple
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.enhancers.patch.compact import ResidualBlock

TOKENS = 8
"""Rows and columns of the coarse face on which distant parts see each other."""
BLOCKS_PER_MIXER = 4


class FaceMixer(nn.Module):
    """Lets all parts of an aligned face see each other, at next to no cost.

    The features are averaged to 8x8 tokens; two fully-connected layers, the same for all
    channels, carry each channel from every token to every other (faces are aligned, so that "the
    other eye" is always at the same token); a 1x1 convolution mixes the channels. The result is
    enlarged again and added, and from its mean come gains for each channel (channel attention).
    The last layers start at zero: untrained, it changes nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.across = nn.Sequential(
            nn.Linear(TOKENS**2, TOKENS**2), nn.GELU(), nn.Linear(TOKENS**2, TOKENS**2)
        )
        self.mix = nn.Conv2d(width, width, 1)
        self.gain = nn.Sequential(
            nn.Conv2d(width, width // 2, 1), nn.ReLU(inplace=True), nn.Conv2d(width // 2, width, 1)
        )
        start_at_zero(self.mix, self.gain[2])

    def forward(self, features: Tensor, trust: float = 1) -> Tensor:
        """Mixes features.

        Args:
            features: (N, width, h, w).
            trust: From 0 to 1: how much of what one place tells another is added. Less than 1 is
                for faces whose parts are not where they were in training.

        Returns:
            (N, width, h, w).
        """
        tokens = functional.adaptive_avg_pool2d(features, TOKENS)
        if trust > 0:
            across = self.across(tokens.flatten(2)).unflatten(2, (TOKENS, TOKENS))
            tokens = tokens + (across if trust == 1 else trust * across)
        gain = 1 + self.gain(tokens.mean((2, 3), keepdim=True))
        far = functional.interpolate(
            self.mix(tokens), size=features.shape[-2:], mode="bilinear", align_corners=False
        )
        mixed: Tensor = features * gain + far
        return mixed


class LightNetwork(nn.Module):
    """Residual blocks over cells of ``scale`` x ``scale`` pixels, with a memory of positions.

    As in `compact`, every cell becomes one feature vector of all its pixels and a layer costs
    1/scale^2 of one at full resolution. A learned embedding of every cell's position is added,
    since aligned faces have their eyes and mouths in the same cells; it is stretched to faces that
    are not of ``image_size``. Every fourth block is followed by a `FaceMixer`.
    """

    def __init__(self, scale: int, width: int, blocks: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3 * scale**2, width, 3, padding=1)
        grid = [max(side // scale, 1) for side in image_size]
        self.position = nn.Parameter(torch.zeros(1, width, *grid))
        layers: list[nn.Module] = []
        for block in range(1, blocks + 1):
            layers.append(ResidualBlock(width))
            if block % BLOCKS_PER_MIXER == 0 or block == blocks:
                layers.append(FaceMixer(width))
        self.body = nn.Sequential(*layers)
        self.tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        start_at_zero(self.tail)

    def forward(self, image: Tensor) -> Tensor:
        """Up-sampled faces (N, 3, H, W) in [0, 1] to restored ones, not clamped.

        Raises:
            ConfigurationError: If the sides are not multiples of ``scale``.
        """
        check_multiple("light", image, self.scale)
        cells = functional.pixel_unshuffle(image - patches.GREY, self.scale)
        cells = cells.to(compute_dtype(self)).contiguous(memory_format=torch.channels_last)
        features = self.head(cells) + self._position(cells.shape[-2:])
        residual = self.tail(features + self.body(features)).to(image.dtype)
        return image + functional.pixel_shuffle(residual, self.scale)

    def _position(self, size: torch.Size) -> Tensor:
        """The embedding of a grid of this size: (1, width, h, w)."""
        if self.position.shape[-2:] == size:
            return self.position
        return functional.interpolate(
            self.position, size=size, mode="bilinear", align_corners=False
        )


class Light(OneShot):
    """Our small one-shot network: 16 residual blocks of 64 channels on the low resolution's grid.

    At 4x 1.37 million parameters and 1.27 GMAC for a face of 128x128; the untrained network is
    the identity.

    Args:
        scale: Factor between the resolutions, and side of a cell in pixels.
        width: Channels of the residual blocks.
        blocks: Number of residual blocks.
        image_size: Height and width of the faces that it is trained on; others are possible.
    """

    name = "light"
    recipe: ClassVar[Recipe] = Recipe(loss="charbonnier", learning_rate=1e-3)

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        width: int = 64,
        blocks: int = 16,
        image_size: tuple[int, int] = (128, 128),
    ) -> None:
        image_size = (image_size[0], image_size[1])
        config = given(locals())
        check_counts("light", scale=scale, width=width, blocks=blocks)
        super().__init__(LightNetwork(scale, **config), scale, patch_size, **config)
