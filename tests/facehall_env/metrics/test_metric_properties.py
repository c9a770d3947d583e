"""What any image similarity must satisfy, and what these must say about bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from facehall_env.metrics import fsim, psnr, rgb_to_y, ssim

Metric = Callable[[Tensor, Tensor], Tensor]
METRICS: dict[str, Metric] = {
    "psnr": psnr,
    "ssim": ssim,
    "fsim": fsim,
    "fsimc": partial(fsim, chromatic=True),
}
each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


def random_pair(height: int, width: int, seed: int, count: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3, height, width)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 40), st.integers(11, 40), st.integers(0, 2**16))
def test_psnr_and_ssim_equal_scikit_image(height: int, width: int, seed: int) -> None:
    x, y = random_pair(height, width, seed)
    a, b = (image[0].permute(1, 2, 0).double().numpy() for image in (x, y))
    assert psnr(x, y).item() == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-9)
    expected = structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1,
    )
    assert ssim(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_psnr_by_hand() -> None:
    x, y = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    y[0] = 0.1
    y[1, 0, 0, 0] = 1.0
    assert psnr(x, y).tolist() == pytest.approx([20.0, 10 * math.log10(48)], abs=1e-6)


def test_luma_is_matlabs() -> None:
    x, _ = random_pair(9, 7, seed=1)
    expected = rgb2ycbcr(x[0].permute(1, 2, 0).double().numpy())[..., 0]
    np.testing.assert_allclose(rgb_to_y(x.double())[0, 0].numpy() * 255, expected, atol=1e-9)


@each_metric
def test_symmetric(images: dict[str, Tensor], metric: Metric) -> None:
    x, y = images["hr"], images["pil_bicubic_x4"]
    assert metric(x, y).item() == pytest.approx(metric(y, x).item(), abs=1e-6)


@each_metric
def test_an_image_is_most_similar_to_itself(images: dict[str, Tensor], metric: Metric) -> None:
    score = metric(images["hr"], images["hr"]).item()
    assert score == (math.inf if metric is psnr else pytest.approx(1.0, abs=1e-6))


@each_metric
def test_falls_with_noise(images: dict[str, Tensor], metric: Metric) -> None:
    hr = images["hr"]
    noise = torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))
    noisy = torch.cat([(hr + sigma * noise).clamp(0, 1) for sigma in (0.01, 0.03, 0.1, 0.3)])
    scores = metric(noisy, hr.expand_as(noisy))
    assert (scores.diff() < 0).all(), scores


@each_metric
def test_a_batch_scores_as_its_images_do(metric: Metric) -> None:
    x, y = random_pair(24, 31, seed=3, count=9)
    singles = torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(metric(x, y), singles, rtol=1e-6, atol=1e-6)


@each_metric
@pytest.mark.parametrize("flat", [0.0, 0.3, 1.0])
def test_featureless_images_have_a_score_and_a_gradient(metric: Metric, flat: float) -> None:
    x = torch.full((1, 3, 16, 16), flat, requires_grad=True)
    y = torch.full((1, 3, 16, 16), 0.6)
    score = metric(x, y)
    score.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(score).all()
    assert torch.isfinite(x.grad).all()


@each_metric
def test_equal_featureless_images_are_equal(metric: Metric) -> None:
    x = torch.full((1, 3, 17, 20), 0.3)
    assert metric(x, x).item() == (math.inf if metric is psnr else pytest.approx(1.0, abs=1e-6))


@each_metric
def test_gradient_points_towards_the_truth(images: dict[str, Tensor], metric: Metric) -> None:
    hr = images["hr"]
    sr = images["pil_bicubic_x8"].clone().requires_grad_()
    before = metric(sr, hr)
    before.sum().backward()
    assert sr.grad is not None
    assert torch.isfinite(sr.grad).all()
    step = 1e-3 * sr.grad / sr.grad.abs().max()
    assert metric((sr + step).clamp(0, 1).detach(), hr).item() > before.item()


def test_fsim_in_inference_mode_leaves_later_gradients_alone() -> None:
    # A size no other test uses, so that the filters are first built in inference mode.
    x, y = random_pair(37, 41, seed=4)
    with torch.inference_mode():
        fsim(x, y)
    x.requires_grad_()
    fsim(x, y).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_fsim_precision_is_enough_in_float32() -> None:
    x, y = random_pair(64, 47, seed=5, count=4)
    torch.testing.assert_close(fsim(x, y), fsim(x.double(), y.double()), rtol=0, atol=2e-6)


def test_fsim_ignores_orientation(images: dict[str, Tensor]) -> None:
    # Scharr gradients and four orientations map onto themselves under transposition.
    x, y = images["pil_bicubic_x4"], images["hr"]
    assert fsim(x.mT, y.mT).item() == pytest.approx(fsim(x, y).item(), abs=1e-4)


def test_fsim_shrinks_large_images_as_the_authors_do(images: dict[str, Tensor]) -> None:
    x, y = images["pil_bicubic_x4"], images["hr"]
    repeat = partial(torch.nn.functional.interpolate, scale_factor=2.0, mode="nearest")
    small = (x.repeat(1, 1, 2, 2), y.repeat(1, 1, 2, 2))
    large = (repeat(small[0]), repeat(small[1]))
    assert large[0].shape[-1] == 512
    assert fsim(*large).item() == pytest.approx(fsim(*small).item(), abs=1e-5)


def test_only_fsimc_sees_hue() -> None:
    x, _ = random_pair(32, 32, seed=6)
    # Opposite changes of red and blue that leave the luma of FSIM as it was.
    shift = torch.tensor([0.114, 0.0, -0.299])[:, None, None]
    x = 0.4 + 0.2 * x
    assert fsim(x + shift, x).item() == pytest.approx(1.0, abs=1e-5)
    assert fsim(x + shift, x, chromatic=True).item() < 0.999


X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@each_metric
@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (X, X[:1], ValueError, ["(2, 3, 16, 16)", "(1, 3, 16, 16)"]),
        (X[0], X[0], ValueError, ["(3, 16, 16)", "(N, C, H, W)"]),
        (X[:, :2], X[:, :2], ValueError, ["(2, 2, 16, 16)"]),
        (X[:0], X[:0], ValueError, ["at least one image"]),
        ((X * 255).byte(), X, TypeError, ["x", "torch.uint8", "/ 255"]),
        (X.numpy(), X, TypeError, ["x", "ndarray", "torch.as_tensor"]),
        (X * 255, X, ValueError, ["x", "[0, 1]", "255"]),
        (X, X - 0.5, ValueError, ["y", "[0, 1]"]),
        (X, X / 0, ValueError, ["y", "[0, 1]"]),
        (X, X * math.nan, ValueError, ["y", "nan"]),
    ],
)
def test_bad_input_is_named(
    metric: Metric, x: Tensor, y: Tensor, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        metric(x, y)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("metric", "side"), [(ssim, 10), (fsim, 7)])
def test_images_smaller_than_the_windows(metric: Metric, side: int) -> None:
    with pytest.raises(ValueError, match=f"{side}x16"):
        metric(X[..., :side, :], X[..., :side, :])


def test_fsim_needs_colour() -> None:
    with pytest.raises(ValueError, match="C = 3"):
        fsim(X[:, :1], X[:, :1])
