"""``compact``: a patch enhancer that works on the grid of the low resolution."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import PATCH_SIZE, Enhancer, compute_dtype
from facehall_env.enhancers.layers.checks import check_counts, one_of
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.errors import ConfigurationError

Base = Literal["current", "start"]
"""What a patch's residual is added to: the current face, or the one that the episode began with."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        # Deep residual stacks without normalisation start near the identity.
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, h, w) to the same."""
        hidden = functional.relu(self.first(features), inplace=True)
        mixed: Tensor = features + self.second(hidden)
        return mixed


class GridNetwork(nn.Module):
    """Residual network over cells of ``scale`` x ``scale`` pixels.

    Every cell of the face, one pixel of the low resolution, becomes one feature vector of all its
    pixels (space-to-depth); residual blocks exchange information between cells; a last
    convolution predicts the residual of all pixels of a cell (pixel shuffle). A layer so costs
    1/scale^2 of one at full resolution. Two planes tell each cell where on the face it is, a third
    whether it lies in the image at all, and a small encoder of the whole face scales and shifts
    the features, since a patch alone does not show pose and light.

    Args:
        base: What the residual is added to. With ``"start"``, each cell is seen in two parts: as
            the episode began, and what has changed since.
    """

    base: Base = "current"

    def __init__(self, scale: int, width: int, blocks: int, base: Base = "current") -> None:
        super().__init__()
        self.scale = scale
        if base != "current":  # As in Compact.
            self.base = base
        parts = 2 if base == "start" else 1
        self.head = nn.Conv2d(parts * 3 * scale**2 + 3, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        self.context = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 2 * width),
        )
        start_at_zero(self.tail, self.context[-1])

    def forward(self, image: Tensor, start: Tensor | None = None) -> Tensor:
        """Whole faces, restored.

        Args:
            image: (N, 3, H, W) in [0, 1], H and W multiples of ``scale``.
            start: (N, 3, H, W), the same faces as their episodes began; ``image`` by default.

        Returns:
            (N, 3, H, W), not clamped.
        """
        corner = image.new_zeros(len(image), 2, dtype=torch.long)
        return self.restore_window(image, image, corner, image if start is None else start)

    def restore_window(
        self, window: Tensor, image: Tensor, top_left: Tensor, start: Tensor
    ) -> Tensor:
        """Restores a part of the face that starts on a cell's corner.

        Args:
            window: (N, 3, h, w), h and w multiples of ``scale``; mid-grey outside the face.
            image: (N, 3, H, W), the whole face.
            top_left: (N, 2) int64, the window's first pixel, a multiple of ``scale``; may be
                negative.
            start: (N, 3, h, w), the window as the episode began.

        Returns:
            (N, 3, h, w), not clamped.
        """
        dtype = compute_dtype(self)
        base = start if self.base == "start" else window
        seen = [base - patches.GREY]
        if self.base == "start":
            seen.append(window - start)
        cells = [functional.pixel_unshuffle(part, self.scale) for part in seen]
        planes = self._position_planes(window.shape[2:], image.shape[2:], top_left, window.dtype)
        stacked = torch.cat((*cells, planes), dim=1).to(dtype)
        features = self.head(stacked.contiguous(memory_format=torch.channels_last))
        # Sixteen by sixteen averages show pose and light, which is all the context is for.
        small = functional.adaptive_avg_pool2d(image - patches.GREY, 16).to(dtype)
        gain, shift = self.context(small)[:, :, None, None].chunk(2, dim=1)
        features = features * (1 + gain) + shift
        residual = self.tail(self.body(features)).to(window.dtype)
        return base + functional.pixel_shuffle(residual, self.scale)

    def _position_planes(
        self, size: torch.Size, image_size: torch.Size, top_left: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Row and column of each cell in [-1, 1] and whether it is in the image: (N, 3, h, w)."""
        axes = []
        for axis in (0, 1):
            steps = torch.arange(size[axis] // self.scale, device=top_left.device)
            first = top_left[:, axis, None] // self.scale
            axes.append((first + steps + 0.5) * (2 * self.scale / image_size[axis]) - 1)
        rows = axes[0][:, :, None].expand(-1, -1, axes[1].shape[1])
        columns = axes[1][:, None, :].expand(-1, axes[0].shape[1], -1)
        inside = (rows.abs() < 1) & (columns.abs() < 1)
        return torch.stack((rows, columns, inside.to(rows.dtype)), dim=1).to(dtype)


class Compact(Enhancer):
    """Restores the cells that a patch touches, and a margin around them.

    The patch may start at any pixel; the network always sees whole cells: a window that contains
    the patch and at least ``margin`` cells on every side is cut from the face, aligned to the
    low-resolution grid, restored, and the patch is cut from the result. The margin lets pixels
    at the patch's border see what lies beyond it, so that patches join without seams. At 4x a
    60x45 patch costs 0.18 GMAC, about a tenth of Attention-FH's convolutions.

    Args:
        scale: Factor between the resolutions, and side of a cell in pixels.
        patch_size: Height and width of the patch; any size, also after training.
        width: Channels of the residual blocks.
        blocks: Number of residual blocks.
        margin: Cells around the patch that the network sees in addition.
        base: What the network's residual is added to. ``"current"`` is the current face: where
            patches overlap, it is restored on top of what it was restored to before, which takes
            longer to learn. ``"start"`` is the face that the episode began with, beside
            which the network sees what has changed since: a second visit begins where the first
            did, with better surroundings.
    """

    name = "compact"

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        width: int = 64,
        blocks: int = 6,
        margin: int = 2,
        base: Base = "current",
    ) -> None:
        one_of("base", base, get_args(Base))
        check_counts("compact", scale=scale, width=width, blocks=blocks)
        if margin < 0:
            raise ConfigurationError(f"compact has margin={margin}: give 0 or more.")
        config: dict[str, Any] = {"width": width, "blocks": blocks, "margin": margin}
        if base != "current":  # Not stored else: fingerprints of older weights stay the same.
            config["base"] = base
        super().__init__(scale, patch_size, **config)
        if base == "start":
            self.sees_start = True
        self.margin = margin
        self.network = GridNetwork(scale, width, blocks, base)

    def forward(
        self, patch: Tensor, image: Tensor, location: Tensor, start: Tensor | None = None
    ) -> Tensor:
        """The restored patch; see :meth:`Enhancer.forward`."""
        size = (patch.shape[2], patch.shape[3])
        top_left = patches.corner_of(location, size)
        corner = (top_left // self.scale - self.margin) * self.scale
        # A patch that does not start on a cell's corner reaches into one cell more.
        cells = [-(-(side + self.scale - 1) // self.scale) + 2 * self.margin for side in size]
        window_size = (cells[0] * self.scale, cells[1] * self.scale)
        window = patches.crop(image, corner, window_size)
        before = window if start is None else patches.crop(start, corner, window_size)
        restored = self.network.restore_window(window, image, corner, before)
        return patches.crop(restored, top_left - corner, size)

    def whole_face(self) -> nn.Module:
        """The network itself, which restores faces whose sides are multiples of ``scale``."""
        return self.network
