"""Attention-FH's enhancer without its policy: the one-shot rows of the paper's Table 3."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, given
from facehall_env.enhancers.layers.checks import check_counts, check_size
from facehall_env.enhancers.patch.attention_fh import AttentionFH, Convolution


class RecurrentNetwork(nn.Module):
    """One network, applied to the whole face again and again."""

    def __init__(self, enhancer: AttentionFH, steps: int) -> None:
        super().__init__()
        self.enhancer = enhancer
        self.steps = steps

    def forward(self, image: Tensor) -> Tensor:
        """Restores up-sampled faces (N, 3, H, W) in [0, 1], unclamped; (H, W) is the patch's."""
        check_size("recurrent_whole", image, self.enhancer.patch_size)
        location = torch.zeros(len(image), 2, dtype=torch.long, device=image.device)
        for _ in range(self.steps):
            image = self.enhancer(image, image, location)
        return image


class RecurrentWhole(OneShot):
    """The enhancer on whole faces, five times: "w/o attention" (Attention-FH, section 4.4).

    The network is `attention_fh` with a patch as large as the face; five times the face is about
    the area of the paper's 25 patches.

    Args:
        steps: How often the network is applied.
        image_size: Height and width of the faces.
        convolution: ``"fourier"`` computes the 7x7 convolutions in the frequency domain; see
            `facehall_env.enhancers.AttentionFH`.
    """

    name = "recurrent_whole"
    network: RecurrentNetwork
    recipe: ClassVar[Recipe] = Recipe(loss="mse", learning_rate=2e-4, betas=(0.5, 0.999))

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        steps: int = 5,
        image_size: tuple[int, int] = (128, 128),
        convolution: Convolution = "direct",
    ) -> None:
        image_size = (image_size[0], image_size[1])
        config = given(locals())
        check_counts("recurrent_whole", steps=steps)
        enhancer = AttentionFH(scale, image_size, image_size, convolution)
        super().__init__(RecurrentNetwork(enhancer, steps), scale, patch_size, **config)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Those of `attention_fh`."""
        return self.network.enhancer.parameter_groups(learning_rate)
