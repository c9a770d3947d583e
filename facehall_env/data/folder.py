"""Any directory of images as a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facehall_env.data.dataset_folders import given_directory
from facehall_env.data.image_list import ListedFaces, Share, in_split
from facehall_env.data.images import SUFFIXES, images_below
from facehall_env.errors import DatasetError


@dataclass(repr=False, eq=False)
class ImageFolder(ListedFaces):
    """The images of a directory, in the order of their paths.

    ``root`` is by default the directory that ``FACEHALL_DATA`` names. If it has a sub-directory
    called like the split (``train`` or ``test``), that one is used. Otherwise each file is put in
    one of the two by a hash of its path, so that adding files never moves others from one to the
    other. Options beside those of `ListedFaces`:

    Args:
        recursive: Whether sub-directories count.
        test_fraction: Share of the files that make up ``test`` where there are no sub-directories.
    """

    name = "folder"
    recursive: bool = True
    test_fraction: Share = 0.1

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's images, by path."""
        root = given_directory(self.name, self.root)
        found = _found(root, self.recursive)
        named = [key for key in found if key.startswith(("train/", "test/"))]
        if self.split == "all":
            keys = found
        elif named:
            keys = [key for key in named if key.startswith(f"{self.split}/")]
        else:
            keys = [key for key in found if in_split(self.split, key, self.test_fraction)]
        if not keys:
            raise DatasetError(
                f"{root} has {len(found)} images, none of them in split {self.split!r}: "
                f"expected files ending in {', '.join(sorted(SUFFIXES))}; check root, recursive "
                "and test_fraction."
            )
        return root, keys


def _found(root: Path, recursive: bool) -> list[str]:
    if recursive:
        return images_below(root)
    parts = [(root, ""), *((root / name, f"{name}/") for name in ("train", "test"))]
    return sorted(
        prefix + key for folder, prefix in parts for key in images_below(folder, recursive=False)
    )
