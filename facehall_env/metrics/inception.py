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

from facehall_env.metrics.perceptual import IMAGENET_MEAN, IMAGENET_STD, fill_from_file, load_state

SIDE = 299
"""Images are resized to this before they enter."""
CLASSES_OF_FID = 1008
"""Classes in the weights that FID was published with; other weights have 1000."""

Kernel = int | tuple[int, int]
Conv = tuple[str, int, Kernel, int]
"""Name, channels, kernel, stride; with a stride of 2 there is no padding, and 0 stands for a stride
of 1 without padding."""
Step = Conv | str | list[Conv]
"""A convolution, ``"average"`` or ``"max"`` (3x3), ``"halve"`` (maxima, 3x3, stride 2), or
convolutions of the same input whose outputs are joined."""
Block = Sequence[Sequence[Step]]

ROW, COLUMN = (1, 7), (7, 1)


def _conv(name: str, channels: int, kernel: Kernel = 1, stride: int = 1) -> Conv:
    return (name, channels, kernel, stride)


def _chain(
    name: str, *steps: tuple[int] | tuple[int, Kernel] | tuple[int, Kernel, int]
) -> Sequence[Conv]:
    """A branch of convolutions behind one another, numbered from 1."""
    return [_conv(f"{name}_{number}", *step) for number, step in enumerate(steps, start=1)]


def _split(name: str, channels: int) -> list[Conv]:
    """A row of three and a column of three, side by side."""
    return [_conv(f"{name}a", channels, (1, 3)), _conv(f"{name}b", channels, (3, 1))]


def _block_a(pooled: int) -> Block:
    return [
        [_conv("branch1x1", 64)],
        _chain("branch5x5", (48,), (64, 5)),
        _chain("branch3x3dbl", (64,), (96, 3), (96, 3)),
        ["average", _conv("branch_pool", pooled)],
    ]


def _block_c(inner: int) -> Block:
    around = ((inner, COLUMN), (inner, ROW), (inner, COLUMN))
    return [
        [_conv("branch1x1", 192)],
        _chain("branch7x7", (inner,), (inner, ROW), (192, COLUMN)),
        _chain("branch7x7dbl", (inner,), *around, (192, ROW)),
        ["average", _conv("branch_pool", 192)],
    ]


def _block_e(pool: str) -> Block:
    return [
        [_conv("branch1x1", 320)],
        [_conv("branch3x3_1", 384), _split("branch3x3_2", 384)],
        [*_chain("branch3x3dbl", (448,), (384, 3)), _split("branch3x3dbl_3", 384)],
        [pool, _conv("branch_pool", 192)],
    ]


STEM: Sequence[Conv | str] = (
    _conv("Conv2d_1a_3x3", 32, 3, 2),
    _conv("Conv2d_2a_3x3", 32, 3, 0),
    _conv("Conv2d_2b_3x3", 64, 3),
    "halve",
    _conv("Conv2d_3b_1x1", 80),
    _conv("Conv2d_4a_3x3", 192, 3, 0),
    "halve",
)
"""Before the blocks."""


def _blocks(last_pool: str) -> Mapping[str, Block]:
    return {
        "Mixed_5b": _block_a(32),
        "Mixed_5c": _block_a(64),
        "Mixed_5d": _block_a(64),
        "Mixed_6a": [
            [_conv("branch3x3", 384, 3, 2)],
            _chain("branch3x3dbl", (64,), (96, 3), (96, 3, 2)),
            ["halve"],
        ],
        "Mixed_6b": _block_c(128),
        "Mixed_6c": _block_c(160),
        "Mixed_6d": _block_c(160),
        "Mixed_6e": _block_c(192),
        "Mixed_7a": [
            _chain("branch3x3", (192,), (320, 3, 2)),
            _chain("branch7x7x3", (192,), (192, ROW), (192, COLUMN), (192, 3, 2)),
            ["halve"],
        ],
        "Mixed_7b": _block_e("average"),
        "Mixed_7c": _block_e(last_pool),
    }


class _Convolution(nn.Module):
    """A convolution, batch normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, sides, max(stride, 1), padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """A block: branches on the same input, joined; averages may count zeros beyond the border."""

    def __init__(self, inputs: int, block: Block, count_padding: bool) -> None:
        super().__init__()
        self.block = block
        self.count_padding = count_padding
        self.outputs = sum(_add_branch(self, inputs, branch) for branch in block)

    def forward(self, x: Tensor) -> Tensor:
        branches = (_run_branch(self, x, branch, self.count_padding) for branch in self.block)
        return torch.cat(list(branches), dim=1)


def _add_branch(owner: nn.Module, channels: int, branch: Sequence[Step]) -> int:
    """Adds the convolutions of a branch to their owner; the channels that leave it."""
    for step in branch:
        if isinstance(step, str):
            continue
        convolutions = step if isinstance(step, list) else [step]
        for name, outputs, kernel, stride in convolutions:
            owner.add_module(name, _Convolution(channels, outputs, kernel, stride))
        channels = sum(outputs for _, outputs, _, _ in convolutions)
    return channels


def _run_branch(
    owner: nn.Module, x: Tensor, branch: Sequence[Step], count_padding: bool = False
) -> Tensor:
    for step in branch:
        if isinstance(step, str):
            x = _pool(x, step, count_padding)
        else:
            convolutions = step if isinstance(step, list) else [step]
            x = torch.cat([owner.get_submodule(conv[0])(x) for conv in convolutions], dim=1)
    return x


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
        channels = _add_branch(self, 3, STEM)
        blocks = _blocks("max" if published else "average")
        self.names = list(blocks)
        for name, block in blocks.items():
            mixed = _Mixed(channels, block, count_padding=not published)
            self.add_module(name, mixed)
            channels = mixed.outputs

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 2048) of images (N, 3, H, W) in [0, 1], of any size."""
        x = functional.interpolate(images.float(), (SIDE, SIDE), mode="bilinear")
        if self.published:
            x = 2 * x - 1
        else:
            mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
            x = (x - mean) / std
        x = _run_branch(self, x, STEM)
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
    state = load_state(path, "the weights of InceptionV3", who="FID")
    classifier = state.get("fc.weight")
    network = InceptionV3(published=classifier is None or len(classifier) == CLASSES_OF_FID)
    return fill_from_file(network, state, f"{path} for InceptionV3")
