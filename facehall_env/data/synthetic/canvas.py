"""The canvas of a portrait: from places on a face to pixels, and strokes.

A face is laid out in *face units*: the origin between the eyes' line and the nose, x to the
right, y down, and the face one unit wide on either side. Its surface is half an ellipsoid, so that
a turn of the head moves and foreshortens the features as it should.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from facehall_env.data.synthetic.traits import DRAWN, SIZE, Colour, Traits

SHADED = SIZE // 2
"""Side length at which smooth shading is computed."""
SHIFT = 4
"""OpenCV takes coordinates in 1/16 pixel."""

Points = NDArray[np.float64]
Picture = NDArray[np.uint8]


class Canvas:
    """A picture in progress, and the portrait's traits that say where things go.

    Args:
        traits: The portrait's traits.
        rng: Source of the details that differ between portraits of one person.
        marks: Source of the details that a person keeps.

    Attributes:
        picture: uint8 (256, 256, 3), RGB.
        rounded: uint8 (256, 256), 255 where the light falls on the rounded head.
    """

    def __init__(self, traits: Traits, rng: Generator, marks: Generator) -> None:
        self.traits = traits
        self.rng = rng
        self.marks = marks
        self.picture: Picture = np.empty((DRAWN, DRAWN, 3), np.uint8)
        self.rounded: Picture = np.zeros((DRAWN, DRAWN), np.uint8)
        cosine, sine = math.cos(traits.roll), math.sin(traits.roll)
        self._rotation = np.array([[cosine, sine], [-sine, cosine]]) * traits.scale

    def flat(self, points: Points) -> Points:
        """Drawn pixels of points (..., 2) that lie in the picture's plane and do not turn."""
        return points @ self._rotation + self.traits.centre

    def on_face(self, points: Points, lift: float | Points = 0.0) -> Points:
        """Drawn pixels of points (..., 2) on the face, ``lift`` above its surface."""
        t = self.traits
        x, y = points[..., 0], points[..., 1] * t.length
        depth = 0.85 * np.sqrt(np.maximum(1 - (x / 1.1) ** 2 - (y / 1.6) ** 2, 0.02)) + lift
        placed = np.empty(points.shape)
        placed[..., 0] = x * math.cos(t.yaw) + depth * math.sin(t.yaw)
        depth = depth * math.cos(t.yaw) - x * math.sin(t.yaw)
        placed[..., 1] = y * math.cos(t.pitch) + depth * math.sin(t.pitch)
        return self.flat(placed)

    def both(self, curves: Points, lift: float = 0.0) -> Points:
        """Drawn pixels of curves (..., n, 2) on the right of the face and of their mirror image."""
        return self.on_face(np.stack([curves, curves * [-1, 1]]), lift)

    def fill(self, outline: Points, colour: Colour, rounded: bool = False) -> None:
        """Fill a polygon of drawn pixels; ``rounded`` says that the light plays on it."""
        corners = [fixed(outline)]
        cv2.fillPoly(self.picture, corners, paint(colour), cv2.LINE_AA, SHIFT)
        if rounded:
            cv2.fillPoly(self.rounded, corners, 255, cv2.LINE_8, SHIFT)

    def dot(self, place: Points, colour: Colour, radius: int) -> None:
        """Fill a circle around a drawn pixel; its radius is in 1/16 pixel."""
        middle = fixed(place).tolist()
        cv2.circle(self.picture, middle, radius, paint(colour), -1, cv2.LINE_AA, SHIFT)

    def line(self, points: Points, colour: Colour, width: int = 1, closed: bool = False) -> None:
        """Draw a line (n, 2) through drawn pixels, or several lines (m, n, 2)."""
        lines = fixed(points).reshape(-1, *points.shape[-2:])
        cv2.polylines(self.picture, list(lines), closed, paint(colour), width, cv2.LINE_AA, SHIFT)

    def strands(self, curves: Points, colour: Colour, contrast: float = 0.30) -> None:
        """Draw many fine lines (n, points, 2) of one hair colour in several shades."""
        for number, shade in enumerate(np.linspace(1 - contrast, 1 + contrast, 6)):
            lines, tint = list(fixed(curves[number::6])), paint(colour * shade)
            cv2.polylines(self.picture, lines, False, tint, 1, cv2.LINE_8, SHIFT)


def point(x: float, y: float) -> Points:
    """One point (2,)."""
    return np.array([x, y], dtype=np.float64)


def paint(colour: Colour) -> list[int]:
    """A colour as OpenCV takes it, clipped to 0-255."""
    return [min(max(int(channel), 0), 255) for channel in colour.tolist()]


def fixed(points: Points) -> NDArray[np.int32]:
    """Pixels as OpenCV's fixed-point numbers."""
    return np.round(points * (1 << SHIFT)).astype(np.int32)


def smooth(outline: Points, times: int = 2) -> Points:
    """Cut the corners of a closed polygon (Chaikin)."""
    for _ in range(times):
        after = np.roll(outline, -1, axis=0)
        cut = np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], axis=1)
        outline = cut.reshape(-1, 2)
    return outline


def curve(points: list[list[float]], count: int = 12) -> Points:
    """A Bezier curve over three or four control points."""
    t = np.linspace(0, 1, count)[:, None]
    left = np.array(points)[:, None, :]
    while len(left) > 1:
        left = (1 - t) * left[:-1] + t * left[1:]
    return np.asarray(left[0])


def ellipse(x_radius: float, y_radius: float, count: int = 24) -> Points:
    """The outline (count, 2) of an ellipse around the origin."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x_radius * np.cos(angle), y_radius * np.sin(angle)], axis=1)
