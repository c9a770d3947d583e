"""Patch geometry, cropping and pasting, against loops written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facehall_env import patches
from facehall_env.errors import ConfigurationError
from facehall_env.patches import PatchGeometry

PAPER = PatchGeometry((128, 128), (60, 45))


@st.composite
def geometries(draw: st.DrawFn) -> PatchGeometry:
    stride = draw(st.sampled_from([1, 2, 3]))
    image = (stride * draw(st.integers(2, 7)), stride * draw(st.integers(2, 7)))
    patch = (draw(st.integers(1, image[0])), draw(st.integers(1, image[1])))
    border = draw(st.sampled_from(["centre", "inside"]))
    offset = draw(st.none() | st.integers(0, stride - 1))
    return PatchGeometry(image, patch, border, stride, offset)


def all_actions(geometry: PatchGeometry) -> torch.Tensor:
    return torch.arange(geometry.num_locations)


@pytest.mark.parametrize(
    ("y", "x", "rows", "columns"),
    [(64, 64, (35, 94), (42, 86)), (0, 0, (-29, 30), (-22, 22)), (127, 5, (98, 157), (-17, 27))],
)
def test_the_papers_patch_covers_rows_y_minus_29_to_y_plus_30(y, x, rows, columns) -> None:
    top, left = PAPER.top_left(torch.tensor([y * 128 + x]))[0].tolist()
    assert (top, top + 59) == rows
    assert (left, left + 44) == columns


def test_inside_clamps_the_corner_and_moves_the_centre_with_it() -> None:
    geometry = PatchGeometry((128, 128), (60, 45), border="inside")
    actions = torch.tensor([0, 64 * 128 + 64, 128 * 128 - 1])
    assert geometry.top_left(actions).tolist() == [[0, 0], [35, 42], [68, 83]]
    assert geometry.location(actions).tolist() == [[29, 22], [64, 64], [97, 105]]


def test_stride_places_centres_in_the_middle_of_the_cells() -> None:
    geometry = PatchGeometry((128, 128), (60, 45), stride=16)
    assert geometry.grid == (8, 8)
    assert geometry.centres(torch.tensor([0, 9, 63])).tolist() == [[8, 8], [24, 24], [120, 120]]


def test_an_offset_places_centres_elsewhere_in_the_cells() -> None:
    geometry = PatchGeometry((128, 128), (32, 32), stride=8, offset=7)
    assert geometry.centres(torch.tensor([0, 17, 255])).tolist() == [[7, 7], [15, 15], [127, 127]]
    corners = {tuple(corner) for corner in geometry.top_left(all_actions(geometry)).tolist()}
    tiles = {(row, column) for row in range(0, 128, 32) for column in range(0, 128, 32)}
    assert tiles < corners
    middles = PatchGeometry((128, 128), (32, 32), stride=8)
    assert not tiles & {tuple(c) for c in middles.top_left(all_actions(middles)).tolist()}
    assert PatchGeometry((128, 128), (32, 32), stride=8, offset=4).centre == middles.centre


@given(geometries())
def test_every_action_is_the_nearest_one_to_its_own_centre(geometry: PatchGeometry) -> None:
    actions = all_actions(geometry)
    centres = geometry.centres(actions).tolist()
    assert [geometry.nearest_action(y, x) for y, x in centres] == actions.tolist()


@given(geometries(), st.data())
def test_the_nearest_action_is_the_nearest(geometry: PatchGeometry, data: st.DataObject) -> None:
    y, x = (data.draw(st.integers(0, side - 1)) for side in geometry.image_size)
    distance = (geometry.centres(all_actions(geometry)) - torch.tensor([y, x])).abs()
    chosen = distance[geometry.nearest_action(y, x)]
    assert chosen.tolist() == distance.amin(0).tolist()


@given(geometries())
def test_distinct_actions_name_every_patch_once(geometry: PatchGeometry) -> None:
    distinct = geometry.distinct_actions()
    corners = {tuple(corner) for corner in geometry.top_left(all_actions(geometry)).tolist()}
    chosen = [tuple(corner) for corner in geometry.top_left(distinct).tolist()]
    assert len(chosen) == len(set(chosen))
    assert set(chosen) == corners


def test_there_are_69_by_84_patches_of_the_papers_size_inside_the_face() -> None:
    geometry = PatchGeometry((128, 128), (60, 45), border="inside")
    assert len(geometry.distinct_actions()) == (128 - 60 + 1) * (128 - 45 + 1)


@given(geometries(), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_pasting_an_unchanged_patch_is_the_identity_everywhere(geometry, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    actions = all_actions(geometry)
    images = torch.rand(len(actions), 3, *geometry.image_size, generator=generator)
    top_left = geometry.top_left(actions)
    patch = patches.crop(images, top_left, geometry.patch_size)
    assert torch.equal(patches.paste(images, patch, top_left), images)


@given(geometries(), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_crop_paste_and_mask_agree_with_a_padded_numpy_array(geometry, seed) -> None:
    rng = np.random.default_rng(seed)
    height, width = geometry.image_size
    h, w = geometry.patch_size
    actions = all_actions(geometry)
    top_left = geometry.top_left(actions)
    images = torch.from_numpy(rng.random((len(actions), 2, height, width)))
    new = torch.from_numpy(rng.random((len(actions), 2, h, w)))
    cut = patches.crop(images, top_left, (h, w), fill=0.25)
    pasted = patches.paste(images, new, top_left)
    inside = patches.inside_mask(top_left, (h, w), (height, width))
    pad = max(height, width)
    for i, (top, left) in enumerate(top_left.tolist()):
        window = (slice(None), slice(top + pad, top + pad + h), slice(left + pad, left + pad + w))
        padded = np.pad(images[i].numpy(), ((0, 0), (pad, pad), (pad, pad)), constant_values=0.25)
        np.testing.assert_array_equal(cut[i].numpy(), padded[window])
        padded[window] = new[i].numpy()
        np.testing.assert_array_equal(pasted[i].numpy(), padded[:, pad:-pad, pad:-pad])
        ones = np.pad(np.ones((1, height, width), bool), ((0, 0), (pad, pad), (pad, pad)))
        np.testing.assert_array_equal(inside[i].numpy(), ones[window])


def test_a_patch_wholly_outside_changes_nothing() -> None:
    images = torch.rand(2, 3, 8, 8)
    far = torch.tensor([[-20, 0], [3, 30]])
    assert torch.equal(patches.paste(images, torch.ones(2, 3, 4, 4), far), images)
    assert patches.crop(images, far, (4, 4)).unique().tolist() == [0.5]


def test_gradients_flow_to_the_pasted_pixels_and_to_no_hidden_ones() -> None:
    images = torch.zeros(1, 1, 3, 3, requires_grad=True)
    patch = torch.ones(1, 1, 2, 2, requires_grad=True)
    patches.paste(images, patch, torch.tensor([[2, -1]])).sum().backward()
    assert patch.grad is not None
    assert patch.grad[0, 0].tolist() == [[0, 1], [0, 0]]
    assert images.grad is not None
    assert images.grad[0, 0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1]]


def test_cover_adds_to_what_was_covered() -> None:
    coverage = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    coverage = patches.cover(coverage, torch.tensor([[-1, 1]]), (2, 2))
    coverage = patches.cover(coverage, torch.tensor([[2, 2]]), (2, 2))
    assert coverage[0, 0].int().tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("border", "expected"),
    [("centre", (0.503, 0.860, 0.957)), ("inside", (0.496, 0.737, 0.815))],
)
def test_random_patches_cover_as_much_as_was_measured_elsewhere(border, expected) -> None:
    geometry = PatchGeometry((128, 128), (60, 45), border=border)
    choices = geometry.distinct_actions()
    generator = torch.Generator().manual_seed(0)
    coverage = torch.zeros(600, 1, 128, 128, dtype=torch.bool)
    shares = []
    for _ in range(25):
        pick = torch.randint(len(choices), (len(coverage),), generator=generator)
        coverage = patches.cover(coverage, geometry.top_left(choices[pick]), (60, 45))
        shares.append(coverage.float().mean().item())
    assert (shares[4], shares[14], shares[24]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"patch_size": (129, 45)}, "does not fit"),
        ({"patch_size": (0, 45)}, "does not fit"),
        ({"patch_size": (60, 45), "stride": 5}, "does not divide"),
        ({"patch_size": (60, 45), "border": "center"}, "is unknown"),
        ({"patch_size": (60, 45), "stride": 8, "offset": 8}, "action_offset=8 lies outside a cell"),
        ({"patch_size": (60, 45), "stride": 8, "offset": -1}, "choose one from 0 to 7"),
    ],
)
def test_impossible_geometries_are_refused(settings_, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PatchGeometry((128, 128), **settings_)
