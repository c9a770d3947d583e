"""SRCNN (Dong, Loy, He, Tang, "Image Super-Resolution Using Deep Convolutional Networks", 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype
from facehall_env.enhancers.layers.luma import for_faces
from facehall_env.errors import ConfigurationError

FEATURES = (64, 32)


class SRCNNNetwork(nn.Module):
    """Three convolutions with 64 and 32 channels between them, without a shortcut.

    The paper starts from Gaussian noise and has to learn to pass the image on. Here the first
    features of the first two layers do so from the start (the image is not negative, so their
    rectifiers let it through): the untrained network is the identity, and what it computes when
    trained is the paper's.
    """

    def __init__(self, kernels: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        sizes = zip(kernels, (channels, *FEATURES), (*FEATURES, channels), strict=True)
        layers = [nn.Conv2d(i, o, k, padding=k // 2) for k, i, o in sizes]
        first, second, last = layers
        self.layers = nn.Sequential(
            first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True), last
        )
        for layer in (first, second):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(last.weight)
        for layer in layers:
            _pass_on(layer, channels)

    def forward(self, image: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1], of any size, to the same, not clamped."""
        restored: Tensor = self.layers(image.to(compute_dtype(self)))
        return restored.to(image.dtype)


@torch.no_grad()
def _pass_on(layer: nn.Conv2d, channels: int) -> None:
    """Makes the first outputs the same as the first inputs."""
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every layer has a bias
    layer.weight[:channels].zero_()
    centre = layer.kernel_size[0] // 2
    for channel in range(channels):
        layer.weight[channel, channel, centre, centre] = 1


class SRCNN(OneShot):
    """The first convolutional network for super-resolution, on the up-sampled face.

    The default has the kernels 9-5-5, the largest that the paper tries, and works on RGB, as the
    tables here measure: 69,251 parameters. On the luma (``channels=1``) these kernels have 57,281
    parameters, and ``kernels=(9, 1, 5)``, the paper's basic setting, 8,129. Zero padding keeps the
    size. Adam and its learning rate are ours; the paper has plain gradient descent.

    Args:
        kernels: Sides of the three kernels, odd.
        channels: 3 for RGB, or 1 for the luma alone, with the chroma of the up-sampled face.
    """

    name = "srcnn"
    recipe: ClassVar[Recipe] = Recipe(loss="mse", learning_rate=5e-4)

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        kernels: Sequence[int] = (9, 5, 5),
        channels: int = 3,
    ) -> None:
        if len(kernels) != 3 or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise ConfigurationError(
                f"srcnn has kernels={list(kernels)}: give three odd sides, such as [9, 5, 5]."
            )
        sides = (int(kernels[0]), int(kernels[1]), int(kernels[2]))
        network = for_faces(partial(SRCNNNetwork, sides), channels)
        super().__init__(network, scale, patch_size, kernels=sides, channels=channels)
