"""Phase congruency of Kovesi (1999), in the variant that FSIM uses."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

_ORIENTATIONS = _SCALES = 4
_MIN_WAVELENGTH, _WAVELENGTH_RATIO = 6.0, 2.0
# Bandwidth of the log-Gabor filters, and their angular spread pi / (orientations * 1.2).
_SIGMA_ON_F = 0.55
_ANGULAR_SIGMA = math.pi / (_ORIENTATIONS * 1.2)
_LOWPASS_CUTOFF, _LOWPASS_ORDER = 0.45, 15
# Standard deviations of the noise above its mean that are taken off the energy, and the
# empirical correction of that estimate for this measure (both Kovesi's).
_NOISE_DEVIATIONS, _NOISE_CORRECTION = 2.0, 1.7
# Responses below this, on a scale of 0 to 255, are rounding errors and not features.
_EPSILON = 1e-6


def phase_congruency(images: Tensor) -> Tensor:
    """Return the phase congruency of every pixel, summed over orientations.

    For every orientation, quadrature pairs of log-Gabor filters at four scales give complex
    responses; energy is the length of their sum less what deviates from its phase, less a noise
    threshold estimated from the median response at the finest scale. The result is energy over
    total amplitude (Kovesi 1999, "Image features from phase congruency", without its weighting
    by frequency spread, as in the authors' FSIM code).

    Args:
        images: Float luma (N, H, W) on a scale of 0 to 255.

    Returns:
        Phase congruency (N, H, W) in [0, 1].
    """
    bank = _filter_bank(images.shape[-2], images.shape[-1], images.dtype, images.device)
    # The filters ignore the mean; without it the transform of a flat image is zero exactly.
    spectrum = torch.fft.fft2(images - images.mean(dim=(1, 2), keepdim=True))
    energy = torch.zeros_like(images)
    amplitude = torch.zeros_like(images)
    # One orientation at a time keeps the working set within a CPU's cache.
    for transfer, noise_gain in zip(*bank, strict=True):
        responses = torch.fft.ifft2(spectrum.unsqueeze(1) * transfer)
        # Arithmetic on two contiguous real tensors is several times faster than complex.
        even, odd = torch.view_as_real(responses).movedim(-1, 0).contiguous()
        amplitudes = _length(even, odd)
        threshold = noise_gain * amplitudes[:, 0].flatten(1).median(dim=1).values
        congruent = _congruent_energy(even, odd) - threshold[:, None, None]
        energy = energy + congruent.clamp_min(0)
        amplitude = amplitude + amplitudes.sum(dim=1)
    return energy / (amplitude + _EPSILON)


def _congruent_energy(even: Tensor, odd: Tensor) -> Tensor:
    """Return the energy (N, H, W) of even and odd responses (N, scales, H, W).

    With the unit vector u along the sum of the responses r = even + i odd, it is the sum over
    the scales of Re(r u*) - |Im(r u*)|, and the real parts add up to the length of the sum.
    """
    total_even, total_odd = even.sum(dim=1), odd.sum(dim=1)
    length = _length(total_even, total_odd)
    deviations = odd * total_even.unsqueeze(1) - even * total_odd.unsqueeze(1)
    return length - deviations.abs().sum(dim=1) / (length + _EPSILON)


def _length(even: Tensor, odd: Tensor) -> Tensor:
    """Return sqrt(even^2 + odd^2), with a floor that keeps its derivative finite at zero."""
    return (even.square() + odd.square()).clamp_min(_EPSILON**4).sqrt()


@lru_cache(maxsize=8)
def _filter_bank(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Build log-Gabor filters in the frequency domain, in float64, and what they make of noise.

    These are (orientations, scales, H, W), zero frequency at [0, 0], and (orientations,), the
    threshold over the median response at the finest scale.
    """
    # A tensor made in inference mode could never take part in a later backward pass.
    with torch.inference_mode(False):
        y, x = torch.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
        radius = torch.hypot(x, y)
        radius[0, 0] = 1.0
        radial = _log_gabors(radius) / (1 + (radius / _LOWPASS_CUTOFF) ** (2 * _LOWPASS_ORDER))
        radial[:, 0, 0] = 0.0
        transfer = _angular_spreads(torch.atan2(-y, x))[:, None] * radial[None]
        return transfer.to(device, dtype), _noise_gain(transfer).to(device, dtype)


def _frequencies(length: int) -> Tensor:
    """Return the frequencies of a transform of this length, zero first, in cycles per pixel.

    Odd lengths reach 0.5 exactly, as in Kovesi's code.
    """
    steps: Tensor = torch.fft.fftfreq(length, d=1 / length, dtype=torch.float64)
    return steps / (length if length % 2 == 0 else length - 1)


def _log_gabors(radius: Tensor) -> Tensor:
    """Return the radial parts (scales, H, W), finest scale first."""
    wavelengths = [_MIN_WAVELENGTH * _WAVELENGTH_RATIO**scale for scale in range(_SCALES)]
    relative = torch.stack([radius * wavelength for wavelength in wavelengths])
    deviation = relative.log() / math.log(_SIGMA_ON_F)
    return torch.exp(-0.5 * deviation.square())


def _angular_spreads(theta: Tensor) -> Tensor:
    """Return the angular parts (orientations, H, W)."""
    angles = torch.arange(_ORIENTATIONS, dtype=theta.dtype) * math.pi / _ORIENTATIONS
    difference = theta - angles[:, None, None]
    distance = torch.atan2(difference.sin(), difference.cos())
    return torch.exp(-0.5 * (distance / _ANGULAR_SIGMA).square())


def _noise_gain(transfer: Tensor) -> Tensor:
    """Return (orientations,) factors from the median finest response to the noise threshold.

    White noise of power p gives finest responses whose squared length has the mean p E and the
    median p E ln 2, with E the squared norm of the filter, and a sum over scales whose length
    is Rayleigh distributed with tau^2 = p G, with G the squared norm of the summed even filters.
    """
    pixels = transfer.shape[-2] * transfer.shape[-1]
    finest = transfer[:, 0].square().sum(dim=(-2, -1))
    even = torch.fft.ifft2(transfer).real.sum(dim=1) * math.sqrt(pixels)
    tau = torch.sqrt(even.square().sum(dim=(-2, -1)) / (finest * math.log(2)))
    mean, deviation = math.sqrt(math.pi / 2), math.sqrt(2 - math.pi / 2)
    return tau * (mean + _NOISE_DEVIATIONS * deviation) / _NOISE_CORRECTION
