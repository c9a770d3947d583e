from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facehall_env.data.resize import resize, resize_matrix
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Kernel

KERNELS: tuple[Kernel, ...] = (
    "bicubic",
    "matlab-bicubic",
    "area",
    "catmull-rom-corners",
    "torch7-bicubic",
)
SIZES = [(64, 16), (64, 8), (16, 64), (48, 36), (10, 7), (7, 10)]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(0))


@given(kernel=st.sampled_from(KERNELS), before=st.integers(1, 40), after=st.integers(1, 40))
def test_grey_stays_grey(kernel: Kernel, before: int, after: int) -> None:
    np.testing.assert_allclose(resize_matrix(kernel, before, after).sum(axis=1), 1, atol=1e-12)


@given(kernel=st.sampled_from(KERNELS), before=st.integers(1, 40), after=st.integers(2, 40))
def test_a_mirrored_image_gives_the_mirrored_result(
    kernel: Kernel, before: int, after: int
) -> None:
    matrix = resize_matrix(kernel, before, after)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-9)


@given(kernel=st.sampled_from(KERNELS), size=st.integers(1, 40))
def test_the_same_size_changes_nothing(kernel: Kernel, size: int) -> None:
    np.testing.assert_allclose(resize_matrix(kernel, size, size), np.eye(size), atol=1e-12)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bicubic_is_pillows(before: int, after: int) -> None:
    row = np.random.default_rng(0).random((1, before), dtype=np.float32)
    theirs = np.asarray(Image.fromarray(row).resize((after, 1), Image.Resampling.BICUBIC))
    ours = row @ resize_matrix("bicubic", before, after).T
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("size", [(10, 16), (5, 8), (80, 128), (33, 50)])
def test_bicubic_is_torchs_with_antialias(images: torch.Tensor, size: tuple[int, int]) -> None:
    theirs = torch.nn.functional.interpolate(
        images, size=size, mode="bicubic", antialias=True, align_corners=False
    )
    if size > (40, 64):
        # Enlarging, torch takes a = -0.5 with antialias and -0.75 without.
        assert not torch.allclose(
            theirs, torch.nn.functional.interpolate(images, size=size, mode="bicubic"), atol=1e-3
        )
    torch.testing.assert_close(resize(images, size, "bicubic"), theirs, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("before", "after"), [(64, 16), (48, 36), (10, 7), (9, 4)])
def test_area_is_opencvs(before: int, after: int) -> None:
    row = np.random.default_rng(0).random((before, before))
    theirs = cv2.resize(row, (after, after), interpolation=cv2.INTER_AREA)
    matrix = resize_matrix("area", before, after)
    np.testing.assert_allclose(matrix @ row @ matrix.T, theirs, atol=1e-6)


def test_matlab_mirrors_the_border() -> None:
    # Halving: the taps lie 1/4, 3/4, 5/4 and 7/4 kernel widths off on either side, with weights
    # 0.43359375, 0.11328125, -0.03515625, -0.01171875; of the first pixel three taps lie outside
    # and fall back on pixels 0, 1, 2, and one beyond the other end on pixel 3.
    expected = [0.546875, 0.3984375, 0.1015625, -0.046875]
    matrix = resize_matrix("matlab-bicubic", 4, 2)
    np.testing.assert_allclose(matrix, [expected, expected[::-1]], atol=1e-12)


def test_matlab_enlarges_with_a_mirrored_border() -> None:
    # Twice as large: the first pixel lies at -1/4, so its taps -2, -1, 0, 1 have the weights
    # -9/128, 29/128, 111/128, -3/128 in reverse; -1 falls on 0 and -2 on 1.
    weights = {-2: -3 / 128, -1: 29 / 128, 0: 111 / 128, 1: -9 / 128}
    expected = [weights[0] + weights[-1], weights[1] + weights[-2], 0, 0]
    np.testing.assert_allclose(resize_matrix("matlab-bicubic", 4, 8)[0], expected, atol=1e-12)


@pytest.mark.parametrize(("before", "after"), [(64, 16), (16, 64)])
def test_matlab_and_pillow_agree_away_from_the_border(before: int, after: int) -> None:
    inside = slice(3, -3) if after < before else slice(12, -12)
    np.testing.assert_allclose(
        resize_matrix("matlab-bicubic", before, after)[inside],
        resize_matrix("bicubic", before, after)[inside],
        atol=1e-12,
    )


def test_catmull_rom_by_hand() -> None:
    # Halfway between two pixels the weights are -1/16, 9/16, 9/16, -1/16.
    mirrored = resize_matrix("catmull-rom-corners", 3, 5) * 16
    np.testing.assert_allclose(mirrored[:3], [[16, 0, 0], [9, 8, -1], [0, 16, 0]], atol=1e-9)
    continued = resize_matrix("torch7-bicubic", 3, 5) * 16
    np.testing.assert_allclose(continued[:3], [[16, 0, 0], [7, 10, -1], [0, 16, 0]], atol=1e-9)


@given(before=st.integers(2, 30), after=st.integers(2, 60))
def test_torch7_keeps_straight_lines_straight(before: int, after: int) -> None:
    line = np.linspace(0, 1, before)
    result = resize_matrix("torch7-bicubic", before, after) @ line
    np.testing.assert_allclose(result, np.linspace(0, 1, after), atol=1e-9)


def test_rows_and_columns_are_not_confused(images: torch.Tensor) -> None:
    result = resize(images, (10, 8), "area")
    torch.testing.assert_close(result, torch.nn.functional.avg_pool2d(images, (4, 8)))


def test_gradients_flow_although_inference_came_first() -> None:
    image = torch.rand(1, 1, 6, 12, requires_grad=True)
    with torch.inference_mode():
        resize(image, (3, 4), "area")
    resize(image, (3, 4), "area").sum().backward()
    torch.testing.assert_close(image.grad, torch.full_like(image, 1 / 6))


def test_float64_stays_float64(images: torch.Tensor) -> None:
    assert resize(images.double(), (10, 16), "bicubic").dtype == torch.float64


@pytest.mark.parametrize(
    ("kernel", "before", "after", "words"),
    [("cubic", 8, 4, "catmull-rom-corners"), ("area", 0, 4, "at least 1"), ("area", 4, 0, "to 0")],
)
def test_bad_requests_are_explained(kernel: Kernel, before: int, after: int, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        resize_matrix(kernel, before, after)


def test_the_cached_matrix_cannot_be_spoilt() -> None:
    with pytest.raises(ValueError, match="read-only"):
        resize_matrix("area", 8, 4)[0, 0] = 2
