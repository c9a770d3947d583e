"""Faces restored tile by tile."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facehall_env import enhancers
from facehall_env.enhancers import Enhancer
from facehall_env.enhancers.patch.tiles import Tiled, tile_corners, whole_or_tiled


class Stamp(Enhancer):
    """Adds the row and column of the patch's centre, and the mean of the face that it sees."""

    name = "stamp"

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        mark = location.sum(1).float() + image.mean((1, 2, 3))
        return patch + mark[:, None, None, None]


@given(st.integers(1, 9), st.integers(0, 30))
def test_as_few_as_cover_the_face_evenly(part: int, more: int) -> None:
    whole = part + more
    rows = [row for row, _ in tile_corners((whole, part), (part, part))]
    assert (rows[0] == 0 and rows[-1] + part == whole) or len(rows) == 1
    assert len(rows) == -(-whole // part)
    covered = {pixel for row in rows for pixel in range(row, row + part)}
    assert covered == set(range(whole))
    gaps = [after - before for before, after in pairwise(rows)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_tiles_see_the_face_as_it_came() -> None:
    enhancer = Stamp(scale=4, patch_size=(4, 2))
    image = torch.rand(2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    restored = Tiled(enhancer)(image)
    # Centres of patches of 4x2 are (1, 0) from their corners, (0, 0), (0, 2), (4, 0) and (4, 2).
    sums = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    marks = sums.repeat_interleave(4, 0).repeat_interleave(2, 1)
    expected = image + marks + image.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(restored, expected)


def test_where_tiles_overlap_the_later_one_stays() -> None:
    enhancer = Stamp(scale=4, patch_size=(4, 3))
    restored = Tiled(enhancer)(torch.zeros(1, 3, 4, 5))
    # Columns 0 to 2 and 2 to 4; centres (1, 1) and (1, 3).
    assert restored[0, 0, 0].tolist() == [2.0, 2.0, 4.0, 4.0, 4.0]


def test_networks_of_whole_faces_need_no_tiles() -> None:
    compact = enhancers.make("compact", width=4, blocks=1)
    assert whole_or_tiled(compact) is compact.whole_face()
    assert isinstance(whole_or_tiled(Stamp(4, (4, 4))), Tiled)


def test_gradients_reach_the_network() -> None:
    torch.manual_seed(0)
    enhancer = enhancers.make("ipfh", width=16)
    torch.nn.init.normal_(enhancer.leave.weight)
    whole_or_tiled(enhancer)(torch.rand(1, 3, 128, 128)).square().mean().backward()
    for name in ("image_branch.0", "patch_branch.0", "leave"):
        assert enhancer.get_submodule(name).weight.grad.abs().sum() > 0
