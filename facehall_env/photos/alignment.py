"""Where to cut a face out of a photograph, and cutting it out.

Places are (y, x) in pixels from the top left corner of the image, so that the middle of its first
pixel is (0.5, 0.5) and the image of H x W pixels ends at (H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from facehall_env.data.images import ImageArray, stretch
from facehall_env.errors import ConfigurationError

Points = NDArray[np.float64]
"""(2,) for one place, (N, 2) for several; see the module."""


@dataclass(frozen=True)
class Box:
    """An upright rectangle by its edges, in pixels: what a detector returns.

    Example:
        >>> Box(10, 20, 30, 60).area
        800
    """

    top: float
    left: float
    bottom: float
    right: float

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def middle(self) -> tuple[float, float]:
        """Its middle, (y, x)."""
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2

    def square(self, margin: float) -> Window:
        """The square around the same middle whose side is the longer side times ``margin``.

        Raises:
            ConfigurationError: If the margin is not positive.

        Example:
            >>> Box(10, 20, 30, 60).square(1.5)
            Window(y=20.0, x=40.0, height=60.0, width=60.0, angle=0.0)
        """
        if not margin > 0:
            raise ConfigurationError(f"margin must be positive, got {margin}.")
        side = max(self.bottom - self.top, self.right - self.left) * margin
        return Window(*self.middle, float(side), float(side))


@dataclass(frozen=True)
class Window:
    """A rectangle that may be turned: what is cut out.

    Attributes:
        y: Its middle, in pixels from the top.
        x: Its middle, in pixels from the left.
        height: Its height along its own axes, in pixels.
        width: Its width along its own axes.
        angle: How far it is turned clockwise (as seen on the image), in radians.
    """

    y: float
    x: float
    height: float
    width: float
    angle: float = 0.0

    def turned(self, left_eye: Points, right_eye: Points) -> Window:
        """The same window turned about its middle until the eyes, (y, x) each, are level."""
        return replace(self, angle=_angle(left_eye, right_eye))

    def cut(self, image: ImageArray, size: tuple[int, int]) -> ImageArray:
        """What is in the window, resized (antialiased bicubic).

        A window that is not turned is moved to whole pixels, so that nothing is interpolated
        twice. Beyond the image its border pixels are repeated.

        Args:
            image: (H, W, 3).
            size: Rows and columns of the result.

        Returns:
            uint8 array of that size.

        Example:
            >>> image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
            >>> bool((Window(2, 2, 2, 2).cut(image, (2, 2)) == image[1:3, 1:3]).all())
            True
        """
        rows, columns = max(1, round(self.height)), max(1, round(self.width))
        top, left = self.y - rows / 2, self.x - columns / 2
        if self.angle == 0:
            top, left = round(top), round(left)
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        # Pixel (0, 0) of the window lies half the window from its middle, minus half a pixel;
        # OpenCV counts from the middle of the first pixel.
        middle_y, middle_x = top + rows / 2 - 0.5, left + columns / 2 - 0.5
        down, right = (rows - 1) / 2, (columns - 1) / 2
        x, y = middle_x - cosine * right + sine * down, middle_y - sine * right - cosine * down
        to_image = np.array([[cosine, -sine, x], [sine, cosine, y]])
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        border = cv2.BORDER_REPLICATE
        cut = cv2.warpAffine(image, to_image, (columns, rows), flags=how, borderMode=border)
        return stretch(np.asarray(cut, dtype=np.uint8), size)


def window_by_eyes(
    left_eye: Points,
    right_eye: Points,
    size: tuple[int, int],
    height: float = 0.4,
    distance: float = 0.4,
) -> Window:
    """The window in which the eyes stand at given places once it is resized to ``size``.

    Args:
        left_eye: (y, x) of the eye on the image's left, in pixels of the photograph.
        right_eye: (y, x) of the eye on the image's right.
        size: Rows and columns to which the window will be resized.
        height: How far down the eyes are to stand, as a share of the rows.
        distance: How far apart they are to stand, as a share of the columns; symmetric about the
            middle.

    Returns:
        The window in the photograph.

    Raises:
        ConfigurationError: If both eyes are at the same place.

    Example:
        >>> window_by_eyes(np.array([64.0, 36.0]), np.array([64.0, 84.0]), (160, 120))
        Window(y=80.0, x=60.0, height=160.0, width=120.0, angle=0.0)
    """
    apart = float(np.linalg.norm(right_eye - left_eye))
    if apart == 0:
        raise ConfigurationError(f"Both eyes are at {left_eye.tolist()}: expected two places.")
    scale = apart / (distance * size[1])
    angle = _angle(left_eye, right_eye)
    down = (0.5 - height) * size[0] * scale
    between = (left_eye + right_eye) / 2
    return Window(
        y=float(between[0]) + down * math.cos(angle),
        x=float(between[1]) - down * math.sin(angle),
        height=size[0] * scale,
        width=size[1] * scale,
        angle=angle,
    )


def _angle(left_eye: Points, right_eye: Points) -> float:
    """How far the line from one eye to the other is turned clockwise, in radians."""
    down, right = (right_eye - left_eye).tolist()
    return math.atan2(down, right)
