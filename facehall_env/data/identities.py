"""Folders with one sub-folder of images for each person: UMDFaces, YouTube Faces, your own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from facehall_env.data.base import Identified, check_split
from facehall_env.data.dataset_folders import Layout
from facehall_env.data.folder import directory
from facehall_env.data.image_list import ListedFaces, people_of
from facehall_env.data.images import images_below
from facehall_env.errors import ConfigurationError, DatasetError

YTF_FOLDERS = ("aligned_images_DB", "frame_images_DB")
"""The two forms in which YouTube Faces is published."""

YTF_LAYOUT = Layout(
    name="ytf",
    title="YouTube Faces",
    folders=("YTF", "YouTubeFaces"),
    marks=YTF_FOLDERS,
    expected="aligned_images_DB/PERSON/VIDEO/*.jpg or frame_images_DB/PERSON/VIDEO/*.jpg",
)


class PeopleFaces(ListedFaces, Identified):
    """Images in one folder for each person.

    Args:
        name: Name of the dataset.
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The folder of people.
        owners: The paths of the images below it, in their order, and who is on each.
        people: Who belongs to the split.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.

    Raises:
        DatasetError: If there are no images in the split.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        owners: Mapping[str, str],
        people: set[str],
        size: int | tuple[int, int],
        crop: str,
    ) -> None:
        keys = [key for key, person in owners.items() if person in people]
        super().__init__(name, split, root, keys, size, crop)
        self._owners = [owners[key] for key in keys]
        self.people = tuple(sorted(set(self._owners)))

    def identity(self, index: int) -> str:
        """The name of the person's folder."""
        return self._owners[self.checked(index)]


class IdentityFolder(PeopleFaces):
    """Any directory with one sub-folder for each person, as UMDFaces has it.

    If the directory has the sub-directories ``train`` and ``test``, each with folders of people,
    they are the splits. Otherwise each person is in one of the two by a hash of the name: nobody
    is in both, and adding people never moves others.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The directory; by default the one that ``FACEHALL_DATA`` names.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.
        test_fraction: Share of the people who make up ``test``.

    Raises:
        DatasetError: If there are no folders of people, no images in them, or the same person in
            the sub-directories of both splits.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
        test_fraction: float = 0.1,
    ) -> None:
        split = check_split(split)
        home = directory("identities", root)
        images = images_below(home)
        if all((home / part).is_dir() for part in ("train", "test")):
            owners = _owners((key for key in images if key.startswith(("train/", "test/"))), 1)
            members = _members(owners, split, home)
        else:
            owners = _owners(images, 0)
            members = people_of(split, owners.values(), test_fraction)
        if not owners:
            raise DatasetError(
                f"{home} holds {len(images):,} images and no folder of a person with any: expected "
                "PERSON/*.jpg."
            )
        super().__init__("identities", split, home, owners, members, size, crop)


class YTF(PeopleFaces):
    """YouTube Faces: 3,425 videos of 1,595 people, frame by frame.

    Wolf, Hassner, Maoz, "Face recognition in unconstrained videos with matched background
    similarity", CVPR 2011. Nobody is in both splits, which are made by a hash of the name.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The folder; by default ``ytf`` in ``FACEHALL_DATA`` or the user's cache.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.
        images: ``"aligned_images_DB"`` or ``"frame_images_DB"``; by default the first there is.
        every: Take each so-manieth frame of a video, from its first.
        test_fraction: Share of the people who make up ``test``.

    Raises:
        DatasetError: If the images are missing.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
        images: str | None = None,
        every: int = 1,
        test_fraction: float = 0.1,
    ) -> None:
        split = check_split(split)
        if every < 1:
            raise ConfigurationError(f"every must be at least 1, got {every}.")
        home = _ytf_folder(YTF_LAYOUT.locate(root), images)
        videos: dict[str, list[str]] = defaultdict(list)
        found = images_below(home)
        for key in found:
            if key.count("/") == 2:
                videos[key.rpartition("/")[0]].append(key)
        if not videos:
            raise DatasetError(
                f"{home} holds {len(found):,} images, none of them in PERSON/VIDEO: expected "
                f"{YTF_LAYOUT.expected}."
            )
        keys = [key for video in sorted(videos) for key in _in_order(videos[video])[::every]]
        owners = _owners(keys, 0)
        members = people_of(split, owners.values(), test_fraction)
        super().__init__("ytf", split, home, owners, members, size, crop)

    def video(self, index: int) -> str:
        """The video that face number ``index`` is from, ``PERSON/VIDEO``."""
        return self.key(index).rpartition("/")[0]


def _owners(keys: Iterable[str], depth: int) -> dict[str, str]:
    """Whose folder, ``depth`` folders below the root, the images are in; others are left out."""
    parts = ((key, key.split("/")) for key in keys)
    return {key: folders[depth] for key, folders in parts if len(folders) > depth + 1}


def _members(owners: Mapping[str, str], split: str, home: Path) -> set[str]:
    """The people in the sub-directory of a split."""
    train, test = (
        {person for key, person in owners.items() if key.startswith(f"{part}/")}
        for part in ("train", "test")
    )
    both = sorted(train & test)
    if both:
        raise DatasetError(
            f"{home} has {len(both):,} people in train and in test, {both[0]} the first: a split "
            "by people has nobody in both, so move or rename their folders."
        )
    return {"train": train, "test": test, "all": train | test}[split]


def _ytf_folder(home: Path, images: str | None) -> Path:
    present = [name for name in YTF_FOLDERS if (home / name).is_dir()]
    if images is not None and images not in present:
        raise ConfigurationError(
            f"images={images!r} is not in {home}: use one of {', '.join(map(repr, present))}."
        )
    return home / (images or present[0])


def _in_order(frames: list[str]) -> list[str]:
    """Frames by their numbers: 2 comes before 10."""
    return sorted(frames, key=lambda key: [int(n) for n in re.findall(r"\d+", Path(key).name)])
