"""Scores under a protocol: colour, rounding and shave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from facehall_env.data import protocols
from facehall_env.errors import UnknownNameError
from facehall_env.metrics import fsim, psnr, score, ssim


@dataclass(frozen=True)
class Convention:
    colour: str = "rgb"
    round_sr: bool = False
    border: int = 0

    def shave(self, scale: int, /) -> int:
        return self.border * scale


def test_plain_rgb_is_the_plain_metrics(images: dict[str, Tensor]) -> None:
    sr, hr = images["pil_bicubic_x4"], images["hr"]
    scores = score(sr, hr, protocols.get("bicubic"), scale=4, names=("fsimc", "ssim", "psnr"))
    assert list(scores) == ["fsimc", "ssim", "psnr"]
    assert scores["psnr"].item() == psnr(sr, hr).item()
    assert scores["ssim"].item() == ssim(sr, hr).item()
    assert scores["fsimc"].item() == fsim(sr, hr, chromatic=True).item()


def test_matlab_y_as_done_by_hand(images: dict[str, Tensor]) -> None:
    hr = images["hr"]
    sr = images["pil_bicubic_x4"] * 0.97 + 0.011  # values between the 8-bit levels
    scores = score(sr, hr, protocols.get("matlab-y"), scale=4)

    stored = np.round(sr[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    truth = np.round(hr[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    y, y_true = (rgb2ycbcr(image)[4:-4, 4:-4, 0] for image in (stored, truth))
    assert scores["psnr"].item() == pytest.approx(
        peak_signal_noise_ratio(y_true, y, data_range=255), abs=1e-6
    )
    expected = structural_similarity(
        y, y_true, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert scores["ssim"].item() == pytest.approx(expected, abs=1e-6)
    inner = torch.tensor(stored).permute(2, 0, 1)[None].float()[..., 4:-4, 4:-4] / 255
    assert scores["fsim"].item() == pytest.approx(fsim(inner, hr[..., 4:-4, 4:-4]).item(), abs=1e-6)


def test_shave_follows_the_scale() -> None:
    hr = torch.full((1, 3, 32, 32), 0.5)
    sr = hr.clone()
    sr[..., 5, 5] = 0.0
    protocol = Convention(border=3)
    assert score(sr, hr, protocol, scale=1, names=["psnr"])["psnr"].isfinite().all()
    assert score(sr, hr, protocol, scale=2, names=["psnr"])["psnr"].isinf().all()


def test_rounding_removes_what_8_bits_cannot_hold() -> None:
    hr = torch.arange(0, 250, 10).float().view(1, 1, 5, 5).expand(1, 3, 5, 5) / 255
    sr = hr + 0.4 / 255
    assert score(sr, hr, Convention(), 4, ["psnr"])["psnr"].item() == pytest.approx(
        20 * np.log10(255 / 0.4), abs=1e-3
    )
    rounded = score(sr, hr, Convention(round_sr=True), 4, ["psnr"])["psnr"]
    assert rounded.item() > 120  # only the float32 rounding of k / 255 is left


def test_overshoot_is_clamped_before_scoring() -> None:
    hr = torch.ones(1, 3, 16, 16)
    assert score(hr + 0.2, hr, Convention(), 4, ["psnr"])["psnr"].isinf().all()


@pytest.mark.parametrize(
    ("protocol", "names", "error", "words"),
    [
        (Convention(), ["pnsr"], UnknownNameError, "psnr"),
        (Convention(colour="lab"), ["psnr"], ValueError, "'lab'"),
        (Convention(border=2), ["psnr"], ValueError, "shaves 8 pixels"),
    ],
)
def test_bad_requests(
    protocol: Convention, names: list[str], error: type[Exception], words: str
) -> None:
    images = torch.zeros(1, 3, 16, 16)
    with pytest.raises(error, match=words):
        score(images, images, protocol, 4, names)


def test_8_bit_images_are_refused() -> None:
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(TypeError, match="sr has dtype"):
        score(images, images, Convention(), 4)
