"""The metrics against values of scikit-image 0.26 and piq 0.8 on three real image pairs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facehall_env.metrics import fsim, psnr, rgb_to_y, ssim

SHA1 = {
    "hr": "1186adbe987f0b6544ceb2ff6f43f0ce4356b7d2",
    "pil_bicubic_x4": "221a03a6e9eacb9bc3318b38fc6e6079ab781920",
    "pil_bicubic_x8": "1aafbd3ddd7aad837c26ad7dcbf1a4cf7cc43a57",
    "gauss_noise_sigma10_seed0": "4d291e0d4687c90918f7a6097b844038640f937f",
}
GOLDEN = {
    "pil_bicubic_x4": {
        "psnr_rgb": 23.154547102810554,
        "psnr_y": 24.65056089216475,
        "ssim_rgb": 0.7517533250167993,
        "ssim_y": 0.7734482418422717,
        "fsim": 0.8236634054440912,
        "fsimc": 0.8231152790792041,
    },
    "pil_bicubic_x8": {
        "psnr_rgb": 19.80728622902847,
        "psnr_y": 21.315104261321682,
        "ssim_rgb": 0.540041455287825,
        "ssim_y": 0.5891456059757817,
        "fsim": 0.7117332622447234,
        "fsimc": 0.7109012425391029,
    },
    "gauss_noise_sigma10_seed0": {
        "psnr_rgb": 28.329191773421737,
        "psnr_y": 33.17569962186799,
        "ssim_rgb": 0.7087626399163014,
        "ssim_y": 0.8500576797271931,
        "fsim": 0.931356235856547,
        "fsimc": 0.9236376029773861,
    },
}
TOLERANCE = {"psnr": 1e-6, "ssim": 1e-6, "fsim": 1e-4, "fsimc": 1e-4}


@pytest.mark.parametrize("name", SHA1)
def test_images_are_those_of_the_recipe(
    bytes_by_name: dict[str, NDArray[np.uint8]], name: str
) -> None:
    assert hashlib.sha1(bytes_by_name[name].tobytes()).hexdigest() == SHA1[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(images: dict[str, torch.Tensor], name: str, dtype: torch.dtype) -> None:
    sr, hr = images[name].to(dtype), images["hr"].to(dtype)
    sr_y, hr_y = rgb_to_y(sr), rgb_to_y(hr)
    measured = {
        "psnr_rgb": psnr(sr, hr),
        "psnr_y": psnr(sr_y, hr_y),
        "ssim_rgb": ssim(sr, hr),
        "ssim_y": ssim(sr_y, hr_y),
        "fsim": fsim(sr, hr),
        "fsimc": fsim(sr, hr, chromatic=True),
    }
    for key, golden in GOLDEN[name].items():
        tolerance = TOLERANCE[key.split("_")[0]]
        assert measured[key].item() == pytest.approx(golden, abs=tolerance, rel=0), key


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_on_a_gpu(images: dict[str, torch.Tensor], name: str) -> None:
    sr, hr = images[name].cuda(), images["hr"].cuda()
    golden = GOLDEN[name]
    assert psnr(sr, hr).device == sr.device
    assert psnr(sr, hr).item() == pytest.approx(golden["psnr_rgb"], abs=1e-6, rel=0)
    assert ssim(sr, hr).item() == pytest.approx(golden["ssim_rgb"], abs=1e-6, rel=0)
    assert fsim(sr, hr).item() == pytest.approx(golden["fsim"], abs=1e-4, rel=0)
    assert fsim(sr, hr, True).item() == pytest.approx(golden["fsimc"], abs=1e-4, rel=0)
