"""Perceptual metrics on networks that the user brings: LPIPS, FID, and VGG features for losses.

The networks are built here, in plain torch, with the names that torchvision gives their weights;
the weights themselves are files that the user has (docs/perceptual.md): ``.safetensors``, or
``.pth`` state dictionaries, which are read without unpickling anything but tensors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from facehall_env import checkpoints
from facehall_env.checkpoints import fill
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.metrics._inputs import check_images, check_pair

Backbone = Literal["vgg16", "vgg19", "alexnet"]
Network = TypeVar("Network", bound=nn.Module)
Layer = int | str | tuple[int, int, int, int]
"""Channels of a 3x3 convolution, (channels, kernel, stride, padding) of another one, both with a
ReLU behind them, or ``"M"``, maxima of 2x2, or ``"P"``, of 3x3 with stride 2."""

PLANS: Mapping[Backbone, Sequence[Layer]] = {
    "vgg16": (64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"),
    "vgg19": (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"),
    "alexnet": ((64, 11, 4, 2), "P", (192, 5, 1, 2), "P", 384, 256, 256, "P"),
}
"""Convolutional parts of the networks."""
PERCEPTUAL_TAPS = (0, 2, 4, 8, 12)
"""First convolution of each of VGG19's stages, counted from 0: relu1_1, relu2_1, ..., relu5_1."""
LPIPS_TAPS: Mapping[Backbone, tuple[int, ...]] = {
    "vgg16": (1, 3, 6, 9, 12),
    "alexnet": (0, 1, 2, 3, 4),
}
"""Convolutions whose outputs LPIPS compares: the last of each stage, all of AlexNet."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(nn.Module):
    """Outputs of some convolutions of a chain of convolutions, after their ReLU.

    Args:
        plan: Its layers, whose weights are named as in torchvision: ``features.0.weight``.
        taps: Numbers of the convolutions whose outputs are wanted, rising, from 0.

    >>> tiny = Features((2, "M", 3), taps=(0, 1))
    >>> [tuple(f.shape) for f in tiny(torch.rand(1, 3, 8, 8))]
    [(1, 2, 8, 8), (1, 3, 4, 4)]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, plan: Sequence[Layer], taps: Sequence[int]) -> None:
        super().__init__()
        layers, ends, channels = list[nn.Module](), list[int](), 3
        for layer in plan:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(2, 2) if layer == "M" else nn.MaxPool2d(3, 2))
                continue
            width, kernel, stride, padding = (layer, 3, 1, 1) if isinstance(layer, int) else layer
            layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
            ends.append(len(layers) - 1)
            channels = width
        self.ends = [ends[tap] for tap in taps]
        self.features = nn.Sequential(*layers[: self.ends[-1] + 1])
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def channels(self) -> list[int]:
        """Channels of the outputs."""
        convolutions = (self.features[end - 1] for end in self.ends)
        return [int(layer.out_channels) for layer in convolutions]  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of images (N, 3, H, W) in [0, 1], from the first convolution wanted on."""
        x = (images - self.mean) / self.std
        outputs = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.ends:
                outputs.append(x)
        return outputs


def vgg19(path: str | os.PathLike[str]) -> Features:
    """VGG19 up to relu5_1, for the perceptual loss (eq. 11 of the SPARNet paper), frozen.

    Its weights are those on ImageNet, in the file ``path``.

    Raises:
        WeightsError: If the file is missing, unreadable or of another network.
    """
    state = load_state(path, "the weights of vgg19")
    return fill_from_file(Features(PLANS["vgg19"], PERCEPTUAL_TAPS), state, f"{path} for vgg19")


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity (Zhang et al., CVPR 2018, eq. 1); lower is better.

    Features of both images are scaled to unit length in each pixel; their squared differences are
    weighed by channel, averaged over the pixels and added up over the layers.

    Args:
        features: Where the features come from.
        weights: One weight per channel for each of its outputs, (C,), not negative.

    >>> tiny = LPIPS(Features((2,), taps=(0,)), [torch.ones(2)])
    >>> image = torch.rand(1, 3, 8, 8)
    >>> tiny(image, image).tolist()
    [0.0]
    """

    def __init__(self, features: Features, weights: Sequence[Tensor]) -> None:
        super().__init__()
        found, expected = [len(weight) for weight in weights], features.channels
        if found != expected:
            raise WeightsError(
                f"The linear layers of LPIPS weigh {found} channels, the network has {expected}: "
                "give those that were trained for this network."
            )
        self.features = features
        for number, weight in enumerate(weights):
            self.register_buffer(f"weight{number}", weight.float().clone())

    @classmethod
    def load(
        cls,
        backbone: str | os.PathLike[str] | None,
        linear: str | os.PathLike[str] | None,
        network: Literal["vgg16", "alexnet"] = "alexnet",
    ) -> LPIPS:
        """LPIPS from two files of weights.

        Args:
            backbone: Weights of the network on ImageNet.
            linear: Weights of the channels, version 0.1, as in the authors' repository.
            network: Which network; results of different ones cannot be compared.

        Raises:
            WeightsError: If a file is not given, missing, unreadable or of another network.
        """
        if network not in LPIPS_TAPS:
            raise ConfigurationError(
                f"network={network!r} is none of LPIPS: use one of {tuple(LPIPS_TAPS)}."
            )
        state = load_state(backbone, f"the ImageNet weights of {network}", who="LPIPS")
        layers = load_state(linear, f"the weights of its linear layers for {network}", who="LPIPS")
        features = Features(PLANS[network], LPIPS_TAPS[network])
        fill_from_file(features, state, f"{backbone} for {network}")
        names = [name for name in layers if name.startswith("lin") and name.endswith("weight")]
        # lin0.model.1.weight (1, C, 1, 1), lin1..., as the authors name them.
        return cls(features, [layers[name].flatten() for name in sorted(names)]).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance (N,) of float images (N, 3, H, W) in [0, 1], 0 for equal ones.

        Raises:
            TypeError: An argument is not a float tensor.
            ValueError: Shapes or devices differ, or values lie outside [0, 1].
        """
        check_pair(x, y, channels=(3,))
        total = torch.zeros(len(x), device=x.device)
        pairs = zip(self.features(x.float()), self.features(y.float()), strict=True)
        for number, (a, b) in enumerate(pairs):
            weight = getattr(self, f"weight{number}")[:, None, None]
            difference = (_unit(a) - _unit(b)).square() * weight
            total = total + difference.sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    """Features (N, C, h, w) of length 1 in each pixel."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


class Gaussian:
    """Mean and covariance of C features that come batch by batch, in float64.

    >>> statistics = Gaussian(1)
    >>> statistics.update(torch.tensor([[1.0], [2.0]]))
    >>> statistics.update(torch.tensor([[3.0]]))
    >>> statistics.mean.item(), statistics.covariance.item()
    (2.0, 1.0)
    """

    def __init__(self, channels: int) -> None:
        self.number = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self._scatter = torch.zeros(channels, channels, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Adds features (N, C) to what has come so far."""
        features = features.detach().double().cpu()
        number, mean = len(features), features.mean(0)
        total = self.number + number
        shift = mean - self.mean
        centred = features - mean
        # Chan et al.: exact, and without the difference of two large sums.
        self._scatter += centred.T @ centred
        self._scatter += torch.outer(shift, shift) * (self.number * number / total)
        self.mean = self.mean + shift * (number / total)
        self.number = total

    @property
    def covariance(self) -> Tensor:
        """(C, C) float64, with Bessel's correction; at least two images must have come."""
        if self.number < 2:
            raise ConfigurationError(
                f"{self.number} images have no covariance: give FID at least 2, or some thousands "
                "for a number worth reading."
            )
        return self._scatter / (self.number - 1)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Fréchet distance of two Gaussians of two images or more (Heusel et al., NeurIPS 2017, eq. 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The trace of the root is the sum of the roots of
    the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric where C1 C2 is not.
    """
    one, two = first.covariance, second.covariance
    values, vectors = torch.linalg.eigh(one)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ two @ root
    # Singular covariances, of fewer images than features, leave tiny negative eigenvalues.
    crossed = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    apart = (first.mean - second.mean).square().sum()
    return float(apart + one.trace() + two.trace() - 2 * crossed)


class FID:
    """Fréchet inception distance between restored and real faces; lower is better.

    ``features`` maps images (N, 3, H, W) in [0, 1] to (N, C): `inception.load` for numbers that can
    be compared with those of papers, or any other network.

    >>> fid = FID(lambda images: images.mean((2, 3)), channels=3)
    >>> faces = torch.rand(8, 3, 4, 4)
    >>> fid.update(faces, real=True)
    >>> fid.update(faces, real=False)
    >>> abs(fid.compute()) < 1e-6
    True
    """

    def __init__(self, features: Callable[[Tensor], Tensor], channels: int = 2048) -> None:
        self.features = features
        self.statistics = {True: Gaussian(channels), False: Gaussian(channels)}

    @torch.no_grad()
    def update(self, images: Tensor, *, real: bool) -> None:
        """Adds images (N, 3, H, W) in [0, 1] to the real or to the restored ones.

        Others raise a TypeError or a ValueError.
        """
        check_images("images", images, channels=(3,))
        self.statistics[real].update(self.features(images))

    def compute(self) -> float:
        """The distance; ConfigurationError if fewer than two images of one kind have come."""
        return frechet_distance(self.statistics[True], self.statistics[False])


def load_state(
    path: str | os.PathLike[str] | None, what: str, who: str = "This"
) -> dict[str, Tensor]:
    """The tensors by name of a file that a user has to bring; see `checkpoints.load_state`.

    Args:
        path: What the user gave.
        what: What should be in it, as an error calls it.
        who: Who needs it.

    Raises:
        WeightsError: If nothing was given, or the file is missing or cannot be read.
    """
    if path is None:
        raise WeightsError(
            f"{who} needs {what}, which do not come with the project: get the file as "
            "docs/perceptual.md says, and give its path."
        )
    advice = "check the path; docs/perceptual.md says which files are needed"
    return checkpoints.load_state(path, what, advice)


def fill_from_file(network: Network, state: Mapping[str, Tensor], what: str) -> Network:
    """The network, frozen, with the tensors of a file that it has: files hold classifiers, too.

    Args:
        network: Filled in place.
        state: What the file holds.
        what: The file and the network, for the error.

    Raises:
        WeightsError: If a tensor is missing or of another shape.
    """
    wanted = network.state_dict().keys()
    fill(network, {key: tensor for key, tensor in state.items() if key in wanted}, what)
    return network.requires_grad_(False).eval()
