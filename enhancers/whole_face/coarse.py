"""The coarse hallucinator of IPFH (sections III-B1 and III-C): two stacked hourglasses."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facehall_env.enhancers.base import OneShot, Recipe, compute_dtype
from facehall_env.enhancers.layers.checks import check_counts, check_multiple
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.enhancers.whole_face.sparnet import FaceAttentionUnit, Layers
from facehall_env.errors import ConfigurationError

PATCH_SIZE = (32, 32)
"""Size of the patches that the paper's restorer works on afterwards."""
SHARES = (8, 4, 2, 1, 1, 1)
"""The width at each resolution, full first, is the width at 4x4 divided by this."""
MULTIPLE = 2 ** (len(SHARES) - 1)


class ResidualHourglass(nn.Module):
    """A residual block down to half the resolution, what comes there, and one up again.

    What comes up is added to the features that went down: features of all resolutions are
    combined on the way up.

    Args:
        widths: Channels at each resolution, the highest first; at least two.
    """

    def __init__(self, widths: tuple[int, ...], layers: Layers) -> None:
        super().__init__()
        wide, narrow, *rest = widths
        self.down = FaceAttentionUnit(wide, narrow, layers, "down")
        self.inner = ResidualHourglass((narrow, *rest), layers) if rest else nn.Identity()
        self.up = FaceAttentionUnit(narrow, wide, layers, "up")

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to the same, h and w multiples of 2 for each block down."""
        mixed: Tensor = features + self.up(self.inner(self.down(features)))
        return mixed


class CoarseNetwork(nn.Module):
    """Stacked hourglasses, each of which refines the face of the one before."""

    def __init__(self, width: int, stacks: int) -> None:
        super().__init__()
        layers = Layers()
        widths = tuple(width // share for share in SHARES)
        full = widths[0]
        self.enter = layers.convolution(3, full)
        self.hourglasses = nn.ModuleList(ResidualHourglass(widths, layers) for _ in range(stacks))
        self.leave = nn.ModuleList(_last(full, layers) for _ in range(stacks))
        self.again = nn.ModuleList(layers.convolution(3, full) for _ in range(stacks - 1))

    def forward(self, image: Tensor) -> Tensor:
        """Restores up-sampled faces (N, 3, H, W) in [0, 1], unclamped; 32 divides H and W."""
        check_multiple("coarse", image, MULTIPLE)
        # In [-1, 1], around which untrained networks answer.
        given = (2 * image - 1).to(compute_dtype(self))
        features, residual = self.enter(given), torch.zeros_like(given)
        for number, hourglass in enumerate(self.hourglasses):
            if number > 0:
                features = features + self.again[number - 1](given + residual)
            features = hourglass(features)
            residual = residual + self.leave[number](features)
        return image + residual.to(image.dtype) / 2


class Coarse(OneShot):
    """What an IPFH episode starts from: a whole face, roughly right.

    The up-sampled face goes through residual blocks with 3x3 kernels and a stride of 2 down to
    4x4x128 (of a 128x128 face), and up again through as many, with the features of each
    resolution added on the way; a second hourglass refines the result of the first. That makes 10
    blocks each. What the paper leaves open and we chose: a width that shrinks towards the full
    resolution (128, 128, 128, 64, 32, 16 channels from 4x4 to 128x128), SPARNet's blocks (batch
    normalisation, PReLU, nearest neighbours before a convolution on the way up), the second
    hourglass's input (the features that leave the first, plus a convolution of its face), and each
    hourglass's output as a residual from a layer that starts at zero: untrained, the network is
    the identity. The paper trains with batches of 128 and the mean squared error; its learning
    rate of 0.1 at the start belongs to an optimiser that it does not name, ours to Adam.

    `facehall train sr --enhancer coarse --scale 8` trains it; environments start from its faces
    with ``initial="coarse"`` or a file of its weights.

    Args:
        width: Channels at the lowest resolution; a multiple of 8.
        stacks: Number of hourglasses.
    """

    name = "coarse"
    network: CoarseNetwork
    recipe: ClassVar[Recipe] = Recipe(loss="mse", learning_rate=1e-3, batch=128)

    def __init__(
        self,
        scale: int = 8,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        width: int = 128,
        stacks: int = 2,
    ) -> None:
        check_counts("coarse", width=width, stacks=stacks)
        if width % SHARES[0]:
            raise ConfigurationError(
                f"coarse has width={width}, which {SHARES[0]} does not divide: give a multiple."
            )
        network = CoarseNetwork(width, stacks)
        super().__init__(network, scale, patch_size, width=width, stacks=stacks)


def _last(width: int, layers: Layers) -> nn.Sequential:
    """From features to a residual, which is zero at first."""
    convolution = layers.convolution(width, 3)
    start_at_zero(convolution)
    return nn.Sequential(layers.norm(width), layers.nonlinearity(width), convolution)
