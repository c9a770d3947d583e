"""Attention modules that others have proposed, as SPARNet's paper compares them with its own.

A module maps features (N, C, h, w) to the factor in (0, 1) that they are multiplied by, in any
shape that broadcasts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 16
"""Factor between the channels and the hidden units of channel attention, in RCAN and CBAM."""


class ChannelAttention(nn.Module):
    """Channel attention of RCAN (Zhang et al., ECCV 2018, section 3.3) and CBAM.

    Two 1x1 convolutions with a ReLU between them weigh the channels by what is left of each when
    its values are pooled over the whole image.

    Args:
        reduction: Factor by which the hidden units are fewer; one is always left.
        with_maximum: Judge by the largest values, too, and add up both judgements (CBAM, eq. 2);
            the mean alone otherwise (RCAN).
    """

    def __init__(
        self, channels: int, reduction: int = REDUCTION, with_maximum: bool = False
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.with_maximum = with_maximum
        self.judge = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to the channels' factors (N, C, 1, 1)."""
        judged: Tensor = self.judge(features.mean((2, 3), keepdim=True))
        if self.with_maximum:
            judged = judged + self.judge(features.amax((2, 3), keepdim=True))
        return judged.sigmoid()


class PooledSpatialAttention(nn.Module):
    """Spatial attention of CBAM (Woo et al., ECCV 2018, eq. 3).

    A 7x7 convolution sees the mean and the maximum over the channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to the pixels' factors (N, 1, h, w)."""
        pooled = torch.cat((features.mean(1, keepdim=True), features.amax(1, keepdim=True)), dim=1)
        judged: Tensor = self.convolution(pooled)
        return judged.sigmoid()


class CBAM(nn.Module):
    """Channel attention, then spatial attention on what is left (Woo et al., ECCV 2018, eq. 1)."""

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction, with_maximum=True)
        self.spatial = PooledSpatialAttention()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to the product of both factors, of the same shape."""
        by_channel: Tensor = self.channel(features)
        by_pixel: Tensor = self.spatial(features * by_channel)
        return by_channel * by_pixel
