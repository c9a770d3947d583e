"""VDSR, and CNN-16, the shallower network of its kind in Attention-FH's Table 3.

Kim, Lee, Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype
from facehall_env.enhancers.layers.checks import check_counts
from facehall_env.enhancers.layers.luma import for_faces
from facehall_env.enhancers.layers.starts import rectified, start_at_zero
from facehall_env.errors import ConfigurationError


class PlainNetwork(nn.Module):
    """3x3 convolutions with rectifiers between them that predict a residual of the image.

    All start as in He et al. 2015 but the last, which starts at zero, so that the untrained
    network is the identity.
    """

    def __init__(self, layers: int, width: int, channels: int) -> None:
        super().__init__()
        if layers < 2:
            raise ConfigurationError(f"A plain network has layers={layers}: give at least 2.")
        check_counts("A plain network", width=width)
        widths = (channels, *(layers - 1) * (width,), channels)
        modules = rectified(nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(widths))[:-1]
        start_at_zero(modules[-1])
        self.layers = nn.Sequential(*modules)

    def forward(self, image: Tensor) -> Tensor:
        """(N, channels, H, W) of any size to the same, not clamped."""
        residual: Tensor = self.layers(image.to(compute_dtype(self)))
        return image + residual.to(image.dtype)


class VDSR(OneShot):
    """Twenty 3x3 convolutions of 64 channels and one shortcut, on the up-sampled face.

    On RGB (the default) 668,227 parameters, on the luma 665,921. The paper learns by plain
    gradient descent with adjustable clipping; Adam and its learning rate are ours, and clipping is
    a setting of the training.

    Args:
        layers: Number of convolutions.
        width: Channels between them.
        channels: 3 for RGB, or 1 for the luma alone, with the chroma of the up-sampled face.
    """

    name = "vdsr"
    recipe: ClassVar[Recipe] = Recipe(loss="mse", learning_rate=5e-4)

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        layers: int = 20,
        width: int = 64,
        channels: int = 3,
    ) -> None:
        network = for_faces(partial(PlainNetwork, layers, width), channels)
        super().__init__(network, scale, patch_size, layers=layers, width=width, channels=channels)


class CNN16(OneShot):
    """CNN-16, "a 16-layered fully convolution neural network" (Attention-FH, section 4.4).

    The paper gives neither kernels nor widths, and a result just below VDSR's: this is VDSR with
    16 convolutions on RGB, 520,515 parameters.

    Args:
        width: Channels between the convolutions.
    """

    name = "cnn16"
    recipe: ClassVar[Recipe] = VDSR.recipe

    def __init__(
        self, scale: int = 4, patch_size: tuple[int, int] = PATCH_SIZE, *, width: int = 64
    ) -> None:
        super().__init__(PlainNetwork(16, width, 3), scale, patch_size, width=width)
