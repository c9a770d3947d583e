"""The head of a portrait: outline, skin, nose, mouth and beard."""

from __future__ import annotations

import numpy as np

from facehall_env.data.synthetic.canvas import Canvas, Points, curve, ellipse, point, smooth
from facehall_env.data.synthetic.traits import CROWS_FEET, MOUTH_OPENS, Colour


def paint_head(canvas: Canvas) -> None:
    """Ears and face."""
    t = canvas.traits
    ear = ellipse(0.13, 0.27)
    for side in (-1, 1):
        place = point(side * 1.03 - 0.28 * t.yaw, 0.12)
        canvas.fill(canvas.flat(ear * [1, t.length] + place), t.skin * 0.92, rounded=True)
        canvas.line(canvas.flat(ear * 0.6 + place + point(side * 0.02, -0.02)), t.skin * 0.66, 2)
    canvas.fill(canvas.flat(_face_outline(canvas)), t.skin, rounded=True)


def _face_outline(canvas: Canvas) -> Points:
    t = canvas.traits
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
    return smooth(outline)


def paint_skin_marks(canvas: Canvas) -> None:
    """Moles or freckles, folds beside the nose, and the wrinkles of the older."""
    t, rng = canvas.traits, canvas.marks
    count = int(rng.integers(0, 4)) + (25 if rng.random() < 0.08 else 0)
    spots = canvas.on_face(rng.uniform([-0.75, -0.1], [0.75, 0.7], (count, 2)))
    for spot in spots:
        canvas.dot(spot, t.skin * rng.uniform(0.55, 0.8), int(rng.integers(6, 18)))
    fold = curve([[0.23, 0.38], [0.36, 0.56], [0.43, 0.80]])
    canvas.line(canvas.both(fold), t.skin * (0.95 - 0.25 * t.age - 0.1 * max(t.smile, 0)))
    if t.age > CROWS_FEET:
        corner = np.array([[0.26, -0.03], [0.37, -0.03]])
        feet = corner + np.array([-1, 0, 1])[:, None, None] * np.array([[0, 0.04], [0, 0.1]])
        canvas.line(canvas.both(feet + point(t.eye_gap, 0)), t.skin * 0.84)
    rows = int(4 * max(t.age - 0.45, 0) / 0.55)
    forehead = curve([[-0.5, -0.49], [0, -0.54], [0.5, -0.49]])
    raised = forehead * np.linspace(1, 0.8, max(rows, 1))[:, None, None]
    raised[..., 1] = forehead[:, 1] - 0.11 * np.arange(max(rows, 1))[:, None]
    canvas.line(canvas.on_face(raised[:rows]), t.skin * 0.84)


def paint_nose(canvas: Canvas) -> None:
    """Wings, nostrils and the edge of the bridge that lies in the shadow."""
    t = canvas.traits
    w = t.nose
    wing = curve([[0.13 * w, 0.28], [0.215 * w, 0.36], [0.20 * w, 0.46], [0.13 * w, 0.47]])
    canvas.line(canvas.both(wing, 0.16), t.skin * 0.70, 2)
    for nostril in canvas.both(ellipse(0.055 * w, 0.028) + point(0.095 * w, 0.455), 0.24):
        canvas.fill(nostril, t.skin * 0.32)
    base = curve([[-0.05, 0.475], [0, 0.50], [0.05, 0.475]])
    canvas.line(canvas.on_face(base, 0.25), t.skin * 0.6)
    shadow = -1 if t.light[0] > 0 else 1
    bridge = curve([[0.10, -0.22], [0.065, 0.0], [0.085, 0.22]]) * [shadow, 1]
    canvas.line(canvas.on_face(bridge, 0.12), t.skin * 0.90, 2)


def paint_mouth(canvas: Canvas) -> None:
    """Lips and, if they are open, teeth."""
    t, rng = canvas.traits, canvas.rng
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
        return canvas.on_face(np.concatenate(edges), 0.08)

    canvas.fill(across(top, between + 0.004), t.lips * 0.88)
    canvas.fill(across(lower - 0.004, bottom), t.lips)
    if t.mouth_open > MOUTH_OPENS:
        canvas.fill(across(between, lower), np.array([58.0, 22.0, 24.0]))
        teeth = np.minimum(lower, between + 0.085 * arch**0.4)
        canvas.fill(across(between, teeth), np.array([236.0, 230.0, 216.0]))
        gaps = np.array([-0.66, -0.53, -0.38, -0.20, 0.0, 0.20, 0.38, 0.53, 0.66])
        _upright(canvas, width, gaps, u, between, teeth, np.array([176.0, 160.0, 146.0]))
    canvas.line(canvas.on_face(np.stack([x, between], 1), 0.08), t.lips * 0.40, 2)
    canvas.line(canvas.on_face(np.stack([x, lower], 1), 0.08), t.lips * 0.5)
    creases = rng.uniform(-0.7, 0.7, 9)
    _upright(canvas, width, creases, u, lower + 0.02, lower + 0.07 * arch, t.lips * 0.85)
    glint = np.stack([u[6:11] * width + t.light[0] * 0.08, lower[6:11] + 0.045], 1)
    canvas.line(canvas.on_face(glint, 0.08), np.minimum(t.lips * 1.3, 250))


def _upright(
    canvas: Canvas, width: float, at: Points, u: Points, top: Points, bottom: Points, colour: Colour
) -> None:
    """Lines at ``at`` on the mouth's own scale ``u``, from one edge to the other."""
    ends = [np.stack([at * width, np.interp(at, u, edge)], 1) for edge in (top, bottom)]
    canvas.line(canvas.on_face(np.stack(ends, 1), 0.08), colour)


def paint_facial_hair(canvas: Canvas) -> None:
    """Stubble, beard and moustache."""
    t, rng = canvas.traits, canvas.rng
    if not t.beard:
        return
    count = int(700 * t.beard)
    x = rng.uniform(-0.92, 0.92, count)
    y = rng.uniform(0.35, 1.28, count)
    edge = 0.42 + 0.42 * np.cos(np.clip(x / 0.92, -1, 1) * np.pi / 2)
    around_lips = ((x / 0.42) ** 2 + ((y - 0.80) / 0.20) ** 2) > 1
    inside = (y > edge) & around_lips & ((x / 0.95) ** 2 + (y / 1.34) ** 2 < 1.05)
    roots = np.stack([x, y], 1)[inside]
    _tufts(canvas, roots, np.array([0.05, 0.9]), 0.05 + 0.07 * t.beard)
    if t.moustache:
        x = rng.uniform(-0.34, 0.34, int(200 * t.moustache))
        roots = np.stack([x, 0.60 + 0.25 * x**2 + rng.uniform(-0.035, 0.02, len(x))], 1)
        _tufts(canvas, roots, np.array([2.0, 0.7]), 0.09)


def _tufts(canvas: Canvas, roots: Points, spread: Points, length: float) -> None:
    """Short hairs from ``roots``, pointing down and outwards by ``spread``."""
    rng = canvas.rng
    direction = np.stack([roots[:, 0] * spread[0], np.full(len(roots), spread[1])], 1)
    direction += rng.normal(0, 0.25, direction.shape)
    tips = roots + direction * length * rng.uniform(0.6, 1.2, (len(roots), 1))
    lines = np.stack([roots, tips], 1)
    canvas.strands(canvas.on_face(lines, 0.04), canvas.traits.hair * 0.8)
