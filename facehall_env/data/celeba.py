"""CelebA: 202,599 photographs of 10,177 celebrities, with 40 attributes each.

Liu, Luo, Wang, Tang, "Deep learning face attributes in the wild", ICCV 2015.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facehall_env.data.base import Attributed
from facehall_env.data.dataset_folders import Layout, read_table
from facehall_env.data.download import unpack
from facehall_env.data.image_list import PeopleFaces, Selection, drawn, part_of
from facehall_env.data.images import SUFFIXES
from facehall_env.errors import DatasetError
from facehall_env.files import cache_dir

NUM_IMAGES = 202_599
PARTITION = {"train": 162_770, "validation": 19_867, "test": 19_962}
"""Images of each part of ``list_eval_partition.txt``, which numbers them 0, 1 and 2."""

SISN_COUNTS = (2_000, 140, 60)
"""Images that SISN trains, validates and tests with, drawn at random (section 4.1)."""

FOLDERS = ("img_align_celeba", "img_align_celeba_png")
ARCHIVE = "img_align_celeba.zip"

LAYOUT = Layout(
    name="celeba",
    title="CelebA",
    folders=("CelebA", "celebA"),
    marks=(*FOLDERS, ARCHIVE, "Img"),
    expected="img_align_celeba/000001.jpg ... or img_align_celeba.zip, list_eval_partition.txt",
    images=NUM_IMAGES,
)

T = TypeVar("T")
_HINT = "it comes with CelebA in the folder Anno or Eval; put it beside the folder of images"


@dataclass(repr=False, eq=False)
class CelebA(PeopleFaces, Attributed):
    """CelebA's aligned and cropped images (178x218 as published).

    Found in ``root``, or in ``FACEHALL_DATA`` or the user's cache as ``celeba``; ``root`` holds
    ``img_align_celeba`` (or its zip, which is unpacked into the cache) and the lists, either
    beside it or in the folders ``Img``, ``Anno`` and ``Eval`` in which they are published.
    Copies of the images may be of any type (``000001.png``), and the lists be separated by commas.

    ``train`` are 162,770 images and ``test`` 19,962, as the authors' ``list_eval_partition.txt``
    has them; ``crop="fit"`` takes the central square for a square size. Options beside those of
    `ListedFaces`:

    Args:
        selection: ``"official"``, or ``"sisn"`` for 2,000 images to train, 140 to validate and 60
            to test with, drawn at random from all; SISN's are 216x176, stretched:
            ``selection="sisn", size=(216, 176), crop="stretch"``.
        validation: With ``split="train"``: the images held out of it for validation instead
            (19,867 of the official partition).
        seed: Draws others where ``selection="sisn"``.

    Raises:
        DatasetError: Also if the partition is missing or does not belong to the images.

    Attributes:
        people: The numbers of the people in the split as text, sorted; empty without
            ``identity_CelebA.txt``.
    """

    name = "celeba"
    selection: Selection = "official"
    validation: bool = False
    seed: int = 0

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's images, by number or in the order drawn."""
        part = part_of(self.split, self.validation)
        self._home = LAYOUT.locate(self.root)
        images = _images(self._home)
        files = {Path(name).stem: name for name in sorted(os.listdir(images)) if _is_image(name)}
        LAYOUT.check_number(len(files), images)
        if self.selection == "sisn":
            stems = drawn(sorted(files), SISN_COUNTS, part, self.seed, images)
        else:
            stems = _official(part, files, self._home, images)
        return images, [files[stem] for stem in stems]

    def find_owners(self) -> list[str]:
        """The people's numbers, if ``identity_CelebA.txt`` is there."""
        path = _find_list(self._home, self.folder, "identity_CelebA")
        if path is None:
            return []
        return self._of_each({Path(row[0]).stem: row[1] for row in read_table(path, 2)}, path)

    def identity(self, index: int) -> str:
        """The person's number, 1 to 10,177, as text; see `Identified`."""
        index = self.checked(index)
        if not self.people:
            raise DatasetError(
                f"{self._home} has no identity_CelebA.txt, so that nobody knows who is who: "
                f"{_HINT}."
            )
        return super().identity(index)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The names of the 40 attributes (``"Smiling"``).

        Raises:
            DatasetError: If ``list_attr_celeba.txt`` is missing or damaged.
        """
        return self._attributes[0]

    def attributes(self, index: int) -> dict[str, bool]:
        """Which attributes face number ``index`` has.

        Raises:
            IndexError: If there is no such face.
            DatasetError: If ``list_attr_celeba.txt`` is missing or damaged.
        """
        names, values = self._attributes
        return dict(zip(names, values[self.checked(index)].tolist(), strict=True))

    @cached_property
    def _attributes(self) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
        path = _find_list(self._home, self.folder, "list_attr_celeba")
        if path is None:
            raise DatasetError(f"{self._home} has no list_attr_celeba.txt: {_HINT}.")
        rows = [row for row in read_table(path, 1) if len(row) > 1]
        if not rows:
            raise DatasetError(f"{path} has no attributes: get the file again.")
        names = tuple(rows[0][1:] if rows[0][0] == "image_id" else rows[0])
        known = {}
        for row in rows[1:]:
            if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1", "0"}:
                raise DatasetError(
                    f"{path} has {len(names)} attributes but {row[0]} has {len(row) - 1} values, "
                    "or others than 1 and -1: get the file again."
                )
            known[Path(row[0]).stem] = [value == "1" for value in row[1:]]
        return names, np.array(self._of_each(known, path))

    def _of_each(self, known: dict[str, T], path: Path) -> list[T]:
        """What a list says of every image of the split."""
        for key in self._keys:
            if Path(key).stem not in known:
                raise DatasetError(f"{path} has no line for {key}: get the file again.")
        return [known[Path(key).stem] for key in self._keys]


def _images(home: Path) -> Path:
    """The folder of images, unpacked if need be."""
    for parent in (home, home / "Img"):
        for name in FOLDERS:
            # Archives made from the folder unpack to img_align_celeba/img_align_celeba.
            for folder in (parent / name / name, parent / name):
                if folder.is_dir():
                    return folder
    for archive in (home / ARCHIVE, home / "Img" / ARCHIVE):
        if archive.is_file():
            target = unpack(archive, cache_dir() / "celeba" / archive.stem)
            inner = target / archive.stem
            return inner if inner.is_dir() else target
    raise DatasetError(f"{home} has a folder Img without images: expected {LAYOUT.expected}.")


def _official(part: str, files: dict[str, str], home: Path, images: Path) -> list[str]:
    if part == "all":
        return sorted(files)
    path = _find_list(home, images, "list_eval_partition")
    if path is None:
        raise DatasetError(
            f"{images} holds {len(files):,} images, but there is no list_eval_partition.txt in "
            f'{home}, which says who is in split {part!r}: {_HINT}, or use split="all".'
        )
    rows = [row for row in read_table(path, 2) if row[0] != "image_id"]
    listed = {Path(row[0]).stem: row[1] for row in rows}
    unlisted = next((files[stem] for stem in files if stem not in listed), None)
    if unlisted is not None:
        raise DatasetError(
            f"{path} has {len(listed):,} lines for the {len(files):,} images in {images} and none "
            f"for {unlisted}: get the file again ({NUM_IMAGES:,} lines)."
        )
    number = str(list(PARTITION).index(part))
    return [stem for stem in sorted(files) if listed[stem] == number]


def _find_list(home: Path, images: Path, stem: str) -> Path | None:
    folders = (home, home / "Anno", home / "Eval", images.parent, images)
    paths = (folder / (stem + suffix) for folder in folders for suffix in (".txt", ".csv"))
    return next(filter(Path.is_file, paths), None)


def _is_image(name: str) -> bool:
    path = Path(name)
    return path.stem.isdecimal() and path.suffix.lower() in SUFFIXES
