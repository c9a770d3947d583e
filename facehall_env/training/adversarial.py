"""Discriminators and losses of SPARNetHD (Chen et al., TIP 2020, section III-C, eq. 6 to 13)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from facehall_env.errors import ConfigurationError
from facehall_env.metrics.perceptual import Features
from facehall_env.training.settings import LossWeights, TrainSPARNetHDConfig

CHANNELS = TrainSPARNetHDConfig.discriminator_channels
SLOPE = 0.2
"""Slope of LeakyReLU below zero."""


class Judgement(NamedTuple):
    """What a discriminator says of N faces.

    Attributes:
        score: (N, 1, h, w), one number for each place: at least 1 for real, at most -1 for
            restored.
        features: Outputs of the layers before, for the feature matching.
    """

    score: Tensor
    features: list[Tensor]


class Discriminator(nn.Module):
    """Tells restored faces from real ones, place by place.

    A 3x3 convolution, one with stride 2 for each further number of channels, and one without
    padding that scores: 512, 256 and 128 pixels give 30x30, 14x14 and 6x6 scores. All weights
    are divided by their spectral norm; all layers but the first and the last have an instance
    normalisation with a learned scale and shift, and no bias. 3,916,801 parameters.

    Args:
        channels: Channels of the layers before the score.

    >>> scores, _ = Discriminator((2, 4, 4))(torch.rand(1, 3, 32, 32))
    >>> scores.shape
    torch.Size([1, 1, 6, 6])
    """

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ConfigurationError(
                f"The channels {tuple(channels)} make no discriminator: give at least one number "
                "from 1 on."
            )
        leaky = nn.LeakyReLU(SLOPE)  # Not in place: a loss compares its outputs.
        stages = [nn.Sequential(_convolution(3, channels[0]), leaky)]
        for before, after in pairwise(channels):
            convolution = _convolution(before, after, stride=2, bias=False)
            norm = nn.InstanceNorm2d(after, affine=True)
            stages.append(nn.Sequential(convolution, norm, leaky))
        self.stages = nn.ModuleList(stages)
        self.judge = _convolution(channels[-1], 1, padding=0)
        self.smallest = 3 << (len(channels) - 1)

    def forward(self, faces: Tensor) -> Judgement:
        """Scores and features of faces (N, 3, H, W) in [0, 1].

        Raises:
            ConfigurationError: If the faces are too small to be scored.
        """
        if min(faces.shape[-2:]) < self.smallest:
            height, width = faces.shape[-2:]
            raise ConfigurationError(
                f"A discriminator was given faces of {height}x{width} pixels and needs "
                f"{self.smallest} at least: train on larger faces, or with fewer "
                "discriminators or channels of them."
            )
        x = 2 * faces - 1
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return Judgement(self.judge(x), features)


class Discriminators(nn.ModuleList):
    """Discriminators D_1, D_2, ... of the faces, of faces half as large, and so on, all alike."""

    def __init__(self, scales: int = 3, channels: Sequence[int] = CHANNELS) -> None:
        if scales < 1:
            raise ConfigurationError(f"{scales} discriminators were asked for: give at least 1.")
        super().__init__(Discriminator(channels) for _ in range(scales))

    def forward(self, faces: Tensor) -> list[Judgement]:
        """What each says of faces (N, 3, H, W) in [0, 1]."""
        judgements = []
        for number, discriminator in enumerate(self):
            if number:
                faces = functional.avg_pool2d(faces, 2)
            judgements.append(discriminator(faces))
        return judgements


def _convolution(
    inputs: int, outputs: int, *, stride: int = 1, padding: int = 1, bias: bool = True
) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding, bias=bias)
    parametrizations.spectral_norm(layer)
    return layer


def generator_hinge(restored: Sequence[Judgement]) -> Tensor:
    """The adversarial loss of the generator (eq. 8): minus the mean score, summed over the D_k.

    >>> generator_hinge([Judgement(torch.tensor([[0.5, -1.5]]), [])]).item()
    0.5
    """
    return torch.stack([-judgement.score.mean() for judgement in restored]).sum()


def discriminator_hinge(real: Sequence[Judgement], restored: Sequence[Judgement]) -> Tensor:
    """The adversarial loss of the discriminators (eq. 9).

    Scores that are right by the margin of 1 cost nothing.

    >>> real = [Judgement(torch.tensor([0.5, 2.0]), [])]
    >>> restored = [Judgement(torch.tensor([-3.0, 1.0]), [])]
    >>> discriminator_hinge(real, restored).item()
    1.25
    """
    losses = [
        functional.relu(1 - a.score).mean() + functional.relu(1 + b.score).mean()
        for a, b in zip(real, restored, strict=True)
    ]
    return torch.stack(losses).sum()


def feature_matching(restored: Sequence[Judgement], real: Sequence[Judgement]) -> Tensor:
    """Mean absolute difference of the features, summed over layers and the D_k (eq. 10).

    Nothing flows into the features of the real faces.
    """
    pairs = zip(restored, real, strict=True)
    return torch.stack([_feature_distance(a.features, b.features) for a, b in pairs]).sum()


def perceptual_distance(backbone: Features, restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of VGG19's features, summed over its layers (eq. 11).

    Faces are (N, 3, H, W) in about [0, 1]; nothing flows into the true ones. See
    `facehall_env.metrics.perceptual.vgg19` for the backbone.
    """
    with torch.no_grad():
        wanted = backbone(truth)
    return _feature_distance(backbone(restored), wanted)


def _feature_distance(restored: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    pairs = zip(restored, real, strict=True)
    losses = [functional.l1_loss(a.float(), b.detach().float()) for a, b in pairs]
    return torch.stack(losses).sum()


def generator_loss(
    restored: Tensor,
    truth: Tensor,
    discriminators: Discriminators,
    weights: LossWeights,
    backbone: Features | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the generator (eq. 12).

    Args:
        restored: (N, 3, H, W), the generator's output.
        truth: The same; nothing flows into it.
        discriminators: Their parameters receive gradients, too, unless they are frozen.
        weights: Weights of the parts.
        backbone: VGG19; needed unless the weight of the perceptual part is 0.

    Returns:
        The loss, and its parts by name, detached and before their weights.

    Raises:
        ConfigurationError: If the backbone is needed and not there.
    """
    if backbone is None and weights.perceptual_weight != 0:
        raise ConfigurationError(
            f"perceptual_weight={weights.perceptual_weight:g} but there is no VGG19: give its "
            "weights with --vgg19 (docs/perceptual.md), or --perceptual-weight 0."
        )
    judged = discriminators(restored)
    with torch.no_grad():
        real = discriminators(truth)
    parts = {
        "pixel": functional.l1_loss(restored, truth),
        "adversarial": generator_hinge(judged),
        "matching": feature_matching(judged, real),
    }
    if backbone is not None and weights.perceptual_weight != 0:
        parts["perceptual"] = perceptual_distance(backbone, restored, truth)
    weighted = [getattr(weights, f"{name}_weight") * part for name, part in parts.items()]
    loss = torch.stack(weighted).sum()
    return loss, {name: part.detach() for name, part in parts.items()}


def discriminator_loss(restored: Tensor, truth: Tensor, discriminators: Discriminators) -> Tensor:
    """The loss of the discriminators (eq. 13); nothing flows into the faces."""
    return discriminator_hinge(discriminators(truth.detach()), discriminators(restored.detach()))
