"""Who is on a face: from the dataset through protocols and pools to the states of episodes."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from facehall_env.core import HallucinationCore
from facehall_env.data import Faces, protocols
from facehall_env.data.base import FaceDataset, Identified
from facehall_env.data.faces import UNKNOWN, identity_numbers
from facehall_env.data.images import ImageArray
from facehall_env.enhancers import Bicubic
from facehall_env.training.face_pool import FacePool

OWNERS = ("eve", "bob", "eve", "dan", "ann", "bob", "dan", "dan", "ann", "eve")
NUMBERS = [3, 1, 3, 2, 0, 1, 2, 2, 0, 3]
"""Their places in the sorted names."""


class Owned(FaceDataset, Identified):
    """Ten flat faces of four people."""

    def __init__(self) -> None:
        self.name, self.split, self.image_size = "owned", "train", (16, 16)
        self.people = tuple(sorted(set(OWNERS)))

    def __len__(self) -> int:
        return len(OWNERS)

    def __getitem__(self, index: int) -> ImageArray:
        return np.full((16, 16, 3), 20 * self.checked(index), dtype=np.uint8)

    def key(self, index: int) -> str:
        return f"face/{index}"

    def identity(self, index: int) -> str:
        return OWNERS[self.checked(index)]


class Unowned(Owned):
    """The same faces from a release without names."""

    def __init__(self) -> None:
        super().__init__()
        self.people = ()

    def identity(self, index: int) -> str:
        raise AssertionError("nobody knows")


SETTINGS = {"enhancer": "bicubic", "num_steps": 2, "patch_size": (6, 6)}


def number_of(faces: torch.Tensor) -> list[int]:
    """Which faces of the dataset these are, (N, 3, 16, 16)."""
    return [round(level * 255 / 20) for level in faces[:, 0, 0, 0].tolist()]


def test_people_are_counted_in_the_order_of_their_names() -> None:
    numbers = identity_numbers(Owned(), range(10))
    assert numbers is not None
    assert numbers.tolist() == NUMBERS
    assert numbers.dtype == torch.int64
    assert identity_numbers(Unowned(), range(10)) is None


def test_faces_keep_their_people_or_none() -> None:
    faces = protocols.get("bicubic").degrade(torch.rand(3, 3, 16, 16), 4)
    assert faces.identity is None
    assert faces.rows(torch.tensor([1])).identity is None
    assert faces.to("cpu").identity is None
    known = faces._replace(identity=torch.tensor([5, 6, 7]))
    chosen = known.to("cpu").rows(torch.tensor([2, 0]))
    assert chosen.identity is not None
    assert chosen.identity.tolist() == [7, 5]
    assert torch.equal(chosen.hr, faces.hr[[2, 0]])


def test_a_pool_hands_people_on_with_their_faces() -> None:
    pool = FacePool(Owned(), protocols.get("bicubic"), 4, held_out=3, progress=False)
    index = torch.tensor([6, 0, 4])
    for flip in (None, torch.tensor([True, False, True])):
        drawn = pool.faces(index, flip)
        assert drawn.identity is not None
        assert drawn.identity.tolist() == [NUMBERS[number] for number in (6, 0, 4)]
    last = pool.held_out()
    assert last.identity is not None
    assert last.identity.tolist() == NUMBERS[7:]
    assert FacePool(Unowned(), protocols.get("bicubic"), 4, 3, progress=False).identity is None


def test_a_single_environment_knows_whom_it_shows() -> None:
    env = gym.make("FaceHallucination-v0", dataset=Owned(), **SETTINGS).unwrapped
    for index in (3, 9, 0):
        env.reset(options={"index": index})
        assert env.state.identity.tolist() == [NUMBERS[index]]  # type: ignore[attr-defined]
        env.step(0)
        assert env.state.identity.tolist() == [NUMBERS[index]]  # type: ignore[attr-defined]
    env = gym.make("FaceHallucination-v0", dataset=Unowned(), **SETTINGS).unwrapped
    env.reset(seed=0)
    env.step(0)
    assert env.state.identity is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_rows_of_a_vector_take_their_people_along(mode: str) -> None:
    envs = gym.make_vec(
        "FaceHallucination-v0", num_envs=3, dataset=Owned(), autoreset_mode=mode, **SETTINGS
    )

    def check() -> None:
        state = envs.state  # type: ignore[attr-defined]
        assert state.identity.tolist() == [NUMBERS[face] for face in number_of(state.hr)]

    envs.reset(seed=5)
    check()
    envs.step([1, 2, 3])
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    check()
    seen = set()
    for _ in range(6):
        _, _, terminated, _, _ = envs.step([4, 5, 6])
        check()
        seen.add(tuple(envs.state.identity.tolist()))  # type: ignore[attr-defined]
        if mode == "Disabled" and terminated.any():
            envs.reset(options={"reset_mask": terminated})
            check()
    assert len(seen) > 1


def test_rows_whose_people_nobody_knows_are_marked() -> None:
    core = HallucinationCore(Bicubic(4, (6, 6)), image_size=(16, 16))
    images = torch.rand(2, 3, 16, 16)
    known = Faces(images, images[..., ::4, ::4], images, torch.tensor([4, 9]))
    state = core.reset(known)
    stranger = Faces(images[:1], images[:1, :, ::4, ::4], images[:1])
    mixed = core.reset(stranger, state, torch.tensor([1]))
    assert mixed.identity is not None
    assert mixed.identity.tolist() == [4, UNKNOWN]
    assert mixed.rows(torch.tensor([1])).identity.tolist() == [UNKNOWN]  # type: ignore[union-attr]
    assert state.identity is not None
    assert state.identity.tolist() == [4, 9]


def test_a_network_that_episodes_start_from_keeps_the_people() -> None:
    core = HallucinationCore(Bicubic(4, (6, 6)), image_size=(16, 16), initial=Bicubic(4, (6, 6)))
    images = torch.rand(2, 3, 16, 16)
    begun = core.begin(Faces(images, images[..., ::4, ::4], images, torch.tensor([4, 9])))
    assert begun.identity is not None
    assert begun.identity.tolist() == [4, 9]
