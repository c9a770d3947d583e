"""Attention-FH's enhancer on windows that a network chooses all at once, without a policy."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype, given
from facehall_env.enhancers.layers.checks import check_counts, check_size
from facehall_env.enhancers.patch.attention_fh import (
    CONTEXT_LEARNING_RATE,
    AttentionFH,
    Convolution,
)
from facehall_env.enhancers.whole_face.recurrent_whole import RecurrentWhole
from facehall_env.errors import ConfigurationError

ENCODED_FACE = 256
ENCODED_LOCATION = 128
MEMORY = 512
"""Widths of the paper's policy network (section 3.1); the location's is the release's."""


class LocatingNetwork(nn.Module):
    """Where to look next, as a point of the face: the policy network with two outputs.

    Every step has a learned place of its own to depart from, at first spread over the face. It is
    ours: the windows of an untrained network without it all but coincide, and the gradient of a
    sampled window, which sees a pixel or two around it, does not part them.
    """

    def __init__(self, image_size: tuple[int, int], steps: int) -> None:
        super().__init__()
        self.face = nn.Sequential(
            nn.Flatten(),
            nn.Linear(3 * image_size[0] * image_size[1], ENCODED_FACE),
            nn.ReLU(inplace=True),
        )
        self.last = nn.Linear(2, ENCODED_LOCATION)
        self.memory = nn.LSTMCell(ENCODED_FACE + ENCODED_LOCATION, MEMORY)
        self.head = nn.Linear(MEMORY, 2)
        self.places = nn.Parameter(_spread_points(steps).atanh())

    def forward(
        self, image: Tensor, step: int, last: Tensor, memory: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next point.

        Args:
            image: (N, 3, H, W), the current faces, in [0, 1].
            step: How many points there were before.
            last: (N, 2) float, (y, x) of the last point, in [-1, 1].
            memory: What the last call handed back; None at first.

        Returns:
            (N, 2) float, (y, x) in [-1, 1] from the first to the last pixel, and the memory.
        """
        dtype = compute_dtype(self)
        face = self.face((image - patches.GREY).to(dtype))
        seen = torch.cat((face, self.last(last.to(dtype))), dim=1)
        memory = self.memory(seen, memory)
        point: Tensor = self.places[step] + self.head(memory[0])
        return point.to(image.dtype).tanh(), memory


def _spread_points(number: int) -> Tensor:
    """(number, 2) points that fill [-0.7, 0.7] evenly, however many: the R2 sequence.

    Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018.
    """
    plastic = 1.324717957244746
    steps = torch.arange(number, dtype=torch.float64)[:, None]
    unit = (0.5 + steps * torch.tensor([1 / plastic, 1 / plastic**2])) % 1
    return (1.4 * unit - 0.7).float()


class SpatialTransformNetwork(nn.Module):
    """Locates, cuts out, enhances and adds back, all of it differentiable."""

    def __init__(self, enhancer: AttentionFH, image_size: tuple[int, int], steps: int) -> None:
        super().__init__()
        self.enhancer = enhancer
        self.locating = LocatingNetwork(image_size, steps)
        self.image_size = image_size
        self.steps = steps

    def forward(self, image: Tensor) -> Tensor:
        """Restores up-sampled faces (N, 3, H, W) in [0, 1], unclamped; (H, W) is ``image_size``."""
        check_size("spatial_transform", image, self.image_size)
        last_pixel = image.new_tensor(self.image_size) - 1
        point, memory = image.new_zeros(len(image), 2), None
        for step in range(self.steps):
            point, memory = self.locating(image, step, point, memory)
            image = self.enhance(image, (point + 1) / 2 * last_pixel)
        return image

    def enhance(self, image: Tensor, centre: Tensor) -> Tensor:
        """Enhances one window of faces (N, 3, H, W), around ``centre`` (N, 2), (y, x) in pixels.

        What the enhancer adds to the window is added to the face, instead of the window exchanged
        for the enhanced one: between pixels, that would blur it twice. Differentiable in both.
        """
        window = cut(image, centre, self.enhancer.patch_size)
        # The enhancer takes a location and makes no use of it.
        enhanced = self.enhancer(window, image, centre)
        return image + spread(enhanced - window, centre, self.image_size)


def cut(images: Tensor, centre: Tensor, size: tuple[int, int]) -> Tensor:
    """`facehall_env.patches.crop` around points between pixels, differentiable in the points too.

    From images (N, C, H, W) around ``centre`` (N, 2), (y, x) in pixels, to windows (N, C, h, w) of
    this size, mid-grey outside the images.
    """
    start = centre - _half(centre, size)
    window = _sample(images - patches.GREY, start, size)
    return window + patches.GREY


def spread(windows: Tensor, centre: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows on images that are zero elsewhere: what `cut` took, in its place.

    From windows (N, C, h, w) around ``centre`` (N, 2), (y, x) in pixels, to images (N, C, H, W) of
    this size, differentiable in both; what falls outside is lost.
    """
    start = centre - _half(centre, (windows.shape[2], windows.shape[3]))
    return _sample(windows, -start, size)


def _half(centre: Tensor, size: tuple[int, int]) -> Tensor:
    """From a window's first pixel to its centre, as `facehall_env.patches` has it."""
    return centre.new_tensor([(side - 1) // 2 for side in size])


def _sample(images: Tensor, start: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear samples one pixel apart from ``start`` (y, x) on; zero outside."""
    axes = []
    for axis in (0, 1):
        steps = torch.arange(size[axis], dtype=start.dtype, device=start.device)
        side = images.shape[2 + axis]
        # The corners of pixels are at -1 and 1, so that images one pixel wide are no exception.
        axes.append((2 * (start[:, axis, None] + steps) + 1) / side - 1)
    rows = axes[0][:, :, None].expand(-1, -1, size[1])
    columns = axes[1][:, None, :].expand(-1, size[0], -1)
    grid = torch.stack((columns, rows), dim=-1)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


class SpatialTransform(OneShot):
    """Attention learnt without reinforcement: windows placed by a spatial transformer.

    In place of the softmax over locations, the policy network puts out a point between pixels;
    the window around it is cut out by bilinear sampling, enhanced by `attention_fh`'s network,
    and spread back (Attention-FH, section 4.4; Jaderberg et al. 2015). The loss on the face
    reaches the points through both samplings. The paper has a loss at every step; here there is
    one, on the last face.

    Args:
        steps: Number of windows.
        window: Height and width of the windows that it enhances.
        image_size: Height and width of the faces.
        convolution: ``"fourier"`` computes the 7x7 convolutions in the frequency domain; see
            `facehall_env.enhancers.AttentionFH`.
    """

    name = "spatial_transform"
    network: SpatialTransformNetwork
    recipe: ClassVar[Recipe] = RecurrentWhole.recipe

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        steps: int = 25,
        window: tuple[int, int] = PATCH_SIZE,
        image_size: tuple[int, int] = (128, 128),
        convolution: Convolution = "direct",
    ) -> None:
        image_size = (image_size[0], image_size[1])
        window = (window[0], window[1])
        config = given(locals())
        check_counts("spatial_transform", steps=steps)
        if any(not 1 <= small <= large for small, large in zip(window, image_size, strict=True)):
            raise ConfigurationError(
                f"spatial_transform has window={list(window)}, which does not fit faces of "
                f"{list(image_size)} pixels: give sides between 1 and theirs."
            )
        enhancer = AttentionFH(scale, window, image_size, convolution)
        network = SpatialTransformNetwork(enhancer, image_size, steps)
        super().__init__(network, scale, patch_size, **config)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Those of `attention_fh`; the layer that reads the face to locate is as slow as one."""
        locating = self.network.locating
        slow = list(locating.face.parameters())
        quick = [p for name, p in locating.named_parameters() if not name.startswith("face.")]
        return [
            *self.network.enhancer.parameter_groups(learning_rate),
            {"params": quick, "lr": learning_rate},
            {"params": slow, "lr": learning_rate * CONTEXT_LEARNING_RATE},
        ]
