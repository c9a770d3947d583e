"""Invented faces: endless, free to use, and there without any download."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator

from facehall_env.data.base import Attributed, FaceDataset, Identified, check_split
from facehall_env.data.images import ImageArray
from facehall_env.data.synthetic import portrait
from facehall_env.data.synthetic.traits import CROWS_FEET, MOUTH_OPENS, SIZE, Traits
from facehall_env.errors import ConfigurationError, DatasetError

_LENGTHS = {"train": 100_000, "test": 10_000}
_STREAMS = {"train": 0, "test": 1}
_PEOPLE = 1
"""Key of the streams that people come from, apart from those of the images."""

_ATTRIBUTES: Mapping[str, Callable[[Traits], bool]] = {
    "Bald": lambda face: face.style == "bald",
    "Bangs": lambda face: face.style == "fringe",
    "Eyeglasses": lambda face: face.glasses > 0,
    "Mouth_Slightly_Open": lambda face: face.mouth_open > MOUTH_OPENS,
    "Mustache": lambda face: face.moustache > 0,
    "No_Beard": lambda face: face.beard == 0,
    "Smiling": lambda face: face.smile > 0.35,
    "Wavy_Hair": lambda face: face.style == "curly",
    "Young": lambda face: face.age <= CROWS_FEET,
}
"""What is to be seen of a portrait's traits, in CelebA's words."""


class SyntheticFaces(FaceDataset, Identified, Attributed):
    """Faces drawn by the computer, 128x128 RGB, varied in pose, light, skin, hair and expression.

    Each face depends on the seed, the split, its number and ``images_per_person`` alone: it is the
    same on every call, in every process and whatever was drawn before. No two splits or seeds
    share a face or a person.

    Args:
        split: ``"train"`` (100,000 faces), ``"test"`` (10,000) or ``"all"`` (both, train first).
        seed: Another seed gives another population.
        images_per_person: How many images there are of everyone, one behind the other; pose,
            light, expression, clothes and background differ. By default every face is another
            one's, and nobody has a name.

    Raises:
        ConfigurationError: If ``images_per_person`` is less than one.

    Example:
        >>> faces = SyntheticFaces("test", images_per_person=4)
        >>> len(faces), faces.key(5), faces.identity(5), len(faces.people)
        (10000, 'test/00005', 'test-00001', 2500)
    """

    def __init__(self, split: str = "train", seed: int = 0, images_per_person: int = 1) -> None:
        if images_per_person < 1:
            raise ConfigurationError(
                f"images_per_person={images_per_person}: give at least 1, each face another's."
            )
        self.name = "synthetic"
        self.split = check_split(split)
        self.image_size = (SIZE, SIZE)
        self.seed = seed
        self.images_per_person = images_per_person
        self.people = self._names() if images_per_person > 1 else ()

    def __len__(self) -> int:
        return sum(_LENGTHS.values()) if self.split == "all" else _LENGTHS[self.split]

    def __getitem__(self, index: int) -> ImageArray:
        return portrait.draw(*self._streams(index))

    def key(self, index: int) -> str:
        """Split and number in it, as ``test/00003``."""
        split, number = self._place(index)
        return f"{split}/{number:05d}"

    def identity(self, index: int) -> str:
        """Split and number of the person in it, as ``test-00001``.

        Raises:
            IndexError: If there is no such face.
            DatasetError: If every face is another one's.
        """
        split, number = self._place(index)
        if self.images_per_person == 1:
            raise DatasetError(
                "The synthetic faces have no identities unless images_per_person is set: give "
                "images_per_person=10 for ten images of everyone."
            )
        return _name(split, number // self.images_per_person)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The names of nine attributes that CelebA has, too (``"Smiling"``)."""
        return tuple(_ATTRIBUTES)

    def attributes(self, index: int) -> dict[str, bool]:
        """Which attributes face number ``index`` was drawn with.

        Raises:
            IndexError: If there is no such face.
        """
        face = portrait.traits(*self._streams(index))
        return {name: has(face) for name, has in _ATTRIBUTES.items()}

    def _streams(self, index: int) -> tuple[Generator, Generator | None]:
        """Where a face comes from, and where its person does, if it has one."""
        split, number = self._place(index)
        rng = np.random.default_rng([self.seed, _STREAMS[split], number])
        if self.images_per_person == 1:
            return rng, None
        origin = [self.seed, _STREAMS[split], number // self.images_per_person]
        person = np.random.SeedSequence(origin, spawn_key=(_PEOPLE,))
        return rng, np.random.default_rng(person)

    def _names(self) -> tuple[str, ...]:
        number = {split: math.ceil(_LENGTHS[split] / self.images_per_person) for split in _LENGTHS}
        splits = sorted(_LENGTHS) if self.split == "all" else [self.split]
        return tuple(_name(split, person) for split in splits for person in range(number[split]))

    def _place(self, index: int) -> tuple[str, int]:
        index = self.checked(index)
        if self.split != "all":
            return self.split, index
        past = index - _LENGTHS["train"]
        return ("train", index) if past < 0 else ("test", past)


def _name(split: str, person: int) -> str:
    return f"{split}-{person:05d}"
