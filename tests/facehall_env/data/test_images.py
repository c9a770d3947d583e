from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from facehall_env.data.images import as_size, centre_crop, read_image, resize_to_cover
from facehall_env.errors import ConfigurationError, DatasetError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_colours_are_exact(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(COLOURS))
    np.testing.assert_array_equal(read_image(path), COLOURS)


@pytest.mark.parametrize("suffix", ["png", "pgm"])
def test_greyscale_gets_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(GREY))
    np.testing.assert_array_equal(read_image(path), np.repeat(GREY[..., None], 3, axis=2))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(GREY > 127))
    np.testing.assert_array_equal(read_image(path)[..., 1], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 128, 129, 256, 32768, 65535]], dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep)
    levels = read_image(tmp_path / f"a.{suffix}")[0, :, 0]
    np.testing.assert_array_equal(levels, [0, 0, 1, 1, 128, 255])


def test_16_bit_colour(tmp_path: Path) -> None:
    deep = COLOURS.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOURS)


def test_palette_is_resolved(tmp_path: Path) -> None:
    indexed = Image.fromarray((GREY % 4).astype(np.uint8), mode="P")
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], dtype=np.uint8)
    indexed.putpalette(palette.tobytes())
    path = saved(tmp_path / "a.png", indexed)
    np.testing.assert_array_equal(read_image(path), palette[GREY % 4])


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    alpha = np.full((6, 9, 1), 255, np.uint8)
    alpha[0], alpha[1] = 0, 51
    path = saved(tmp_path / "a.png", Image.fromarray(np.concatenate([COLOURS, alpha], axis=2)))
    result = read_image(path)
    np.testing.assert_array_equal(result[2:], COLOURS[2:])
    np.testing.assert_array_equal(result[0], np.full((9, 3), 255))
    np.testing.assert_allclose(result[1], 0.2 * COLOURS[1] + 0.8 * 255, atol=1)


def test_transparent_palette_entry_and_grey_alpha(tmp_path: Path) -> None:
    indexed = Image.fromarray((GREY % 2).astype(np.uint8), mode="P")
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    result = read_image(saved(tmp_path / "p.png", indexed, transparency=1))
    expected = np.where((GREY % 2)[..., None] == 1, 255, [10, 20, 30])
    np.testing.assert_array_equal(result, expected)
    veiled = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(np.zeros_like(GREY))])
    assert (read_image(saved(tmp_path / "l.png", veiled)) == 255).all()


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tiff", Image.new("CMYK", (4, 3), (0, 255, 255, 0)))
    np.testing.assert_array_equal(read_image(path), np.broadcast_to([255, 0, 0], (3, 4, 3)))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, COLOURS),
        (2, COLOURS[:, ::-1]),
        (3, COLOURS[::-1, ::-1]),
        (6, np.rot90(COLOURS, -1)),
        (8, np.rot90(COLOURS)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif)
    np.testing.assert_array_equal(read_image(path), upright)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path)[0, 0], [255, 0, 0])


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0garbage"]
)
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken_0001.jpg"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"broken_0001\.jpg cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "bmp"])
def test_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"cut.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=rf"cut\.{suffix}"):
        read_image(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nobody\.jpg does not exist"):
        read_image(tmp_path / "nobody.jpg")


def test_floating_point_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.ones((4, 4), np.float32)))
    with pytest.raises(DatasetError, match="no agreed range"):
        read_image(path)


def test_centre_crop_drops_the_larger_part_below_and_right() -> None:
    np.testing.assert_array_equal(centre_crop(COLOURS, (3, 4)), COLOURS[1:4, 2:6])


def test_a_crop_larger_than_the_image_is_explained() -> None:
    with pytest.raises(DatasetError, match="6x9 pixels, smaller than the 7x9"):
        centre_crop(COLOURS, (7, 9))


def test_covering_keeps_the_proportions_and_the_middle() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 200
    np.testing.assert_array_equal(resize_to_cover(wide, (10, 10)), wide[:, 15:25])
    half = resize_to_cover(wide, (5, 5))
    np.testing.assert_allclose(half[:, 1:4], 200, atol=12)
    assert (half[:, 0] < 120).all()


def test_sizes() -> None:
    assert as_size(5) == (5, 5)
    assert as_size((4, 6)) == (4, 6)
    with pytest.raises(ConfigurationError, match="0x4"):
        as_size((0, 4))
