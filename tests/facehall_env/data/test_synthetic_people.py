"""Invented people: several images of each, the same face in another pose and light."""

from __future__ import annotations

import numpy as np
import pytest

from facehall_env import data
from facehall_env.data import Identified, SyntheticFaces
from facehall_env.data.synthetic.canvas import Canvas
from facehall_env.data.synthetic.traits import PERSONAL, Traits
from facehall_env.errors import ConfigurationError, DatasetError

FIRST_FACES = {
    ("train", 0): [
        [240.32, 221.00, 197.47, 218.29],
        [210.94, 169.03, 142.43, 218.60],
        [210.33, 137.40, 130.96, 221.18],
        [239.82, 138.94, 121.75, 192.49],
    ],
    ("train", 7): [
        [91.17, 75.78, 76.59, 109.90],
        [88.02, 123.98, 125.18, 51.09],
        [114.94, 130.32, 113.71, 110.64],
        [124.26, 97.28, 84.54, 136.33],
    ],
    ("test", 3): [
        [150.36, 85.29, 88.36, 187.27],
        [119.72, 69.61, 106.73, 118.40],
        [103.30, 72.73, 101.52, 83.24],
        [101.64, 68.89, 80.29, 74.06],
    ],
}
"""Means over a 4x4 grid of faces as they were drawn before there were people."""


@pytest.mark.parametrize(("split", "index"), list(FIRST_FACES))
def test_faces_without_people_are_as_ever(split: str, index: int) -> None:
    image = SyntheticFaces(split)[index].astype(np.float64)
    means = image.reshape(4, 32, 4, 32, 3).mean((1, 3, 4))
    # No checksum: single pixels are rounded one way or the other on other processors.
    np.testing.assert_allclose(means, FIRST_FACES[split, index], atol=0.02)


def test_consecutive_images_are_of_one_person() -> None:
    faces = data.make("synthetic", split="test", images_per_person=4)
    assert isinstance(faces, Identified)
    assert [faces.identity(i) for i in (0, 3, 4, -1)] == [
        "test-00000",
        "test-00000",
        "test-00001",
        "test-02499",
    ]
    assert len(faces.people) == 2500
    assert list(faces.people) == sorted(set(faces.people))


def test_people_of_both_splits_in_order() -> None:
    faces = SyntheticFaces("all", images_per_person=30_000)
    assert faces.people == (
        "test-00000",
        "train-00000",
        "train-00001",
        "train-00002",
        "train-00003",
    )
    named = [faces.identity(i) for i in (0, 29_999, 30_000, 99_999, 100_000, 109_999)]
    assert named == [
        "train-00000",
        "train-00000",
        "train-00001",
        "train-00003",
        "test-00000",
        "test-00000",
    ]


def test_a_person_keeps_the_face_and_changes_pose_light_and_expression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Traits] = []
    initialise = Canvas.__init__

    def spy(self, traits, rng, marks) -> None:
        drawn.append(traits)
        initialise(self, traits, rng, marks)

    monkeypatch.setattr(Canvas, "__init__", spy)
    faces = SyntheticFaces(images_per_person=3)
    images = faces.batch(range(6)).numpy()
    first, second = drawn[:3], drawn[3:]
    for name in PERSONAL:
        for person in (first, second):
            values = [np.asarray(getattr(traits, name)) for traits in person]
            assert all(np.array_equal(values[0], value) for value in values), name
    for name in ("yaw", "roll", "smile", "mouth_open", "ambient", "light", "centre", "gaze"):
        assert len({str(getattr(traits, name)) for traits in drawn[:3]}) > 1, name
    changing = ("skin", "jaw", "nose", "eye_gap", "length", "volume", "age")
    assert all(
        not np.array_equal(getattr(first[0], name), getattr(second[0], name)) for name in changing
    )
    assert len({image.tobytes() for image in images}) == 6


def test_the_same_image_on_every_call_and_for_every_split() -> None:
    test, everything = (SyntheticFaces(split, images_per_person=5) for split in ("test", "all"))
    image = test[13]
    test[12]
    np.testing.assert_array_equal(test[13], image)
    np.testing.assert_array_equal(everything[100_013], image)
    others = (
        SyntheticFaces("test", images_per_person=4),
        SyntheticFaces("train", images_per_person=5),
        SyntheticFaces("test", seed=1, images_per_person=5),
    )
    assert all(not np.array_equal(other[13], image) for other in others)


def test_the_number_of_images_changes_no_pose() -> None:
    # Who is on an image changes; how it is taken does not.
    def background(faces: SyntheticFaces) -> np.ndarray:
        return faces[21][:6, :6]

    np.testing.assert_array_equal(
        background(SyntheticFaces()), background(SyntheticFaces(images_per_person=6))
    )


def test_a_person_is_more_alike_than_others() -> None:
    # The mean colour of cheeks and forehead, whatever the light.
    faces = SyntheticFaces("test", images_per_person=4)
    skin = faces.batch(range(80)).float()[:, :, 64:84, 44:84].mean((2, 3))
    skin = (skin / skin.mean(1, keepdim=True)).reshape(20, 4, 3)
    within = skin.var(1).mean()
    between = skin.mean(1).var(0).mean()
    assert between > 2 * within


def test_errors() -> None:
    with pytest.raises(ConfigurationError, match="images_per_person=0: give at least 1"):
        data.make("synthetic", images_per_person=0)
    faces = SyntheticFaces()
    assert faces.people == ()
    with pytest.raises(DatasetError, match="give images_per_person=10"):
        faces.identity(0)
    with pytest.raises(IndexError, match="10000 faces"):
        SyntheticFaces("test", images_per_person=2).identity(10_000)
