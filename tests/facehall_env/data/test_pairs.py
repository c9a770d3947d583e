"""Verification pairs: the official list read right, and drawn ones that keep their promises."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facehall_env import data
from facehall_env.data import LFW, FaceDataset, Identified, pairs
from facehall_env.data.pairs import Pairs
from facehall_env.errors import ConfigurationError, DatasetError

PEOPLE = {"Ada_Lovelace": 3, "Emmy_Noether": 2, "Grace_Hopper": 2}
LINES = [
    "2\t1",
    "Ada_Lovelace\t1\t3",
    "Ada_Lovelace\t2\tGrace_Hopper\t1",
    "Emmy_Noether\t1\t2",
    "Emmy_Noether\t2\tGrace_Hopper\t2",
]


class Named(FaceDataset, Identified):
    """Black faces of people of whom only the numbers of images are known."""

    def __init__(self, *counts: int) -> None:
        self.name, self.split, self.image_size = "named", "test", (8, 8)
        self._owner = [
            f"p{person:02d}" for person, count in enumerate(counts) for _ in range(count)
        ]
        self.people = tuple(sorted(set(self._owner)))

    def __len__(self) -> int:
        return len(self._owner)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    def key(self, index: int) -> str:
        return str(index)

    def identity(self, index: int) -> str:
        return self._owner[self.checked(index)]


@pytest.fixture
def few(tmp_path: Path, empty_places: Path) -> LFW:
    """LFW with three people."""
    for person, count in PEOPLE.items():
        folder = tmp_path / "lfw" / person
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            Image.new("RGB", (16, 16)).save(folder / f"{person}_{number:04d}.jpg")
    with pytest.warns(UserWarning, match="not comparable"):
        return LFW("all", root=tmp_path / "lfw", size=16)


def listed(dataset: LFW, lines: list[str], place: str = "pairs.txt") -> Path:
    path = dataset.root.parent / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("place", ["pairs.txt", "lfw-protocol/pairs.txt", "lfw/pairs.txt"])
def test_the_list_is_found_and_read(few: LFW, place: str) -> None:
    listed(few, LINES, place)
    # The seven images are Ada's three, Emmy's two and Grace's two.
    found = pairs.official(few, download=False)
    assert found.first.tolist() == [0, 1, 3, 4]
    assert found.second.tolist() == [2, 5, 4, 6]
    assert found.same.tolist() == [True, False, True, False]
    assert found.fold.tolist() == [0, 0, 1, 1]
    assert found.folds == 2


def test_the_list_of_the_cache_serves_too(few: LFW, empty_places: Path) -> None:
    (empty_places / "lfw").mkdir(parents=True)
    (empty_places / "lfw" / "pairs.txt").write_text("\n".join(LINES))
    assert len(pairs.official(few, download=False)) == 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "does not begin with the numbers"),
        (["a b", *LINES[1:]], "does not begin with the numbers"),
        (LINES[:-1], r"promises 2 folds of 2 x 1 pairs and has 3 lines"),
        ([*LINES[:2], *LINES[1:4]], "Line 3 of .* expected a mismatched pair"),
        ([*LINES[:3], "Emmy_Noether\t1\ttwo", LINES[4]], "Line 4 of .* expected a matched pair"),
        (
            [*LINES[:3], "Emmy_Noether\t1\t9", LINES[4]],
            r"1 images of the pairs .* Emmy_Noether/Emmy_Noether_0009.jpg the first",
        ),
    ],
)
def test_a_list_that_cannot_be(few: LFW, lines: list[str], message: str) -> None:
    path = listed(few, lines, "other.txt")
    with pytest.raises(DatasetError, match=message):
        pairs.official(few, path)


def test_a_list_that_is_missing(few: LFW, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"put pairs.txt beside the folder of images"):
        pairs.official(few, download=False)
    with pytest.raises(DatasetError, match=r"nowhere.txt does not exist"):
        pairs.official(few, tmp_path / "nowhere.txt")


def test_the_list_is_fetched(few: LFW, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n".join(LINES).encode()
    server.files["/5976006"] = content
    archive = replace(
        pairs.PAIRS,
        url=f"{server.url}/5976006",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setattr(pairs, "PAIRS", archive)
    assert len(pairs.official(few)) == 4
    monkeypatch.setattr(pairs, "PAIRS", replace(archive, file_name="new", url=f"{archive.url}0"))
    with pytest.raises(DatasetError, match=r"404.*put new beside"):
        pairs.official(few)


def test_the_official_pairs_are_lfws() -> None:
    with pytest.raises(ConfigurationError, match="are LFW's, got dataset 'named'"):
        pairs.official(Named(2, 2))


def test_all_six_thousand(photographs: Path) -> None:
    path = photographs / "lfw-protocol" / "pairs.txt"
    if not path.is_file():
        pytest.skip(f"the official list {path} is not there")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == pairs.PAIRS.sha256
    assert path.stat().st_size == pairs.PAIRS.size
    dataset = data.make("lfw", split="all", root=photographs)
    found = pairs.official(dataset, path)
    assert (len(found), found.folds, int(found.same.sum())) == (6000, 10, 3000)
    people = [pairs.who(dataset, side) for side in (found.first, found.second)]
    assert [a == b for a, b in zip(*people, strict=True)] == found.same.tolist()
    assert dataset.key(found.first[0]) == "Abel_Pacheco/Abel_Pacheco_0001.jpg"
    assert dataset.key(found.second[0]) == "Abel_Pacheco/Abel_Pacheco_0004.jpg"
    fewer = found.first_of_each(30)
    assert len(fewer) == 600
    assert np.bincount(fewer.fold, fewer.same).tolist() == [30] * 10


@settings(max_examples=50, deadline=None)
@given(
    sides=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([3, 8])).filter(
            lambda pair: pair[0] != pair[1]
        ),
        min_size=1,
        max_size=8,
    ),
    people=st.lists(st.sampled_from("abc"), min_size=7, max_size=7),
)
def test_all_pairs_of_each_fold(sides: list[tuple[int, int, int]], people: list[str]) -> None:
    first, second, fold = np.array(sides).T
    same = np.array([people[a] == people[b] for a, b in zip(first, second, strict=True)])
    some = Pairs(first, second, same, fold)
    found = some.all_of_each(people)
    listed = zip(found.first, found.second, found.same, found.fold, strict=True)
    expected = [
        (a, b, people[a] == people[b], number)
        for number in sorted(set(fold.tolist()))
        for a, b in combinations(sorted({*first[fold == number], *second[fold == number]}), 2)
    ]
    assert sorted(listed) == sorted(expected)
    assert some.number_of_all == len(found)


def test_the_first_of_each_fold() -> None:
    same = np.array([1, 1, 0, 0, 1, 0, 1, 0], dtype=bool)
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    few = Pairs(np.arange(8), np.arange(8) + 10, same, fold).first_of_each(1)
    assert few.first.tolist() == [0, 2, 4, 5]
    assert few.second.tolist() == [10, 12, 14, 15]
    with pytest.raises(ConfigurationError, match="give 1 or more"):
        few.first_of_each(0)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5), min_size=6, max_size=14).filter(
        lambda counts: sum(count > 1 for count in counts) >= 3
    ),
    folds=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_drawn_pairs_keep_their_promises(counts: list[int], folds: int, seed: int) -> None:
    dataset = Named(*counts)
    drawn = pairs.drawn(dataset, 1, folds, seed)
    assert (len(drawn), drawn.folds) == (2 * folds, folds)
    first, second = (pairs.who(dataset, side) for side in (drawn.first, drawn.second))
    assert [a == b for a, b in zip(first, second, strict=True)] == drawn.same.tolist()
    assert np.all(drawn.first != drawn.second)
    home = {}
    for fold, *both in zip(drawn.fold, first, second, strict=True):
        for person in both:
            assert home.setdefault(person, fold) == fold
    again = pairs.drawn(dataset, 1, folds, seed)
    np.testing.assert_array_equal(again.first, drawn.first)
    np.testing.assert_array_equal(again.second, drawn.second)


def test_every_pair_can_be_drawn_and_none_twice() -> None:
    # 3 + 1 + 1 matched pairs, 7 * 6 / 2 - 5 = 16 mismatched ones.
    dataset = Named(3, 2, 2)
    assert len(pairs.drawn(dataset, 5, 1)) == 10
    members = [[0, 1, 2], [3, 4], [5, 6]]
    generator = np.random.default_rng(0)
    for made, number in ((pairs._matched, 5), (pairs._mismatched, 16)):
        found = made(members, 99, generator)
        assert len({tuple(sorted(pair)) for pair in found.tolist()}) == len(found) == number


def test_people_with_many_images_do_not_outweigh_the_others() -> None:
    dataset = Named(40, 2, 2, 2)
    drawn = pairs.drawn(dataset, 4, 1)
    assert sorted(pairs.who(dataset, drawn.first[drawn.same])) == ["p00", "p01", "p02", "p03"]


@pytest.mark.parametrize("rank", [0, 1, 5, 10**6, 2**40 + 12345, 10**13])
def test_pairs_are_numbered_without_gaps(rank: int) -> None:
    numbers = np.arange(rank, rank + 50)
    first, second = pairs._pair(numbers).T
    assert np.all((first >= 0) & (first < second))
    np.testing.assert_array_equal(second * (second - 1) // 2 + first, numbers)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ((1, 1, 1), {"folds": 1}, "0 of the 3 people .* two images or more, too few for 1 folds"),
        ((2, 2, 1), {"folds": 3}, "2 of the 3 people"),
        ((2, 2), {"folds": 1, "number": 3}, "make 2 matched and 3 mismatched pairs, asked for 3"),
        ((2,), {"folds": 1, "number": 1}, "make 1 matched and 0 mismatched pairs"),
    ],
)
def test_too_few_images(counts: tuple[int, ...], options: dict[str, int], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        pairs.drawn(Named(*counts), **options)


def test_a_dataset_without_names() -> None:
    class Nameless(FaceDataset):
        """Nobody knows who is on its faces."""

        name, split, image_size = "nameless", "test", (8, 8)
        __len__ = Named.__len__
        __getitem__ = Named.__getitem__
        key = Named.key

    with pytest.raises(ConfigurationError, match="'nameless' does not know who is on its images"):
        pairs.who(Nameless(), [0])
    with pytest.raises(ConfigurationError, match="number=0"):
        pairs.drawn(Named(2, 2), 0, 1)
