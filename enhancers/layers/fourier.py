"""Convolutions with large kernels by way of the Fourier transform, for CPUs.

A 7x7 convolution multiplies 49 numbers for each output pixel and pair of channels, the product of
spectra little more than one complex number. cuDNN chooses such algorithms by itself; the direct
convolutions of CPUs do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 32
"""Images that are transformed at a time: the spectra of more leave the processor's caches."""


class FourierConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` that is computed in the frequency domain on CPUs.

    Weights, gradients and results are those of `Conv2d` up to rounding. Other devices and types
    than float32 and float64 on the CPU use the direct convolution. Kernels are odd, the stride is
    1, and the padding, `kernel_size // 2`, keeps the size.

    Args:
        kernel_size: Side of the kernel, odd; 7 and more gain from the transform.

    >>> direct = nn.Conv2d(2, 3, 7, padding=3)
    >>> fourier = FourierConv2d(2, 3, 7)
    >>> _ = fourier.load_state_dict(direct.state_dict())
    >>> image = torch.rand(1, 2, 9, 8)
    >>> torch.allclose(direct(image), fourier(image), atol=1e-5)
    True
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self._kept: tuple[Tensor, tuple[int, int], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Convolution of (N, C, H, W) to (N, D, H, W)."""
        if input.device.type != "cpu" or input.dtype not in (torch.float32, torch.float64):
            return super().forward(input)
        period = _period(input.shape[-2], input.shape[-1], self.kernel_size[0])
        kernel = self._spectrum(period)
        product: Callable[..., Tensor] = _Product.apply
        parts = [product(part, self.weight, kernel, period) for part in input.split(CHUNK)]
        result = torch.cat(parts) if len(parts) > 1 else parts[0]
        return result if self.bias is None else result.add_(self.bias[:, None, None])

    @torch.no_grad()
    def _spectrum(self, period: tuple[int, int]) -> Tensor:
        """The kernel's spectrum, kept for as long as the kernel is the same."""
        if self._kept is not None:
            weight, kept_period, spectrum = self._kept
            same_kind = kept_period == period and weight.dtype == self.weight.dtype
            # Compared value by value: kernels may be changed behind the back of version counters.
            if same_kind and torch.equal(weight, self.weight):
                return spectrum
        spectrum = _kernel_spectrum(self.weight, period)
        self._kept = (self.weight.detach().clone(), period, spectrum)
        return spectrum


class _Product(torch.autograd.Function):
    """Correlation with zero padding as a product of spectra.

    Spectra are of shape (frequencies, images, channels), so that the sum over channels is a matrix
    product for each frequency. With X, G and K the spectra of the image, of the gradient and of
    the kernel, the result is X K*, its gradients are G K for the image and X G* for the kernel.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor, kernel: Tensor, period: tuple[int, int]
    ) -> Tensor:
        spectrum = _spectrum(image, period)
        ctx.save_for_backward(spectrum, kernel)
        ctx.image_shape, ctx.weight_shape, ctx.period = image.shape, weight.shape, period
        return _image(spectrum @ kernel, image.shape, period)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        spectrum, kernel = ctx.saved_tensors
        gradient = _spectrum(gradients[0], ctx.period)
        to_image = to_weight = None
        if ctx.needs_input_grad[0]:
            to_image = _image(gradient @ kernel.mH, ctx.image_shape, ctx.period)
        if ctx.needs_input_grad[1]:
            to_weight = _kernel(spectrum.mH @ gradient, ctx.weight_shape, ctx.period)
        return to_image, to_weight, None, None


def _period(height: int, width: int, kernel: int) -> tuple[int, int]:
    """Sides of the transform: the image and one margin of padding, which both borders share."""
    return _fast_length(height + kernel // 2), _fast_length(width + kernel // 2)


def _fast_length(least: int) -> int:
    """The smallest even length without a prime factor above 5.

    >>> _fast_length(63), _fast_length(97)
    (64, 100)
    """
    length = least + least % 2
    while 30 ** length.bit_length() % length:
        length += 2
    return length


def _spectrum(image: Tensor, period: tuple[int, int]) -> Tensor:
    """(N, C, H, W) to (F, N, C)."""
    number, channels = image.shape[:2]
    spectrum: Tensor = torch.fft.rfft2(image, s=period)
    return spectrum.view(number * channels, -1).t().contiguous().view(-1, number, channels)


def _image(spectrum: Tensor, shape: torch.Size, period: tuple[int, int]) -> Tensor:
    """(F, N, D) to (N, D, H, W)."""
    frequencies, number, channels = spectrum.shape
    planes = spectrum.view(frequencies, number * channels).t().contiguous()
    planes = planes.view(number, channels, period[0], -1)
    image: Tensor = torch.fft.irfft2(planes, s=period)[..., : shape[-2], : shape[-1]]
    return image.clone(memory_format=torch.contiguous_format)


@torch.no_grad()
def _kernel_spectrum(weight: Tensor, period: tuple[int, int]) -> Tensor:
    """(D, C, k, k) to the conjugate spectrum, (F, C, D).

    A kernel has so few values that a matrix product is faster than a transform.
    """
    out_channels, in_channels, size, _ = weight.shape
    columns = weight.permute(2, 3, 1, 0).reshape(size**2, -1)
    basis = _basis(size, period, weight.dtype)
    spectrum = torch.complex(basis.real.contiguous() @ columns, basis.imag.contiguous() @ columns)
    return spectrum.view(-1, in_channels, out_channels)


def _kernel(spectrum: Tensor, shape: torch.Size, period: tuple[int, int]) -> Tensor:
    """(F, C, D) to (D, C, k, k): the adjoint of `_kernel_spectrum`, as an inverse transform."""
    out_channels, in_channels, size, _ = shape
    # The half of the spectrum that a real transform leaves out is the mirror image of the other.
    share = spectrum.real.new_full((period[1] // 2 + 1,), 2 / math.prod(period))
    share[0] = share[-1] = 1 / math.prod(period)
    inverse = _basis(size, period, share.dtype) * share.repeat(period[0])[:, None]
    kernel = (inverse.mH @ spectrum.flatten(1)).real.view(size, size, in_channels, out_channels)
    return kernel.permute(3, 2, 0, 1).contiguous()


@lru_cache(maxsize=16)
def _basis(size: int, period: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """exp(2 pi i f x), (F, size^2) complex: frequencies, and offsets x from the kernel's centre."""
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    rows = torch.arange(period[0], dtype=torch.float64)[:, None] * offset / period[0]
    columns = torch.arange(period[1] // 2 + 1, dtype=torch.float64)[:, None] * offset / period[1]
    phase = 2 * math.pi * (rows[:, None, :, None] + columns[None, :, None, :])
    basis = torch.polar(torch.ones_like(phase), phase).reshape(-1, size**2)
    return basis.to(dtype.to_complex())
