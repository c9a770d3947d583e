"""Dual consistency (IPFH, section III-B3): alike at the high and at the low resolution."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice, pairwise
from typing import cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.enhancers.layers.checks import one_of
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Down
from facehall_env.recognition.base import Recogniser
from facehall_env.registry import unknown_name

LOSSES = ("mse_hr", "texture_hr", "mse_lr", "texture_lr")
"""What `DualConsistency.terms` can compute."""
TEXTURE_STAGES = (1, 3)
"""The recogniser's second and third stages show texture; the paper does not say which do."""


class DualConsistency(nn.Module):
    """How far restored faces or patches are from the truth, at the high and the low resolution.

    The paper's losses (eq. 11) in both domains: the mean squared error, and the squared distance
    of Gram matrices of a recogniser's activations. The low resolution of a patch at any place is
    not a piece of the low-resolution face, since the patch may start within one of its pixels. So
    the restored patch and the true one are downsampled in the same way and compared, and so are
    whole faces; with learned downsampling, faces are compared with the input itself.

    Args:
        scale: Factor between the two domains; 8 in the paper: 32x32 patches become 4x4, and
            128x128 faces 16x16.
        down: How images are downsampled (Table X): ``"average"`` takes means, and has nothing to
            learn; ``"convolution"`` is `LearnedDown`, which learns from :meth:`down_loss` alone
            and is a constant to :meth:`terms`: to train it together with a restorer, give its
            parameters (those of this module) an optimiser of their own, on that loss. Untrained
            it is ``"average"``.
        texture: Its activations are the texture, from images in their own size; without, there
            are no texture losses. It is used as it is and where it is, and is no part of this
            module: neither its parameters nor its mode.

    Raises:
        ConfigurationError: If ``scale`` or ``down`` is out of range.

    >>> truth = torch.zeros(1, 3, 16, 16)
    >>> losses = DualConsistency(scale=8).terms(truth + 0.5, truth)
    >>> {name: loss.item() for name, loss in losses.items()}
    {'mse_hr': 0.25, 'mse_lr': 0.25}
    """

    def __init__(
        self, scale: int = 8, down: Down = "average", texture: Recogniser | None = None
    ) -> None:
        super().__init__()
        one_of("down", down, get_args(Down))
        self.scale = scale
        self.down = AverageDown(scale) if down == "average" else LearnedDown(scale)
        # In a tuple, so that torch does not take it for a part of this module.
        self._texture = (texture,)

    @property
    def texture(self) -> Recogniser | None:
        """Whose activations are compared; None if none are."""
        return self._texture[0]

    def terms(
        self,
        result: Tensor,
        truth: Tensor,
        lr: Tensor | None = None,
        *,
        inside: Tensor | None = None,
        names: Collection[str] | None = None,
    ) -> dict[str, Tensor]:
        """The losses by name, differentiable in ``result``.

        Args:
            result: (N, 3, H, W) in [0, 1], whole faces or patches.
            truth: (N, 3, H, W), what they should be.
            lr: (N, 3, H / scale, W / scale), the low resolution, with which ``"convolution"``
                compares; by default with the downsampled truth. ``"average"``
                does so whatever is given: no protocol takes means of cells, so that compared with
                its low resolution the truth itself would have a loss.
            inside: (N, 1, H, W) bool, which pixels of the patches lie in the image; all by
                default. Others do not count, whatever they hold; a pixel of the low resolution
                counts by its share of such pixels.
            names: Which of `LOSSES` are wanted; by default those there are.

        Returns:
            (N,) each: ``mse_hr`` and ``mse_lr``, means over pixels and channels; ``texture_hr``
            and ``texture_lr``, the squared differences of the Gram matrices (divided by C H W) of
            the recogniser's 2nd and 3rd stages, summed over their elements.

        Raises:
            UnknownNameError: If there is no loss of one of the names.
            ConfigurationError: If a texture loss is named, and there is no recogniser.
        """
        wanted = self._checked(names)
        if inside is not None:
            result = result.where(inside, truth)
        losses: dict[str, Callable[[], Tensor]] = {
            "mse_hr": lambda: _mean_square(result - truth, inside),
            "texture_hr": lambda: self._texture_loss(result, truth),
        }
        if not {"mse_lr", "texture_lr"}.isdisjoint(wanted):
            known = lr if isinstance(self.down, LearnedDown) else None
            small, small_truth = self.small(result), self.small(truth) if known is None else known
            share = None if inside is None else _average(inside.to(result.dtype), self.scale)
            losses |= {
                "mse_lr": lambda: _mean_square(small - small_truth, share),
                "texture_lr": lambda: self._texture_loss(small, small_truth),
            }
        return {name: losses[name]() for name in wanted}

    def small(self, images: Tensor) -> Tensor:
        """Downsampled images, (N, 3, H, W) to (N, 3, H / scale, W / scale).

        Gradients flow to the images and not to what there is to learn.
        """
        constants = {name: p.detach() for name, p in self.down.named_parameters()}
        return cast(Tensor, torch.func.functional_call(self.down, constants, (images,)))

    def down_loss(self, truth: Tensor, lr: Tensor) -> Tensor:
        """The loss that ``down="convolution"`` learns from: downsampled truth is the input.

        Mean squared errors (N,), differentiable in this module's parameters, of true faces (N, 3,
        H, W) in [0, 1] and the low-resolution ones that the protocol made of them.
        """
        return _mean_square(self.down(truth) - lr, None)

    def _checked(self, names: Collection[str] | None) -> list[str]:
        if names is None:
            return [name for name in LOSSES if self.texture is not None or name.startswith("mse")]
        for name in names:
            if name not in LOSSES:
                raise unknown_name("loss", name, LOSSES)
            if name.startswith("texture") and self.texture is None:
                raise ConfigurationError(
                    f"The loss {name!r} compares the activations of a recogniser, and there is "
                    "none: give DualConsistency(texture=...) one, or leave the loss out."
                )
        return list(names)

    def _texture_loss(self, result: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._grams(truth)
        pairs = zip(self._grams(result), wanted, strict=True)
        return torch.stack([(own - true).square().sum((1, 2)) for own, true in pairs]).sum(0)

    def _grams(self, images: Tensor) -> list[Tensor]:
        recogniser = cast(Recogniser, self.texture)
        stages = recogniser.stages(recogniser.standardise(images))
        return [gram(features) for features in islice(stages, *TEXTURE_STAGES)]


class AverageDown(nn.Module):
    """Means over cells of ``scale`` x ``scale`` pixels, or of nearly that size where need be.

    Raises:
        ConfigurationError: If ``scale`` is less than 1.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        if scale < 1:
            raise ConfigurationError(f"scale={scale}: give 1 or more.")
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H / scale, W / scale), rounded down and at least 1."""
        return _average(images, self.scale)


class LearnedDown(nn.Module):
    """3x3 convolutions of stride 2, three of them at a scale of 8 (Fig. 6 of the paper).

    Each but the last is followed by a ReLU. The figure gives all three channels, 64, 128 and 64,
    but its low-resolution patch has three, and so has ours: 64, 128, 3. What they add to the means
    of `AverageDown` starts at zero.

    Raises:
        ConfigurationError: If ``scale`` is not a power of two.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        halvings = scale.bit_length() - 1
        if scale < 2 or scale != 2**halvings:
            raise ConfigurationError(
                f"down='convolution' halves again and again, and scale={scale} is no power of two: "
                "use down='average'."
            )
        self.scale = scale
        hidden = [64, *[128] * (halvings - 2)][: halvings - 1]
        layers: list[nn.Module] = []
        for pair in pairwise((3, *hidden, 3)):
            layers += [nn.Conv2d(*pair, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        start_at_zero(layers[-2])
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, H / scale, W / scale).

        Raises:
            ConfigurationError: If the sides are no multiples of ``scale``.
        """
        height, width = images.shape[-2:]
        if height % self.scale or width % self.scale:
            raise ConfigurationError(
                f"down='convolution' got images of {height}x{width} pixels, expected multiples of "
                f"{self.scale}: choose such a patch_size, or use down='average'."
            )
        learned: Tensor = self.layers(images - 0.5)
        return _average(images, self.scale) + learned


def gram(features: Tensor) -> Tensor:
    """Gram matrices G = F F^T / (C H W) of activations, (N, C, H, W) to (N, C, C)."""
    rows = features.flatten(2)
    return rows @ rows.transpose(1, 2) / features[0].numel()


def _average(images: Tensor, scale: int) -> Tensor:
    height, width = images.shape[-2:]
    return functional.adaptive_avg_pool2d(images, (max(1, height // scale), max(1, width // scale)))


def _mean_square(difference: Tensor, share: Tensor | None) -> Tensor:
    """(N,) means of (N, C, H, W), each pixel counted by its share (N, 1, H, W); all by default."""
    square = difference.square()
    if share is None:
        return square.flatten(1).mean(1)
    weight = share.to(square.dtype)
    return (square * weight).flatten(1).sum(1) / (
        weight.flatten(1).sum(1) * difference.shape[1]
    ).clamp_min(torch.finfo(square.dtype).tiny)
