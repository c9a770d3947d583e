"""SCface: 130 people seen by surveillance cameras from three distances, and their mug shots.

Grgic, Delac, Grgic, "SCface - surveillance cameras face database", Multimedia Tools and
Applications 51, 2011.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from facehall_env.data.dataset_folders import Layout
from facehall_env.data.image_list import PeopleFaces, Share, in_split
from facehall_env.data.images import ImageArray, cut, images_below, read_image
from facehall_env.errors import ConfigurationError

NUM_PEOPLE = 130
DISTANCES = (1, 2, 3)
"""From the farthest to the nearest."""
CAMERAS = (1, 2, 3, 4, 5, 6, 7)

LAYOUT = Layout(
    name="scface",
    title="SCface",
    folders=("SCface", "SCface_database", "SCFace"),
    marks=("surveillance_cameras_distance_[123]",),
    expected="surveillance_cameras_distance_1/cam_1/001_cam1_1.jpg ..., also for the distances 2 "
    "and 3 and the cameras 2 to 7, and mugshot_frontal_cropped_all/001_frontal.jpg ...",
    images=NUM_PEOPLE * len(CAMERAS) * len(DISTANCES),
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


@dataclass(repr=False, eq=False)
class SCface(PeopleFaces):
    """The surveillance cameras' images of SCface; `mugshot` has the same person's mug shot.

    No split is published: each person is in one part by a hash of the number, nobody in both.
    Options beside those of `ListedFaces`:

    Args:
        distances: Which of the distances 1 (the farthest), 2 and 3.
        cameras: Which of the cameras 1 to 7.
        test_fraction: Share of the people who make up ``test``.
    """

    name = "scface"
    distances: Sequence[int] = DISTANCES
    cameras: Sequence[int] = CAMERAS
    test_fraction: Share = 0.5

    def find_images(self) -> tuple[Path, list[str]]:
        """The split's images, by distance and path."""
        _check_numbers("distances", self.distances, DISTANCES)
        _check_numbers("cameras", self.cameras, CAMERAS)
        home = LAYOUT.locate(self.root)
        folders = [f"surveillance_cameras_distance_{distance}" for distance in DISTANCES]
        self._shots: dict[str, Shot] = {}
        for key in (f"{folder}/{key}" for folder in folders for key in images_below(home / folder)):
            match = _SHOT.fullmatch(Path(key).stem)
            if match is not None:
                person, camera, distance = match.groups()
                self._shots[key] = Shot(person, int(camera), int(distance))
        LAYOUT.check_number(len(self._shots), home)
        return home, [key for key, shot in self._shots.items() if self._wanted(shot)]

    def _wanted(self, shot: Shot) -> bool:
        chosen = shot.distance in self.distances and shot.camera in self.cameras
        return chosen and in_split(self.split, shot.person, self.test_fraction)

    def find_owners(self) -> list[str]:
        """Everybody's three digits."""
        return [self._shots[key].person for key in self._keys]

    def shot(self, index: int) -> Shot:
        """Who was taken by which camera from which distance."""
        return self._shots[self.key(index)]

    def mugshot(self, index: int) -> ImageArray:
        """The frontal photograph of the person on face number ``index``.

        Returns:
            uint8 (H, W, 3) of the dataset's size.

        Raises:
            IndexError: If there is no such face.
            DatasetError: If the photograph is missing or unreadable.
        """
        file = f"{self.identity(index)}_frontal"
        folder = self.folder / "mugshot_frontal_cropped_all"
        # They are published with the suffix in capitals.
        path = min(folder.glob(f"{file}.*"), default=folder / file)
        return cut(read_image(path), self.image_size, self.crop, name=str(path))


def _check_numbers(option: str, given: Sequence[int], known: Sequence[int]) -> None:
    if not given or not set(given) <= set(known):
        raise ConfigurationError(
            f"{option} must be some of {', '.join(map(str, known))}, got {list(given)}."
        )
