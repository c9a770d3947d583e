"""Real image pairs for the metrics, rebuilt from a public-domain photograph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

SIDE = 128


def _truth() -> Image.Image:
    crop = Image.fromarray(astronaut()[0:256, 96:352])
    return crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _bicubic(hr: Image.Image, scale: int) -> NDArray[np.uint8]:
    small = hr.resize((SIDE // scale, SIDE // scale), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _noisy(hr: Image.Image) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 10, (SIDE, SIDE, 3))
    return np.clip(np.round(np.asarray(hr) + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def bytes_by_name() -> dict[str, NDArray[np.uint8]]:
    """The truth ``hr`` and three degraded versions of it, uint8 (128, 128, 3)."""
    hr = _truth()
    return {
        "hr": np.asarray(hr),
        "pil_bicubic_x4": _bicubic(hr, 4),
        "pil_bicubic_x8": _bicubic(hr, 8),
        "gauss_noise_sigma10_seed0": _noisy(hr),
    }


@pytest.fixture(scope="session")
def images(bytes_by_name: dict[str, NDArray[np.uint8]]) -> dict[str, torch.Tensor]:
    """The same as float32 tensors (1, 3, 128, 128) in [0, 1]."""
    return {
        name: torch.tensor(array).permute(2, 0, 1)[None].float() / 255
        for name, array in bytes_by_name.items()
    }
