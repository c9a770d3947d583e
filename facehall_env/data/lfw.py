"""Labeled Faces in the Wild: 13,233 photographs of 5,749 people.

Any of the three releases will do (the original, the funneled and the deep-funneled one), also
when its images have already been cropped around the centre: all are cut to the central 128x128.
The official people split ("development", view 1) decides who is in ``train`` and who in ``test``;
nobody is in both.

Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", UMass Amherst 07-49, 2007.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path

import numpy as np

from facehall_env.data.dataset_folders import read_lines, search_places
from facehall_env.data.download import Archive, fetch, unpack
from facehall_env.data.image_list import PeopleFaces
from facehall_env.data.images import Crop
from facehall_env.errors import DatasetError
from facehall_env.files import cache_dir

NUM_PEOPLE = 5749
NUM_IMAGES = 13233

NAMES_SHA256 = "5a99269fa0134a4cf86d181c4230dc44937de324fd275b1167ac46c16fb58240"
"""Hash of all people's names, sorted, each ended by a line feed: tells LFW from other folders."""

FUNNELED = Archive(
    url="https://ndownloader.figshare.com/files/5976015",
    file_name="lfw-funneled.tgz",
    sha256="b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
    size=243_346_528,
)
"""The release that can still be downloaded, as scikit-learn uses it."""

FOLDERS = ("lfw-deepfunneled", "lfw_funneled", "lfw-funneled", "lfw")
"""Names under which the releases unpack, the best aligned one first."""

ARCHIVES = ("lfw-deepfunneled.tgz", "lfw-funneled.tgz", "lfw.tgz")
"""Names of the archives as they were published; one that lies around is unpacked."""

_ADVICE = (
    "put one of its releases (a folder lfw-deepfunneled, lfw_funneled or lfw with files "
    "NAME/NAME_0001.jpg, or its .tgz) into a directory and set FACEHALL_DATA to that directory"
)

_IMAGE = re.compile(r"(?P<person>[^/]+)/(?P=person)_\d{4}\.jpg")


@dataclass(repr=False, eq=False)
class LFW(PeopleFaces):
    """Labeled Faces in the Wild, the central 128x128 of every photograph.

    The official split needs the complete folder. With a part of it, ``split="all"`` works, and
    the others do if ``peopleDevTrain.txt`` and ``peopleDevTest.txt`` lie in it or beside it.

    The folder is looked for in ``root``, or else in the directory that the environment variable
    ``FACEHALL_DATA`` names and then in the user's cache; if it is nowhere, the funneled release
    (232 MiB) is fetched into the cache.

    Args:
        split: ``"train"`` (4,038 people, 9,525 images), ``"test"`` (1,711 people, 3,708 images)
            or ``"all"``.
        root: The folder of people, or one that holds it. Nothing is fetched if it is given.
        size: Side length of the central crop, or rows and columns.
        download: Whether the archive may be fetched.

    Raises:
        DatasetError: If the images are not found and cannot be fetched, or are not LFW's.

    Attributes:
        root: The folder of people that was found.
        people: Sorted names of the people in the split.
    """

    name = "lfw"
    crop: Crop = field(default="centre", init=False)
    download: bool = True

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's images, ``NAME/NAME_0001.jpg``, by person."""
        folder = _obtain(Path(self.root) if self.root is not None else None, self.download)
        found = (path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg"))
        # A name that begins another one comes first, whatever follows it there.
        images = sorted(filter(_IMAGE.fullmatch, found), key=lambda key: key.split("/"))
        people = sorted({key.partition("/")[0] for key in images})
        members = set(_people_of(self.split, people, folder))
        if len(images) != NUM_IMAGES:
            warnings.warn(
                f"{folder} holds {len(images):,} images of {len(people):,} people instead of LFW's "
                f"{NUM_IMAGES:,} of {NUM_PEOPLE:,}: results are not comparable with those on all.",
                stacklevel=4,
            )
        return folder, [key for key in images if key.partition("/")[0] in members]


def find(root: Path | None = None) -> Path | None:
    """The folder of people, if one of the releases is on this machine.

    Args:
        root: Where to look; by default ``FACEHALL_DATA`` and then the user's cache.
    """
    candidates = chain.from_iterable(map(_candidates, search_places("lfw", root)))
    return next(filter(_holds_people, candidates), None)


def official_split() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Who of the 5,749 people, sorted by name, belongs to the training part: bool (5749,)."""
    packed = resources.files("facehall_env.data").joinpath("lfw_split.bin").read_bytes()
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=NUM_PEOPLE)
    return bits.astype(np.bool_)


def _candidates(place: Path) -> Iterator[Path]:
    for folder in (*(place / name for name in FOLDERS), place):
        yield folder
        # Zip files made from the folder unpack to lfw-deepfunneled/lfw-deepfunneled.
        yield folder / folder.name


def _holds_people(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any((folder / e.name / f"{e.name}_0001.jpg").is_file() for e in entries)


def _obtain(root: Path | None, download: bool) -> Path:
    found = find(root)
    if found is not None:
        return found
    places = search_places("lfw", root)
    archives = (place / name for place in places for name in ARCHIVES)
    archive = next(filter(Path.is_file, archives), None)
    if archive is not None:
        return _unpacked(archive)
    if root is not None or not download:
        looked = ", ".join(map(str, places))
        raise DatasetError(f"No LFW images below {looked}: {_ADVICE}.")
    try:
        return _unpacked(fetch(FUNNELED, cache_dir() / "lfw"))
    except DatasetError as error:
        reason = str(error).rstrip(".")
        raise DatasetError(f"LFW is not on this machine, and {reason}: {_ADVICE}.") from error


def _unpacked(archive: Path) -> Path:
    target = cache_dir() / "lfw" / archive.name.removesuffix(".tgz")
    unpack(archive, target)
    found = find(target)
    if found is None:
        # Else a better archive of the same name would never be looked into.
        shutil.rmtree(target)
        raise DatasetError(
            f"{archive} holds no files NAME/NAME_0001.jpg: replace it by an archive of LFW."
        )
    return found


def _people_of(split: str, people: list[str], root: Path) -> list[str]:
    """Those of the sorted ``people`` who belong to the split."""
    if split == "all":
        return people
    names = "".join(f"{person}\n" for person in people)
    if hashlib.sha256(names.encode()).hexdigest() == NAMES_SHA256:
        wanted = official_split() == (split == "train")
        return [person for person, use in zip(people, wanted, strict=True) if use]
    listed = _listed_people(split, root)
    if listed is None:
        raise DatasetError(
            f"{root} holds {len(people):,} of LFW's {NUM_PEOPLE:,} people, and the official split "
            "is known for all of them together: complete the folder, or put peopleDevTrain.txt "
            'and peopleDevTest.txt into it, or use split="all".'
        )
    present = [person for person in people if person in listed]
    if not present:
        raise DatasetError(
            f"{root} holds {len(people):,} people, none of whom the lists beside them put into "
            f"split {split!r}: check that the folder is LFW's."
        )
    return present


def _listed_people(split: str, root: Path) -> set[str] | None:
    """The people of the official list, if it lies in the folder or beside it."""
    for place in (root, root.parent, root.parent / "lfw-protocol"):
        path = place / f"peopleDev{split.capitalize()}.txt"
        if path.is_file():
            return {line.split("\t")[0] for line in read_lines(path)[1:]}
    return None
