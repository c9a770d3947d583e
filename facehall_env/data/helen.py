"""Helen: 2,330 photographs of faces, 2,000 to train and 330 to test with.

Le, Brandt, Lin, Bourdev, Huang, "Interactive facial feature localization", ECCV 2012.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facehall_env.data.base import check_split
from facehall_env.data.dataset_folders import Layout, by_stem, read_table, warn_if_partial
from facehall_env.data.image_list import ListedFaces
from facehall_env.data.images import images_below
from facehall_env.errors import ConfigurationError, DatasetError

COUNTS = {"train": 2_000, "test": 330}
DIC_COUNT = 50
"""Faces of the cropped test set of DIC's authors, on which SPARNet and DIC are compared."""

LAYOUT = Layout(
    name="helen",
    title="Helen",
    folders=("Helen", "HELEN"),
    marks=("helen_[1-5]", "train_[1-4]", "trainnames.txt", "testnames.txt"),
    expected="helen_1 ... helen_5 and test with the photographs, trainnames.txt, testnames.txt",
)
DIC_LAYOUT = Layout(
    name="helen-dic",
    title="DIC's cropped Helen test set",
    folders=("helen_dic", "Helen_test_DIC"),
    marks=("HR", "*.png", "*.jpg"),
    expected="50 faces of 128x128 pixels, in it or in its folder HR",
)


class Helen(ListedFaces):
    """Helen's photographs, or the faces that DIC's authors have cut out of 50 of them.

    The photographs are large and show more than the face: cut the faces out first with
    ``facehall data prepare``, which keeps the folders' and the files' names; the lists are then
    copied by hand.

    Args:
        split: ``"train"`` (2,000 photographs), ``"test"`` (330) or ``"all"``, as
            ``trainnames.txt`` and ``testnames.txt`` have them; without these, what lies in a
            folder ``test`` is for testing and the rest for training.
        root: The folder; by default ``helen`` (or ``helen-dic``) in ``FACEHALL_DATA`` or the
            user's cache.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.
        release: ``"original"``, or ``"dic"`` for the cropped faces, all of which are for testing.

    Raises:
        DatasetError: If the images are missing, or do not fit the lists.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
        release: Literal["original", "dic"] = "original",
    ) -> None:
        split = check_split(split)
        if release == "original":
            home = LAYOUT.locate(root)
            keys = _original(split, home)
        elif release == "dic":
            home, keys = _cropped(split, root)
        else:
            raise ConfigurationError(f"release must be 'original' or 'dic', got {release!r}.")
        super().__init__("helen", split, home, keys, size, crop)


def _original(split: str, home: Path) -> list[str]:
    keys = images_below(home)
    if not keys:
        raise DatasetError(f"{home} has no images: expected {LAYOUT.expected}.")
    warn_if_partial("Helen", home, len(keys), sum(COUNTS.values()))
    if split == "all":
        return keys
    path = home / f"{split}names.txt"
    if path.is_file():
        names = [Path(row[0]).stem for row in read_table(path, 1)]
        stems = by_stem(keys, home)
        present = [stems[name] for name in names if name in stems]
        if not present:
            raise DatasetError(
                f"None of the {len(names):,} names in {path} is among the {len(keys):,} images in "
                f"{home}: expected {LAYOUT.expected}."
            )
        return present
    chosen = [key for key in keys if ("test" in Path(key).parts[:-1]) == (split == "test")]
    if len(chosen) in (0, len(keys)):
        raise DatasetError(
            f"{home} holds {len(keys):,} images but neither {split}names.txt nor a folder test, "
            f'which say who is in split {split!r}: add one of them, or use split="all".'
        )
    return chosen


def _cropped(split: str, root: Path | str | None) -> tuple[Path, list[str]]:
    home = DIC_LAYOUT.locate(root)
    if split == "train":
        raise DatasetError(
            f"{home} is DIC's test set, which has nothing to train with: use split='test'."
        )
    home = home / "HR" if (home / "HR").is_dir() else home
    keys = images_below(home, recursive=False)
    warn_if_partial("DIC's Helen test set", home, len(keys), DIC_COUNT)
    return home, keys
