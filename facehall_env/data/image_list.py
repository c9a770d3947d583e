"""Datasets that are images in a folder: listed by their paths and cut to size by one rule."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from facehall_env import limits
from facehall_env.data.base import FaceDataset, Identified, Split
from facehall_env.data.images import Crop, ImageArray, as_size, cut, read_image
from facehall_env.errors import ConfigurationError, DatasetError

Selection = Literal["official", "sisn"]
Share = Annotated[float, limits.Ge(0), limits.Le(1)]


@dataclass(repr=False, eq=False)
class ListedFaces(FaceDataset):
    """Images by their paths below a folder.

    A subclass sets ``name``, adds options of its own as fields and implements `find_images`.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The folder; by default the one called like the dataset in ``FACEHALL_DATA`` or the
            user's cache.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.

    Raises:
        ConfigurationError: On an option outside its limits.
        UnknownNameError: On an option that is none of its words.
        DatasetError: If the images are missing, or there are none in the split.

    Attributes:
        folder: Where the images were found; so is ``root`` afterwards.
    """

    split: Split = "train"
    root: Path | str | None = None
    size: int | tuple[int, int] = 128
    crop: Crop = "fit"

    def __post_init__(self) -> None:
        limits.check(self)
        self.image_size = as_size(self.size)
        self.folder, self._keys = self.find_images()
        self.root = self.folder
        if not self._keys:
            raise DatasetError(
                f"{self.root} has no image of {self.name!r} in split {self.split!r}: complete the "
                "folder, or ask for another split."
            )

    @abstractmethod
    def find_images(self) -> tuple[Path, Sequence[str]]:
        """The folder, and the paths of the split's images below it with forward slashes."""

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> ImageArray:
        path = self.path(index)
        return cut(read_image(path), self.image_size, self.crop, name=str(path))

    def key(self, index: int) -> str:
        """The file's path below the root, with forward slashes."""
        return self._keys[self.checked(index)]

    def path(self, index: int) -> Path:
        """The file of face number ``index``."""
        return self.folder / self.key(index)


class PeopleFaces(ListedFaces, Identified):
    """Images of known people; by default the first folder of an image's path is its person."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._owners = self.find_owners()
        self.people = tuple(sorted(set(self._owners)))

    def find_owners(self) -> Sequence[str]:
        """Who is on each image of the split; empty if nobody knows."""
        return [key.partition("/")[0] for key in self._keys]

    def identity(self, index: int) -> str:
        """The name of the person, as the dataset has it."""
        return self._owners[self.checked(index)]


def in_split(split: str, name: str, test_fraction: float) -> bool:
    """Whether a person or a file belongs to a split, where nobody has published one.

    Each is put in one part by a hash of its name, so that adding some never moves others.
    """
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return split == "all" or (place < test_fraction) == (split == "test")


def drawn(
    keys: Sequence[str], counts: tuple[int, int, int], part: str, seed: int, where: Path
) -> list[str]:
    """A random selection for training, validation and testing, as SISN makes it.

    Args:
        keys: All images, in an order that does not depend on the machine.
        counts: How many to train with, to validate with and to test with.
        part: ``"train"``, ``"validation"``, ``"test"`` or ``"all"`` (the three together).
        seed: Another seed draws others.
        where: What the error names.

    Returns:
        The keys of the part, in the order drawn; the three parts share none.

    Raises:
        DatasetError: If there are too few images.

    Example:
        >>> [len(drawn("abcdefgh", (3, 2, 1), part, 0, Path())) for part in ("train", "all")]
        [3, 6]
    """
    if len(keys) < sum(counts):
        raise DatasetError(
            f"{where} holds {len(keys):,} images, too few for {counts[0]:,} to train with, "
            f"{counts[1]:,} to validate with and {counts[2]:,} to test with: complete the folder."
        )
    everyone = np.random.default_rng(seed).permutation(len(keys))[: sum(counts)]
    train, validation, test = np.split(everyone, np.cumsum(counts[:2]))
    parts = {"train": train, "validation": validation, "test": test, "all": everyone}
    return [keys[number] for number in parts[part]]


def part_of(split: str, validation: bool) -> str:
    """The part of a dataset that has images for validation, too.

    Raises:
        ConfigurationError: If validation images are asked for other than those held out of
            training.
    """
    if validation and split != "train":
        raise ConfigurationError(
            f"validation=True goes with split='train', from which these images are held out, and "
            f"not with {split!r}: leave one of them out."
        )
    return "validation" if validation else split
