"""SPARNet: residual blocks that learn where on the face to look (Chen et al., TIP 2020)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype, given
from facehall_env.enhancers.layers.attention import CBAM, ChannelAttention, PooledSpatialAttention
from facehall_env.enhancers.layers.checks import one_of
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.errors import ConfigurationError

Activation = Literal["prelu", "leaky_relu"]
Attention = Literal["2d", "3d", "none", "cbam", "rcan"]
Normalisation = Literal["batch", "instance"]
Resampling = Literal["none", "down", "up"]
SLOPE = 0.2
"""Slope of LeakyReLU below zero."""
BASE_WIDTH = 32
"""Channels at full resolution in the paper."""
IMAGE_SIZE = 128
"""Side of the faces in the paper, at which the bottlenecks of the hourglasses are counted."""


@dataclass(frozen=True)
class Layers:
    """What the network's blocks are made of.

    Attributes:
        activation: ``"prelu"`` with a slope per channel (the paper) or ``"leaky_relu"`` with
            slope 0.2 (the release).
        normalisation: Over the batch (SPARNet) or over each image alone (SPARNetHD).
        spectral: Divide the weights of every convolution by their spectral norm (SPARNetHD).
    """

    activation: Activation = "prelu"
    normalisation: Normalisation = "batch"
    spectral: bool = False

    def __post_init__(self) -> None:
        one_of("activation", self.activation, get_args(Activation))
        one_of("normalisation", self.normalisation, get_args(Normalisation))

    def convolution(
        self, inputs: int, outputs: int, stride: int = 1, bias: bool = True
    ) -> nn.Conv2d:
        """3x3, the image continued by reflection."""
        layer = nn.Conv2d(
            inputs, outputs, 3, stride=stride, padding=1, bias=bias, padding_mode="reflect"
        )
        if self.spectral:
            parametrizations.spectral_norm(layer)
        return layer

    def norm(self, channels: int) -> nn.Module:
        """A normalisation with a learned scale and shift of each channel."""
        if self.normalisation == "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        return nn.BatchNorm2d(channels)

    def nonlinearity(self, channels: int) -> nn.Module:
        """An activation; may work in place."""
        if self.activation == "prelu":
            return nn.PReLU(channels)
        return nn.LeakyReLU(SLOPE, inplace=True)


class ConvBlock(nn.Sequential):
    """Convolution, normalisation, activation.

    Args:
        resampling: ``"down"`` halves the sides by a stride of 2, ``"up"`` doubles them by
            repeating pixels before the convolution, which leaves no checkerboard.
        norm: Normalise; the convolution has a bias only where nothing does.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: Layers,
        resampling: Resampling = "none",
        *,
        norm: bool = True,
        activation: bool = True,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if resampling == "up":
            parts["up"] = nn.Upsample(scale_factor=2, mode="nearest")
        stride = 2 if resampling == "down" else 1
        parts["convolution"] = layers.convolution(inputs, outputs, stride, bias=not norm)
        if norm:
            parts["norm"] = layers.norm(outputs)
        if activation:
            parts["activation"] = layers.nonlinearity(outputs)
        super().__init__(parts)


class Hourglass(nn.Module):
    """One level of an hourglass: half the resolution, what comes there, and back, beside a skip."""

    def __init__(self, inputs: int, width: int, depth: int, layers: Layers) -> None:
        super().__init__()
        self.skip = ConvBlock(inputs, width, layers)
        self.inner = nn.Sequential(
            ConvBlock(inputs, width, layers, "down"),
            hourglass(width, width, depth - 1, layers),
            ConvBlock(width, width, layers, "up"),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, width, h, w), h and w multiples of 2^depth."""
        mixed: Tensor = self.skip(features) + self.inner(features)
        return mixed


def hourglass(inputs: int, width: int, depth: int, layers: Layers) -> nn.Module:
    """An hourglass of ``depth`` levels around a convolution at the lowest resolution."""
    if depth == 0:
        return ConvBlock(inputs, width, layers)
    return Hourglass(inputs, width, depth, layers)


class HourglassAttention(nn.Sequential):
    """The attention branch: an hourglass, one more convolution and a sigmoid (eq. 3).

    Args:
        maps: 1 for one map for all channels ("2D"), C for one for each ("3D").
    """

    def __init__(
        self, channels: int, width: int, depth: int, layers: Layers, maps: int = 1
    ) -> None:
        super().__init__(
            OrderedDict(
                hourglass=hourglass(channels, width, depth, layers),
                convolution=layers.convolution(width, maps),
                sigmoid=nn.Sigmoid(),
            )
        )


class FaceAttentionUnit(nn.Module):
    """A residual block whose features are weighed by an attention module (eq. 2 to 5).

    Args:
        outputs: Channels that go; as many unless it resamples.
        resampling: Whether it halves or doubles the sides. Both branches then see the finer of
            the two resolutions: the last convolution halves, the first doubles.
        attention: Maps the features (N, outputs, h, w) to the factor for them; none without.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: Layers,
        resampling: Resampling = "none",
        attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        down: Resampling = "down" if resampling == "down" else "none"
        self.before = nn.Sequential(layers.norm(inputs), layers.nonlinearity(inputs))
        self.features = nn.Sequential(
            ConvBlock(inputs, outputs, layers, "up" if resampling == "up" else "none"),
            ConvBlock(outputs, outputs, layers, down, activation=False),
        )
        self.shortcut: nn.Module = nn.Identity()
        if resampling != "none":
            plain = {"norm": False, "activation": False}
            self.shortcut = ConvBlock(inputs, outputs, layers, resampling, **plain)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h', w')."""
        features: Tensor = self.features(self.before(x))
        if self.attention is None:
            plain: Tensor = features + self.shortcut(x)
            return plain
        return torch.addcmul(self.shortcut(x), features, self.attention(features))

    @property
    def spatial_attention(self) -> nn.Module | None:
        """The module that says where to look; None if there is none."""
        module = self.attention.spatial if isinstance(self.attention, CBAM) else self.attention
        return module if isinstance(module, HourglassAttention | PooledSpatialAttention) else None


class SPARNetwork(nn.Module):
    """Face attention units that go down, stay and come up again (section III-A).

    Args:
        widths: Channels at full resolution, at half of it, and so on down to the body's.
        blocks: Units of the body.
        hourglass_width: Channels of the hourglasses.
        attention: ``"2d"`` gives each unit one map for all channels, ``"3d"`` one for each
            channel; ``"cbam"`` and ``"rcan"`` put other attention modules in their place.
        attention_branches: Number of units with attention, counted from the output as in the
            paper's SPARNet-VN; all by default.
        bottleneck: Side in pixels that every hourglass goes down to when the face is
            ``image_size`` wide: M of the paper's SPARNet-SM. Hourglasses have as many levels as
            that takes.
        image_size: Side of the faces that ``bottleneck`` is said for.
        global_skip: Add the input to the output and start as the identity. Neither the paper nor
            the release does; small networks learn faster so.

    Attributes:
        units: All face attention units by name, in the order of their work: ``down1``, ...,
            ``body1``, ..., ``up1``, ...
        multiple: What the sides of the faces have to be a multiple of.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 128),
        blocks: int = 10,
        hourglass_width: int = 64,
        *,
        attention: Attention = "2d",
        attention_branches: int | None = None,
        bottleneck: int = 4,
        image_size: int = IMAGE_SIZE,
        layers: Layers | None = None,
        global_skip: bool = False,
    ) -> None:
        super().__init__()
        layers = layers or Layers()
        downs = len(widths) - 1
        branches = _branches(attention, attention_branches, blocks + 2 * downs)
        _check_bottleneck(bottleneck, image_size >> downs)
        self.global_skip = global_skip
        plan = _plan(widths, blocks)
        self.enter = layers.convolution(3, widths[0])
        self.units = nn.Sequential()
        side = image_size
        for place, (name, inputs, outputs, resampling) in enumerate(plan):
            side = {"down": side // 2, "up": side * 2, "none": side}[resampling]
            module = None
            if place >= len(plan) - branches:
                depth = (side // bottleneck).bit_length() - 1
                module = _attention(attention, outputs, hourglass_width, depth, layers)
            unit = FaceAttentionUnit(inputs, outputs, layers, resampling, module)
            self.units.add_module(name, unit)
        self.leave = layers.convolution(widths[0], 3)
        if global_skip:
            start_at_zero(self.leave)
        hourglasses = any(isinstance(m, HourglassAttention) for m in self.modules())
        self.multiple = image_size // bottleneck if hourglasses else 2**downs
        # In which convolutions on the CPU are twice as fast; features follow the weights.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        """Up-sampled faces (N, 3, H, W) in [0, 1] to restored ones, not clamped.

        H and W are multiples of ``multiple``, and at least twice it: others are a
        ConfigurationError.
        """
        self._check_size(image)
        # In [-1, 1], around which untrained networks answer.
        given = (2 * image - 1).to(compute_dtype(self))
        restored: Tensor = self.leave(self.units(self.enter(given))).to(image.dtype)
        if self.global_skip:
            return image + restored / 2
        return (restored + 1) / 2

    @torch.no_grad()
    def attention_maps(self, image: Tensor) -> dict[str, Tensor]:
        """Where the units look (the paper's Fig. 6 and 9), of a network in evaluation mode.

        Args:
            image: (N, 3, H, W), as for :meth:`forward`.

        Returns:
            (N, 1, h, w) float32 in (0, 1) by the name of the unit, in the order of their work,
            the mean over the channels if they differ; nothing for units without spatial attention.
        """
        maps: dict[str, Tensor] = {}

        def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
            maps[name] = output.float().mean(1, keepdim=True)

        handles = [
            unit.spatial_attention.register_forward_hook(partial(keep, name))
            for name, unit in self.units.named_children()
            if isinstance(unit, FaceAttentionUnit) and unit.spatial_attention is not None
        ]
        try:
            self(image)
        finally:
            for handle in handles:
                handle.remove()
        return maps

    def _check_size(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        # Reflection needs two pixels where the resolution is lowest.
        fits = height % self.multiple == 0 and width % self.multiple == 0
        if not fits or min(height, width) < 2 * self.multiple:
            raise ConfigurationError(
                f"The faces are {height}x{width} pixels, but this SPARNet needs sides that are "
                f"multiples of {self.multiple}, from {2 * self.multiple} on: resize or crop them, "
                "or build it with a larger bottleneck."
            )


class SPARNet(OneShot):
    """SPARNet with the settings of its ablations; 128x128 faces in the paper.

    With ``activation="leaky_relu"`` it is the network of the authors' release: 10,518,867
    parameters.

    Settings that are not described here are those of :class:`SPARNetwork` and :class:`Layers`.

    Args:
        width: Channels at full resolution; those of all other layers are in proportion, so that
            parameters and time go with its square.
        blocks: Units at the lowest resolution.
        attention_branches: See :class:`SPARNetwork`: 0 to ``blocks + 6``.
        bottleneck: See :class:`SPARNetwork`: 2, 4, 8 or 16.

    >>> enhancer = SPARNet(scale=8, width=2, blocks=1, attention_branches=2)
    >>> face = torch.rand(1, 3, 64, 64)
    >>> maps = enhancer.network.attention_maps(face)
    >>> {name: tuple(map_.shape[2:]) for name, map_ in maps.items()}
    {'up2': (32, 32), 'up3': (64, 64)}
    """

    name = "sparnet"
    recipe: ClassVar[Recipe] = Recipe(
        loss="l1",
        learning_rate=2e-4,
        betas=(0.9, 0.99),
        batch=32,
        schedule="constant",
        augment=("flip", "scale"),
    )
    network: SPARNetwork

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        width: int = BASE_WIDTH,
        blocks: int = 10,
        attention: Attention = "2d",
        attention_branches: int | None = None,
        bottleneck: int = 4,
        activation: Activation = "prelu",
        global_skip: bool = False,
    ) -> None:
        config = given(locals())
        if width < 1 or blocks < 0:
            raise ConfigurationError(
                f"width={width} and blocks={blocks} make no SPARNet: give at least 1 and 0."
            )
        network = SPARNetwork(
            (width, 2 * width, 4 * width, 4 * width),
            blocks,
            2 * width,
            attention=attention,
            attention_branches=attention_branches,
            bottleneck=bottleneck,
            layers=Layers(activation),
            global_skip=global_skip,
        )
        super().__init__(network, scale, patch_size, **config)


def _branches(attention: Attention, wanted: int | None, units: int) -> int:
    """Number of units with attention."""
    one_of("attention", attention, get_args(Attention))
    most = 0 if attention == "none" else units
    if wanted is None:
        return most
    if not 0 <= wanted <= most:
        raise ConfigurationError(
            f"attention_branches={wanted} with attention={attention!r} and {units} units: give 0 "
            f"to {most}, or leave it out for all."
        )
    return wanted


def _check_bottleneck(bottleneck: int, body: int) -> None:
    sizes = [2**power for power in range(1, body.bit_length())]
    if bottleneck not in sizes:
        raise ConfigurationError(f"bottleneck={bottleneck} is no size of it: use one of {sizes}.")


def _plan(widths: Sequence[int], blocks: int) -> list[tuple[str, int, int, Resampling]]:
    """Name, channels before and after, and resampling of all units."""
    steps = list(pairwise(widths))
    down: Resampling = "down"
    up: Resampling = "up"
    none: Resampling = "none"
    return [
        *((f"down{n}", wide, narrow, down) for n, (wide, narrow) in enumerate(steps, 1)),
        *((f"body{n}", widths[-1], widths[-1], none) for n in range(1, blocks + 1)),
        *((f"up{n}", after, before, up) for n, (before, after) in enumerate(reversed(steps), 1)),
    ]


def _attention(
    kind: Attention, channels: int, width: int, depth: int, layers: Layers
) -> nn.Module | None:
    if kind == "cbam":
        return CBAM(channels)
    if kind == "rcan":
        return ChannelAttention(channels)
    if kind == "none":
        return None
    return HourglassAttention(channels, width, depth, layers, maps=channels if kind == "3d" else 1)
