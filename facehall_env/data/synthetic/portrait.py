"""Drawing of a portrait: an invented face, its hair, clothes, light and background.

Everything is drawn at twice the final size and averaged down.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from facehall_env.data.synthetic.backdrop import paint_background, paint_body
from facehall_env.data.synthetic.canvas import Canvas, Picture
from facehall_env.data.synthetic.eyes import paint_brow, paint_eye, paint_glasses
from facehall_env.data.synthetic.features import (
    paint_facial_hair,
    paint_head,
    paint_mouth,
    paint_nose,
    paint_skin_marks,
)
from facehall_env.data.synthetic.hair import paint_hair_behind, paint_hair_in_front
from facehall_env.data.synthetic.light import apply_light
from facehall_env.data.synthetic.traits import SIZE, Traits


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
    canvas = Canvas(traits(rng, person), rng, marks)
    paint_background(canvas)
    paint_hair_behind(canvas)
    paint_body(canvas)
    paint_head(canvas)
    paint_skin_marks(canvas)
    paint_nose(canvas)
    paint_mouth(canvas)
    paint_facial_hair(canvas)
    for side in (-1, 1):
        paint_eye(canvas, side)
        paint_brow(canvas, side)
    paint_hair_in_front(canvas)
    apply_light(canvas)
    paint_glasses(canvas)
    small = cv2.resize(canvas.picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def traits(rng: Generator, person: Generator | None = None) -> Traits:
    """What `draw` paints of generators in the same state."""
    own = Traits.sample(rng)
    return own if person is None else own.of_person(Traits.sample(person))
