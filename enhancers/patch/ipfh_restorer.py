"""The local restoration network of IPFH (section III-B2 and Fig. 4)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import Enhancer, compute_dtype
from facehall_env.enhancers.layers.checks import check_counts
from facehall_env.enhancers.layers.starts import rectified, start_at_zero
from facehall_env.errors import ConfigurationError

PATCH_SIZE = (32, 32)


class IPFHRestorer(Enhancer):
    """Two branches, one that sees the whole face and one that sees the patch.

    The image branch takes the current face down to the size of the patch with two convolutions of
    stride 2 (128x128 to 32x32), and then keeps it; the patch branch keeps the size from the
    start. The features of both, side by side (256x32x32), are fused by four more convolutions
    into a residual on the patch. All kernels are 3x3. The paper leaves the channels and the depth
    of the parts open, and counts 8 layers (Table VI): four in each branch and four that fuse. The
    last layer starts at zero: untrained, the network is the identity.

    With the paper's width a 32x32 patch of a 128x128 face costs 1.4 GMAC, with half of it a
    quarter of that.

    Args:
        patch_size: Height and width of the patch. Where the face is not four times as large, the
            image branch's features are averaged, or repeated, to that size.
        width: Channels of the features of both branches together; a multiple of 4.
    """

    name = "ipfh"

    def __init__(
        self, scale: int = 8, patch_size: tuple[int, int] = PATCH_SIZE, width: int = 256
    ) -> None:
        check_counts("ipfh", width=width)
        if width % 4:
            raise ConfigurationError(
                f"ipfh has width={width}, half of which is each branch's, and a quarter the first "
                "layers': give a multiple of 4."
            )
        super().__init__(scale, patch_size, width=width)
        half, quarter = width // 2, width // 4
        self.image_branch = _convolutions((3, quarter, half, half, half), strides=(2, 2, 1, 1))
        self.patch_branch = _convolutions((3, quarter, half, half, half))
        self.fuse = _convolutions((width, half, half, half))
        self.leave = nn.Conv2d(half, 3, 3, padding=1)
        start_at_zero(self.leave)

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        """Patch plus predicted residual; see :meth:`Enhancer.forward`. Location is not used."""
        whole = self.image_branch(self._centred(image))
        whole = functional.adaptive_avg_pool2d(whole, (patch.shape[2], patch.shape[3]))
        features = torch.cat((whole, self.patch_branch(self._centred(patch))), dim=1)
        residual: Tensor = self.leave(self.fuse(features))
        return patch + residual.to(patch.dtype)

    def _centred(self, image: Tensor) -> Tensor:
        """Around zero, so that mid-grey, "outside", is nothing; in the faster memory layout."""
        centred = (image - patches.GREY).to(compute_dtype(self))
        return centred.contiguous(memory_format=torch.channels_last)


def _convolutions(channels: tuple[int, ...], strides: tuple[int, ...] = ()) -> nn.Sequential:
    """3x3 convolutions from one number of channels to the next, a ReLU behind each."""
    sizes = zip(pairwise(channels), strides or (1,) * (len(channels) - 1), strict=True)
    layers = (nn.Conv2d(*pair, 3, stride, padding=1) for pair, stride in sizes)
    return nn.Sequential(*rectified(layers))
