"""What lies behind and below the face of a portrait: background, neck, shoulders, clothes."""

from __future__ import annotations

import cv2
import numpy as np

from facehall_env.data.synthetic.canvas import SHADED, Canvas, paint, smooth
from facehall_env.data.synthetic.traits import DRAWN


def paint_background(canvas: Canvas) -> None:
    """Soft shapes out of focus."""
    rng = canvas.rng
    base = rng.uniform(30, 220) + rng.normal(0, 16, 3)
    corners = np.clip(base + rng.normal(0, 22, (3, 3, 1)) + rng.normal(0, 8, (3, 3, 3)), 0, 255)
    size = (SHADED, SHADED)
    small = cv2.resize(corners.astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(2, 6)):
        colour = paint(base + rng.normal(0, 40) + rng.normal(0, 14, 3))
        x, y = (int(value) for value in rng.integers(-10, SHADED, 2))
        width, height = (int(value) for value in rng.integers(5, 40, 2))
        if rng.random() < 0.5:
            cv2.rectangle(small, (x, y), (x + width, y + 2 * height), colour, -1)
        else:
            cv2.ellipse(small, (x, y), (width // 2, height // 2), 0, 0, 360, colour, -1)
    blurred = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.7, 4))
    large = cv2.resize(blurred, (DRAWN, DRAWN), interpolation=cv2.INTER_LINEAR)
    canvas.picture = np.asarray(large, np.uint8)


def paint_body(canvas: Canvas) -> None:
    """Neck, shoulders and what is worn."""
    t, rng = canvas.traits, canvas.rng
    neck = np.array([[-0.62, 0.5], [-0.60, 1.3], [-0.9, 2.4], [0.9, 2.4], [0.60, 1.3], [0.62, 0.5]])
    canvas.fill(canvas.flat(smooth(neck * [t.jaw, 1])), t.skin * (0.45 + 0.25 * t.ambient))
    cloth = rng.uniform(15, 235, 3) * 0.4 + rng.uniform(15, 235) * 0.6
    drop = rng.uniform(0.0, 0.18)
    for side in (-1, 1):
        shoulder = np.array(
            [[0.50, 1.35 + drop], [0.75, 1.40 + drop], [1.5, 1.62], [2.6, 1.9], [2.6, 3],
             [0, 3], [0.1, 1.95]]
        )  # fmt: skip
        tone = cloth * (1 + 0.18 * side * t.light[0])
        canvas.fill(canvas.flat(smooth(shoulder, 1) * [side, 1]), tone)
        lapel = np.array([[0.50, 1.35 + drop], [0.62, 1.62], [0.30, 1.9], [0.1, 1.95]])
        canvas.fill(canvas.flat(lapel * [side, 1]), np.clip(tone * 1.2 + 12, 0, 250))
        canvas.line(canvas.flat(lapel[:3] * [side, 1]), tone * 0.55, 2)
