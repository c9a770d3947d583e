"""InceptionV3 up to its last pooling, the features of FID (Szegedy et al., CVPR 2016).

The network is a table: a block is a list of branches, a branch a chain of steps. Its weights are
named as in torchvision.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.metrics.perceptual import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    fill_from_file,
    given_file,
    load_state,
)

SIDE = 299
"""Images are resized to this before they enter."""
CLASSES_OF_FID = 1008
"""Classes in the weights that FID was published with; other weights have 1000."""

Kernel = tuple[int, int]
Conv = tuple[str, int, Kernel, int]
"""Name, channels, kernel, stride; with a stride of 2 there is no padding."""
Step = Conv | str | list[Conv]
"""A convolution, ``"average"`` or ``"max"`` (3x3), ``"halve"`` (maxima, 3x3, stride 2), or
convolutions of the same input whose outputs are joined."""
Block = Sequence[Sequence[Step]]


def _conv(name: str, channels: int, kernel: int | Kernel = 1, stride: int = 1) -> Conv:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return (name, channels, sides, stride)


ROW, COLUMN = (1, 7), (7, 1)


def _block_a(pooled: int) -> Block:
    return [
        [_conv("branch1x1", 64)],
        [_conv("branch5x5_1", 48), _conv("branch5x5_2", 64, 5)],
        [
            _conv("branch3x3dbl_1", 64),
            _conv("branch3x3dbl_2", 96, 3),
            _conv("branch3x3dbl_3", 96, 3),
        ],
        ["average", _conv("branch_pool", pooled)],
    ]


def _block_b() -> Block:
    return [
        [_conv("branch3x3", 384, 3, 2)],
        [
            _conv("branch3x3dbl_1", 64),
            _conv("branch3x3dbl_2", 96, 3),
            _conv("branch3x3dbl_3", 96, 3, 2),
        ],
        ["halve"],
    ]


def _block_c(inner: int) -> Block:
    return [
        [_conv("branch1x1", 192)],
        [
            _conv("branch7x7_1", inner),
            _conv("branch7x7_2", inner, ROW),
            _conv("branch7x7_3", 192, COLUMN),
        ],
        [
            _conv("branch7x7dbl_1", inner),
            _conv("branch7x7dbl_2", inner, COLUMN),
            _conv("branch7x7dbl_3", inner, ROW),
            _conv("branch7x7dbl_4", inner, COLUMN),
            _conv("branch7x7dbl_5", 192, ROW),
        ],
        ["average", _conv("branch_pool", 192)],
    ]


def _block_d() -> Block:
    return [
        [_conv("branch3x3_1", 192), _conv("branch3x3_2", 320, 3, 2)],
        [
            _conv("branch7x7x3_1", 192),
            _conv("branch7x7x3_2", 192, ROW),
            _conv("branch7x7x3_3", 192, COLUMN),
            _conv("branch7x7x3_4", 192, 3, 2),
        ],
        ["halve"],
    ]


def _block_e(pool: str) -> Block:
    return [
        [_conv("branch1x1", 320)],
        [
            _conv("branch3x3_1", 384),
            [_conv("branch3x3_2a", 384, (1, 3)), _conv("branch3x3_2b", 384, (3, 1))],
        ],
        [
            _conv("branch3x3dbl_1", 448),
            _conv("branch3x3dbl_2", 384, 3),
            [_conv("branch3x3dbl_3a", 384, (1, 3)), _conv("branch3x3dbl_3b", 384, (3, 1))],
        ],
        [pool, _conv("branch_pool", 192)],
    ]


STEM: Sequence[Conv | str] = (
    _conv("Conv2d_1a_3x3", 32, 3, 2),
    ("Conv2d_2a_3x3", 32, (3, 3), 0),
    _conv("Conv2d_2b_3x3", 64, 3),
    "halve",
    _conv("Conv2d_3b_1x1", 80),
    ("Conv2d_4a_3x3", 192, (3, 3), 0),
    "halve",
)
"""Before the blocks; a stride of 0 stands for 1 without padding."""


def _blocks(last_pool: str) -> Mapping[str, Block]:
    return {
        "Mixed_5b": _block_a(32),
        "Mixed_5c": _block_a(64),
        "Mixed_5d": _block_a(64),
        "Mixed_6a": _block_b(),
        "Mixed_6b": _block_c(128),
        "Mixed_6c": _block_c(160),
        "Mixed_6d": _block_c(160),
        "Mixed_6e": _block_c(192),
        "Mixed_7a": _block_d(),
        "Mixed_7b": _block_e("average"),
        "Mixed_7c": _block_e(last_pool),
    }


class _Convolution(nn.Module):
    """A convolution, batch normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, max(stride, 1), padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """A block: branches on the same input, joined.

    Args:
        inputs: Channels that come.
        block: The branches.
        count_padding: Whether averages count the zeros beyond the border.
    """

    def __init__(self, inputs: int, block: Block, count_padding: bool) -> None:
        super().__init__()
        self.block = block
        self.count_padding = count_padding
        self.outputs = sum(self._add_branch(inputs, branch) for branch in block)

    def _add_branch(self, channels: int, branch: Sequence[Step]) -> int:
        for step in branch:
            if isinstance(step, str):
                continue
            convolutions = step if isinstance(step, list) else [step]
            for name, outputs, kernel, stride in convolutions:
                self.add_module(name, _Convolution(channels, outputs, kernel, stride))
            channels = sum(outputs for _, outputs, _, _ in convolutions)
        return channels

    def forward(self, x: Tensor) -> Tensor:
        joined = []
        for branch in self.block:
            y = x
            for step in branch:
                y = self._step(y, step)
            joined.append(y)
        return torch.cat(joined, dim=1)

    def _step(self, x: Tensor, step: Step) -> Tensor:
        if isinstance(step, str):
            return _pool(x, step, self.count_padding)
        convolutions = step if isinstance(step, list) else [step]
        return torch.cat([self.get_submodule(conv[0])(x) for conv in convolutions], dim=1)


def _pool(x: Tensor, kind: str, count_padding: bool) -> Tensor:
    if kind == "halve":
        return functional.max_pool2d(x, 3, 2)
    if kind == "max":
        return functional.max_pool2d(x, 3, 1, 1)
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=count_padding)


class InceptionV3(nn.Module):
    """From faces to the 2048 numbers that FID compares.

    Args:
        published: Build it as the weights that FID was published with need it, which come from
            TensorFlow: averages do not count what lies beyond the border, the last block takes
            maxima, and images enter in [-1, 1]. Otherwise as in torchvision.
    """

    def __init__(self, published: bool = True) -> None:
        super().__init__()
        self.published = published
        channels = 3
        for step in STEM:
            if not isinstance(step, str):
                name, outputs, kernel, stride = step
                self.add_module(name, _Convolution(channels, outputs, kernel, stride))
                channels = outputs
        self.names = []
        for name, block in _blocks("max" if published else "average").items():
            mixed = _Mixed(channels, block, count_padding=not published)
            self.add_module(name, mixed)
            self.names.append(name)
            channels = mixed.outputs

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 2048) of images (N, 3, H, W) in [0, 1], of any size."""
        x = functional.interpolate(images.float(), (SIDE, SIDE), mode="bilinear")
        if self.published:
            x = 2 * x - 1
        else:
            mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
            x = (x - mean) / std
        for step in STEM:
            x = _pool(x, step, False) if isinstance(step, str) else self.get_submodule(step[0])(x)
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


def load(path: str | os.PathLike[str] | None) -> InceptionV3:
    """InceptionV3 with the weights of a file, frozen.

    Weights whose classifier has 1008 rows, or that have none, are taken for those that FID was
    published with, others for torchvision's; the distances of the two cannot be compared.

    Raises:
        WeightsError: If the file is not given, missing, unreadable or of another network.
    """
    path = given_file(path, "FID needs the weights of InceptionV3")
    state = load_state(path, "the weights of InceptionV3")
    classifier = state.get("fc.weight")
    network = InceptionV3(published=classifier is None or len(classifier) == CLASSES_OF_FID)
    fill_from_file(network, state, path, "InceptionV3")
    return network.requires_grad_(False).eval()
