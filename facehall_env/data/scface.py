"""SCface: 130 people seen by surveillance cameras from three distances, and their mug shots.

Grgic, Delac, Grgic, "SCface - surveillance cameras face database", Multimedia Tools and
Applications 51, 2011.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from facehall_env.data.base import Identified, check_split
from facehall_env.data.dataset_folders import Layout, warn_if_partial
from facehall_env.data.image_list import ListedFaces, people_of
from facehall_env.data.images import ImageArray, cut, images_below, read_image
from facehall_env.errors import ConfigurationError, DatasetError

NUM_PEOPLE = 130
DISTANCES = (1, 2, 3)
"""From the farthest to the nearest."""
CAMERAS = (1, 2, 3, 4, 5, 6, 7)
MUGSHOTS = "mugshot_frontal_cropped_all"

LAYOUT = Layout(
    name="scface",
    title="SCface",
    folders=("SCface", "SCface_database", "SCFace"),
    marks=("surveillance_cameras_distance_[123]",),
    expected="surveillance_cameras_distance_1/cam_1/001_cam1_1.jpg ..., also for the distances 2 "
    "and 3 and the cameras 2 to 7, and mugshot_frontal_cropped_all/001_frontal.jpg ...",
)

_SHOT = re.compile(r"(?P<person>\d{3})_cam(?P<camera>\d)_(?P<distance>\d)")


class Shot(NamedTuple):
    """What the name of an image says.

    Attributes:
        person: Three digits, ``"001"`` to ``"130"``.
        camera: 1 to 7.
        distance: 1 (the farthest) to 3.
    """

    person: str
    camera: int
    distance: int


class SCface(ListedFaces, Identified):
    """The surveillance cameras' images of SCface; `mugshot` has the same person's mug shot.

    No split is published: each person is in one part by a hash of the number, nobody in both.

    Args:
        split: ``"train"``, ``"test"`` or ``"all"``.
        root: The folder; by default ``scface`` in ``FACEHALL_DATA`` or the user's cache.
        size: Side length of the images, or rows and columns.
        crop: How they are brought to that size; see `facehall_env.data.images.cut`.
        distances: Which of the distances 1 (the farthest), 2 and 3.
        cameras: Which of the cameras 1 to 7.
        test_fraction: Share of the people who make up ``test``.

    Raises:
        DatasetError: If the images are missing.
        ConfigurationError: On a bad option.
    """

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        size: int | tuple[int, int] = 128,
        crop: str = "fit",
        distances: Sequence[int] = DISTANCES,
        cameras: Sequence[int] = CAMERAS,
        test_fraction: float = 0.5,
    ) -> None:
        split = check_split(split)
        _check_numbers("distances", distances, DISTANCES)
        _check_numbers("cameras", cameras, CAMERAS)
        home = LAYOUT.locate(root)
        shots = _shots(home)
        wanted = {
            key: shot
            for key, shot in shots.items()
            if shot.distance in distances and shot.camera in cameras
        }
        people = {shot.person for shot in wanted.values()}
        members = people_of(split, people, test_fraction)
        keys = [key for key, shot in wanted.items() if shot.person in members]
        super().__init__("scface", split, home, keys, size, crop)
        self.people = tuple(sorted({wanted[key].person for key in keys}))
        self._shots = [wanted[key] for key in keys]

    def shot(self, index: int) -> Shot:
        """Who was taken by which camera from which distance."""
        return self._shots[self.checked(index)]

    def identity(self, index: int) -> str:
        """The person's number, three digits."""
        return self.shot(index).person

    def mugshot(self, index: int) -> ImageArray:
        """The frontal photograph of the person on face number ``index``.

        Returns:
            uint8 (H, W, 3) of the dataset's size.

        Raises:
            IndexError: If there is no such face.
            DatasetError: If the photograph is missing or unreadable.
        """
        person = self.identity(index)
        folder = self.root / MUGSHOTS
        # They are published with the suffix in capitals.
        path = next(iter(sorted(folder.glob(f"{person}_frontal.*"))), folder / f"{person}_frontal")
        return cut(read_image(path), self.image_size, self._crop, name=str(path))


def _shots(home: Path) -> dict[str, Shot]:
    shots = {}
    for distance in DISTANCES:
        folder = f"surveillance_cameras_distance_{distance}"
        for key in images_below(home / folder):
            match = _SHOT.fullmatch(Path(key).stem)
            if match is not None:
                person, camera, taken_from = match.groups()
                shots[f"{folder}/{key}"] = Shot(person, int(camera), int(taken_from))
    if not shots:
        raise DatasetError(
            f"{home} has no images of the surveillance cameras: expected {LAYOUT.expected}."
        )
    whole = NUM_PEOPLE * len(CAMERAS) * len(DISTANCES)
    warn_if_partial("SCface", home, len(shots), whole)
    return shots


def _check_numbers(option: str, given: Sequence[int], known: Sequence[int]) -> None:
    if not given or not set(given) <= set(known):
        raise ConfigurationError(
            f"{option} must be some of {', '.join(map(str, known))}, got {list(given)}."
        )
