"""The eyes of a portrait, the brows above them and the glasses before them."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facehall_env.data.synthetic.canvas import SHIFT, Canvas, Points, curve, ellipse, fixed, point
from facehall_env.data.synthetic.traits import DRAWN


def paint_eye(canvas: Canvas, side: int) -> None:
    """White, iris, pupil, lids and lashes of one eye; ``side`` is -1 for the left one."""
    t = canvas.traits
    u = np.linspace(-1, 1, 15)
    arch = 1 - u**2
    width = 0.205
    height = width * t.eye_open * 2
    # The outer corner lies a little higher than the inner one.
    x, tilt = side * (t.eye_gap + u * width), -0.03 * u
    upper = np.stack([x, -0.04 + tilt - 0.62 * height * arch**0.75], 1)
    lower = np.stack([x, -0.04 + tilt + 0.38 * height * arch], 1)
    opening = canvas.on_face(np.concatenate([upper, lower[::-1]]))
    _eyeball(canvas, opening, side)
    crease = upper + np.stack([0 * u, 0.03 * u**2 - 0.065], 1)
    canvas.line(canvas.on_face(crease), canvas.traits.skin * 0.55, 2)
    canvas.line(canvas.on_face(lower), canvas.traits.skin * 0.58)
    bag = lower[2:-2] + point(0, 0.07)
    canvas.line(canvas.on_face(bag), t.skin * (0.95 - 0.2 * t.age))
    canvas.line(canvas.on_face(upper), canvas.traits.skin * 0.18, 2 if t.lashes < 0.6 else 3)
    _lashes(canvas, upper, lower, side)


def _eyeball(canvas: Canvas, opening: Points, side: int) -> None:
    t, rng = canvas.traits, canvas.rng
    mask = np.full((DRAWN, DRAWN), 255, np.uint8)
    cv2.fillPoly(mask, [fixed(opening)], 0, cv2.LINE_8, SHIFT)
    canvas.fill(opening, np.array([240.0, 234.0, 230.0]))
    around = canvas.picture.copy()
    middle = point(side * t.eye_gap + 0.075 * t.gaze[0], -0.055 + 0.03 * t.gaze[1])
    iris = canvas.on_face(ellipse(0.10, 0.10) + middle)
    canvas.fill(iris, t.iris * 0.8)
    angle = rng.uniform(0, 2 * np.pi, (18, 1))
    spokes = np.stack([np.cos(angle), np.sin(angle)], -1) * np.array([[0.04], [0.09]])
    canvas.strands(canvas.on_face(spokes + middle), t.iris * 1.3)
    canvas.line(iris, t.iris * 0.35, 2, closed=True)
    canvas.fill(canvas.on_face(ellipse(0.045, 0.045) + middle), np.full(3, 8.0))
    glint = middle + point(math.copysign(0.04, t.light[0]), -0.04)
    canvas.fill(canvas.on_face(ellipse(0.022, 0.022) + glint), np.full(3, 255.0))
    # Only what lies between the lids shows.
    cv2.copyTo(around, mask, canvas.picture)


def _lashes(canvas: Canvas, upper: Points, lower: Points, side: int) -> None:
    rng = canvas.rng
    count = 22
    along = rng.uniform(0.08, 0.98, count)
    fan = np.stack([side * (along - 0.35) * 0.09, np.full(count, -0.075)], 1)
    fan *= rng.uniform(0.6, 1.1, (count, 1)) * canvas.traits.lashes
    at = along * (len(upper) - 1)
    step = np.array([0.0, 0.5, 1.0])[:, None]
    for edge, way in ((upper, 1.0), (lower, -0.45)):
        index = np.arange(len(edge))
        roots = np.stack([np.interp(at, index, edge[:, axis]) for axis in (0, 1)], 1)
        curves = roots[:, None] + (fan * [1, way])[:, None] * step
        canvas.strands(canvas.on_face(curves, 0.03 * step[:, 0]), canvas.traits.skin * 0.2, 0.2)


def paint_brow(canvas: Canvas, side: int) -> None:
    """One eyebrow, hair by hair."""
    t, rng = canvas.traits, canvas.rng
    count = 90
    along = rng.uniform(0, 1, count)
    thickness = rng.uniform(-1, 1, count) * 0.042 * (1.1 - 0.6 * along)
    x = t.eye_gap - 0.25 + 0.53 * along
    y = -0.33 - t.brow_lift - 0.10 * np.sin(np.pi * (0.15 + 0.75 * along)) + 0.05 * along
    roots = np.stack([side * x, y + thickness], 1)
    lean = np.stack([side * (0.05 + 0.05 * along), 0.05 * (along - 0.75)], 1)
    tips = roots + lean * rng.uniform(0.7, 1.3, (count, 1))
    lines = canvas.on_face(np.stack([roots, tips], 1), 0.06)
    canvas.strands(lines, t.hair * 0.65 + t.skin * 0.08)


def paint_glasses(canvas: Canvas) -> None:
    """Rims, bridge and temples."""
    t, rng = canvas.traits, canvas.marks
    if not t.glasses:
        return
    colour = rng.uniform(10, 60, 3) if rng.random() < 0.7 else rng.uniform(110, 190, 3)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    power = 2 / rng.uniform(2, 5)
    half = np.array([rng.uniform(0.27, 0.33), rng.uniform(0.19, 0.27)])
    rim = np.stack([_power(np.cos(angle), power), _power(np.sin(angle), power)], 1) * half
    for side in (-1, 1):
        lens = rim + point(side * (t.eye_gap + 0.01), 0)
        canvas.line(canvas.on_face(lens, 0.22), colour, t.glasses, closed=True)
        edge = side * (t.eye_gap + half[0])
        temple = np.array([[edge, -0.10], [side * 1.0, -0.12]])
        canvas.line(canvas.on_face(temple, 0.15), colour * 0.8, t.glasses)
        if canvas.rng.random() < 0.4:
            glare = np.array([[-0.12, 0.10], [0.02, -0.13]]) + point(side * t.eye_gap, 0)
            canvas.line(canvas.on_face(glare, 0.22), np.clip(t.skin * 1.1 + 50, 0, 245), 2)
    gap = t.eye_gap - half[0] + 0.01
    bridge = curve([[-gap, -0.05], [0, -0.10], [gap, -0.05]])
    canvas.line(canvas.on_face(bridge, 0.30), colour, t.glasses)


def _power(value: Points, exponent: float) -> Points:
    """The power of the absolute value, with the sign kept."""
    return np.asarray(np.sign(value) * np.abs(value) ** exponent)
