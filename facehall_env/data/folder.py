"""Any directory of images as a dataset."""

from __future__ import annotations

import os
from pathlib import Path

from facehall_env.data.base import check_split
from facehall_env.data.image_list import ListedFaces, check_fraction, position
from facehall_env.data.images import SUFFIXES, images_below
from facehall_env.errors import ConfigurationError, DatasetError


class ImageFolder(ListedFaces):
    """The images of a directory, in the order of their paths.

    If the directory has a sub-directory called like the split (``train`` or ``test``), that one
    is used. Otherwise each file is put in one of the two by a hash of its path, so that adding
    files never moves others from one to the other.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The directory; by default the one that ``FACEHALL_DATA`` names.
        size: Side length of the images, or rows and columns.
        crop: ``"fit"`` resizes each image (antialiased bicubic, proportions kept) until the size
            just fits inside and cuts out the middle; ``"centre"`` cuts out the middle as it is;
            ``"stretch"`` resizes to the size without regard to the proportions.
        recursive: Whether sub-directories count.
        test_fraction: Share of the files that make up ``test`` where there are no sub-directories.

    Raises:
        DatasetError: If the directory does not exist or has no images (for this split).
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
        recursive: bool = True,
        test_fraction: float = 0.1,
    ) -> None:
        split = check_split(split)
        root = directory("folder", root)
        check_fraction(test_fraction)
        found = _found(root, recursive)
        keys = _part(found, split, test_fraction)
        if not keys:
            raise DatasetError(
                f"{root} has {len(found)} images, none of them in split {split!r}: "
                f"expected files ending in {', '.join(sorted(SUFFIXES))}; check root, recursive "
                "and test_fraction."
            )
        super().__init__("folder", split, root, keys, size, crop)


def directory(name: str, root: Path | str | None) -> Path:
    """The directory of a dataset that may be anywhere.

    Args:
        name: The dataset's name, for the errors.
        root: The directory; by default the one that ``FACEHALL_DATA`` names.

    Raises:
        ConfigurationError: If none is given.
        DatasetError: If it is not a directory.
    """
    given = root if root is not None else os.environ.get("FACEHALL_DATA")
    if given is None:
        raise ConfigurationError(
            f"Dataset {name!r} needs a directory: pass root=..., or set FACEHALL_DATA to it."
        )
    path = Path(given).expanduser()
    if not path.is_dir():
        raise DatasetError(f"{path} is not a directory: expected one with images in it.")
    return path


def _found(root: Path, recursive: bool) -> list[str]:
    if recursive:
        return images_below(root)
    parts = [(root, ""), *((root / name, f"{name}/") for name in ("train", "test"))]
    return sorted(
        prefix + key for folder, prefix in parts for key in images_below(folder, recursive=False)
    )


def _part(keys: list[str], split: str, test_fraction: float) -> list[str]:
    if split == "all":
        return keys
    named = [key for key in keys if key.startswith(("train/", "test/"))]
    if named:
        return [key for key in named if key.startswith(f"{split}/")]
    return [key for key in keys if (position(key) < test_fraction) == (split == "test")]
