"""Pictures of episodes: frames with the attended patches, film strips, GIFs and a window.

Everything here takes and gives 8-bit RGB arrays and knows nothing of tensors or environments.
The newest patch is outlined in red, the earlier ones in dashed blue, as in Fig. 1 of the
Attention-FH paper; `filmstrip` is laid out like its Fig. 5.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facehall_env.errors import ConfigurationError
from facehall_env.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]
"""An image, uint8 (H, W, 3), RGB."""
Corner = tuple[int, int]
"""First row and column of a patch; negative where it reaches over the edge."""
Colour = tuple[int, int, int]

RED: Colour = (226, 28, 36)
BLUE: Colour = (48, 118, 244)
PAPER: Colour = (255, 255, 255)
GREY: Colour = (128, 128, 128)
_INK: Colour = (32, 33, 36)
_FAINT: Colour = (110, 113, 120)

_MARGIN, _GAP, _TITLE, _FOOTER = 12, 6, 24, 20
_FADE, _FAINTEST = 0.85, 0.15
_font = lru_cache(maxsize=8)(ImageFont.load_default)


def _resized(image: Picture, size: tuple[int, int], smooth: bool) -> Picture:
    """A copy of ``image`` of ``size`` (height, width): smooth to look at, or pixel by pixel."""
    enlarged = size[0] >= image.shape[0]
    how = (cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA) if smooth else cv2.INTER_NEAREST
    resized: Picture = np.array(cv2.resize(image, size[::-1], interpolation=how), dtype=np.uint8)
    return resized


def draw_box(
    canvas: Picture,
    top_left: Corner,
    size: tuple[int, int],
    colour: Colour,
    *,
    thickness: int = 2,
    dash: int | None = None,
    opacity: float = 1.0,
) -> None:
    """Outlines a rectangle in place; what reaches over the edge is clipped to the border.

    Args:
        canvas: uint8 (H, W, 3).
        top_left: First row and column of the rectangle in pixels of ``canvas``.
        size: Its height and width; the line is drawn inside.
        colour: RGB levels.
        thickness: Width of the line in pixels.
        dash: Length of dashes and gaps in pixels; None draws a solid line.
        opacity: From 0, invisible, to 1.

    >>> canvas = np.zeros((4, 5, 3), np.uint8)
    >>> draw_box(canvas, (1, 2), (9, 2), (255, 255, 255), thickness=1)
    >>> print(canvas[..., 0] // 255)
    [[0 0 0 0 0]
     [0 0 1 1 0]
     [0 0 1 1 0]
     [0 0 1 1 0]]
    """
    bottom, right = (
        min(c + s, side) for c, s, side in zip(top_left, size, canvas.shape[:2], strict=True)
    )
    top, left = (max(c, 0) for c in top_left)
    if top >= bottom or left >= right:
        return
    box = canvas[top:bottom, left:right]
    line = np.ones(box.shape[:2], dtype=bool)
    line[thickness:-thickness, thickness:-thickness] = False
    if dash is not None:
        rows, columns = np.indices(line.shape)
        # Row + column runs along all four sides, so that the dashes go on around the corners.
        line &= (rows + columns) // dash % 2 == 0
    box[line] = np.rint((1.0 - opacity) * box[line] + opacity * np.asarray(colour))


def draw_attention(
    image: Picture, boxes: Sequence[Corner], patch_size: tuple[int, int], upscale: int = 1
) -> Picture:
    """Enlarges an image and outlines the patches: the last one red, the earlier ones dashed blue.

    The older a patch, the fainter its outline: the face stays visible below 25 of them.

    Args:
        image: uint8 (H, W, 3).
        boxes: First (row, column) of each patch so far, in pixels of ``image``, oldest first.
        patch_size: Height and width of the patches.
        upscale: Whole factor by which the image is enlarged.
    """
    height, width = image.shape[:2]
    canvas = _resized(image, (height * upscale, width * upscale), smooth=True)
    size = (patch_size[0] * upscale, patch_size[1] * upscale)
    for age, (top, left) in zip(reversed(range(len(boxes))), boxes, strict=True):
        corner, dash = (top * upscale, left * upscale), 4 * upscale
        if age == 0:
            draw_box(canvas, corner, size, RED, thickness=upscale + 1)
        else:
            faded = max(_FADE ** (age - 1), _FAINTEST)
            draw_box(canvas, corner, size, BLUE, thickness=upscale, dash=dash, opacity=faded)
    return canvas


@dataclass(frozen=True)
class Panel:
    """One picture of a row, with a title above and a footer below (either may be empty)."""

    picture: Picture
    title: str = ""
    footer: str = ""


def side_by_side(panels: Sequence[Panel], gap: int = _MARGIN) -> Picture:
    """Sets pictures of equal height, at least one, in a row on white, ``gap`` pixels between them.

    There is room for titles and footers only where there are any.
    """
    height = panels[0].picture.shape[0]
    width = sum(panel.picture.shape[1] for panel in panels) + gap * (len(panels) - 1)
    top = _MARGIN // 2 + (_TITLE if any(panel.title for panel in panels) else 0)
    bottom = _MARGIN // 2 + (_FOOTER if any(panel.footer for panel in panels) else 0)
    sheet = Image.new("RGB", (width + 2 * _MARGIN, top + height + bottom), PAPER)
    pen = ImageDraw.Draw(sheet)
    left = _MARGIN
    for panel in panels:
        sheet.paste(Image.fromarray(panel.picture), (left, top))
        middle = left + panel.picture.shape[1] / 2
        pen.text((middle, top - _TITLE / 2), panel.title, _INK, _font(14), anchor="mm")
        below = top + height + _FOOTER / 2
        pen.text((middle, below), panel.footer, _FAINT, _font(13), anchor="mm")
        left += panel.picture.shape[1] + gap
    return np.asarray(sheet)


def draw_frame(
    lr: Picture,
    current: Picture,
    truth: Picture,
    boxes: Sequence[Corner],
    patch_size: tuple[int, int],
    *,
    num_steps: int | None = None,
    psnr: float | None = None,
    upscale: int = 2,
) -> Picture:
    """Draws one moment of an episode: the low-resolution face, the current one and the truth.

    Args:
        lr: Low-resolution image, uint8 (H/s, W/s, 3); shown pixel by pixel.
        current: Current image I_t, uint8 (H, W, 3), on which the patches are outlined.
        truth: uint8 (H, W, 3).
        boxes: First (row, column) of each patch so far, oldest first; their number is the step.
        patch_size: Height and width of the patches.
        num_steps: Length T of the episode, for the step counter.
        psnr: PSNR of the current image in dB.
        upscale: Whole factor by which the faces are enlarged.

    Returns:
        uint8 (H', W', 3), of the same size at every step of an episode.
    """
    height, width = current.shape[:2]
    size = (height * upscale, width * upscale)
    counter = f"patch {len(boxes)}" + ("" if num_steps is None else f" of {num_steps}")
    quality = "" if psnr is None else f"   {psnr:.2f} dB"
    small, large = _resized(lr, size, smooth=False), _resized(truth, size, smooth=True)
    drawn = draw_attention(current, boxes, patch_size, upscale)
    return side_by_side(
        [
            Panel(small, "low resolution", f"{lr.shape[1]} x {lr.shape[0]}"),
            Panel(drawn, "current", counter + quality),
            Panel(large, "truth", f"{width} x {height}"),
        ]
    )


def cut_patch(
    image: Picture,
    top_left: Corner,
    patch_size: tuple[int, int],
    size: tuple[int, int] | None = None,
) -> Picture:
    """Cuts a patch out of an image, mid-grey where it reaches over the edge.

    It is enlarged to ``size``, height and width, unless that is None.

    >>> image = np.full((2, 2, 3), 9, np.uint8)
    >>> print(cut_patch(image, (-1, 1), (2, 2))[..., 0])
    [[128 128]
     [  9 128]]
    """
    rows, columns = (
        corner + np.arange(side) for corner, side in zip(top_left, patch_size, strict=True)
    )
    last_row, last_column = (side - 1 for side in image.shape[:2])
    inside = (rows == rows.clip(0, last_row))[:, None] & (columns == columns.clip(0, last_column))
    patch = image[rows.clip(0, last_row)[:, None], columns.clip(0, last_column)]
    # The edge is enlarged apart from the picture, or the grey would bleed into it.
    shown = _resized(patch, size or patch_size, smooth=True)
    shown[~_resized(inside.astype(np.uint8), size or patch_size, smooth=False).astype(bool)] = GREY
    return shown


@dataclass(frozen=True)
class Episode:
    """What `filmstrip` shows of one face.

    Attributes:
        images: I_0 ... I_T, each uint8 (H, W, 3).
        boxes: First (row, column) of the T patches.
        truth: uint8 (H, W, 3).
        psnr: PSNR in dB of I_0 ... I_T; empty to leave it out.
    """

    images: Sequence[Picture]
    boxes: Sequence[Corner]
    truth: Picture
    psnr: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Checks that there is one image more than patches."""
        images, patches = len(self.images), len(self.boxes)
        if images != patches + 1:
            raise ConfigurationError(
                f"{patches} patches need {patches + 1} images, from I_0 to I_T, but {images} came."
            )
        if self.psnr and len(self.psnr) != images:
            raise ConfigurationError(
                f"{images} images came with {len(self.psnr)} PSNR values: give one for each image, "
                "or none."
            )


def filmstrip(
    episodes: Sequence[Episode],
    patch_size: tuple[int, int],
    *,
    steps: Sequence[int] | None = None,
    upscale: int = 1,
) -> Picture:
    """Draws the attended patches step by step: a row for each face, a column for each step.

    The face after step t stands above, with the patch of step t in red and the earlier ones in
    dashed blue; below it the patch itself, grey where it reaches over the image's edge. The first
    column is the input I_0, the last one the truth.

    Args:
        episodes: The faces, all of the same size and the same number of steps.
        patch_size: Height and width of the patches.
        steps: Which steps to show, from 1 to T; None shows all.
        upscale: Whole factor by which the faces are enlarged.

    Raises:
        ConfigurationError: If there are no episodes, or a step is not in all of them.
    """
    if not episodes:
        raise ConfigurationError("A film strip needs at least one episode, but none came.")
    shortest = min(len(episode.boxes) for episode in episodes)
    shown = range(1, shortest + 1) if steps is None else steps
    for step in shown:
        if not 1 <= step <= shortest:
            raise ConfigurationError(
                f"Step {step} is not in every episode: choose steps from 1 to {shortest}."
            )
    titles = ["input", *(f"step {step}" for step in shown), "truth"]
    rows: list[Picture] = []
    for episode in episodes:
        faces = _film_faces(episode, patch_size, shown, titles, upscale)
        space = np.full((_MARGIN, faces.shape[1], 3), PAPER, dtype=np.uint8)
        rows += [faces, _film_patches(episode, patch_size, shown, upscale), space]
        titles = [""] * len(titles)
    return np.concatenate(rows[:-1])


def _film_faces(
    episode: Episode,
    patch_size: tuple[int, int],
    steps: Sequence[int],
    titles: Sequence[str],
    upscale: int,
) -> Picture:
    """The upper half of a film strip's row: input, the face after each step, truth."""
    panels = []
    for step, title in zip((0, *steps), titles[:-1], strict=True):
        drawn = draw_attention(episode.images[step], episode.boxes[:step], patch_size, upscale)
        panels.append(Panel(drawn, title, f"{episode.psnr[step]:.2f} dB" if episode.psnr else ""))
    truth = draw_attention(episode.truth, [], patch_size, upscale)
    return side_by_side([*panels, Panel(truth, titles[-1])], gap=_GAP)


def _film_patches(
    episode: Episode, patch_size: tuple[int, int], steps: Sequence[int], upscale: int
) -> Picture:
    """The lower half: the patch of each step below the face that it belongs to."""
    height, width = (side * upscale for side in episode.truth.shape[:2])
    zoom = min(height / patch_size[0], width / patch_size[1])
    size = (round(patch_size[0] * zoom), round(patch_size[1] * zoom))
    left = (width - size[1]) // 2
    cells = []
    for step in [None, *steps, None]:
        sheet = np.full((size[0], width, 3), PAPER, dtype=np.uint8)
        if step is not None:
            image, corner = episode.images[step], episode.boxes[step - 1]
            sheet[:, left : left + size[1]] = cut_patch(image, corner, patch_size, size)
        cells.append(Panel(sheet))
    return side_by_side(cells, gap=_GAP)


def save_gif(
    frames: Sequence[Picture], path: str | os.PathLike[str], fps: float = 4.0, hold: float = 2.0
) -> None:
    """Writes frames, uint8 (H, W, 3), as an endless GIF, whole or not at all.

    The last one stays for ``hold`` seconds. All share one palette, without dithering: that keeps
    still areas still and the file small.

    Raises:
        ConfigurationError: If there are no frames or their sizes differ.
    """
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise ConfigurationError(
            f"A GIF needs at least one frame and all of one size, but sizes {sorted(sizes)} came."
        )
    # The first and the last frame hold the blurred and the sharp face: all colours there are.
    sample = Image.fromarray(np.concatenate((frames[0], frames[-1])))
    # One of the 256 is left for what stays as it was: else every frame is stored as a whole.
    palette = sample.quantize(255, Image.Quantize.MEDIANCUT)
    pages = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    durations = [round(1000 / fps)] * (len(pages) - 1) + [round(1000 * hold)]
    options: dict[str, Any] = {"duration": durations, "loop": 0, "optimize": True}
    with atomic_path(path) as temporary:
        pages[0].save(temporary, "GIF", save_all=True, append_images=pages[1:], **options)


class Window:
    """A window that shows frames (``render_mode="human"``), at most ``fps`` a second.

    Where there is no display it warns once and shows nothing, so that a program meant for a
    desktop still runs on a server.
    """

    def __init__(self, fps: float = 4.0) -> None:
        self._pause = 1.0 / fps
        self._figure: Figure | None = None
        self._artist: Any = None
        self._blind = False

    def show(self, frame: Picture) -> None:
        """Shows a frame, uint8 (H, W, 3), and lets the window handle its events."""
        if self._figure is None and not self._blind:
            self._open(frame)
        if self._figure is None:
            return
        self._artist.set_data(frame)
        self._figure.canvas.draw_idle()
        self._figure.canvas.start_event_loop(self._pause)

    def close(self) -> None:
        """Closes the window; `show` would open a new one."""
        if self._figure is not None:
            from matplotlib import pyplot

            pyplot.close(self._figure)
            self._figure = None

    def _open(self, frame: Picture) -> None:
        from matplotlib import pyplot

        height, width = frame.shape[:2]
        figure = pyplot.figure(figsize=(width / 100, height / 100), dpi=100)
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            pyplot.close(figure)
            self._blind = True
            warnings.warn(
                f"render_mode='human' needs a display, but matplotlib's backend here is "
                f"{pyplot.get_backend()!r}, which opens no windows: nothing will be shown; use "
                "render_mode='rgb_array' and save_gif instead.",
                RuntimeWarning,
                stacklevel=3,
            )
            return
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        self._artist = axes.imshow(frame)
        self._figure = figure
        if figure.canvas.manager is not None:
            figure.canvas.manager.set_window_title("FaceHallucination")
        figure.show()
