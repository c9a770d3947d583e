"""Frames, film strips, GIFs and the window."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from facehall_env.errors import ConfigurationError
from facehall_env.rendering import (
    BLUE,
    GREY,
    RED,
    Episode,
    Picture,
    Window,
    cut_patch,
    draw_attention,
    draw_box,
    draw_frame,
    filmstrip,
    save_gif,
)

FACE = 16
PATCH = (6, 4)


def plain(level: int, size: int = FACE) -> Picture:
    return np.full((size, size, 3), level, np.uint8)


def where(picture: Picture, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((picture == colour).all(axis=-1))


corners = st.tuples(st.integers(-20, 20), st.integers(-20, 20))


@given(corners, st.integers(1, 12), st.integers(1, 12), st.integers(1, 3))
def test_a_box_is_its_outline_clipped_to_the_image(
    corner: tuple[int, int], height: int, width: int, thickness: int
) -> None:
    canvas = plain(0)
    draw_box(canvas, corner, (height, width), (9, 9, 9), thickness=thickness)
    clipped = {
        (y, x)
        for y in range(corner[0], corner[0] + height)
        for x in range(corner[1], corner[1] + width)
        if 0 <= y < FACE and 0 <= x < FACE
    }
    outline = {
        (y, x)
        for y, x in clipped
        if {
            (y - thickness, x),
            (y + thickness, x),
            (y, x - thickness),
            (y, x + thickness),
        }
        - clipped
    }
    assert set(zip(*np.nonzero(where(canvas, (9, 9, 9))), strict=True)) == outline


def test_dashes_alternate_with_gaps_of_the_same_length() -> None:
    canvas = plain(0)
    draw_box(canvas, (0, 0), (FACE, FACE), (9, 9, 9), thickness=1, dash=3)
    assert (canvas[0, :, 0] > 0).tolist() == [x // 3 % 2 == 0 for x in range(FACE)]
    assert (canvas[:, 0, 0] > 0).tolist() == [y // 3 % 2 == 0 for y in range(FACE)]
    assert not canvas[1:-1, 1:-1].any()


def test_opacity_mixes_the_line_with_what_is_below() -> None:
    canvas = plain(100)
    draw_box(canvas, (2, 2), (3, 3), (200, 100, 0), thickness=1, opacity=0.25)
    assert canvas[2, 2].tolist() == [125, 100, 75]


def test_the_newest_patch_is_solid_red_and_earlier_ones_dashed_blue() -> None:
    picture = draw_attention(plain(200), [(0, 0), (8, 8)], PATCH, upscale=2)
    assert picture.shape == (2 * FACE, 2 * FACE, 3)
    red, blue = where(picture, RED), where(picture, BLUE)
    assert red[16, 16:24].all()
    assert red[27, 16:24].all()
    assert red[16:28, 16].all()
    assert red[16:28, 23].all()
    assert not red[19:25, 19:21].any(), "the inside of the patch stays visible"
    assert blue[0, 0:8].all(), "the first dash is 4 * upscale pixels long"
    assert not blue[4:8, 4:8].any()
    assert not blue[8:12, 0].any(), "and so is the first gap"


def test_older_patches_fade() -> None:
    boxes = [(0, 0), (0, 10), (10, 0), (10, 10)]
    picture = draw_attention(plain(0), boxes, PATCH, upscale=1).astype(int)
    levels = [picture[y, x, 2] for y, x in boxes[:3]]
    assert levels == sorted(levels)
    assert 0 < levels[0] < levels[2] == BLUE[2]


def test_drawing_leaves_the_images_as_they_were() -> None:
    face = plain(50)
    draw_attention(face, [(2, 2)], PATCH)
    cut_patch(face, (0, 0), PATCH)[:] = 0
    assert (face == 50).all()


def test_a_frame_keeps_its_size_and_changes_only_the_middle_panel() -> None:
    lr, truth = plain(10, FACE // 4), plain(90)
    first = draw_frame(lr, plain(30), truth, [], PATCH, num_steps=2, psnr=20.0, upscale=4)
    later = draw_frame(lr, plain(60), truth, [(3, 3)], PATCH, num_steps=2, psnr=25.5, upscale=4)
    assert first.shape == later.shape
    side, edge = 4 * FACE, 12
    changed = np.flatnonzero((first != later).any(axis=(0, 2)))
    assert changed.min() > edge + side
    assert changed.max() < 2 * edge + 2 * side + edge
    for panel, level in enumerate((10, 30, 90)):
        left = edge + panel * (side + edge)
        assert (first[40:60, left : left + side] == level).all()
    assert where(later, RED).any()
    assert not where(first, RED).any()


@given(corners)
def test_a_cut_patch_is_the_image_inside_and_grey_outside(corner: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (FACE, FACE, 3), dtype=np.uint8)
    reach = 32
    padded = np.full((FACE + 2 * reach, FACE + 2 * reach, 3), GREY, np.uint8)
    padded[reach:-reach, reach:-reach] = image
    top, left = corner[0] + reach, corner[1] + reach
    expected = padded[top : top + PATCH[0], left : left + PATCH[1]]
    np.testing.assert_array_equal(cut_patch(image, corner, PATCH), expected)


def episode(steps: int = 3) -> Episode:
    return Episode(
        images=[plain(20 * t) for t in range(steps + 1)],
        boxes=[(-3, 4 * t) for t in range(steps)],
        truth=plain(250),
        psnr=[20.0 + t for t in range(steps + 1)],
    )


def test_a_film_strip_shows_input_steps_patches_and_truth_in_order() -> None:
    strip = filmstrip([episode(), episode()], PATCH, steps=[1, 3], upscale=8)
    side, edge, gap = 8 * FACE, 12, 6
    assert strip.shape[1] == 2 * edge + 4 * side + 3 * gap
    # Columns of pixels that meet the faces and the patches but not the words.
    probes = [edge + column * (side + gap) + 30 for column in range(4)]
    top = int(np.argmax(strip[:, probes[3], 0] == 250))
    assert [int(strip[top + side - 8, x, 0]) for x in probes] == [0, 20, 60, 250]
    # Below its face stands the patch of step 1, whose first 3 of 6 rows lie over the upper edge.
    below = strip[top + side :, probes[1], 0]
    start = int(np.argmax(below == GREY[0]))
    assert (below[:start] == 255).all()
    patch = below[start : start + side]
    assert (patch[: side // 2] == GREY[0]).all()
    assert (patch[side // 2 :] == 20).all()
    # The second face repeats the first one without the headings.
    assert (strip[:, probes[3], 0] == 250).sum() == 2 * side


def test_a_film_strip_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ConfigurationError, match="at least one episode"):
        filmstrip([], PATCH)
    with pytest.raises(ConfigurationError, match=r"Step 4 .* 1 to 3"):
        filmstrip([episode()], PATCH, steps=[4])
    with pytest.raises(ConfigurationError, match=r"1 patches need 2 images.* 1 came"):
        Episode(images=[plain(0)], boxes=[(0, 0)], truth=plain(0))
    with pytest.raises(ConfigurationError, match="2 images came with 1 PSNR"):
        Episode(images=[plain(0)] * 2, boxes=[(0, 0)], truth=plain(0), psnr=[1.0])


def test_a_gif_holds_the_frames_and_their_times(tmp_path: Path) -> None:
    levels = (0, 85, 170, 255)
    frames = [plain(0) for _ in levels]
    for frame, level in zip(frames, levels, strict=True):
        frame[4:8, 4:8] = (level, 0, 0)
    frames[0][12:] = [[[85, 0, 0]], [[170, 0, 0]], [[255, 0, 0]], [[7, 7, 7]]]
    path = tmp_path / "made" / "episode.gif"
    save_gif(frames, path, fps=5, hold=1.5)
    with Image.open(path) as gif:
        assert gif.n_frames == 4  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
        durations = []
        for number, frame in enumerate(frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frame)
    assert durations == [200, 200, 200, 1500]
    assert [file.name for file in path.parent.iterdir()] == ["episode.gif"]


@pytest.mark.parametrize("frames", [[], [plain(0, 4), plain(0, 5)]])
def test_a_gif_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, frames: list[Picture]
) -> None:
    path = tmp_path / "episode.gif"
    path.write_bytes(b"old")
    with pytest.raises(ConfigurationError, match="at least one frame and all of one size"):
        save_gif(frames, path)
    assert path.read_bytes() == b"old"


def test_a_window_without_a_display_warns_once() -> None:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    window = Window()
    with pytest.warns(RuntimeWarning, match=r"needs a display.*'rgb_array'"):
        window.show(plain(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        window.show(plain(1))
        window.close()
    assert pyplot.get_fignums() == []


def test_a_window_shows_the_frame_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pyplot.switch_backend("agg")
    pauses: list[float] = []
    # An agg canvas that claims to belong to a toolkit stands in for a real window.
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "headless")
    monkeypatch.setattr(FigureCanvasAgg, "start_event_loop", lambda _, pause: pauses.append(pause))
    monkeypatch.setattr(Figure, "show", lambda _: None)
    window = Window(fps=8)
    window.show(plain(3))
    window.show(plain(7))
    (number,) = pyplot.get_fignums()
    (shown,) = pyplot.figure(number).axes[0].images
    assert (np.asarray(shown.get_array()) == 7).all()
    assert pauses == [0.125, 0.125]
    window.close()
    assert pyplot.get_fignums() == []
