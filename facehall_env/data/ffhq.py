"""FFHQ: 70,000 aligned photographs of faces, 1024x1024.

Karras, Laine, Aila, "A style-based generator architecture for generative adversarial networks",
CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facehall_env.data.dataset_folders import Layout, by_stem
from facehall_env.data.image_list import ListedFaces, Selection, drawn, part_of
from facehall_env.data.images import images_below
from facehall_env.errors import ConfigurationError

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
    images=70_000,
)


@dataclass(repr=False, eq=False)
class FFHQ(ListedFaces):
    """FFHQ's aligned images, from the full size or the thumbnails.

    ``train`` are the first 60,000, ``test`` the other 10,000. Options beside those of
    `ListedFaces`:

    Args:
        images: ``"thumbnails128x128"`` or ``"images1024x1024"``; by default the smallest that is
            there and at least as large as ``size``.
        selection: ``"official"``, or ``"sisn"`` for 850 images to train, 100 to validate and 50 to
            test with, drawn at random from all.
        validation: With ``split="train", selection="sisn"``: the 100 images for validation.
        seed: Draws others where ``selection="sisn"``.
    """

    name = "ffhq"
    images: str | None = None
    selection: Selection = "official"
    validation: bool = False
    seed: int = 0

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's images, by number or in the order drawn."""
        part = part_of(self.split, self.validation)
        home = LAYOUT.locate(self.root)
        present = LAYOUT.forms(home, self.images)
        large_enough = [name for name in present if RELEASES[name] >= max(self.image_size)]
        folder = home / (large_enough or present[-1:])[0]
        keys = [key for key in images_below(folder) if Path(key).stem.isdecimal()]
        LAYOUT.check_number(len(keys), folder)
        stems = by_stem(keys, folder)
        numbers = sorted(stems, key=int)
        if self.selection == "sisn":
            numbers = drawn(numbers, SISN_COUNTS, part, self.seed, folder)
        elif self.validation:
            raise ConfigurationError(
                "FFHQ's own split has no images for validation beside train and test: use "
                "selection='sisn', or split='test'."
            )
        elif part != "all":
            numbers = [name for name in numbers if (int(name) < NUM_TRAIN) == (part == "train")]
        return folder, [stems[name] for name in numbers]
