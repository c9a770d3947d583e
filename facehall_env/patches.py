"""Patch geometry: from actions to pixels, and cropping and pasting for a batch of locations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.limits import check_word
from facehall_env.literals import Border

GREY = 0.5


@dataclass(frozen=True)
class PatchGeometry:
    """How a discrete action becomes a rectangle of pixels.

    An action is ``row * columns + column`` on a grid whose cells are ``stride`` pixels wide; the
    patch is centred on one pixel of the cell, its middle unless ``offset`` says otherwise. A patch
    of height h and width w at centre (y, x) covers rows ``y - (h-1)//2`` onwards and columns
    ``x - (w-1)//2`` onwards. With ``border="centre"`` it may reach over the edge (mid-grey is read
    there, writes are discarded); with ``border="inside"`` its top-left corner is clamped so that it
    lies inside.

    Args:
        image_size: Height and width of the image in pixels.
        patch_size: Height and width of the patch in pixels.
        border: What happens at the edges.
        stride: Width of a grid cell in pixels; must divide both image sides.
        offset: On which row and column of its cell a patch is centred, from 0 to ``stride - 1``;
            by default ``stride // 2``. With cells of 8 pixels, patches of 32x32 tile the image
            from its first corner if it is 7.

    >>> geometry = PatchGeometry((128, 128), (60, 45))
    >>> geometry.num_locations
    16384
    >>> geometry.top_left(torch.tensor([64 * 128 + 64])).tolist()
    [[35, 42]]
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    border: Border = "centre"
    stride: int = 1
    offset: int | None = None

    def __post_init__(self) -> None:
        """Checks the settings against each other."""
        check_word("border", self.border, Border)
        if min(self.patch_size) < 1 or any(
            p > i for p, i in zip(self.patch_size, self.image_size, strict=True)
        ):
            raise ConfigurationError(
                f"A patch of {self.patch_size} does not fit an image of {self.image_size} pixels: "
                "choose a patch_size between 1 and the image's sides."
            )
        if self.stride < 1 or any(side % self.stride for side in self.image_size):
            raise ConfigurationError(
                f"action_stride={self.stride} does not divide the image sides "
                f"{self.image_size}: choose a positive common divisor."
            )
        if not 0 <= self.centre < self.stride:
            raise ConfigurationError(
                f"action_offset={self.offset} lies outside a cell of {self.stride} pixels "
                f"(action_stride): choose one from 0 to {self.stride - 1}."
            )

    @property
    def centre(self) -> int:
        """On which row and column of its cell a patch is centred."""
        return self.stride // 2 if self.offset is None else self.offset

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid of locations."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride

    @property
    def num_locations(self) -> int:
        """Number of actions."""
        rows, columns = self.grid
        return rows * columns

    def centres(self, action: Tensor) -> Tensor:
        """Pixel (y, x) of each action's cell to centre on: (N,) int64 to (N, 2) int64."""
        cell = torch.stack((action // self.grid[1], action % self.grid[1]), dim=-1)
        return cell * self.stride + self.centre

    def top_left(self, action: Tensor) -> Tensor:
        """First pixel (y, x) of each action's patch, (N, 2) int64; negative outside the image."""
        corner = corner_of(self.centres(action), self.patch_size)
        if self.border == "inside":
            sizes = zip(corner.unbind(-1), self.image_size, self.patch_size, strict=True)
            corner = torch.stack([first.clamp(0, i - p) for first, i, p in sizes], dim=-1)
        return corner

    def place(self, action: Tensor) -> Placement:
        """Where the patches of N actions lie: the one place that their pixels are worked out."""
        return Placement(self.top_left(action), self.patch_size, self.image_size)

    def location(self, action: Tensor) -> Tensor:
        """Centre (y, x) of the patch itself, which differs from the cell's where it is clamped."""
        return centre_of(self.top_left(action), self.patch_size)

    def nearest_action(self, y: float, x: float) -> int:
        """The action whose centre is nearest to (y, x); of two as near the later one."""
        rows, columns = self.grid
        to_middle = self.stride // 2 - self.centre
        row = min(max(int((y + to_middle) // self.stride), 0), rows - 1)
        column = min(max(int((x + to_middle) // self.stride), 0), columns - 1)
        return row * columns + column

    def distinct_actions(self) -> Tensor:
        """One action for every different patch, (K,) int64, in ascending order.

        With ``border="inside"`` all actions near an edge are clamped to the same patch; whoever
        wants to draw *patches* uniformly draws among these.
        """
        actions = torch.arange(self.num_locations)
        corners = self.top_left(actions) + 2 * max(self.image_size)
        key = corners[:, 0] * (8 * max(self.image_size)) + corners[:, 1]
        _, inverse = torch.unique(key, return_inverse=True)
        first = torch.full((int(inverse.max()) + 1,), self.num_locations, dtype=torch.int64)
        first.scatter_reduce_(0, inverse, actions, reduce="amin")
        return first.sort().values


def corner_of(centre: Tensor, size: tuple[int, int]) -> Tensor:
    """First pixel (y, x) of patches of ``size`` around ``centre``, both (N, 2) int64.

    >>> corner_of(torch.tensor([[64, 64]]), (60, 45)).tolist()
    [[35, 42]]
    """
    return _moved(centre, [-((side - 1) // 2) for side in size])


def centre_of(corner: Tensor, size: tuple[int, int]) -> Tensor:
    """The reverse of :func:`corner_of`."""
    return _moved(corner, [(side - 1) // 2 for side in size])


def _moved(points: Tensor, by: list[int]) -> Tensor:
    # Number by number: a tensor of them would be copied to the device, which waits for that.
    moved = [place + offset for place, offset in zip(points.unbind(-1), by, strict=True)]
    return torch.stack(moved, dim=-1)


class Placement:
    """Where one patch of each of N images lies; what follows from it is computed once, if asked.

    Args:
        corner: (N, 2) int64, first row and column of each patch; may lie outside the image.
        size: Height h and width w of the patches in pixels.
        image_size: Height H and width W of the images in pixels.

    >>> place = PatchGeometry((4, 6), (3, 3), stride=2).place(torch.tensor([0]))
    >>> place.location.tolist(), place.crop(torch.ones(1, 1, 4, 6)).sum().item()
    ([[1, 1]], 9.0)
    """

    def __init__(self, corner: Tensor, size: tuple[int, int], image_size: tuple[int, int]) -> None:
        self.corner = corner
        self.size = size
        self.image_size = image_size

    @cached_property
    def location(self) -> Tensor:
        """(N, 2) int64, centre (y, x) of each patch."""
        return centre_of(self.corner, self.size)

    @cached_property
    def inside(self) -> Tensor:
        """(N, 1, h, w) bool, which pixels of each patch lie in the image."""
        pairs = zip(self._rows_columns, self.image_size, strict=True)
        rows, columns = ((places >= 0) & (places < side) for places, side in pairs)
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def crop(self, images: Tensor, fill: float = GREY) -> Tensor:
        """Cuts the patches out of images (N, C, H, W): (N, C, h, w), differentiable.

        Outside the image ``fill`` is read.
        """
        index = self._read_from[:, None].expand(-1, images.shape[1], -1)
        cut = images.flatten(2).gather(2, index).unflatten(2, self.size)
        patches: Tensor = cut.where(self.inside, torch.full_like(cut[:1, :1, :1, :1], fill))
        return patches

    def paste(self, images: Tensor, patches: Tensor) -> Tensor:
        """Writes patches (N, C, h, w) into a copy of the images (N, C, H, W); differentiable.

        What falls outside is discarded.
        """
        number, channels, height, width = images.shape
        rows, columns = self._rows_columns
        pixels = height * width
        # Pixels outside are sent to one spare slot behind the image, which is then cut off: a
        # single scatter without a data-dependent shape, so that the device is never waited for.
        flat = rows[:, :, None] * width + columns[:, None, :]
        index = flat.where(self.inside[:, 0], pixels).reshape(number, 1, -1)
        canvas = images.new_empty(number, channels, pixels + 1)
        canvas[:, :, :pixels] = images.flatten(2)
        canvas.scatter_(2, index.expand(-1, channels, -1), patches.to(images.dtype).flatten(2))
        pasted: Tensor = canvas[:, :, :pixels].unflatten(2, (height, width))
        return pasted

    def cover(self, coverage: Tensor) -> Tensor:
        """Marks the pixels of the patches in maps (N, 1, H, W) bool."""
        y, x = (torch.arange(side, device=coverage.device) for side in self.image_size)
        top, left = self.corner[:, :1], self.corner[:, 1:]
        rows = (y >= top) & (y < top + self.size[0])
        columns = (x >= left) & (x < left + self.size[1])
        return coverage | (rows[:, :, None] & columns[:, None, :])[:, None]

    @cached_property
    def _rows_columns(self) -> tuple[Tensor, Tensor]:
        """(N, h) rows and (N, w) columns of the patches, those outside the image included."""
        down, right = (torch.arange(side, device=self.corner.device) for side in self.size)
        return self.corner[:, :1] + down, self.corner[:, 1:] + right

    @cached_property
    def _read_from(self) -> Tensor:
        """(N, h * w) number of the pixel that each pixel of a patch is read from."""
        (height, width), (rows, columns) = self.image_size, self._rows_columns
        flat = rows.clamp(0, height - 1)[:, :, None] * width
        return (flat + columns.clamp(0, width - 1)[:, None, :]).flatten(1)


def inside_mask(top_left: Tensor, size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Which pixels of each patch lie in the image: (N, 2) corners to (N, 1, h, w) bool."""
    return Placement(top_left, size, image_size).inside


def crop(images: Tensor, top_left: Tensor, size: tuple[int, int], fill: float = GREY) -> Tensor:
    """Cuts one patch of ``size`` at ``top_left`` out of each image; see :meth:`Placement.crop`."""
    return Placement(top_left, size, _image_size(images)).crop(images, fill)


def paste(images: Tensor, patches: Tensor, top_left: Tensor) -> Tensor:
    """Writes one patch into a copy of each image; see :meth:`Placement.paste`."""
    size = (patches.shape[2], patches.shape[3])
    return Placement(top_left, size, _image_size(images)).paste(images, patches)


def cover(coverage: Tensor, top_left: Tensor, size: tuple[int, int]) -> Tensor:
    """Marks the pixels of one patch in each map; see :meth:`Placement.cover`."""
    return Placement(top_left, size, _image_size(coverage)).cover(coverage)


def _image_size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]
