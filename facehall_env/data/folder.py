"""Any directory of images as a dataset."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from facehall_env.data.base import DATASETS, FaceDataset, check_split
from facehall_env.data.images import (
    SUFFIXES,
    ImageArray,
    as_size,
    centre_crop,
    read_image,
    resize_to_cover,
)
from facehall_env.errors import ConfigurationError, DatasetError


@DATASETS.register("folder")
class ImageFolder(FaceDataset):
    """The images of a directory, in the order of their paths.

    If the directory has a sub-directory called like the split (``train`` or ``test``), that one
    is used. Otherwise each file is put in one of the two by a hash of its path, so that adding
    files never moves others from one to the other.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The directory; by default the one that ``FACEHALL_DATA`` names.
        size: Side length of the images, or rows and columns.
        crop: ``"fit"`` resizes each image (antialiased bicubic, proportions kept) until the size
            just fits inside and cuts out the middle; ``"centre"`` cuts out the middle as it is.
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
        crop: Literal["fit", "centre"] = "fit",
        recursive: bool = True,
        test_fraction: float = 0.1,
    ) -> None:
        self.name = "folder"
        self.split = check_split(split)
        self.image_size = as_size(size)
        self.root = _directory(root)
        if crop not in ("fit", "centre"):
            raise ConfigurationError(f"crop must be 'fit' or 'centre', got {crop!r}.")
        if not 0 <= test_fraction <= 1:
            raise ConfigurationError(f"test_fraction must lie in [0, 1], got {test_fraction}.")
        self._crop = crop
        found = _images_below(self.root, recursive)
        self._keys = _part(found, self.split, test_fraction)
        if not self._keys:
            raise DatasetError(
                f"{self.root} has {len(found)} images, none of them in split {self.split!r}: "
                f"expected files ending in {', '.join(sorted(SUFFIXES))}; check root, recursive "
                "and test_fraction."
            )

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> ImageArray:
        path = self.root / self.key(index)
        image = read_image(path)
        if self._crop == "fit":
            return resize_to_cover(image, self.image_size)
        return centre_crop(image, self.image_size, name=str(path))

    def key(self, index: int) -> str:
        """The file's path below the root, with forward slashes."""
        return self._keys[self.checked(index)]


def _directory(root: Path | str | None) -> Path:
    given = root if root is not None else os.environ.get("FACEHALL_DATA")
    if given is None:
        raise ConfigurationError(
            "Dataset 'folder' needs a directory: pass root=..., or set FACEHALL_DATA to it."
        )
    path = Path(given).expanduser()
    if not path.is_dir():
        raise DatasetError(f"{path} is not a directory: expected one with images in it.")
    return path


def _images_below(root: Path, recursive: bool) -> list[str]:
    keys = []
    for place, folders, files in os.walk(root):
        if not recursive and Path(place) == root:
            folders[:] = [name for name in folders if name in ("train", "test")]
        elif not recursive:
            folders.clear()
        keys += [
            (Path(place) / file).relative_to(root).as_posix()
            for file in files
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith(".")
        ]
    return sorted(keys)


def _part(keys: list[str], split: str, test_fraction: float) -> list[str]:
    if split == "all":
        return keys
    named = [key for key in keys if key.startswith(("train/", "test/"))]
    if named:
        return [key for key in named if key.startswith(f"{split}/")]
    return [key for key in keys if (_position(key) < test_fraction) == (split == "test")]


def _position(key: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
