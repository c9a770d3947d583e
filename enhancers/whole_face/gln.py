"""GLN (Tuzel, Taguchi, Hershey, "Global-Local Face Upsampling Network", 2016)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype, given
from facehall_env.enhancers.layers.checks import check_counts, check_size
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.enhancers.patch.attention_fh import Convolution, convolution_stack
from facehall_env.errors import ConfigurationError

GLOBAL_LEARNING_RATE = 0.1
"""Learning rate of the fully-connected layers beside that of the convolutions."""


class GLNNetwork(nn.Module):
    """A map of details from the whole face, and convolutions that merge it with the face."""

    def __init__(
        self, scale: int, encoding: int, image_size: tuple[int, int], convolution: Convolution
    ) -> None:
        super().__init__()
        self.image_size = image_size
        height, width = image_size
        self.small_size = (height // scale, width // scale)
        self.details = nn.Sequential(
            nn.Flatten(),
            nn.Linear(3 * self.small_size[0] * self.small_size[1], encoding),
            nn.ReLU(inplace=True),
            nn.Linear(encoding, height * width),
            nn.Unflatten(1, (1, height, width)),
        )
        start_at_zero(self.details[3])
        self.local = convolution_stack(4, convolution)

    def forward(self, image: Tensor) -> Tensor:
        """Restores up-sampled faces (N, 3, H, W) in [0, 1], unclamped; (H, W) is ``image_size``."""
        check_size("gln", image, self.image_size)
        centred = (image - patches.GREY).to(compute_dtype(self))
        details = self.details(functional.adaptive_avg_pool2d(centred, self.small_size))
        residual: Tensor = self.local(torch.cat((centred, details), dim=1))
        return image + residual.to(image.dtype)


class GLN(OneShot):
    """Global-Local Network: fully-connected layers see the face, convolutions its pixels.

    Attention-FH takes its local enhancement network from this one (section 3.2: 256 neurons, and
    eight convolutions with kernels of 3, 7 and 5), which says most of what it is: the encoding of
    the small face becomes a map of details as large as the restored one, and the convolutions see
    that map on top of the up-sampled face. Ours, for want of the paper: RGB with a single map for
    all three channels (5.6 million parameters at 4x and 128x128 instead of 14 million with
    three), a residual on the up-sampled face as in Attention-FH, and the training of both parts
    together, the fully-connected layers at a tenth of the learning rate.

    Args:
        scale: Factor between the resolutions; the small face is what the encoding sees.
        encoding: Values that the face is encoded in.
        image_size: Height and width of the faces, multiples of ``scale``.
        convolution: ``"fourier"`` computes the 7x7 convolutions in the frequency domain; see
            `facehall_env.enhancers.AttentionFH`.
    """

    name = "gln"
    network: GLNNetwork
    recipe: ClassVar[Recipe] = Recipe(loss="mse", learning_rate=5e-4)

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        encoding: int = 256,
        image_size: tuple[int, int] = (128, 128),
        convolution: Convolution = "direct",
    ) -> None:
        image_size = (image_size[0], image_size[1])
        config = given(locals())
        check_counts("gln", encoding=encoding)
        height, width = image_size
        if min(height, width) < scale or height % scale or width % scale:
            raise ConfigurationError(
                f"gln has image_size={[height, width]}, which {scale} does not divide: give "
                "multiples of the scale."
            )
        super().__init__(GLNNetwork(scale, **config), scale, patch_size, **config)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The convolutions, and the fully-connected layers at a tenth of their learning rate."""
        local, details = self.network.local.parameters(), self.network.details.parameters()
        slow = {"params": list(details), "lr": learning_rate * GLOBAL_LEARNING_RATE}
        return [{"params": list(local), "lr": learning_rate}, slow]
