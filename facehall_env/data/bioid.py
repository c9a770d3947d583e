"""BioID: 1,521 grey photographs of 23 people in front of a camera, with the places of their eyes.

Jesorsky, Kirchberg, Frischholz, "Robust face detection using the Hausdorff distance", AVBPA 2001.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from facehall_env.data.base import check_split
from facehall_env.data.dataset_folders import Layout, read_table, warn_if_partial
from facehall_env.data.image_list import ListedFaces
from facehall_env.data.images import ImageArray, read_image
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.photos.alignment import Points, window_by_eyes

NUM_IMAGES = 1_521
NUM_TRAIN = 1_028
"""Attention-FH trains with so many and tests with the other 493 (section 4); which, it does not
say: here the split goes by number, since neighbouring numbers show the same person."""

LAYOUT = Layout(
    name="bioid",
    title="BioID",
    folders=("BioID", "BioID-FaceDatabase-V1.2"),
    marks=("BioID_[0-9]*.*",),
    expected="BioID_0000.pgm ... BioID_1520.pgm, each with a BioID_0000.eye",
)


class BioID(ListedFaces):
    """BioID's faces, aligned by the eyes.

    Attention-FH aligns the photographs by landmarks that it detects and cuts out the central
    160x120. Here the published places of the eyes align them: the face is turned until the eyes
    are level, and scaled and moved until they stand at 40 % of the height, 40 % of the width apart
    and symmetric about the middle (48 pixels of 120). Beyond the photograph its border is repeated.

    Args:
        split: ``"train"`` (images 0 to 1,027), ``"test"`` (1,028 to 1,520) or ``"all"``.
        root: The folder; by default ``bioid`` in ``FACEHALL_DATA`` or the user's cache.
        size: Rows and columns of the images, or their side length.
        align: ``"eyes"``, or ``"none"`` to cut the middle out of the photograph as it is.

    Raises:
        DatasetError: If images or eye files are missing.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = (160, 120),
        align: Literal["eyes", "none"] = "eyes",
    ) -> None:
        split = check_split(split)
        if align not in ("eyes", "none"):
            raise ConfigurationError(f"align must be 'eyes' or 'none', got {align!r}.")
        home = LAYOUT.locate(root)
        keys = sorted(path.name for path in home.glob("BioID_*.pgm"))
        if not keys:
            raise DatasetError(f"{home} has no images: expected {LAYOUT.expected}.")
        warn_if_partial("BioID", home, len(keys), NUM_IMAGES)
        self._by_eyes = align == "eyes"
        if self._by_eyes:
            _check_eyes(home, keys)
        if split != "all":
            keys = [key for key in keys if (_number(key, home) < NUM_TRAIN) == (split == "train")]
        super().__init__("bioid", split, home, keys, size, crop="centre")

    def __getitem__(self, index: int) -> ImageArray:
        if not self._by_eyes:
            return super().__getitem__(index)
        image = read_image(self.root / self.key(index))
        return window_by_eyes(*self.eyes(index), size=self.image_size).cut(image, self.image_size)

    def eyes(self, index: int) -> tuple[Points, Points]:
        """Where the eyes of face number ``index`` are in its photograph.

        Returns:
            (y, x) in pixels, the middle of the first pixel being (0.5, 0.5): of the eye on the
            image's left, then of that on its right.

        Raises:
            DatasetError: If the eye file is missing or damaged.
        """
        path = (self.root / self.key(index)).with_suffix(".eye")
        rows = [row for row in read_table(path, 1) if not row[0].startswith("#")]
        try:
            ((x0, y0, x1, y1),) = [[float(field) for field in row] for row in rows]
        except ValueError as error:
            raise DatasetError(
                f"{path} does not have one line with the x and y of either eye: get it again."
            ) from error
        # "Left" is the person's left in these files, which is on the image's right.
        first, second = sorted(((x0, y0), (x1, y1)))
        if first == second:
            raise DatasetError(f"{path} has both eyes at {first}: get it again.")
        return np.array(first[::-1]) + 0.5, np.array(second[::-1]) + 0.5


def _check_eyes(home: Path, keys: list[str]) -> None:
    known = {path.stem for path in home.glob("BioID_*.eye")}
    missing = [key for key in keys if Path(key).stem not in known]
    if missing:
        raise DatasetError(
            f"{home} holds {len(keys):,} images but {len(missing):,} have no .eye file, "
            f"{missing[0]} the first: add them, or use align='none'."
        )


def _number(key: str, home: Path) -> int:
    digits = Path(key).stem.removeprefix("BioID_")
    if not digits.isdecimal():
        raise DatasetError(f"{home / key} has no number: expected {LAYOUT.expected}.")
    return int(digits)
