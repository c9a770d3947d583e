"""FFHQ: 70,000 aligned photographs of faces, 1024x1024.

Karras, Laine, Aila, "A style-based generator architecture for generative adversarial networks",
CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facehall_env.data.base import check_split
from facehall_env.data.dataset_folders import Layout, by_stem, warn_if_partial
from facehall_env.data.image_list import ListedFaces, drawn, part_of
from facehall_env.data.images import as_size, images_below
from facehall_env.errors import ConfigurationError, DatasetError

NUM_IMAGES = 70_000
NUM_TRAIN = 60_000
"""The publishers name the first 60,000 for training and the other 10,000 for validation."""

SISN_COUNTS = (850, 100, 50)
"""Images that SISN trains, validates and tests with, drawn at random (section 4.1)."""

RELEASES = {"thumbnails128x128": 128, "images1024x1024": 1024}
"""Folders of the publication and the side length of their images, in pixels."""

LAYOUT = Layout(
    name="ffhq",
    title="FFHQ",
    folders=("FFHQ", "ffhq-dataset"),
    marks=tuple(RELEASES),
    expected="images1024x1024/00000/00000.png ... or thumbnails128x128/00000/00000.png ...",
)


class FFHQ(ListedFaces):
    """FFHQ's aligned images, from the full size or the thumbnails.

    Args:
        split: ``"train"`` (the first 60,000), ``"test"`` (the other 10,000) or ``"all"``.
        root: The folder; by default ``ffhq`` in ``FACEHALL_DATA`` or the user's cache.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.
        images: ``"thumbnails128x128"`` or ``"images1024x1024"``; by default the smallest that is
            there and at least as large as ``size``.
        selection: ``"official"``, or ``"sisn"`` for 850 images to train, 100 to validate and 50 to
            test with, drawn at random from all.
        validation: With ``split="train", selection="sisn"``: the 100 images for validation.
        seed: Draws others where ``selection="sisn"``.

    Raises:
        DatasetError: If the images are missing or too few.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
        images: str | None = None,
        selection: Literal["official", "sisn"] = "official",
        validation: bool = False,
        seed: int = 0,
    ) -> None:
        part = part_of(check_split(split), validation)
        folder = _folder(LAYOUT.locate(root), images, max(as_size(size)))
        keys = [key for key in images_below(folder) if Path(key).stem.isdecimal()]
        if not keys:
            raise DatasetError(f"{folder} has no numbered images: expected {LAYOUT.expected}.")
        stems = by_stem(keys, folder)
        numbers = sorted(stems, key=int)
        warn_if_partial("FFHQ", folder, len(numbers), NUM_IMAGES)
        if selection == "sisn":
            numbers = drawn(numbers, SISN_COUNTS, part, seed, folder)
        elif selection != "official":
            raise ConfigurationError(f"selection must be 'official' or 'sisn', got {selection!r}.")
        elif validation:
            raise ConfigurationError(
                "FFHQ's own split has no images for validation beside train and test: use "
                "selection='sisn', or split='test'."
            )
        elif part != "all":
            numbers = [name for name in numbers if (int(name) < NUM_TRAIN) == (part == "train")]
        super().__init__("ffhq", split, folder, [stems[name] for name in numbers], size, crop)


def _folder(home: Path, images: str | None, side: int) -> Path:
    present = [name for name in RELEASES if (home / name).is_dir()]
    if images is None:
        large_enough = [name for name in present if RELEASES[name] >= side]
        return home / (large_enough or present[-1:])[0]
    if images not in present:
        raise ConfigurationError(
            f"images={images!r} is not in {home}: use one of {', '.join(map(repr, present))}."
        )
    return home / images
