"""Eq. 14 of the SPARNet paper: ranges, stages worked out by hand, golden draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facehall_env.data import random_degradation
from facehall_env.data.random_degradation import DEGRADATIONS, Drawn, motion_kernel
from facehall_env.errors import ConfigurationError, UnknownNameError


@pytest.fixture
def face() -> NDArray[np.uint8]:
    """Smooth, colourful, with an edge: uint8 (64, 64, 3)."""
    y, x = np.mgrid[:64, :64]
    waves = np.stack((x * 3, y * 3, 128 + 90 * np.sin(x / 7) * np.cos(y / 5)), axis=2)
    waves[20:40, 30:50] = (220, 40, 60)
    return np.asarray(waves, np.uint8)


@given(seed=st.integers(0, 2**63))
def test_the_papers_ranges_hold(seed: int) -> None:
    drawn = DEGRADATIONS["paper"].draw(np.random.default_rng(seed))
    low, high = (5, 25) if drawn.blur == "motion" else (3, 15)
    assert drawn.blur in ("gaussian", "average", "median", "motion")
    assert low <= drawn.rho <= high
    assert drawn.blur == "gaussian" or drawn.rho == int(drawn.rho)
    assert drawn.blur not in ("median", "motion") or drawn.rho % 2 == 1
    assert 16 / 512 <= drawn.fraction <= 128 / 512
    assert 0 <= drawn.delta <= 0.1 * 255
    # "Compression level" 60 to 85, where higher is stronger.
    assert 60 <= 100 - drawn.quality <= 85
    assert not drawn.grey


@given(seed=st.integers(0, 2**63))
def test_the_released_ranges_hold(seed: int) -> None:
    drawn = DEGRADATIONS["released"].draw(np.random.default_rng(seed))
    assert 32 <= int(512 * drawn.fraction) < 128
    assert drawn.quality == 0 or 35 <= drawn.quality <= 90
    assert drawn.delta == 0 or 0 < drawn.delta <= 25.5
    assert (drawn.blur == "none") == (drawn.rho == 0)


def test_each_part_comes_as_often_as_the_preset_says() -> None:
    generator = np.random.default_rng(0)
    draws = [DEGRADATIONS["released"].draw(generator) for _ in range(3000)]
    assert np.mean([d.blur != "none" for d in draws]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([d.delta > 0 for d in draws]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([d.quality > 0 for d in draws]) == pytest.approx(0.7, abs=0.03)
    assert np.mean([d.grey for d in draws]) == pytest.approx(0.3, abs=0.03)
    for kind in ("gaussian", "average", "median", "motion"):
        assert np.mean([d.blur == kind for d in draws]) == pytest.approx(0.125, abs=0.03)
    windows = {d.rho for d in draws if d.blur == "average"}
    assert windows == set(range(3, 16))
    assert {d.rho for d in draws if d.blur == "motion"} == set(range(5, 26, 2))


def test_seeds_mean_the_same_for_ever() -> None:
    assert {
        name: [
            (d.blur, round(d.rho, 4), round(d.fraction, 5), round(d.delta, 4), d.quality, d.grey)
            for d in (preset.draw(np.random.default_rng(seed)) for seed in range(4))
        ]
        for name, preset in DEGRADATIONS.items()
    } == GOLDEN


def test_the_same_seed_gives_the_same_image(face: NDArray[np.uint8]) -> None:
    before = face.copy()
    for preset in DEGRADATIONS:
        once = random_degradation.degrade(face, preset, seed=5)
        assert np.array_equal(once, random_degradation.degrade(face, preset, seed=5))
        assert not np.array_equal(once, random_degradation.degrade(face, preset, seed=6))
        assert once.shape == face.shape
        assert once.dtype == np.uint8
    assert np.array_equal(face, before)


def test_golden_images_by_seed(face: NDArray[np.uint8]) -> None:
    """Means of the four quarters: coarse enough for another version of the JPEG library."""
    for (preset, seed), expected in GOLDEN_IMAGES.items():
        image = random_degradation.degrade(face, preset, seed).astype(float)
        quarters = [image[a : a + 32, b : b + 32].mean() for a in (0, 32) for b in (0, 32)]
        assert quarters == pytest.approx(expected, abs=1.0), (preset, seed)


def test_nothing_drawn_changes_nothing(face: NDArray[np.uint8]) -> None:
    assert np.array_equal(Drawn().apply(face), face)


def test_a_shrunken_face_is_the_mean_of_its_cells() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:2, :2] = [[[0], [100]], [[40], [60]]]
    image[2:, 6:] = 200
    small = Drawn(fraction=0.5).shrink(image)
    expected = np.zeros((2, 4), np.uint8)
    expected[0, 0], expected[1, 3] = 50, 200
    assert np.array_equal(small, np.repeat(expected[..., None], 3, axis=2))
    assert Drawn(fraction=0.01).shrink(image).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("blur", "rho", "expected"),
    [
        ("average", 3.0, [0, 0, 30, 30, 30, 0, 0]),
        ("median", 3.0, [0, 0, 0, 0, 0, 0, 0]),
        ("motion", 5.0, [0, 18, 18, 18, 18, 18, 0]),
    ],
)
def test_blurs_of_a_bright_column(blur, rho, expected) -> None:
    """A column of 90 in the middle of a face of 512, where rho is in its own pixels."""
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, 256] = 90
    blurred = Drawn(blur=blur, rho=rho).shrink(image)
    assert blurred[256, 253:260, 1].tolist() == expected


def test_the_gaussian_has_the_standard_deviation_drawn() -> None:
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, 256:] = 200
    edge = Drawn(blur="gaussian", rho=4.0).shrink(image)[256, :, 0] / 200.0
    slope = np.diff(edge)
    x = np.arange(511)
    mean = (slope * x).sum()
    assert mean == pytest.approx(255, abs=0.1)
    assert np.sqrt((slope * (x - mean) ** 2).sum()) == pytest.approx(4.0, abs=0.1)


def test_blur_is_scaled_with_the_face() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    image[:, 64] = 90
    blurred = Drawn(blur="average", rho=12.0).shrink(image)
    assert blurred[64, 61:68, 0].tolist() == [0, 0, 30, 30, 30, 0, 0]


def test_motion_follows_its_angle() -> None:
    upright = motion_kernel(5, 90)
    assert np.allclose(upright[:, 2], 0.2, atol=1e-5)
    assert upright.sum() == pytest.approx(1)
    diagonal = motion_kernel(5, 45)
    assert diagonal[0, 4] + diagonal[1, 3] > diagonal[0, 0] + diagonal[1, 1]
    assert np.allclose(diagonal, np.rot90(diagonal, 2), atol=1e-6)


def test_noise_has_the_deviation_drawn_and_depends_on_its_seed() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    noisy = Drawn(delta=10.0, noise_seed=1).apply(image).astype(float) - 128
    assert noisy.mean() == pytest.approx(0, abs=0.2)
    assert noisy.std() == pytest.approx(10, abs=0.2)
    # Independent in every channel.
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.03
    other = Drawn(delta=10.0, noise_seed=2).apply(image)
    assert not np.array_equal(noisy + 128, other)


def test_lower_quality_is_further_from_the_face(face: NDArray[np.uint8]) -> None:
    errors = [
        np.abs(Drawn(quality=quality).apply(face).astype(float) - face).mean()
        for quality in (95, 60, 15)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 5
    # Red stays red: channels are not exchanged on the way through the file.
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(Drawn(quality=90).apply(red).astype(int) - red).max() <= 3


def test_grey_faces_have_a_grey_truth(face: NDArray[np.uint8]) -> None:
    drawn = Drawn(grey=True)
    weights = np.array([0.299, 0.587, 0.114])
    for image in (drawn.truth(face), drawn.apply(face)):
        assert np.abs(image - (face @ weights)[..., None]).max() <= 0.51
    generator = np.random.default_rng(3)
    pairs = [DEGRADATIONS["released"].pair(face, generator) for _ in range(30)]
    kept = [np.array_equal(truth, face) for truth, _ in pairs]
    assert 0 < sum(kept) < 30
    for truth, degraded in pairs:
        grey = np.ptp(truth.astype(int), axis=2).max() == 0
        assert not grey or np.ptp(degraded.astype(int), axis=2).mean() < 40


def test_what_is_no_face_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"got float64 \(8, 8, 3\)"):
        Drawn().shrink(np.zeros((8, 8, 3)))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"got uint8 \(3, 8, 8\)"):
        Drawn().shrink(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        random_degradation.get("papr")


GOLDEN = {
    "paper": [
        ("gaussian", 13.9531, 0.19083, 13.8624, 36, False),
        ("gaussian", 8.0799, 0.12076, 14.0146, 23, False),
        ("average", 12, 0.04331, 7.0117, 30, False),
        ("gaussian", 8.1975, 0.06619, 18.7317, 17, False),
    ],
    "released": [
        ("none", 0.0, 0.19928, 0.0, 80, True),
        ("none", 0.0, 0.13922, 0.0, 52, False),
        ("average", 12, 0.07284, 0.0, 0, True),
        ("gaussian", 8.1975, 0.09245, 0.0, 0, False),
    ],
}
GOLDEN_IMAGES = {
    ("paper", 0): [75.92, 107.21, 107.39, 135.39],
    ("paper", 1): [68.66, 101.83, 101.8, 143.13],
    ("paper", 2): [64.24, 80.42, 104.25, 120.43],
    ("released", 0): [56.57, 84.59, 111.72, 138.8],
    ("released", 1): [73.84, 106.05, 105.08, 137.83],
    ("released", 2): [55.77, 84.06, 110.68, 137.19],
}
