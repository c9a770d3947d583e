"""Folders with one sub-folder of images for each person: UMDFaces, YouTube Faces, your own."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from facehall_env.data.dataset_folders import Layout, given_directory
from facehall_env.data.image_list import PeopleFaces, Share, in_split
from facehall_env.data.images import images_below
from facehall_env.errors import DatasetError
from facehall_env.limits import Ge

LAYOUT = Layout(
    name="ytf",
    title="YouTube Faces",
    folders=("YTF", "YouTubeFaces"),
    marks=("aligned_images_DB", "frame_images_DB"),
    expected="aligned_images_DB/PERSON/VIDEO/*.jpg or frame_images_DB/PERSON/VIDEO/*.jpg",
)
"""How the folders of YouTube Faces look, which is published in two forms."""


@dataclass(repr=False, eq=False)
class IdentityFolder(PeopleFaces):
    """Any directory with one sub-folder for each person, as UMDFaces has it.

    ``root`` is by default the directory that ``FACEHALL_DATA`` names. If it has the sub-directories
    ``train`` and ``test``, each with folders of people, they are the splits. Otherwise each person
    is in one of the two by a hash of the name: nobody is in both, and adding people never moves
    others. Options beside those of `ListedFaces`:

    Args:
        test_fraction: Share of the people who make up ``test``.

    Raises:
        DatasetError: Also if the same person is in the sub-directories of both splits.
    """

    name = "identities"
    test_fraction: Share = 0.1

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's images in folders of people, by path."""
        home = given_directory(self.name, self.root)
        images = images_below(home)
        self._in_splits = all((home / part).is_dir() for part in ("train", "test"))
        if self._in_splits:
            keys = [key for key in images if re.match("(train|test)/.+/", key)]
            _check_apart(keys, home)
            chosen = [key for key in keys if self.split in ("all", key.partition("/")[0])]
        else:
            keys = [key for key in images if "/" in key]
            chosen = [
                key
                for key in keys
                if in_split(self.split, key.partition("/")[0], self.test_fraction)
            ]
        if not keys:
            raise DatasetError(
                f"{home} holds {len(images):,} images and no folder of a person with any: expected "
                "PERSON/*.jpg."
            )
        return home, chosen

    def find_owners(self) -> list[str]:
        """The names of their folders."""
        return [key.split("/")[int(self._in_splits)] for key in self._keys]


@dataclass(repr=False, eq=False)
class YTF(PeopleFaces):
    """YouTube Faces: 3,425 videos of 1,595 people, frame by frame.

    Wolf, Hassner, Maoz, "Face recognition in unconstrained videos with matched background
    similarity", CVPR 2011. Nobody is in both splits, which are made by a hash of the name. Options
    beside those of `ListedFaces`:

    Args:
        images: ``"aligned_images_DB"`` or ``"frame_images_DB"``; by default the first there is.
        every: Take each so-manieth frame of a video, from its first.
        test_fraction: Share of the people who make up ``test``.
    """

    name = "ytf"
    images: str | None = None
    every: Annotated[int, Ge(1)] = 1
    test_fraction: Share = 0.1

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's frames, by video and number."""
        home = LAYOUT.locate(self.root)
        home = home / LAYOUT.forms(home, self.images)[0]
        videos: dict[str, list[str]] = defaultdict(list)
        found = images_below(home)
        for key in found:
            if key.count("/") == 2:
                videos[key.rpartition("/")[0]].append(key)
        if not videos:
            raise DatasetError(
                f"{home} holds {len(found):,} images, none of them in PERSON/VIDEO: expected "
                f"{LAYOUT.expected}."
            )
        return home, [
            key
            for video in sorted(videos)
            if in_split(self.split, video.partition("/")[0], self.test_fraction)
            for key in _in_order(videos[video])[:: self.every]
        ]

    def video(self, index: int) -> str:
        """The video that face number ``index`` is from, ``PERSON/VIDEO``."""
        return self.key(index).rpartition("/")[0]


def _check_apart(keys: list[str], home: Path) -> None:
    """Refuses people in the sub-directories of both splits."""
    train, test = (
        {key.split("/")[1] for key in keys if key.startswith(part)} for part in ("train/", "test/")
    )
    both = sorted(train & test)
    if both:
        raise DatasetError(
            f"{home} has {len(both):,} people in train and in test, {both[0]} the first: a split "
            "by people has nobody in both, so move or rename their folders."
        )


def _in_order(frames: list[str]) -> list[str]:
    """Frames by their numbers: 2 comes before 10."""
    return sorted(frames, key=lambda key: [int(n) for n in re.findall(r"\d+", Path(key).name)])
