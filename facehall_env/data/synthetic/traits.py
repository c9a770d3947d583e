"""What makes one portrait differ from the next, and how it is drawn by lot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIZE = 128
"""Side length of the finished picture in pixels."""
DRAWN = 2 * SIZE
"""Side length at which lines are drawn."""

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
    """What makes one portrait differ from the next."""

    yaw: float  # Turn of the head to the right of the picture, radians.
    pitch: float  # Nod, radians; positive looks down.
    roll: float  # Tilt, radians, clockwise.
    scale: float  # Drawn pixels in one face unit.
    centre: tuple[float, float]  # Where the face's origin is drawn, (x, y) in drawn pixels.
    light: tuple[float, float, float]  # Unit vector (x, y, z) towards the light, z to the viewer.
    ambient: float  # Share of the light that comes from everywhere.
    skin: Colour  # Its colour, RGB in 0-255.
    hair: Colour  # Its colour.
    iris: Colour  # Its colour.
    lips: Colour  # Their colour.
    style: HairStyle  # How the hair is worn.
    part: float  # Where it parts, from -1 (left) to 1.
    volume: float  # How far it stands off the skull, in face units.
    jaw: float  # Width of the jaw, 1 being average.
    length: float  # Length of the face, 1 being average.
    eye_gap: float  # Half the distance between the eyes' centres.
    eye_open: float  # Height of the open eye over its width.
    lashes: float  # How long they are, 1 being long.
    gaze: tuple[float, float]  # Where the eyes look, (x, y) in [-1, 1].
    brow_lift: float  # How far the brows are raised.
    smile: float  # From -1 (sad) to 1.
    mouth_open: float  # Height of the open mouth.
    nose: float  # Width of the nose, 1 being average.
    age: float  # From 0 to 1: wrinkles, and less hair.
    beard: float  # Density of the beard, 0 for none.
    moustache: float  # Density of the moustache.
    glasses: int  # 0 for none, else the width of the rims in drawn pixels.

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
            centre=(DRAWN / 2 + rng.normal(0, 5), DRAWN * 0.51 + rng.normal(0, 5)),
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
    "skin", "hair", "iris", "lips", "style", "part", "volume", "jaw", "length", "eye_gap", "lashes",
    "nose", "age", "beard", "moustache", "glasses",
)  # fmt: skip
"""The traits that stay the same on all portraits of a person."""


def _normal(rng: Generator, spread: float, limit: float) -> float:
    return float(np.clip(rng.normal(0, spread), -limit, limit))


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = float(np.sqrt(x * x + y * y + z * z))
    return x / length, y / length, z / length


def _between(colours: NDArray[np.float64], share: float) -> Colour:
    """A colour on the way from the first row to the last."""
    place = share * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    return np.asarray(colours[low] + (colours[low + 1] - colours[low]) * (place - low))
