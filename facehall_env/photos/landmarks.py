"""The 68 points that dlib marks on a face (extra ``faces``), for batches of faces of one size."""

from __future__ import annotations

from dataclasses import dataclass
from math import dist
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facehall_env.data.images import ImageArray
from facehall_env.photos.alignment import Box, Points
from facehall_env.photos.detect import Detector, DlibDetector, import_dlib, marks, points_model

NUM_POINTS = 68
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
"""The points around the eye on the image's left, and around that on its right."""
OUTER_CORNERS = (36, 45)
"""The outer corners of the eyes."""
NOSE_TIP, MOUTH_CORNERS = 30, (48, 54)
MARGIN = 0.25
"""Images in which nothing is found are searched again with a border of this share of their side."""
LENIENT = -1.0
"""If that finds nothing either, the detector accepts a face down to this score."""

_POINTS_FILE = "shape_predictor_68_face_landmarks.dat"


@dataclass(frozen=True)
class Landmarks:
    """The points of N faces.

    Attributes:
        points: (N, 68, 2) float64, (y, x) in pixels, where the middle of the first pixel is
            (0.5, 0.5); NaN for faces that were not found. The order is that of the iBUG 300-W
            annotation: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67.

    Example:
        >>> Landmarks(np.full((2, 68, 2), np.nan)).found.tolist()
        [False, False]
    """

    points: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of faces N."""
        return len(self.points)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) whether each face was found."""
        return np.asarray(np.isfinite(self.points).all(axis=(1, 2)), dtype=np.bool_)

    @property
    def five(self) -> NDArray[np.float64]:
        """(N, 5, 2): middles of the eyes, tip of the nose, corners of the mouth, left first."""
        eyes = [self.points[:, eye].mean(axis=1) for eye in (LEFT_EYE, RIGHT_EYE)]
        rest = [self.points[:, place] for place in (NOSE_TIP, *MOUTH_CORNERS)]
        return np.stack((*eyes, *rest), axis=1)

    def rows(self, index: slice | NDArray[Any]) -> Landmarks:
        """The points of some of the faces."""
        return Landmarks(self.points[index])


class Marker(Protocol):
    """What marks the points on faces."""

    def __call__(self, faces: Tensor) -> Landmarks:
        """The points of faces (N, 3, H, W) in [0, 1]."""


class DlibLandmarks:
    """dlib's frontal face detector and its 68 points.

    Kazemi and Sullivan, "One millisecond face alignment with an ensemble of regression trees",
    CVPR 2014. Of several faces in an image the one nearest to its middle counts.

    Args:
        *detectors: What finds the faces, each asked where those before found none; by default
            dlib's, first as it is and then content with a score of `LENIENT`.

    Raises:
        MissingExtraError: If dlib or its models are not installed.
    """

    def __init__(self, *detectors: Detector) -> None:
        self._detectors = [*detectors] or [DlibDetector(), DlibDetector(threshold=LENIENT)]
        self._mark = points_model(_POINTS_FILE)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without dlib's model, which comes with its package; so are fingerprints."""
        return type(self), tuple(self._detectors)

    def __call__(self, faces: Tensor) -> Landmarks:
        """The points of faces (N, 3, H, W) in [0, 1], on any device."""
        points = [self._points(image) for image in as_arrays(faces)]
        return Landmarks(np.stack(points) if points else np.empty((0, NUM_POINTS, 2)))

    def _points(self, image: ImageArray) -> Points:
        """(68, 2), NaN if there is no face."""
        # A face that fills its image is found once there is something around it.
        margin = round(MARGIN * max(image.shape[:2]))
        searches = [(self._detectors[0], 0), *((detector, margin) for detector in self._detectors)]
        for detector, border in searches:
            padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
            found = detector(padded)
            if found:
                middle = [side / 2 for side in padded.shape[:2]]
                box = min((face.box for face in found), key=lambda box: dist(box.middle, middle))
                return np.asarray(self._marked(padded, box) - border)
        return np.full((NUM_POINTS, 2), np.nan)

    def _marked(self, image: ImageArray, box: Box) -> Points:
        # dlib's last row and column belong to its rectangle.
        sides = (box.left, box.top, box.right - 1, box.bottom - 1)
        return marks(self._mark, image, import_dlib().rectangle(*map(round, sides)))


def as_arrays(faces: Tensor) -> NDArray[np.uint8]:
    """Faces (N, 3, H, W) in [0, 1] as uint8 (N, H, W, 3) on the host, rounded."""
    rounded = (faces.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).cpu().numpy())
