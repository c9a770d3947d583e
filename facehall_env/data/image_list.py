"""Datasets that are images in a folder: listed by their paths and cut to size by one rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from facehall_env.data.base import FaceDataset, check_split
from facehall_env.data.images import ImageArray, as_size, check_crop, cut, read_image
from facehall_env.errors import ConfigurationError, DatasetError


class ListedFaces(FaceDataset):
    """Images by their paths below a folder.

    Args:
        name: Name of the dataset.
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The folder.
        keys: Paths of the split's images below it, with forward slashes, in their order.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.

    Raises:
        ConfigurationError: On an unknown split or crop or a size below one.
        DatasetError: If there are no images.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        keys: Sequence[str],
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
    ) -> None:
        self.name = name
        self.split = check_split(split)
        self.root = root
        self.image_size = as_size(size)
        self._crop = check_crop(crop)
        self._keys = keys
        if not keys:
            raise DatasetError(
                f"{root} has no image of {name!r} in split {split!r}: complete the folder, or "
                "ask for another split."
            )

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> ImageArray:
        path = self.root / self._keys[self.checked(index)]
        return cut(read_image(path), self.image_size, self._crop, name=str(path))

    def key(self, index: int) -> str:
        """The file's path below the root, with forward slashes."""
        return self._keys[self.checked(index)]


def position(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def check_fraction(test_fraction: float) -> float:
    """The share itself, if it is one.

    Raises:
        ConfigurationError: Otherwise.
    """
    if not 0 <= test_fraction <= 1:
        raise ConfigurationError(f"test_fraction must lie in [0, 1], got {test_fraction}.")
    return test_fraction


def people_of(split: str, people: Iterable[str], test_fraction: float) -> set[str]:
    """Who belongs to a split, where nobody has published one.

    Each person is put in one part by a hash of the name: nobody is in both, and adding people
    never moves others.

    Raises:
        ConfigurationError: If ``test_fraction`` is not in [0, 1].
    """
    check_fraction(test_fraction)
    return {
        person
        for person in set(people)
        if split == "all" or (position(person) < test_fraction) == (split == "test")
    }


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
    order = np.random.default_rng(seed).permutation(len(keys))
    train, validation, _ = counts
    bounds = {
        "train": (0, train),
        "validation": (train, train + validation),
        "test": (train + validation, sum(counts)),
        "all": (0, sum(counts)),
    }
    start, stop = bounds[part]
    return [keys[number] for number in order[start:stop]]


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
