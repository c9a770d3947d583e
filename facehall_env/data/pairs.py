"""Pairs of faces for verification: LFW's official ones, or drawn from any dataset with identities.

```python
from facehall_env import data
from facehall_env.data import pairs

everyone = data.make("lfw", split="all")
official = pairs.official(everyone)  # 6,000 pairs in ten folds
fewer = official.first_of_each(30)  # 30 matched and 30 mismatched pairs of each fold
```
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facehall_env.data.base import FaceDataset, Identified
from facehall_env.data.dataset_folders import read_lines, search_places
from facehall_env.data.download import Archive, fetch
from facehall_env.data.lfw import LFW
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.files import cache_dir

Indices = NDArray[np.int64]

PAIRS = Archive(
    url="https://ndownloader.figshare.com/files/5976006",
    file_name="pairs.txt",
    sha256="ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
    size=155_335,
)
"""The official list ("view 2"): ten folds of 300 matched and 300 mismatched pairs."""

PROTOCOL_FOLDER = "lfw-protocol"
"""Where the official lists lie when they are not beside the images."""


@dataclass(frozen=True)
class Pairs:
    """P pairs of faces of one dataset.

    Attributes:
        first: (P,) int64, numbers of the faces on one side.
        second: (P,) int64, numbers of the faces on the other.
        same: (P,) bool, whether both are of one person.
        fold: (P,) int64, the fold that a pair belongs to, from 0 on.

    Example:
        >>> both = np.array([0, 1]), np.array([2, 3])
        >>> pairs = Pairs(*both, same=np.array([True, False]), fold=np.array([0, 0]))
        >>> len(pairs), pairs.faces.tolist()
        (2, [0, 1, 2, 3])
    """

    first: Indices
    second: Indices
    same: NDArray[np.bool_]
    fold: Indices

    def __len__(self) -> int:
        """Number of pairs P."""
        return len(self.first)

    @property
    def faces(self) -> Indices:
        """The numbers of all faces that take part, each once, sorted."""
        return np.unique(np.concatenate((self.first, self.second)))

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(np.unique(self.fold))

    def first_of_each(self, number: int) -> Pairs:
        """The first ``number`` matched and as many mismatched pairs of every fold.

        Raises:
            ConfigurationError: If ``number`` is below one.
        """
        if number < 1:
            raise ConfigurationError(f"{number} pairs of a fold: give 1 or more.")
        kept = np.zeros(len(self), dtype=np.bool_)
        for fold in np.unique(self.fold):
            for same in (True, False):
                kept[np.flatnonzero((self.fold == fold) & (self.same == same))[:number]] = True
        return Pairs(self.first[kept], self.second[kept], self.same[kept], self.fold[kept])

    @property
    def number_of_all(self) -> int:
        """How many pairs `all_of_each` gives."""
        sizes = (len(self._faces_of(fold)) for fold in np.unique(self.fold))
        return sum(math.comb(size, 2) for size in sizes)

    def all_of_each(self, people: Sequence[Any]) -> Pairs:
        """All pairs that the faces of each fold make with each other.

        Args:
            people: Who is on each face, by its number.

        Returns:
            n (n - 1) / 2 pairs for each fold of n faces, fold by fold, each once and with the lower
            number first.

        Example:
            >>> both = np.array([0, 1]), np.array([1, 2])
            >>> some = Pairs(*both, same=np.array([True, False]), fold=np.array([0, 0]))
            >>> every = some.all_of_each(["ada", "ada", "bob"])
            >>> every.first.tolist(), every.second.tolist(), every.same.tolist()
            ([0, 0, 1], [1, 2, 2], [True, False, False])
        """
        owners = np.unique(list(people), return_inverse=True)[1]
        parts = []
        for fold in np.unique(self.fold):
            faces = self._faces_of(fold)
            first, second = (faces[side] for side in np.triu_indices(len(faces), 1))
            same = owners[first] == owners[second]
            parts.append((first, second, same, np.full(len(first), fold)))
        return _joined(parts)

    def _faces_of(self, fold: int) -> Indices:
        own = self.fold == fold
        return np.unique(np.concatenate((self.first[own], self.second[own])))


def official(dataset: FaceDataset, path: Path | str | None = None, download: bool = True) -> Pairs:
    """LFW's official pairs, on which verification accuracy is reported.

    They are of people of both halves of the official split: a network that was trained on LFW's
    training images has seen some of these faces.

    Args:
        dataset: ``data.make("lfw", split="all")``.
        path: The list ``pairs.txt``. By default it is looked for in the folder of the images,
            beside it, and in ``FACEHALL_DATA`` and the user's cache, there also in a folder
            ``lfw-protocol``.
        download: Whether it may be fetched (155 kB) if it is nowhere.

    Returns:
        6,000 pairs in ten folds, as numbers of the dataset's faces.

    Raises:
        ConfigurationError: If the dataset is another one.
        DatasetError: If the list is missing or damaged, or has images that the dataset lacks.
    """
    if not isinstance(dataset, LFW):
        raise ConfigurationError(
            f"The official pairs are LFW's, got dataset {dataset.name!r}: use "
            'data.make("lfw", split="all"), or draw pairs of this one.'
        )
    source = _obtain(dataset, Path(path) if path is not None else None, download)
    first, second, same, fold = zip(*_read(source), strict=True)
    number_of = {dataset.key(index): index for index in range(len(dataset))}
    absent = sorted({*first, *second} - number_of.keys())
    if absent:
        raise DatasetError(
            f"{len(absent):,} images of the pairs in {source} are not in the {dataset.split!r} "
            f"split below {dataset.folder}, {absent[0]} the first: complete the folder and use "
            'split="all".'
        )
    one, other = (np.array([number_of[key] for key in keys], np.int64) for keys in (first, second))
    return Pairs(one, other, same=np.array(same), fold=np.array(fold, np.int64))


def drawn(dataset: FaceDataset, number: int = 300, folds: int = 10, seed: int = 0) -> Pairs:
    """Pairs of any dataset with identities, drawn as LFW's were: no person is in two folds.

    Matched pairs take the people in turn, in a random order, so that those with many images do
    not outweigh the others; mismatched pairs are drawn among all pairs of images of two people.

    Args:
        dataset: Knows who is on its images.
        number: Matched pairs of each fold, and mismatched ones.
        folds: How many folds.
        seed: Another seed draws others.

    Returns:
        2 x ``number`` x ``folds`` different pairs.

    Raises:
        ConfigurationError: If the dataset has no identities, or a number is too small.
        DatasetError: If it has too few people, or too few with two images or more.
    """
    if number < 1 or folds < 1:
        raise ConfigurationError(f"number={number}, folds={folds}: give 1 or more of each.")
    faces_of = faces_by_person(dataset)
    generator = np.random.default_rng(seed)
    people = np.array(sorted(faces_of))
    # People with two images are dealt out first, so that every fold gets its share of them.
    order = generator.permutation(people)
    several = [person for person in order if len(faces_of[person]) > 1]
    alone = [person for person in order if len(faces_of[person]) == 1]
    if len(several) < folds:
        raise DatasetError(
            f"{len(several):,} of the {len(people):,} people of {dataset.name!r} "
            f"({dataset.split}) have two images or more, too few for {folds} folds of matched "
            "pairs: use a dataset with more images of each person, or fewer folds."
        )
    dealt = [*several, *alone]
    parts = []
    for fold in range(folds):
        members = [faces_of[person] for person in dealt[fold::folds]]
        matched = _matched(members, number, generator)
        mismatched = _mismatched(members, number, generator)
        if min(len(matched), len(mismatched)) < number:
            raise DatasetError(
                f"{len(members):,} people of {dataset.name!r} ({dataset.split}) with "
                f"{sum(map(len, members)):,} images, the share of one of {folds} folds, make "
                f"{len(matched):,} matched and {len(mismatched):,} mismatched pairs, asked for "
                f"{number:,} of each: ask for fewer pairs or folds."
            )
        same = np.repeat([True, False], number)
        first, second = np.concatenate((matched, mismatched)).T
        parts.append((first, second, same, np.full(2 * number, fold, dtype=np.int64)))
    return _joined(parts)


def faces_by_person(dataset: FaceDataset) -> dict[str, list[int]]:
    """The numbers of everyone's faces; raises what `who` does."""
    faces: dict[str, list[int]] = {}
    for index, person in enumerate(who(dataset, range(len(dataset)))):
        faces.setdefault(person, []).append(index)
    return faces


def who(dataset: FaceDataset, numbers: Iterable[int]) -> list[str]:
    """Who is on some of the faces.

    Raises:
        ConfigurationError: If the dataset does not know who is on its images.
        DatasetError: If it came without its list of people.
    """
    if not isinstance(dataset, Identified):
        raise ConfigurationError(
            f"Dataset {dataset.name!r} does not know who is on its images: use one with "
            "identities, such as 'lfw' or 'identities'."
        )
    return [dataset.identity(int(number)) for number in numbers]


def _joined(parts: Iterable[tuple[NDArray[Any], ...]]) -> Pairs:
    """All pairs whose columns the parts hold."""
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _matched(members: Sequence[list[int]], number: int, generator: np.random.Generator) -> Indices:
    """Up to ``number`` pairs of one person each, (P, 2), the people in turn."""
    queues = [
        np.array(own)[_pair(generator.permutation(math.comb(len(own), 2)))]
        for own in members
        if len(own) > 1
    ]
    generator.shuffle(queues)
    rounds = range(max((len(queue) for queue in queues), default=0))
    # A generator: nobody's later pairs are looked at once there are enough.
    turns = (queue[turn] for turn in rounds for queue in queues if turn < len(queue))
    chosen = [pair for pair, _ in zip(turns, range(number), strict=False)]
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def _mismatched(
    members: Sequence[list[int]], number: int, generator: np.random.Generator
) -> Indices:
    """Up to ``number`` pairs of two people each, (P, 2)."""
    faces = np.concatenate([np.array(own, dtype=np.int64) for own in members])
    owner = np.repeat(np.arange(len(members)), [len(own) for own in members])
    every = math.comb(len(faces), 2)
    matched = sum(math.comb(len(own), 2) for own in members)
    # Among so many pairs at least ``number`` are of two people, if there are as many at all.
    places = _pair(generator.choice(every, min(every, number + matched), replace=False))
    different = owner[places[:, 0]] != owner[places[:, 1]]
    return np.asarray(faces[places[different][:number]])


def _pair(rank: Indices) -> Indices:
    """The pairs i < j, (P, 2), in the order (0, 1), (0, 2), (1, 2), (0, 3), ...

    >>> _pair(np.arange(4)).tolist()
    [[0, 1], [0, 2], [1, 2], [0, 3]]
    """
    second = np.floor((1 + np.sqrt(1 + 8.0 * rank)) / 2).astype(np.int64)
    # The root may round to the wrong side of a whole number.
    second -= second * (second - 1) // 2 > rank
    second += second * (second + 1) // 2 <= rank
    return np.stack((rank - second * (second - 1) // 2, second), axis=1)


def _obtain(dataset: LFW, path: Path | None, download: bool) -> Path:
    if path is not None:
        if not path.is_file():
            raise DatasetError(f"{path} does not exist: give the path of LFW's pairs.txt.")
        return path
    places = [dataset.folder, dataset.folder.parent, *search_places("lfw")]
    for place in places:
        for folder in (place, place / PROTOCOL_FOLDER):
            if (folder / PAIRS.file_name).is_file():
                return folder / PAIRS.file_name
    advice = f"put {PAIRS.file_name} beside the folder of images {dataset.folder}"
    if not download:
        raise DatasetError(f"LFW's list of pairs is not on this machine: {advice}.")
    try:
        return fetch(PAIRS, cache_dir() / "lfw")
    except DatasetError as error:
        reason = str(error).rstrip(".")
        raise DatasetError(
            f"LFW's list of pairs is not on this machine, and {reason}: {advice}."
        ) from error


def _read(path: Path) -> Iterator[tuple[str, str, bool, int]]:
    """Both keys, whether it is one person, and the fold: matched ones, then as many others."""
    lines = read_lines(path)
    header = lines[0].split() if lines else []
    if len(header) != 2 or not all(word.isdecimal() for word in header):
        raise DatasetError(
            f"{path} does not begin with the numbers of folds and of pairs (10 and 300): get LFW's "
            "pairs.txt again."
        )
    folds, number = map(int, header)
    body = [line for line in lines[1:] if line.strip()]
    if len(body) != 2 * folds * number:
        raise DatasetError(
            f"{path} promises {folds} folds of 2 x {number} pairs and has {len(body):,} lines: get "
            "the file again."
        )
    for place, line in enumerate(body):
        fold, same = place // (2 * number), place % (2 * number) < number
        fields = line.split("\t")
        # A name and two numbers, or a name and a number twice.
        files = [(0, 1), (0, 2)] if same else [(0, 1), (2, 3)]
        if len(fields) != files[1][1] + 1 or not all(fields[i].isdecimal() for _, i in files):
            raise DatasetError(
                f"Line {place + 2} of {path} is {line!r}, expected a "
                f"{'matched' if same else 'mismatched'} pair: get the file again."
            )
        first, second = (
            f"{fields[name]}/{fields[name]}_{int(fields[i]):04d}.jpg" for name, i in files
        )
        yield first, second, same, fold
