"""The faces of a photograph: cutting them out, and putting them back once they are restored.

The photograph is the low resolution. The square around each face is brought to the size of the
environment's low-resolution faces, and what an episode adds to its up-sampled version is added to
the photograph, which is enlarged (bicubic) as a whole. So an enhancer that changes nothing leaves
nothing but the enlargement, and outside of the faces there is nothing else.

A face with more pixels than the low resolution loses some on its way to the network, but they stay
in the photograph: there only the detail finer than its own pixels is added, the less the larger
the face, and to a face as large as a restored one nothing; see `added_detail`. Such a face is
either well visible already, or an empty enlargement, and then the photograph has to be made
smaller first.

Nobody knows the truth of a photograph, and an episode needs none; see `faces_without_truth`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facehall_env.data.faces import Faces
from facehall_env.data.images import ImageArray, stretch
from facehall_env.data.resize import resize
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Kernel
from facehall_env.photos.alignment import Box, Window
from facehall_env.photos.detect import DetectedFace, DlibDetector

FEATHER = 0.15
"""Width of the soft edge of a restored face, as a share of its side."""

_SMALLEST_FOUND = 80
_SEARCHED_SIDE = 2048
_MOST_DOUBLINGS = 2

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Whole pixels of a photograph that hold a face; they may reach over its edge.

    They are ``height`` rows from row ``top`` on, and ``width`` columns from column ``left`` on.

    Example:
        >>> Place.around(Box(10, 20, 30, 60), margin=1.5)
        Place(top=-10, left=10, height=60, width=60)
        >>> Place(1, 2, 3, 4).enlarged(4)
        Place(top=4, left=8, height=12, width=16)
    """

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(cls, box: Box, margin: float) -> Place:
        """The square around a detected face, ``margin`` times the box's longer side."""
        window = box.square(margin)
        side = max(1, round(window.height))
        return cls(round(window.y - side / 2), round(window.x - side / 2), side, side)

    @classmethod
    def whole(cls, image: ImageArray) -> Place:
        """All of an image."""
        return cls(0, 0, image.shape[0], image.shape[1])

    @property
    def bottom(self) -> int:
        """The row below the last one."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column behind the last one."""
        return self.left + self.width

    def enlarged(self, scale: int) -> Place:
        """The same place on the photograph enlarged by a whole factor."""
        return Place(*(scale * n for n in (self.top, self.left, self.height, self.width)))

    def cut(self, image: ImageArray, size: tuple[int, int] | None = None) -> ImageArray:
        """What is there on an image, uint8 (H, W, 3), the border's pixels repeated beyond it.

        Args:
            image: The image.
            size: Rows and columns to which it is resized (antialiased bicubic); its own by
                default.
        """
        y, x = self.top + self.height / 2, self.left + self.width / 2
        window = Window(y, x, float(self.height), float(self.width))
        return window.cut(image, size or (self.height, self.width))

    def times_larger_than(self, size: tuple[int, int]) -> float:
        """How many times the longer of its sides is that of ``size``, (rows, columns)."""
        return max(self.height / size[0], self.width / size[1])


def frames_of(path: Path) -> int:
    """Number of frames of an animation or pages of a document; 1 for everything else.

    The second picture in a telephone's JPEG file (MPO), which no viewer shows, is none.
    """
    try:
        with Image.open(path) as image:
            return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    # Pillow's decoders raise nearly anything on damaged data; reading it will say what is wrong.
    except Exception:
        return 1


def find_faces(image: ImageArray, smallest: float | None = None) -> list[DetectedFace]:
    """Finds faces with dlib, searching small photographs in an enlarged copy.

    Args:
        image: uint8 (H, W, 3), RGB.
        smallest: Side of the smallest faces (brows to chin) that are looked for, in pixels of the
            photograph. The time grows with the inverse square. By default what can be found in a
            copy of at most 2048 pixels a side: of 20 pixels in one of up to 512, of 4 % of the
            longer side in a large one.

    Returns:
        The faces, the surest first.

    Raises:
        MissingExtraError: If dlib or its model is not installed.
        ConfigurationError: If ``smallest`` is not positive.
    """
    if smallest is not None and not smallest > 0:
        raise ConfigurationError(f"smallest_face must be positive, got {smallest}.")
    side = max(image.shape[:2])
    least = _SMALLEST_FOUND / 2**_MOST_DOUBLINGS
    zoom = _SMALLEST_FOUND / (smallest or max(least, _SMALLEST_FOUND * side / _SEARCHED_SIDE))
    # The detector shrinks to any size, but enlarges by doubling only.
    doublings = max(0, math.ceil(math.log2(zoom)))
    searched = max(_SMALLEST_FOUND, round(side * zoom / 2**doublings))
    return DlibDetector(doublings, searched)(image)


def low_resolution(image: ImageArray, places: Sequence[Place], size: tuple[int, int]) -> Tensor:
    """The faces of a photograph, uint8 (H, W, 3), as low-resolution faces of ``size``.

    Returns:
        (N, 3, *size) float32 in [0, 1], in steps of 1/255.
    """
    cut = np.stack([place.cut(image, size) for place in places])
    return torch.from_numpy(cut).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def faces_without_truth(lr: Tensor, scale: int, up: Kernel = "bicubic") -> Faces:
    """What an episode starts from where nobody knows the truth.

    Enhancers and agents see ``lr`` and the current face only. The core wants a truth for errors
    and rewards, so it gets the starting face in its place: the errors, the PSNR and the rewards
    of such an episode mean nothing and are to be ignored, and agents that look at the truth
    (`facehall_env.observations.STATE_KEY`) cannot play it.

    Args:
        lr: (N, 3, h, w), low-resolution faces in [0, 1].
        scale: Factor to the high resolution.
        up: Kernel that enlarges, as in the protocol that the enhancer was trained with.

    Returns:
        The faces, of h * scale x w * scale pixels.

    Example:
        >>> faces = faces_without_truth(torch.rand(2, 3, 8, 8), scale=4)
        >>> faces.initial.shape, bool((faces.hr == faces.initial).all())
        (torch.Size([2, 3, 32, 32]), True)
    """
    size = (lr.shape[2] * scale, lr.shape[3] * scale)
    initial = resize(lr, size, up).clamp(0, 1)
    return Faces(hr=initial, lr=lr, initial=initial)


@torch.no_grad()
def added_detail(added: Tensor, place: Place, scale: int, lr_size: tuple[int, int]) -> Weights:
    """What an episode has added to one face, for its place on the enlarged photograph.

    A face k times as large as the low resolution shows detail of its own that the enhancer, which
    did not see it, adds a second time. What the photograph's pixels can show of the addition is
    taken out: half of it for k = 1.5, all of it from k = 2 on.

    Args:
        added: (3, H, W), the restored face minus the up-sampled one.
        place: Place of the face on the photograph.
        scale: Factor by which the photograph is enlarged.
        lr_size: Rows and columns of low-resolution faces.

    Returns:
        (height * scale, width * scale, 3), to be added to levels in [0, 1].
    """
    size = (place.height * scale, place.width * scale)
    detail = resize(added, size, "bicubic")
    excess = min(1.0, place.times_larger_than(lr_size) - 1)
    if excess > 0:
        shown = resize(detail, (place.height, place.width), "bicubic")
        detail = detail - excess * resize(shown, size, "bicubic")
    return detail.permute(1, 2, 0).cpu().numpy()


def enlarge(image: ImageArray, scale: int) -> ImageArray:
    """A new image, (antialiased) bicubic: uint8 (H, W, 3) to (H * scale, W * scale, 3)."""
    height, width = image.shape[:2]
    return stretch(image, (height * scale, width * scale)) if scale > 1 else image.copy()


def shares(places: Sequence[Place], size: tuple[int, int]) -> list[Weights]:
    """How much of each pixel comes from each face; what is missing to 1 is the photograph's.

    A face fades out towards the edges of its place, but for those that are the photograph's own.
    Where places overlap so far that their shares would pass 1, they are divided by their sum.

    Args:
        places: On the photograph.
        size: Rows and columns of the photograph.

    Returns:
        For each place its (height, width).

    Example:
        >>> np.round(shares([Place(0, 0, 20, 1)], (40, 1))[0][:, 0], 2)[[0, 9, 17, 18, 19]]
        array([1.  , 1.  , 0.93, 0.5 , 0.07], dtype=float32)
    """
    own = []
    for p in places:
        down = _ramps(p.height, p.top > 0, p.bottom < size[0])
        own.append(down[:, None] * _ramps(p.width, p.left > 0, p.right < size[1]))
    total = [weight.copy() for weight in own]
    for (one, place), (two, other) in permutations(enumerate(places), 2):
        overlap = _overlap(place, other)
        if overlap is not None:
            total[one][_within(overlap, place)] += own[two][_within(overlap, other)]
    return [weight / np.maximum(all_, 1) for weight, all_ in zip(own, total, strict=True)]


def paste(canvas: ImageArray, places: Sequence[Place], details: Sequence[Weights]) -> None:
    """Adds each face's detail to the enlarged photograph, in place.

    Args:
        canvas: uint8 (H, W, 3), the enlarged photograph.
        places: On that.
        details: For each place (height, width, 3), in levels from -1 to 1.
    """
    size = (canvas.shape[0], canvas.shape[1])
    for place, share, detail in zip(places, shares(places, size), details, strict=True):
        inside = _overlap(place, Place.whole(canvas))
        if inside is None:
            continue
        there, of_face = _within(inside, Place(0, 0, *size)), _within(inside, place)
        levels = canvas[there] + 255 * share[of_face][..., None] * detail[of_face]
        canvas[there] = np.floor(levels + 0.5).clip(0, 255)


def _ramps(length: int, fade_in: bool, fade_out: bool) -> Weights:
    """From 0 to 1 and back to 0, or 1 up to an end that does not fade."""
    steps = (np.arange(length) + 0.5) / (FEATHER * length)
    edge = np.clip(steps, 0, 1)
    smooth = (edge**2 * (3 - 2 * edge)).astype(np.float32)
    ones = np.ones(length, np.float32)
    return (smooth if fade_in else ones) * (smooth[::-1] if fade_out else ones)


def _overlap(one: Place, other: Place) -> Place | None:
    top, left = max(one.top, other.top), max(one.left, other.left)
    height = min(one.bottom, other.bottom) - top
    width = min(one.right, other.right) - left
    return Place(top, left, height, width) if height > 0 and width > 0 else None


def _within(part: Place, place: Place) -> tuple[slice, slice]:
    """Rows and columns of ``part`` counted from the first of ``place``."""
    top, left = part.top - place.top, part.left - place.left
    return slice(top, top + part.height), slice(left, left + part.width)
