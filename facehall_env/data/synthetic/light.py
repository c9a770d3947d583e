"""The light on the head of a portrait, and the texture of its skin."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facehall_env.data.synthetic.canvas import SHADED, Canvas, Points
from facehall_env.data.synthetic.traits import DRAWN, SIZE


def apply_light(canvas: Canvas) -> None:
    """Multiply the head by the light that its rounded form catches, and give it texture."""
    t, rng = canvas.traits, canvas.rng
    pixel: Points = (np.arange(SHADED, dtype=np.float64) + 0.5) * (DRAWN / SHADED)
    x, y = pixel - t.centre[0], pixel[:, None] - t.centre[1]
    u = (x * math.cos(t.roll) + y * math.sin(t.roll)) / (1.15 * t.scale)
    v = (y * math.cos(t.roll) - x * math.sin(t.roll)) / (1.75 * t.scale)
    radius = np.sqrt(u * u + v * v)
    edge = 1 / np.maximum(radius, 1)
    depth = np.sqrt(np.maximum(1 - radius * radius, 0))
    lambert = (u * t.light[0] + v * t.light[1]) * edge + depth * t.light[2]
    light = t.ambient + (1 - t.ambient) * 1.3 * np.maximum(lambert + 0.15, 0) / 1.15
    light = np.maximum(light * _relief(canvas, pixel), 0.08).astype(np.float32)
    # Shadows on skin are redder than its lit parts.
    coloured = np.stack([light**0.92, light**1.04, light**1.10], axis=-1)
    grain = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * (0.010 + 0.014 * t.age)
    grain += cv2.resize(rng.standard_normal((12, 12), dtype=np.float32), (SIZE, SIZE)) * 0.015
    fine = cv2.resize(coloured, (SIZE, SIZE)) + grain[..., None]
    factor = cv2.resize(fine, (DRAWN, DRAWN))
    lit = cv2.multiply(canvas.picture, factor, dtype=cv2.CV_8U)
    cv2.copyTo(lit, canvas.rounded, canvas.picture)


def _relief(canvas: Canvas, pixel: Points) -> Points:
    """What the ellipsoid lacks, at each row and column: eye sockets, nose, lips, cheeks, chin."""
    t = canvas.traits
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
    place = canvas.on_face(spots[:, :2], spots[:, 2])
    offset = (pixel[:, None, None] - place) / (spots[:, 3:5] * t.scale)
    across, down = np.exp(-(offset**2)).transpose(2, 0, 1)
    return np.asarray(1 + (down * spots[:, 5]) @ across.T)
