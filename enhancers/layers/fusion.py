"""Networks made faster for inference, without changing what they compute."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)
PHASE_TAPS = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
"""Which of three taps meet which of two pixels, for even and for odd outputs: (2, 2, 3)."""


def fuse_batch_norm(network: Network) -> Network:
    """A copy for inference whose convolutions do the work of the batch norms behind them.

    A norm that directly follows a convolution in an ``nn.Sequential`` is multiplied into its
    weights and bias. Norms that come before an activation instead (pre-activation units) cannot
    be, since their input is also used as it is; they stay, as a scale and a shift.

    Returns:
        The copy, in evaluation mode. Its weights are not those of a training run any more.

    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)).eval()
    >>> _ = nn.init.constant_(network[0].weight, 2), nn.init.constant_(network[1].bias, 5)
    >>> fused = fuse_batch_norm(network)
    >>> [type(part).__name__ for part in fused], fused(torch.ones(1, 1, 1, 1)).item()
    (['Conv2d', 'Identity'], 7.0)
    """
    fused = copy.deepcopy(network).eval()
    for sequence, first, second in _neighbours(fused):
        convolution, norm = getattr(sequence, first), getattr(sequence, second)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(sequence, first, fuse_conv_bn_eval(convolution, norm))
            # Not removed: whoever numbers the parts of a sequence finds them where they were.
            setattr(sequence, second, nn.Identity())
    return fused


def for_inference(network: Network) -> Network:
    """A copy for inference with fused batch norms and cheaper convolutions after up-sampling.

    See :func:`fuse_batch_norm` and :class:`UpConvolution`; the same output up to rounding.
    """
    fast = fuse_batch_norm(network)
    for sequence, first, second in _neighbours(fast):
        up, convolution = getattr(sequence, first), getattr(sequence, second)
        if _doubles(up) and isinstance(convolution, nn.Conv2d) and _is_reflected(convolution):
            setattr(sequence, first, nn.Identity())
            setattr(sequence, second, UpConvolution(convolution))
    return fast


class UpConvolution(nn.Module):
    """A 3x3 convolution of an image whose pixels were doubled, without doubling them.

    A window of doubled pixels shows only 2x2 different ones, so that 2x2 weights do, one set for
    each of the four positions of an output in a doubled pixel: 4 / 9 of the multiplications, all
    of them at the low resolution.

    Args:
        convolution: 3x3, stride 1, the image continued by reflection by one pixel.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        taps = PHASE_TAPS.to(convolution.weight)
        weight = torch.einsum("atk,bsl,oikl->aboits", taps, taps, convolution.weight.detach())
        self.outputs = convolution.out_channels
        self.weight = nn.Parameter(
            weight.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        )
        bias = convolution.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().repeat(4))

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, 2 H, 2 W)."""
        height, width = image.shape[-2:]
        # Reflection of doubled pixels repeats the outermost of the single ones.
        padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
        phases = functional.conv2d(padded, self.weight, self.bias)
        last = phases.is_contiguous(memory_format=torch.channels_last)
        doubled = torch.empty(
            (len(image), self.outputs, 2 * height, 2 * width),
            dtype=phases.dtype,
            device=phases.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        for number, phase in enumerate(phases.split(self.outputs, dim=1)):
            y, x = divmod(number, 2)
            doubled[..., y::2, x::2] = phase[..., y : y + height, x : x + width]
        return doubled


def _neighbours(network: nn.Module) -> Iterator[tuple[nn.Sequential, str, str]]:
    """Every sequence in a network, with the names of two parts that follow each other."""
    for sequence in [part for part in network.modules() if isinstance(part, nn.Sequential)]:
        for first, second in pairwise([name for name, _ in sequence.named_children()]):
            yield sequence, first, second


def _doubles(module: nn.Module) -> bool:
    return isinstance(module, nn.Upsample) and module.mode == "nearest" and module.scale_factor == 2


def _is_reflected(convolution: nn.Conv2d) -> bool:
    shape = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and convolution.groups == 1
    return plain and convolution.padding_mode == "reflect"
