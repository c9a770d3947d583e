"""The local enhancement network of Attention-FH (Cao et al., CVPR 2017, section 3.2)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from facehall_env.enhancers.base import PATCH_SIZE, Enhancer, compute_dtype
from facehall_env.enhancers.layers.checks import one_of
from facehall_env.enhancers.layers.fourier import FourierConv2d
from facehall_env.enhancers.layers.starts import rectified, start_at_zero

KERNELS = (3, 7, 7, 7, 7, 7, 3, 5)
CHANNELS = (16, 32, 64, 64, 64, 32, 16, 3)
CONTEXT_HIDDEN = 256
LARGE_KERNEL = 7
"""From this size on a kernel gains from the Fourier transform."""
CONTEXT_LEARNING_RATE = 0.01
"""Learning rate of the context branch beside that of the convolutions: its fan-in is 49,152."""

Convolution = Literal["direct", "fourier"]


def convolution_stack(inputs: int, convolution: Convolution = "direct") -> nn.Sequential:
    """The paper's eight convolutions, from ``inputs`` channels to a residual of three."""
    one_of("convolution", convolution, get_args(Convolution))
    layers: list[nn.Conv2d] = []
    for kernel, outputs in zip(KERNELS, CHANNELS, strict=True):
        if convolution == "fourier" and kernel >= LARGE_KERNEL:
            layers.append(FourierConv2d(inputs, outputs, kernel))
        else:
            layers.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
        inputs = outputs
    modules = rectified(layers)[:-1]
    start_at_zero(modules[-1])
    return nn.Sequential(*modules)


class AttentionFH(Enhancer):
    """Eight convolutions on the patch and a context map from the whole face.

    Two fully-connected layers (256 hidden units) turn the current face into a map of the patch's
    size with three channels; it is stacked on the patch, and eight convolutions with kernels
    3, 7, 7, 7, 7, 7, 3, 5 and 16, 32, 64, 64, 64, 32, 16, 3 channels predict a residual. The last
    layer of either branch starts at zero, so that the untrained network is the identity.

    Args:
        patch_size: Height and width of the patch; the paper's is 60x45.
        image_size: Height and width of the face that the context branch reads.
        convolution: ``"fourier"`` computes the 7x7 convolutions in the frequency domain where that
            is faster, on CPUs in fp32: the same network up to rounding.
    """

    name = "attention_fh"

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        image_size: tuple[int, int] = (128, 128),
        convolution: Convolution = "direct",
    ) -> None:
        super().__init__(scale, patch_size, image_size=tuple(image_size), convolution=convolution)
        height, width = self.patch_size
        self.context = nn.Sequential(
            nn.Flatten(),
            nn.Linear(3 * image_size[0] * image_size[1], CONTEXT_HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(CONTEXT_HIDDEN, 3 * height * width),
            nn.Unflatten(1, (3, height, width)),
        )
        start_at_zero(self.context[3])
        self.convolutions = convolution_stack(6, convolution)

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        """Patch plus predicted residual; see :meth:`Enhancer.forward`. Location is not used."""
        dtype = compute_dtype(self)
        # Centred around zero: mid-grey, which stands for "outside", is then exactly nothing.
        context = self.context(image.to(dtype) - 0.5)
        stacked = torch.cat((patch.to(dtype) - 0.5, context), dim=1)
        residual: Tensor = self.convolutions(stacked)
        return patch + residual.to(patch.dtype)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The convolutions, and the context branch at a hundredth of their learning rate."""
        slow = {
            "params": list(self.context.parameters()),
            "lr": learning_rate * CONTEXT_LEARNING_RATE,
        }
        return [{"params": list(self.convolutions.parameters()), "lr": learning_rate}, slow]
