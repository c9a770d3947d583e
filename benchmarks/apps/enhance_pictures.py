"""What ``facehall enhance`` shows of a photograph: before and after, and the patches in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facehall_env.data.images import ImageArray, stretch
from facehall_env.photos.composite import Place
from facehall_env.rendering import PAPER, Corner, Panel, Picture, draw_attention, side_by_side

PHOTOGRAPH_SIDE = (320, 720)
"""Least and most pixels of the longer side of a photograph in a comparison."""
FACE_SIDE = 224
FACES_COMPARED = 6
FACES_ANIMATED = 24
_COLUMNS = 6
_FEW = 3
"""Up to so many faces are animated at twice their size."""
_GAP = 6
_SEAM = np.full((FACE_SIDE, 2, 3), PAPER, dtype=np.uint8)
_DITHER = 16
"""Levels between the darkest and the brightest of the pattern, about those between two colours."""
_BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) - 7.5) / 16


@dataclass(frozen=True)
class Look:
    """A photograph as a comparison shows it: small, and a few of its faces, all of one size."""

    photograph: Picture
    faces: Sequence[Picture]

    @classmethod
    def at(cls, image: ImageArray, places: Sequence[Place]) -> Look:
        """Takes a look at an image, uint8 (H, W, 3).

        It shows the first few faces, except one that fills the whole image.
        """
        height, width = image.shape[:2]
        least, most = PHOTOGRAPH_SIDE
        factor = min(max(1.0, least / max(height, width)), most / max(height, width))
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        parts = [place for place in places if place != Place.whole(image)][:FACES_COMPARED]
        faces = [place.cut(image, (FACE_SIDE, FACE_SIDE)) for place in parts]
        return cls(stretch(image, size), faces)


def compare(before: Look, after: Look) -> Picture:
    """A sheet with the photograph before and after above, and face by face below."""
    whole = [Panel(before.photograph, "enlarged"), Panel(after.photograph, "restored")]
    rows = [side_by_side(whole, gap=_GAP)]
    pairs = [
        np.concatenate((one, _SEAM, other), axis=1)
        for one, other in zip(before.faces, after.faces, strict=True)
    ]
    in_a_row = max(1, rows[0].shape[1] // (2 * FACE_SIDE + 3 * _GAP))
    for first in range(0, len(pairs), in_a_row):
        panels = [Panel(pair) for pair in pairs[first : first + in_a_row]]
        rows.append(side_by_side(panels, gap=3 * _GAP))
    return _stacked(rows)


@dataclass(frozen=True)
class Film:
    """One face's episode.

    Attributes:
        images: I_0 ... I_T, each uint8 (H, W, 3).
        corners: First (row, column) of the T patches.
    """

    images: Sequence[Picture]
    corners: Sequence[Corner]


def animate(films: Sequence[Film], patch_size: tuple[int, int]) -> Iterator[Picture]:
    """Draws the patches being chosen, on all faces at once.

    Args:
        films: At least one, all of the same size and number of steps; of more than 24 the first.
        patch_size: Height and width of the patches.

    Yields:
        A frame for each step from 0 to T, uint8 (H', W', 3), all of the same size.
    """
    shown = films[:FACES_ANIMATED]
    upscale = 2 if len(shown) <= _FEW else 1
    last = len(shown[0].corners)
    for step in range(last + 1):
        panels = [Panel(_attended(film, step, patch_size, upscale)) for film in shown]
        panels[0] = replace(panels[0], title=f"patch {step} of {last}")
        if len(shown) == 1:
            start = _attended(shown[0], 0, patch_size, upscale)
            panels.insert(0, Panel(start, "enlarged"))
        rows = [panels[first : first + _COLUMNS] for first in range(0, len(panels), _COLUMNS)]
        yield _stacked([side_by_side(row, gap=_GAP) for row in rows])


def _attended(film: Film, step: int, patch_size: tuple[int, int], upscale: int) -> Picture:
    """The face after some patches, dithered for the 256 colours of a GIF.

    The pattern is the same in every frame, so that what stands still does not flicker.
    """
    face = draw_attention(film.images[step], film.corners[:step], patch_size, upscale)
    height, width = face.shape[:2]
    pattern = np.tile(_BAYER, (-(-height // 4), -(-width // 4)))[:height, :width, None]
    dithered: Picture = np.rint(face + _DITHER * pattern).clip(0, 255).astype(np.uint8)
    return dithered


def _stacked(rows: Sequence[Picture]) -> Picture:
    """Pictures below each other, the narrower ones in the middle of white."""
    width = max(row.shape[1] for row in rows)
    sheet = np.full((sum(row.shape[0] for row in rows), width, 3), PAPER, dtype=np.uint8)
    top = 0
    for row in rows:
        left = (width - row.shape[1]) // 2
        sheet[top : top + row.shape[0], left : left + row.shape[1]] = row
        top += row.shape[0]
    return sheet
