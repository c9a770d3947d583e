"""MobileFaceNet, a small recogniser (Chen et al., CCBR 2018) of MobileNetV2's building blocks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

from facehall_env.recognition.base import ChannelOrder, Recogniser

INPUT_SIZE = (112, 112)
EMBEDDING = 128
FIRST, WIDEST = 64, 512
LAST_FEATURES = 7
"""Side of the last features: the input's, halved four times."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


GROUPS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""Bottlenecks of one width (table 1 of the paper): by which factor they are wider inside, the
channels that leave them, how many follow one another, and the stride of the first one."""


class MobileFaceNet(Recogniser):
    """About a million parameters, 112x112 faces to 128 values.

    Its stages are the two convolutions at the beginning, the five groups of bottlenecks, and the
    1x1 convolution behind them. The first layer takes the channels in ``channel_order``.
    """

    name = "mobilefacenet"

    def __init__(self, channel_order: ChannelOrder = "rgb") -> None:
        config = {"channel_order": channel_order}
        super().__init__(INPUT_SIZE, EMBEDDING, IMAGENET_MEAN, IMAGENET_STD, channel_order, config)
        self.conv1 = _convolution(3, FIRST, kernel=3, stride=2)
        self.dw_conv = _DepthwiseSeparable(FIRST, FIRST)
        bottlenecks: list[nn.Module] = []
        self._ends: list[int] = []
        inputs = FIRST
        for expansion, channels, repeats, first_stride in GROUPS:
            for number in range(repeats):
                stride = first_stride if number == 0 else 1
                bottlenecks.append(_Bottleneck(inputs, channels, expansion, stride))
                inputs = channels
            self._ends.append(len(bottlenecks))
        self.features = nn.Sequential(*bottlenecks)
        self.conv2 = _convolution(inputs, WIDEST, kernel=1)
        self.gdconv = _GlobalDepthwise(WIDEST, LAST_FEATURES)
        self.conv3 = nn.Conv2d(WIDEST, EMBEDDING, 1)
        self.bn = nn.BatchNorm1d(EMBEDDING)

    def stages(self, normalised: Tensor) -> Iterator[Tensor]:
        """Seven stages; see :meth:`Recogniser.stages`."""
        features: Tensor = self.dw_conv(self.conv1(normalised))
        yield features
        for begin, end in pairwise((0, *self._ends)):
            features = self.features[begin:end](features)
            yield features
        yield self.conv2(features)

    def embedding_of(self, features: Tensor) -> Tensor:
        """A weighted mean of each channel, mixed; see :meth:`Recogniser.embedding_of`."""
        embedding: Tensor = self.bn(self.conv3(self.gdconv(features)).flatten(1))
        return embedding


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _DepthwiseSeparable(nn.Module):
    """A 3x3 convolution of each channel alone, then one that mixes them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        filtered = self.bn1(self.depthwise(features)).relu()
        mixed: Tensor = self.bn2(self.pointwise(filtered)).relu()
        return mixed


class _Bottleneck(nn.Module):
    """Widened, filtered channel by channel, narrowed; added to its input where both fit."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            _convolution(inputs, inner, kernel=1),
            _convolution(inner, inner, kernel=3, stride=stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        narrowed: Tensor = self.conv(features)
        return features + narrowed if self.residual else narrowed


class _GlobalDepthwise(nn.Module):
    """A convolution of each channel alone that is as large as the image."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, side, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        weighed: Tensor = self.bn(self.depthwise(features))
        return weighed
