"""BioID: 1,521 grey photographs of 23 people in front of a camera, with the places of their eyes.

Jesorsky, Kirchberg, Frischholz, "Robust face detection using the Hausdorff distance", AVBPA 2001.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from facehall_env.data.dataset_folders import Layout, read_table
from facehall_env.data.image_list import ListedFaces
from facehall_env.data.images import Crop, ImageArray, read_image
from facehall_env.errors import DatasetError
from facehall_env.photos.alignment import Points, window_by_eyes

NUM_TRAIN = 1_028
"""Attention-FH trains with so many and tests with the other 493 (section 4); which, it does not
say: here the split goes by number, since neighbouring numbers show the same person."""

LAYOUT = Layout(
    name="bioid",
    title="BioID",
    folders=("BioID", "BioID-FaceDatabase-V1.2"),
    marks=("BioID_[0-9]*.*",),
    expected="BioID_0000.pgm ... BioID_1520.pgm, each with a BioID_0000.eye",
    images=1_521,
)


@dataclass(repr=False, eq=False)
class BioID(ListedFaces):
    """BioID's faces, aligned by the eyes.

    Attention-FH aligns the photographs by landmarks that it detects and cuts out the central
    160x120. Here the published places of the eyes align them: the face is turned until the eyes
    are level, and scaled and moved until they stand at 40 % of the height, 40 % of the width apart
    and symmetric about the middle (48 pixels of 120). Beyond the photograph its border is repeated.

    ``train`` are images 0 to 1,027, ``test`` 1,028 to 1,520. Options beside `ListedFaces`' split,
    root and size:

    Args:
        align: ``"eyes"``, or ``"none"`` to cut the middle out of the photograph as it is.
    """

    name = "bioid"
    size: int | tuple[int, int] = (160, 120)
    crop: Crop = field(default="centre", init=False)
    align: Literal["eyes", "none"] = "eyes"

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's photographs, by number."""
        home = LAYOUT.locate(self.root)
        keys = sorted(path.name for path in home.glob("BioID_*.pgm"))
        LAYOUT.check_number(len(keys), home)
        known = {path.stem for path in home.glob("BioID_*.eye")}
        missing = [key for key in keys if Path(key).stem not in known]
        if missing and self.align == "eyes":
            raise DatasetError(
                f"{home} holds {len(keys):,} images but {len(missing):,} have no .eye file, "
                f"{missing[0]} the first: add them, or use align='none'."
            )
        if self.split == "all":
            return home, keys
        train = self.split == "train"
        return home, [key for key in keys if (_number(key, home) < NUM_TRAIN) == train]

    def __getitem__(self, index: int) -> ImageArray:
        if self.align == "none":
            return super().__getitem__(index)
        window = window_by_eyes(*self.eyes(index), size=self.image_size)
        return window.cut(read_image(self.path(index)), self.image_size)

    def eyes(self, index: int) -> tuple[Points, Points]:
        """Where the eyes of face number ``index`` are in its photograph.

        Returns:
            (y, x) in pixels, the middle of the first pixel being (0.5, 0.5): of the eye on the
            image's left, then of that on its right.

        Raises:
            DatasetError: If the eye file is missing or damaged.
        """
        path = self.path(index).with_suffix(".eye")
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


def _number(key: str, home: Path) -> int:
    digits = Path(key).stem.removeprefix("BioID_")
    if not digits.isdecimal():
        raise DatasetError(f"{home / key} has no number: expected {LAYOUT.expected}.")
    return int(digits)
