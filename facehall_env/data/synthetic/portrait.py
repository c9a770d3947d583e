"""Drawing of a portrait: an invented face, its hair, clothes, light and background.

A face is laid out in *face units*: the origin between the eyes' line and the nose, x to the
right, y down, and the face one unit wide on either side. Its surface is half an ellipsoid, so that
a turn of the head moves and foreshortens the features as it should. Everything is drawn at twice
the final size and averaged down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIZE = 128
"""Side length of the finished picture in pixels."""

_DRAWN = 2 * SIZE
_SHADED = SIZE // 2
"""Side lengths at which lines are drawn and smooth shading is computed."""

_SHIFT = 4
"""OpenCV takes coordinates in 1/16 pixel."""

Points = NDArray[np.float64]
Picture = NDArray[np.uint8]
Colour = NDArray[np.float64]

CROWS_FEET = 0.6
"""Faces of a greater age have wrinkles beside the eyes."""
MOUTH_OPENS = 0.03
"""Mouths that are open further show teeth."""

HairStyle = Literal["bald", "buzz", "short", "fringe", "long", "curly"]
_STYLES: tuple[HairStyle, ...] = ("bald", "buzz", "short", "fringe", "long", "curly")
_STYLE_SHARES = (0.05, 0.10, 0.30, 0.20, 0.22, 0.13)

_SKINS = np.array(
    [[247, 214, 190], [236, 188, 154], [217, 163, 124], [186, 130, 92], [137, 90, 62], [92, 60, 44]]
)
_HAIRS = np.array(
    [[28, 24, 24], [52, 36, 27], [92, 62, 40], [134, 84, 48], [190, 152, 98], [150, 150, 150]]
)
_IRISES = np.array([[70, 44, 26], [104, 72, 38], [86, 104, 66], [86, 120, 150], [112, 128, 136]])


@dataclass(frozen=True)
class Traits:
    """What makes one portrait differ from the next.

    Attributes:
        yaw: Turn of the head to the right of the picture, radians.
        pitch: Nod, radians; positive looks down.
        roll: Tilt, radians, clockwise.
        scale: Drawn pixels in one face unit.
        centre: Where the face's origin is drawn, (x, y) in drawn pixels.
        light: Direction towards the light, a unit vector (x, y, z), z towards the viewer.
        ambient: Share of the light that comes from everywhere.
        skin: Its colour, RGB in 0-255.
        hair: Its colour.
        iris: Its colour.
        lips: Their colour.
        style: How the hair is worn.
        part: Where it parts, from -1 (left) to 1.
        volume: How far it stands off the skull, in face units.
        jaw: Width of the jaw, 1 being average.
        length: Length of the face, 1 being average.
        eye_gap: Half the distance between the eyes' centres.
        eye_open: Height of the open eye over its width.
        lashes: How long they are, 1 being long.
        gaze: Where the eyes look, (x, y) in [-1, 1].
        brow_lift: How far the brows are raised.
        smile: From -1 (sad) to 1.
        mouth_open: Height of the open mouth.
        nose: Width of the nose, 1 being average.
        age: From 0 to 1: wrinkles, and less hair.
        beard: Density of the beard, 0 for none.
        moustache: Density of the moustache.
        glasses: 0 for none, else the width of the rims in drawn pixels.
    """

    yaw: float
    pitch: float
    roll: float
    scale: float
    centre: tuple[float, float]
    light: tuple[float, float, float]
    ambient: float
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    style: HairStyle
    part: float
    volume: float
    jaw: float
    length: float
    eye_gap: float
    eye_open: float
    lashes: float
    gaze: tuple[float, float]
    brow_lift: float
    smile: float
    mouth_open: float
    nose: float
    age: float
    beard: float
    moustache: float
    glasses: int

    @classmethod
    def sample(cls, rng: Generator) -> Traits:
        """Draw the traits of one portrait."""
        age = rng.random()
        skin = _between(_SKINS, rng.random() ** 1.2) * rng.uniform(0.90, 1.06)
        skin *= rng.normal(1, 0.025, 3)
        hair = _between(_HAIRS[:5], rng.random() ** 1.5) * rng.uniform(0.85, 1.15)
        if age > 0.7:
            hair += (_HAIRS[5] - hair) * rng.uniform(0.2, 1.0)
        azimuth, height = rng.normal(0, 0.7), rng.uniform(0.1, 0.8)
        bearded = rng.random() < 0.28
        style = _STYLES[int(np.searchsorted(np.cumsum(_STYLE_SHARES)[:-1], rng.random()))]
        return cls(
            yaw=_normal(rng, 0.24, 0.5),
            pitch=_normal(rng, 0.10, 0.22),
            roll=_normal(rng, 0.07, 0.2),
            scale=rng.uniform(70, 83),
            centre=(_DRAWN / 2 + rng.normal(0, 5), _DRAWN * 0.51 + rng.normal(0, 5)),
            light=_unit(np.sin(azimuth), -height, np.cos(azimuth)),
            ambient=rng.uniform(0.42, 0.70),
            skin=np.clip(skin, 30, 250),
            hair=np.clip(hair, 15, 235),
            iris=_IRISES[rng.integers(len(_IRISES))] * rng.uniform(0.8, 1.2),
            lips=np.clip(skin * [0.86, 0.58, 0.60] + rng.uniform(-12, 12, 3), 20, 230),
            style=style,
            part=rng.uniform(-0.6, 0.6),
            volume=rng.uniform(0.04, 0.22),
            jaw=rng.uniform(0.80, 1.06),
            length=rng.uniform(0.94, 1.08),
            eye_gap=rng.uniform(0.41, 0.47),
            eye_open=rng.uniform(0.28, 0.50),
            lashes=rng.uniform(0.35, 1.0),
            gaze=(_normal(rng, 0.4, 1.0), _normal(rng, 0.2, 0.5)),
            brow_lift=rng.uniform(-0.03, 0.07),
            smile=rng.uniform(-0.3, 1.0),
            mouth_open=max(0.0, rng.uniform(-0.12, 0.20)),
            nose=rng.uniform(0.85, 1.2),
            age=age,
            beard=rng.uniform(0.3, 1.0) if bearded else 0.0,
            moustache=rng.uniform(0.4, 1.0) if bearded and rng.random() < 0.7 else 0.0,
            glasses=int(rng.integers(2, 6)) if rng.random() < 0.22 else 0,
        )

    def of_person(self, person: Traits) -> Traits:
        """The same pose, light and expression on another person's face."""
        return replace(self, **{name: getattr(person, name) for name in PERSONAL})


PERSONAL = (
    "skin",
    "hair",
    "iris",
    "lips",
    "style",
    "part",
    "volume",
    "jaw",
    "length",
    "eye_gap",
    "lashes",
    "nose",
    "age",
    "beard",
    "moustache",
    "glasses",
)
"""The traits that stay the same on all portraits of a person."""


def draw(rng: Generator, person: Generator | None = None) -> Picture:
    """Draw a portrait.

    Args:
        rng: Where all its traits and details come from.
        person: Where those come from that make a person: the shape of face and features, the
            colours, hair, marks on the skin, glasses. A generator of the same state draws the
            same person in another pose, light and place. By default it is ``rng``, too.

    Returns:
        uint8 (128, 128, 3), RGB.

    Example:
        >>> picture = draw(np.random.default_rng(0))
        >>> picture.shape, bool((picture == draw(np.random.default_rng(0))).all())
        ((128, 128, 3), True)
    """
    marks = rng if person is None else person
    return _Portrait(traits(rng, person), rng, marks).finished()


def traits(rng: Generator, person: Generator | None = None) -> Traits:
    """What `draw` paints of generators in the same state.

    Args:
        rng: See `draw`.
        person: See `draw`.
    """
    if person is None:
        return Traits.sample(rng)
    who = Traits.sample(person)
    return Traits.sample(rng).of_person(who)


class _Portrait:
    """The canvas, and the parts of a portrait in the order in which they are painted.

    Args:
        traits: Of this portrait.
        rng: Where the details come from that differ between portraits of one person.
        marks: Where those come from that a person keeps.
    """

    def __init__(self, traits: Traits, rng: Generator, marks: Generator) -> None:
        self.traits = traits
        self.rng = rng
        self.marks = marks
        self.canvas: Picture = np.empty((_DRAWN, _DRAWN, 3), np.uint8)
        self.rounded: Picture = np.zeros((_DRAWN, _DRAWN), np.uint8)
        """Where the light falls on the rounded head, not on the background."""
        cosine, sine = math.cos(traits.roll), math.sin(traits.roll)
        self._rotation = np.array([[cosine, sine], [-sine, cosine]]) * traits.scale

    def finished(self) -> Picture:
        """Paint everything and average down to the final size."""
        self.background()
        self.hair_behind()
        self.body()
        self.head()
        self.skin_marks()
        self.nose()
        self.mouth()
        self.facial_hair()
        for side in (-1, 1):
            self.eye(side)
            self.brow(side)
        self.hair_in_front()
        self.light_falls()
        self.glasses()
        small = cv2.resize(self.canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return np.asarray(small, dtype=np.uint8)

    # --- from face units to the canvas ---

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

    # --- strokes ---

    def fill(self, outline: Points, colour: Colour, rounded: bool = False) -> None:
        """Fill a polygon of drawn pixels; ``rounded`` says that the light plays on it."""
        corners = [_fixed(outline)]
        cv2.fillPoly(self.canvas, corners, _paint(colour), cv2.LINE_AA, _SHIFT)
        if rounded:
            cv2.fillPoly(self.rounded, corners, 255, cv2.LINE_8, _SHIFT)

    def line(self, points: Points, colour: Colour, width: int = 1, closed: bool = False) -> None:
        """Draw a line (n, 2) through drawn pixels, or several lines (m, n, 2)."""
        lines = _fixed(points).reshape(-1, *points.shape[-2:])
        cv2.polylines(self.canvas, list(lines), closed, _paint(colour), width, cv2.LINE_AA, _SHIFT)

    def strands(self, curves: Points, colour: Colour, contrast: float = 0.30) -> None:
        """Draw many fine lines (n, points, 2) of one hair colour in several shades."""
        shades = np.linspace(1 - contrast, 1 + contrast, 6)
        fixed = _fixed(curves)
        for number, shade in enumerate(shades):
            cv2.polylines(
                self.canvas,
                list(fixed[number :: len(shades)]),
                False,
                _paint(colour * shade),
                1,
                cv2.LINE_8,
                _SHIFT,
            )

    # --- behind the face ---

    def background(self) -> None:
        """Soft shapes out of focus."""
        rng = self.rng
        base = rng.uniform(30, 220) + rng.normal(0, 16, 3)
        corners = np.clip(base + rng.normal(0, 22, (3, 3, 1)) + rng.normal(0, 8, (3, 3, 3)), 0, 255)
        size = (_SHADED, _SHADED)
        small = cv2.resize(corners.astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
        for _ in range(rng.integers(2, 6)):
            colour = _paint(base + rng.normal(0, 40) + rng.normal(0, 14, 3))
            x, y = (int(value) for value in rng.integers(-10, _SHADED, 2))
            width, height = (int(value) for value in rng.integers(5, 40, 2))
            if rng.random() < 0.5:
                cv2.rectangle(small, (x, y), (x + width, y + 2 * height), colour, -1)
            else:
                cv2.ellipse(small, (x, y), (width // 2, height // 2), 0, 0, 360, colour, -1)
        blurred = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.7, 4))
        large = cv2.resize(blurred, (_DRAWN, _DRAWN), interpolation=cv2.INTER_LINEAR)
        self.canvas = np.asarray(large, np.uint8)

    def hair_behind(self) -> None:
        """Long hair that falls behind the neck."""
        if self.traits.style != "long":
            return
        width = 1.18 + self.traits.volume
        outline = _smooth(
            np.array([[-width, -0.4], [-width - 0.1, 0.9], [-width, 2.3], [width, 2.3],
                      [width + 0.1, 0.9], [width, -0.4]])
        )  # fmt: skip
        self.fill(self.flat(outline), self.traits.hair * 0.45)

    def body(self) -> None:
        """Neck, shoulders and what is worn."""
        t, rng = self.traits, self.rng
        neck = np.array(
            [[-0.62, 0.5], [-0.60, 1.3], [-0.9, 2.4], [0.9, 2.4], [0.60, 1.3], [0.62, 0.5]]
        )
        self.fill(self.flat(_smooth(neck * [t.jaw, 1])), t.skin * (0.45 + 0.25 * t.ambient))
        cloth = rng.uniform(15, 235, 3) * 0.4 + rng.uniform(15, 235) * 0.6
        drop = rng.uniform(0.0, 0.18)
        for side in (-1, 1):
            shoulder = np.array(
                [[0.50, 1.35 + drop], [0.75, 1.40 + drop], [1.5, 1.62], [2.6, 1.9], [2.6, 3],
                 [0, 3], [0.1, 1.95]]
            )  # fmt: skip
            tone = cloth * (1 + 0.18 * side * t.light[0])
            self.fill(self.flat(_smooth(shoulder, 1) * [side, 1]), tone)
            lapel = np.array([[0.50, 1.35 + drop], [0.62, 1.62], [0.30, 1.9], [0.1, 1.95]])
            self.fill(self.flat(lapel * [side, 1]), np.clip(tone * 1.2 + 12, 0, 250))
            self.line(self.flat(lapel[:3] * [side, 1]), tone * 0.55, 2)

    # --- the head ---

    def head(self) -> None:
        """Ears and face."""
        t = self.traits
        ear = _ellipse(0.13, 0.27)
        for side in (-1, 1):
            place = _point(side * 1.03 - 0.28 * t.yaw, 0.12)
            self.fill(self.flat(ear * [1, t.length] + place), t.skin * 0.92, rounded=True)
            self.line(self.flat(ear * 0.6 + place + _point(side * 0.02, -0.02)), t.skin * 0.66, 2)
        self.fill(self.flat(self._face_outline()), t.skin, rounded=True)

    def _face_outline(self) -> Points:
        t = self.traits
        half = np.array(
            [[0, 1.31], [0.24, 1.29], [0.50, 1.16], [0.76, 0.88], [0.92, 0.52], [0.99, 0.12],
             [1.0, -0.3], [0.94, -0.72], [0.70, -1.08], [0.36, -1.25], [0, -1.29]]
        )  # fmt: skip
        half[1:6, 0] *= np.linspace(t.jaw, 1, 5)
        outline = np.concatenate([half, half[-2:0:-1] * [-1, 1]]) * [1, t.length]
        # A turned head shows its chin to one side, a nodding one is shortened.
        outline[:, 0] += 0.22 * t.yaw * outline[:, 1]
        outline[:, 1] *= 1 - 0.3 * abs(t.pitch)
        outline[:, 1] += 0.25 * t.pitch
        return _smooth(outline)

    def light_falls(self) -> None:
        """Multiply the head by the light that its rounded form catches, and give it texture."""
        t, rng = self.traits, self.rng
        pixel: Points = (np.arange(_SHADED, dtype=np.float64) + 0.5) * (_DRAWN / _SHADED)
        x, y = pixel - t.centre[0], pixel[:, None] - t.centre[1]
        u = (x * math.cos(t.roll) + y * math.sin(t.roll)) / (1.15 * t.scale)
        v = (y * math.cos(t.roll) - x * math.sin(t.roll)) / (1.75 * t.scale)
        radius = np.sqrt(u * u + v * v)
        edge = 1 / np.maximum(radius, 1)
        depth = np.sqrt(np.maximum(1 - radius * radius, 0))
        lambert = (u * t.light[0] + v * t.light[1]) * edge + depth * t.light[2]
        light = t.ambient + (1 - t.ambient) * 1.3 * np.maximum(lambert + 0.15, 0) / 1.15
        light = np.maximum(light * self._relief(pixel), 0.08).astype(np.float32)
        # Shadows on skin are redder than its lit parts.
        coloured = np.stack([light**0.92, light**1.04, light**1.10], axis=-1)
        grain = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * (0.010 + 0.014 * t.age)
        grain += cv2.resize(rng.standard_normal((12, 12), dtype=np.float32), (SIZE, SIZE)) * 0.015
        fine = cv2.resize(coloured, (SIZE, SIZE)) + grain[..., None]
        factor = cv2.resize(fine, (_DRAWN, _DRAWN))
        lit = cv2.multiply(self.canvas, factor, dtype=cv2.CV_8U)
        cv2.copyTo(lit, self.rounded, self.canvas)

    def _relief(self, pixel: Points) -> Points:
        """What the ellipsoid lacks: factors for eye sockets, nose, lips, cheeks and chin.

        Args:
            pixel: Drawn coordinates of the rows, and of the columns, of the result.
        """
        t = self.traits
        away = -np.sign(t.light[0]) * min(abs(t.light[0]), 0.7)
        gap = t.eye_gap
        # Position in face units, lift, radii in x and y, strength.
        spots = np.array(
            [
                [-gap, -0.12, 0.0, 0.26, 0.15, -0.20],
                [gap, -0.12, 0.0, 0.26, 0.15, -0.20],
                [-gap * 0.5, -0.10, 0.0, 0.09, 0.16, -0.16],
                [gap * 0.5, -0.10, 0.0, 0.09, 0.16, -0.16],
                [0.0, 0.05, 0.15, 0.07, 0.30, 0.16],
                [0.0, 0.33, 0.35, 0.09, 0.08, 0.24],
                [away * 0.26, 0.22, 0.08, 0.11, 0.24, -0.30],
                [away * 0.15, 0.50, 0.10, 0.20, 0.07, -0.26],
                [0.0, 0.98, 0.0, 0.24, 0.06, -0.18],
                [0.0, 1.13, 0.05, 0.20, 0.10, 0.10],
                [-0.58, 0.28, 0.0, 0.22, 0.18, 0.11],
                [0.58, 0.28, 0.0, 0.22, 0.18, 0.11],
                [-0.86, 0.55, 0.0, 0.22, 0.40, -0.12],
                [0.86, 0.55, 0.0, 0.22, 0.40, -0.12],
                [t.light[0] * 0.5, -0.62, 0.0, 0.36, 0.18, 0.12],
                [0.0, -0.84, 0.0, 1.00, 0.12, 0.0 if t.style == "bald" else -0.22],
            ]
        )
        place = self.on_face(spots[:, :2], spots[:, 2])
        offset = (pixel[:, None, None] - place) / (spots[:, 3:5] * t.scale)
        across, down = np.exp(-(offset**2)).transpose(2, 0, 1)
        return np.asarray(1 + (down * spots[:, 5]) @ across.T)

    def skin_marks(self) -> None:
        """Moles or freckles, folds beside the nose, and the wrinkles of the older."""
        t, rng = self.traits, self.marks
        count = int(rng.integers(0, 4)) + (25 if rng.random() < 0.08 else 0)
        spots = self.on_face(rng.uniform([-0.75, -0.1], [0.75, 0.7], (count, 2)))
        for spot in _fixed(spots).tolist():
            colour = _paint(t.skin * rng.uniform(0.55, 0.8))
            radius = int(rng.integers(6, 18))
            cv2.circle(self.canvas, spot, radius, colour, -1, cv2.LINE_AA, _SHIFT)
        fold = _curve([[0.23, 0.38], [0.36, 0.56], [0.43, 0.80]])
        self.line(self._both(fold), t.skin * (0.95 - 0.25 * t.age - 0.1 * max(t.smile, 0)))
        if t.age > CROWS_FEET:
            corner = np.array([[0.26, -0.03], [0.37, -0.03]])
            feet = corner + np.array([-1, 0, 1])[:, None, None] * np.array([[0, 0.04], [0, 0.1]])
            self.line(self._both(feet + _point(t.eye_gap, 0)), t.skin * 0.84)
        rows = int(4 * max(t.age - 0.45, 0) / 0.55)
        forehead = _curve([[-0.5, -0.49], [0, -0.54], [0.5, -0.49]])
        raised = forehead * np.linspace(1, 0.8, max(rows, 1))[:, None, None]
        raised[..., 1] = forehead[:, 1] - 0.11 * np.arange(max(rows, 1))[:, None]
        self.line(self.on_face(raised[:rows]), t.skin * 0.84)

    def _both(self, curves: Points, lift: float = 0.0) -> Points:
        """Drawn pixels of curves (..., n, 2) on the right of the face and of their mirror image."""
        return self.on_face(np.stack([curves, curves * [-1, 1]]), lift)

    def nose(self) -> None:
        """Wings, nostrils and the edge of the bridge that lies in the shadow."""
        t = self.traits
        w = t.nose
        wing = _curve([[0.13 * w, 0.28], [0.215 * w, 0.36], [0.20 * w, 0.46], [0.13 * w, 0.47]])
        self.line(self._both(wing, 0.16), t.skin * 0.70, 2)
        for nostril in self._both(_ellipse(0.055 * w, 0.028) + _point(0.095 * w, 0.455), 0.24):
            self.fill(nostril, t.skin * 0.32)
        base = _curve([[-0.05, 0.475], [0, 0.50], [0.05, 0.475]])
        self.line(self.on_face(base, 0.25), t.skin * 0.6)
        shadow = -1 if t.light[0] > 0 else 1
        bridge = _curve([[0.10, -0.22], [0.065, 0.0], [0.085, 0.22]]) * [shadow, 1]
        self.line(self.on_face(bridge, 0.12), t.skin * 0.90, 2)

    def mouth(self) -> None:
        """Lips and, if they are open, teeth."""
        t, rng = self.traits, self.rng
        u = np.linspace(-1, 1, 17)
        arch = 1 - u**2
        width = 0.31 + 0.06 * max(t.smile, 0)
        between = 0.76 - 0.075 * t.smile * (u**2 - 0.4)
        bow = 0.020 * np.exp(-((u / 0.16) ** 2))
        top = between - (0.085 - 0.02 * t.smile) * arch**0.7 + bow
        lower = between + t.mouth_open * arch
        bottom = lower + 0.115 * arch**0.75
        x = u * width

        def across(upper_edge: Points, lower_edge: Points) -> Points:
            edges = [np.stack([x, upper_edge], 1), np.stack([x, lower_edge], 1)[::-1]]
            return self.on_face(np.concatenate(edges), 0.08)

        self.fill(across(top, between + 0.004), t.lips * 0.88)
        self.fill(across(lower - 0.004, bottom), t.lips)
        if t.mouth_open > MOUTH_OPENS:
            self.fill(across(between, lower), np.array([58.0, 22.0, 24.0]))
            teeth = np.minimum(lower, between + 0.085 * arch**0.4)
            self.fill(across(between, teeth), np.array([236.0, 230.0, 216.0]))
            gaps = np.array([-0.66, -0.53, -0.38, -0.20, 0.0, 0.20, 0.38, 0.53, 0.66])
            self._upright(width, gaps, u, between, teeth, np.array([176.0, 160.0, 146.0]))
        self.line(self.on_face(np.stack([x, between], 1), 0.08), t.lips * 0.40, 2)
        self.line(self.on_face(np.stack([x, lower], 1), 0.08), t.lips * 0.5)
        creases = rng.uniform(-0.7, 0.7, 9)
        self._upright(width, creases, u, lower + 0.02, lower + 0.07 * arch, t.lips * 0.85)
        glint = np.stack([u[6:11] * width + t.light[0] * 0.08, lower[6:11] + 0.045], 1)
        self.line(self.on_face(glint, 0.08), np.minimum(t.lips * 1.3, 250))

    def _upright(
        self, width: float, at: Points, u: Points, top: Points, bottom: Points, colour: Colour
    ) -> None:
        """Lines at ``at`` on the mouth's own scale ``u``, from one edge to the other."""
        ends = [np.stack([at * width, np.interp(at, u, edge)], 1) for edge in (top, bottom)]
        self.line(self.on_face(np.stack(ends, 1), 0.08), colour)

    def facial_hair(self) -> None:
        """Stubble, beard and moustache."""
        t, rng = self.traits, self.rng
        if not t.beard:
            return
        count = int(700 * t.beard)
        x = rng.uniform(-0.92, 0.92, count)
        y = rng.uniform(0.35, 1.28, count)
        edge = 0.42 + 0.42 * np.cos(np.clip(x / 0.92, -1, 1) * np.pi / 2)
        around_lips = ((x / 0.42) ** 2 + ((y - 0.80) / 0.20) ** 2) > 1
        inside = (y > edge) & around_lips & ((x / 0.95) ** 2 + (y / 1.34) ** 2 < 1.05)
        roots = np.stack([x, y], 1)[inside]
        self._tufts(roots, np.array([0.05, 0.9]), 0.05 + 0.07 * t.beard)
        if t.moustache:
            x = rng.uniform(-0.34, 0.34, int(200 * t.moustache))
            roots = np.stack([x, 0.60 + 0.25 * x**2 + rng.uniform(-0.035, 0.02, len(x))], 1)
            self._tufts(roots, np.array([2.0, 0.7]), 0.09)

    def _tufts(self, roots: Points, spread: Points, length: float) -> None:
        """Short hairs from ``roots``, pointing down and outwards by ``spread``."""
        rng = self.rng
        direction = np.stack([roots[:, 0] * spread[0], np.full(len(roots), spread[1])], 1)
        direction += rng.normal(0, 0.25, direction.shape)
        tips = roots + direction * length * rng.uniform(0.6, 1.2, (len(roots), 1))
        lines = np.stack([roots, tips], 1)
        self.strands(self.on_face(lines, 0.04), self.traits.hair * 0.8)

    # --- eyes ---

    def eye(self, side: int) -> None:
        """White, iris, pupil, lids and lashes of one eye; ``side`` is -1 for the left one."""
        t = self.traits
        u = np.linspace(-1, 1, 15)
        arch = 1 - u**2
        width = 0.205
        height = width * t.eye_open * 2
        # The outer corner lies a little higher than the inner one.
        x, tilt = side * (t.eye_gap + u * width), -0.03 * u
        upper = np.stack([x, -0.04 + tilt - 0.62 * height * arch**0.75], 1)
        lower = np.stack([x, -0.04 + tilt + 0.38 * height * arch], 1)
        opening = self.on_face(np.concatenate([upper, lower[::-1]]))
        self._eyeball(opening, side)
        crease = upper + np.stack([0 * u, 0.03 * u**2 - 0.065], 1)
        self.line(self.on_face(crease), self.traits.skin * 0.55, 2)
        self.line(self.on_face(lower), self.traits.skin * 0.58)
        bag = lower[2:-2] + _point(0, 0.07)
        self.line(self.on_face(bag), t.skin * (0.95 - 0.2 * t.age))
        self.line(self.on_face(upper), self.traits.skin * 0.18, 2 if t.lashes < 0.6 else 3)
        self._lashes(upper, lower, side)

    def _eyeball(self, opening: Points, side: int) -> None:
        t, rng = self.traits, self.rng
        mask: Picture = np.full((_DRAWN, _DRAWN), 255, np.uint8)
        cv2.fillPoly(mask, [_fixed(opening)], 0, cv2.LINE_8, _SHIFT)
        self.fill(opening, np.array([240.0, 234.0, 230.0]))
        around = self.canvas.copy()
        middle = _point(side * t.eye_gap + 0.075 * t.gaze[0], -0.055 + 0.03 * t.gaze[1])
        iris = self.on_face(_ellipse(0.10, 0.10) + middle)
        self.fill(iris, t.iris * 0.8)
        angle = rng.uniform(0, 2 * np.pi, (18, 1))
        spokes = np.stack([np.cos(angle), np.sin(angle)], -1) * np.array([[0.04], [0.09]])
        self.strands(self.on_face(spokes + middle), t.iris * 1.3)
        self.line(iris, t.iris * 0.35, 2, closed=True)
        self.fill(self.on_face(_ellipse(0.045, 0.045) + middle), np.full(3, 8.0))
        glint = middle + _point(math.copysign(0.04, t.light[0]), -0.04)
        self.fill(self.on_face(_ellipse(0.022, 0.022) + glint), np.full(3, 255.0))
        # Only what lies between the lids shows.
        cv2.copyTo(around, mask, self.canvas)

    def _lashes(self, upper: Points, lower: Points, side: int) -> None:
        rng = self.rng
        count = 22
        along = rng.uniform(0.08, 0.98, count)
        fan = np.stack([side * (along - 0.35) * 0.09, np.full(count, -0.075)], 1)
        fan *= rng.uniform(0.6, 1.1, (count, 1)) * self.traits.lashes
        at = along * (len(upper) - 1)
        step = np.array([0.0, 0.5, 1.0])[:, None]
        for edge, way in ((upper, 1.0), (lower, -0.45)):
            index = np.arange(len(edge))
            roots = np.stack([np.interp(at, index, edge[:, axis]) for axis in (0, 1)], 1)
            curves = roots[:, None] + (fan * [1, way])[:, None] * step
            self.strands(self.on_face(curves, 0.03 * step[:, 0]), self.traits.skin * 0.2, 0.2)

    def brow(self, side: int) -> None:
        """One eyebrow, hair by hair."""
        t, rng = self.traits, self.rng
        count = 90
        along = rng.uniform(0, 1, count)
        thickness = rng.uniform(-1, 1, count) * 0.042 * (1.1 - 0.6 * along)
        x = t.eye_gap - 0.25 + 0.53 * along
        y = -0.33 - t.brow_lift - 0.10 * np.sin(np.pi * (0.15 + 0.75 * along)) + 0.05 * along
        roots = np.stack([side * x, y + thickness], 1)
        lean = np.stack([side * (0.05 + 0.05 * along), 0.05 * (along - 0.75)], 1)
        tips = roots + lean * rng.uniform(0.7, 1.3, (count, 1))
        lines = self.on_face(np.stack([roots, tips], 1), 0.06)
        self.strands(lines, t.hair * 0.65 + t.skin * 0.08)

    # --- the hair ---

    def scalp(self, angle: Points, height: Points) -> Points:
        """Drawn pixels of places on the hair.

        Args:
            angle: From straight up, clockwise, radians.
            height: 0 at the hairline, 1 at the outline; any shape that goes with ``angle``.
        """
        t = self.traits
        recede = 0.16 * max(t.age - 0.5, 0) * (1 + np.cos(3 * angle))
        a = 0.93 + (0.13 + t.volume) * height
        b = 0.64 + recede * (1 - height) + (0.50 + 1.2 * t.volume) * height
        # The hairline lies on the front of the head and turns with it; its ends at the ears do not.
        front = (1 - height) * np.maximum(np.cos(angle), 0)
        x = a * np.sin(angle) + 0.6 * math.sin(t.yaw) * front
        y = (-0.2 - b * np.cos(angle)) * t.length + 0.4 * t.pitch * front
        return self.flat(np.stack([x, y], axis=-1))

    def hair_in_front(self) -> None:
        """The hair on the head and what falls over the forehead and the cheeks."""
        t, rng = self.traits, self.rng
        if t.style == "bald":
            return
        reach = 1.75
        around = np.linspace(-reach, reach, 41)
        ragged = rng.normal(0, 0.02 if t.style != "curly" else 0.05, 41)
        outer = self.scalp(around, 1 + ragged)
        inner = self.scalp(around, np.abs(ragged))
        base = t.hair * 0.65 if t.style != "buzz" else t.hair * 0.6 + t.skin * 0.25
        self.fill(np.concatenate([outer, inner[::-1]]), base, rounded=True)
        grow = {
            "buzz": self._buzz_hair,
            "short": self._short_hair,
            "fringe": self._fringe_hair,
            "long": self._long_hair,
            "curly": self._curly_hair,
        }
        self.strands(grow[t.style](reach), t.hair)

    def _sweep(self, count: int, reach: float, turn: float, rise: float) -> Points:
        """Strands combed away from the part: ``turn`` along the head, ``rise`` off it."""
        t, rng = self.traits, self.rng
        angle = rng.uniform(-reach, reach, (count, 1))
        height = rng.uniform(-0.02, 1.0, (count, 1))
        way = np.where(angle > t.part, 1.0, -1.0)
        step = np.linspace(0, 1, 6)
        bend = rng.normal(0, 0.05, (count, 1)) * step**2
        lifted = height + rise * step * rng.uniform(0.3, 1.0, (count, 1)) * (1 - height) + bend
        return self.scalp(angle + way * turn * step * rng.uniform(0.5, 1, (count, 1)), lifted)

    def _buzz_hair(self, reach: float) -> Points:
        return self._sweep(420, reach, 0.05, 0.15)

    def _short_hair(self, reach: float) -> Points:
        return self._sweep(330, reach, 0.40, 0.6)

    def _fringe_hair(self, reach: float) -> Points:
        rng = self.rng
        self.strands(self._sweep(220, reach, 0.35, 0.3), self.traits.hair)
        count = 170
        angle = rng.uniform(-1.0, 1.0, (count, 1))
        step = np.linspace(0, 1, 7)
        fall = rng.uniform(0.35, 0.75, (count, 1)) * step
        lean = (self.traits.part * 0.6 + rng.normal(0, 0.08, (count, 1))) * step**2
        return self.scalp(angle + lean, rng.uniform(0.1, 0.7, (count, 1)) - fall)

    def _curly_hair(self, reach: float) -> Points:
        rng = self.rng
        count = 300
        middle = self.scalp(rng.uniform(-reach, reach, count), rng.uniform(0, 1.1, count))
        start = rng.uniform(0, 2 * np.pi, (count, 1))
        turn = start + np.linspace(0, rng.uniform(2.5, 5.0), 8)
        radius = self.traits.scale * rng.uniform(0.03, 0.085, (count, 1, 1))
        loops = np.stack([np.cos(turn), np.sin(turn)], -1) * radius
        return middle[:, None] + loops

    def _long_hair(self, reach: float) -> Points:
        t, rng = self.traits, self.rng
        self.strands(self._sweep(120, 1.3, 0.5, 0.2), t.hair)
        count = 230
        side = np.where(rng.random((count, 1)) < 0.5 + 0.2 * t.part, -1.0, 1.0)
        out = rng.uniform(0, 1, (count, 1))
        width = 0.90 + (0.22 + t.volume) * out
        step = np.linspace(0, 1, 12)
        y = -0.95 + 0.45 * (1 - out) + (2.6 + rng.uniform(-0.4, 0.3, (count, 1))) * step
        near = np.clip((y + 1.0) / 0.9, 0.02, 1) ** 0.5
        phase = rng.normal(0, 0.5, (count, 1))
        wave = rng.uniform(0.01, 0.04) * np.sin(y * rng.uniform(3, 9) + phase)
        x = t.part * 0.5 * (1 - near) + side * (width * near + 0.05 * np.sin(2 * y)) + wave
        x += 0.15 * t.yaw
        return self.flat(np.stack([x, y * t.length], -1))

    def glasses(self) -> None:
        """Rims, bridge and temples."""
        t, rng = self.traits, self.marks
        if not t.glasses:
            return
        colour = rng.uniform(10, 60, 3) if rng.random() < 0.7 else rng.uniform(110, 190, 3)
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        power = 2 / rng.uniform(2, 5)
        half = np.array([rng.uniform(0.27, 0.33), rng.uniform(0.19, 0.27)])
        rim = np.stack([_power(np.cos(angle), power), _power(np.sin(angle), power)], 1) * half
        for side in (-1, 1):
            lens = rim + _point(side * (t.eye_gap + 0.01), 0)
            self.line(self.on_face(lens, 0.22), colour, t.glasses, closed=True)
            edge = side * (t.eye_gap + half[0])
            temple = np.array([[edge, -0.10], [side * 1.0, -0.12]])
            self.line(self.on_face(temple, 0.15), colour * 0.8, t.glasses)
            if self.rng.random() < 0.4:
                glare = np.array([[-0.12, 0.10], [0.02, -0.13]]) + _point(side * t.eye_gap, 0)
                self.line(self.on_face(glare, 0.22), np.clip(t.skin * 1.1 + 50, 0, 245), 2)
        gap = t.eye_gap - half[0] + 0.01
        bridge = _curve([[-gap, -0.05], [0, -0.10], [gap, -0.05]])
        self.line(self.on_face(bridge, 0.30), colour, t.glasses)


def _normal(rng: Generator, spread: float, limit: float) -> float:
    return float(np.clip(rng.normal(0, spread), -limit, limit))


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = float(np.sqrt(x * x + y * y + z * z))
    return x / length, y / length, z / length


def _between(colours: NDArray[np.float64], share: float) -> Colour:
    """A colour on the way from the first row to the last."""
    place = share * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    mixed: Colour = colours[low] + (colours[low + 1] - colours[low]) * (place - low)
    return mixed


def _point(x: float, y: float) -> Points:
    return np.array([x, y], dtype=np.float64)


def _paint(colour: Colour) -> list[int]:
    return [min(max(int(channel), 0), 255) for channel in colour.tolist()]


def _fixed(points: Points) -> NDArray[np.int32]:
    """Pixels as OpenCV's fixed-point numbers."""
    return np.round(points * (1 << _SHIFT)).astype(np.int32)


def _smooth(outline: Points, times: int = 2) -> Points:
    """Cut the corners of a closed polygon (Chaikin)."""
    for _ in range(times):
        after = np.roll(outline, -1, axis=0)
        cut = np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], axis=1)
        outline = cut.reshape(-1, 2)
    return outline


def _curve(points: list[list[float]], count: int = 12) -> Points:
    """A Bezier curve over three or four control points."""
    t = np.linspace(0, 1, count)[:, None]
    left = np.array(points)[:, None, :]
    while len(left) > 1:
        left = (1 - t) * left[:-1] + t * left[1:]
    curve: Points = left[0]
    return curve


def _ellipse(x_radius: float, y_radius: float, count: int = 24) -> Points:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x_radius * np.cos(angle), y_radius * np.sin(angle)], axis=1)


def _power(value: Points, exponent: float) -> Points:
    """The power of the absolute value, with the sign kept."""
    return np.asarray(np.sign(value) * np.abs(value) ** exponent)
