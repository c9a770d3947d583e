from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facehall_env import data
from facehall_env.data import SyntheticFaces
from facehall_env.data.synthetic import portrait
from facehall_env.data.synthetic.traits import Traits


def fingerprint(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_a_face_depends_on_its_number_alone() -> None:
    faces = SyntheticFaces("train")
    first = faces[7]
    faces[3], faces[99_999]
    np.testing.assert_array_equal(SyntheticFaces("train")[7], first)


def test_other_processes_draw_the_same_faces() -> None:
    program = (
        "import hashlib; from facehall_env import data; faces = data.make('synthetic');"
        "print(*(hashlib.sha256(faces[i].tobytes()).hexdigest() for i in (5, 0, 12345)))"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    faces = data.make("synthetic")
    assert printed.split() == [fingerprint(faces[i]) for i in (5, 0, 12345)]


def test_no_face_is_in_two_splits_or_twice_in_one() -> None:
    train = {fingerprint(SyntheticFaces("train")[i]) for i in range(30)}
    test = {fingerprint(SyntheticFaces("test")[i]) for i in range(30)}
    other = {fingerprint(SyntheticFaces("train", seed=1)[i]) for i in range(30)}
    assert len(train | test | other) == 90


def test_all_is_train_and_then_test() -> None:
    train, test, everything = (SyntheticFaces(split) for split in ("train", "test", "all"))
    assert len(everything) == len(train) + len(test)
    for index, part, number in ((11, train, 11), (100_000, test, 0), (-1, test, 9_999)):
        assert everything.key(index) == part.key(number)
        np.testing.assert_array_equal(everything[index], part[number])


def test_the_end_is_an_index_error() -> None:
    faces = SyntheticFaces("test")
    assert fingerprint(faces[-10_000]) == fingerprint(faces[0])
    for index in (10_000, -10_001):
        with pytest.raises(IndexError, match="10000 faces"):
            faces[index]


def test_a_batch_is_the_faces_in_order() -> None:
    faces = SyntheticFaces("test")
    batch = faces.batch([4, 2])
    assert batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch[1].permute(1, 2, 0).numpy(), faces[2])
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), faces[4])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**40))
def test_any_seed_draws_a_picture_with_a_normal_range(seed: int) -> None:
    picture = portrait.draw(np.random.default_rng(seed))
    assert picture.std() > 12
    assert picture.max() > 90
    assert picture.min() < 90


def test_the_detail_lies_on_the_face() -> None:
    # What bicubic interpolation cannot restore is what a patch is worth: eyes, mouth, hairline.
    batch = SyntheticFaces("test").batch(range(48))
    faces = data.protocols.get("bicubic").degrade(batch, 4)
    lost = (faces.hr - faces.initial).square().mean((0, 1))
    eyes, mouth, hair = lost[40:64, 32:96], lost[88:104, 48:80], lost[8:32, 32:96]
    cheeks = torch.stack([lost[72:88, 32:48], lost[72:88, 80:96]])
    corners = torch.stack([lost[:24, :16], lost[:24, -16:]])
    for detailed, times in ((eyes, 3), (mouth, 3), (hair, 1.2)):
        assert detailed.mean() > times * cheeks.mean()
        assert detailed.mean() > 5 * corners.mean()


def test_faces_vary() -> None:
    traits = [Traits.sample(np.random.default_rng(i)) for i in range(200)]
    assert {t.style for t in traits} == {"bald", "buzz", "short", "fringe", "long", "curly"}
    assert 20 < sum(t.glasses > 0 for t in traits) < 80
    assert min(t.yaw for t in traits) < -0.3 < 0.3 < max(t.yaw for t in traits)
    brightness = [t.skin.mean() for t in traits]
    assert max(brightness) > 2.5 * min(brightness)
    smiles = [t.smile for t in traits]
    assert min(smiles) < -0.2
    assert max(smiles) > 0.9
