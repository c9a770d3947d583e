"""The hair of a portrait, strand by strand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from facehall_env.data.synthetic.canvas import Canvas, Points, smooth


def paint_hair_behind(canvas: Canvas) -> None:
    """Long hair that falls behind the neck."""
    if canvas.traits.style != "long":
        return
    width = 1.18 + canvas.traits.volume
    outline = smooth(
        np.array([[-width, -0.4], [-width - 0.1, 0.9], [-width, 2.3], [width, 2.3],
                  [width + 0.1, 0.9], [width, -0.4]])
    )  # fmt: skip
    canvas.fill(canvas.flat(outline), canvas.traits.hair * 0.45)


def paint_hair_in_front(canvas: Canvas) -> None:
    """The hair on the head and what falls over the forehead and the cheeks."""
    t, rng = canvas.traits, canvas.rng
    if t.style == "bald":
        return
    reach = 1.75
    around = np.linspace(-reach, reach, 41)
    ragged = rng.normal(0, 0.02 if t.style != "curly" else 0.05, 41)
    outer = _scalp(canvas, around, 1 + ragged)
    inner = _scalp(canvas, around, np.abs(ragged))
    base = t.hair * 0.65 if t.style != "buzz" else t.hair * 0.6 + t.skin * 0.25
    canvas.fill(np.concatenate([outer, inner[::-1]]), base, rounded=True)
    grow: dict[str, Callable[[Canvas, float], Points]] = {
        "buzz": lambda canvas, reach: _sweep(canvas, 420, reach, 0.05, 0.15),
        "short": lambda canvas, reach: _sweep(canvas, 330, reach, 0.40, 0.6),
        "fringe": _fringe_hair,
        "long": _long_hair,
        "curly": _curly_hair,
    }
    canvas.strands(grow[t.style](canvas, reach), t.hair)


def _scalp(canvas: Canvas, angle: Points, height: Points) -> Points:
    """Drawn pixels of places on the hair.

    Args:
        canvas: The portrait in progress.
        angle: From straight up, clockwise, radians.
        height: 0 at the hairline, 1 at the outline; any shape that goes with ``angle``.
    """
    t = canvas.traits
    recede = 0.16 * max(t.age - 0.5, 0) * (1 + np.cos(3 * angle))
    a = 0.93 + (0.13 + t.volume) * height
    b = 0.64 + recede * (1 - height) + (0.50 + 1.2 * t.volume) * height
    # The hairline lies on the front of the head and turns with it; its ends at the ears do not.
    front = (1 - height) * np.maximum(np.cos(angle), 0)
    x = a * np.sin(angle) + 0.6 * math.sin(t.yaw) * front
    y = (-0.2 - b * np.cos(angle)) * t.length + 0.4 * t.pitch * front
    return canvas.flat(np.stack([x, y], axis=-1))


def _sweep(canvas: Canvas, count: int, reach: float, turn: float, rise: float) -> Points:
    """Strands combed away from the part: ``turn`` along the head, ``rise`` off it."""
    t, rng = canvas.traits, canvas.rng
    angle = rng.uniform(-reach, reach, (count, 1))
    height = rng.uniform(-0.02, 1.0, (count, 1))
    way = np.where(angle > t.part, 1.0, -1.0)
    step = np.linspace(0, 1, 6)
    bend = rng.normal(0, 0.05, (count, 1)) * step**2
    lifted = height + rise * step * rng.uniform(0.3, 1.0, (count, 1)) * (1 - height) + bend
    return _scalp(canvas, angle + way * turn * step * rng.uniform(0.5, 1, (count, 1)), lifted)


def _fringe_hair(canvas: Canvas, reach: float) -> Points:
    rng = canvas.rng
    canvas.strands(_sweep(canvas, 220, reach, 0.35, 0.3), canvas.traits.hair)
    count = 170
    angle = rng.uniform(-1.0, 1.0, (count, 1))
    step = np.linspace(0, 1, 7)
    fall = rng.uniform(0.35, 0.75, (count, 1)) * step
    lean = (canvas.traits.part * 0.6 + rng.normal(0, 0.08, (count, 1))) * step**2
    return _scalp(canvas, angle + lean, rng.uniform(0.1, 0.7, (count, 1)) - fall)


def _curly_hair(canvas: Canvas, reach: float) -> Points:
    rng = canvas.rng
    count = 300
    middle = _scalp(canvas, rng.uniform(-reach, reach, count), rng.uniform(0, 1.1, count))
    start = rng.uniform(0, 2 * np.pi, (count, 1))
    turn = start + np.linspace(0, rng.uniform(2.5, 5.0), 8)
    radius = canvas.traits.scale * rng.uniform(0.03, 0.085, (count, 1, 1))
    loops = np.stack([np.cos(turn), np.sin(turn)], -1) * radius
    return middle[:, None] + loops


def _long_hair(canvas: Canvas, reach: float) -> Points:
    t, rng = canvas.traits, canvas.rng
    canvas.strands(_sweep(canvas, 120, 1.3, 0.5, 0.2), t.hair)
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
    return canvas.flat(np.stack([x, y * t.length], -1))
