"""Reading image files of any kind into 8-bit RGB, and cutting them to size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facehall_env.errors import ConfigurationError, DatasetError

ImageArray = NDArray[np.uint8]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Lower-case suffixes of the files that count as images."""

Crop = Literal["fit", "centre", "stretch"]
"""How an image is brought to a size; see `cut`."""


def images_below(root: Path, recursive: bool = True) -> list[str]:
    """The image files of a directory, with or without its sub-directories; hidden ones left out.

    Returns:
        Their paths below ``root`` with forward slashes, sorted.
    """
    keys = []
    for place, folders, files in os.walk(root):
        if not recursive:
            folders.clear()
        below = Path(place).relative_to(root)
        keys += [
            (below / file).as_posix()
            for file in files
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith(".")
        ]
    return sorted(keys)


def read_image(path: Path | str) -> ImageArray:
    """Read an image as a viewer would show it.

    Greyscale becomes three equal channels, 16 bits become 8, palettes are resolved, transparent
    pixels lie on white, and an EXIF orientation is applied. Only the first frame of an
    animation is read.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        DatasetError: If the file is missing, broken or not an image; the message names it.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.array(_to_rgb(upright), dtype=np.uint8)
    except FileNotFoundError as error:
        raise DatasetError(f"Image {path} does not exist.") from error
    # Pillow's decoders raise nearly anything on damaged data (SyntaxError, struct.error, ...).
    except Exception as error:
        raise DatasetError(
            f"Image {path} cannot be read ({type(error).__name__}: {error}): "
            "replace the file or remove it."
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # convert("RGB") would clip everything above 255 to white.
        values: NDArray[Any] = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its integers do not fit into 16 bits")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns from a side length or a pair.

    Raises:
        ConfigurationError: If a side is below one.

    Example:
        >>> as_size(128)
        (128, 128)
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ConfigurationError(f"An image size must be positive, got {height}x{width}.")
    return height, width


def centre_crop(image: ImageArray, size: tuple[int, int], name: str = "image") -> ImageArray:
    """Cut out the middle; of an odd remainder the larger part is dropped below and at the right.

    Args:
        image: (H, W, 3).
        size: Rows and columns to keep.
        name: What the error calls the image.

    Raises:
        DatasetError: If the image is smaller than ``size``.

    Example:
        >>> centre_crop(np.arange(27, dtype=np.uint8).reshape(3, 3, 3), (1, 1)).tolist()
        [[[12, 13, 14]]]
    """
    height, width = image.shape[:2]
    if height < size[0] or width < size[1]:
        raise DatasetError(
            f"{name} is {height}x{width} pixels, smaller than the {size[0]}x{size[1]} asked for: "
            "use a smaller size."
        )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]


def resize_to_cover(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Resize (H, W, 3), keeping the proportions, until ``size`` just fits; then cut the middle."""
    height, width = image.shape[:2]
    factor = max(size[0] / height, size[1] / width)
    target = max(size[0], round(height * factor)), max(size[1], round(width * factor))
    return centre_crop(stretch(image, target), size)


def stretch(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Resize (H, W, 3), antialiased bicubic, to ``size`` whatever becomes of the proportions."""
    if image.shape[:2] == size:
        return image
    picture = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(picture, dtype=np.uint8)


def cut(image: ImageArray, size: tuple[int, int], crop: Crop, name: str = "image") -> ImageArray:
    """Bring an image to a size.

    Args:
        image: (H, W, 3).
        size: Rows and columns of the result.
        crop: ``"fit"`` is `resize_to_cover`; the others are `centre_crop` and `stretch`.
        name: What an error calls the image.

    Raises:
        DatasetError: If the image is smaller than a centre crop.

    Example:
        >>> cut(np.zeros((218, 178, 3), np.uint8), (216, 176), "stretch").shape
        (216, 176, 3)
    """
    if crop == "centre":
        return centre_crop(image, size, name)
    return stretch(image, size) if crop == "stretch" else resize_to_cover(image, size)
