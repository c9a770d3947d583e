"""The page itself: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from facehall_env.benchmarks.report import pictures, views
from facehall_env.benchmarks.report.drawing import NARROW, WIDE, Chart, line_chart
from facehall_env.benchmarks.report.grids import written
from facehall_env.benchmarks.report.pictures import FEW, Gallery, Play
from facehall_env.benchmarks.report.reading import Found, LeftOut
from facehall_env.errors import ConfigurationError
from facehall_env.rendering import Picture, draw_attention

LINKS = {
    "paper": "https://openaccess.thecvf.com/content_cvpr_2017/html/"
    "Cao_Attention-Aware_Face_Hallucination_CVPR_2017_paper.html"
}
"""The only addresses outside of the page: where to read on. Nothing is loaded from them."""

LARGEST = 8_000_000
"""Bytes that a page may have."""


@dataclass(frozen=True)
class Image:
    """A picture in the page.

    Attributes:
        address: ``data:`` address.
        alt: What is on it.
        width: In its own pixels.
        height: Likewise.
    """

    address: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """A step of a film strip."""

    title: str
    decibels: str
    face: Image
    patch: Image | None


@dataclass(frozen=True)
class Strip:
    """A film strip, with what stood before it and after it."""

    title: str
    before: Image
    after: Image
    change: str
    frames: Sequence[Frame]


@dataclass(frozen=True)
class Heat:
    """Where one agent looks."""

    title: str
    decibels: str
    image: Image


@dataclass(frozen=True)
class HeatRow:
    """Where the agents look with a number of patches; all have the same colours."""

    title: str
    note: str
    maps: Sequence[Heat]


@dataclass(frozen=True)
class Show:
    """The pictures of the page."""

    words: str
    agent: str
    looking: bool
    number: int
    hero: Sequence[tuple[str, Image]]
    strips: Sequence[Strip]
    heats: Sequence[HeatRow]
    mean: Image
    scale: Image
    photographs: bool


@dataclass(frozen=True)
class Figure:
    """A figure from the results' folder."""

    title: str
    image: Image


def render(
    found: Found,
    gallery: Gallery | None = None,
    figures: Sequence[tuple[str, Path]] = (),
) -> tuple[str, list[LeftOut]]:
    """Makes the page.

    Args:
        found: The results.
        gallery: Faces that were restored for it, if any.
        figures: Titles and files of attention maps to show.

    Returns:
        The page, and the files that it does without: those of ``found``, and broken figures.

    Raises:
        ConfigurationError: If the page is too large.
    """
    shown, broken = _figures(figures)
    left_out = [*found.left_out, *broken]
    text = (
        _environment()
        .get_template("page.html")
        .render(
            sections=views.sections(found),
            headlines=views.headlines(found),
            show=None if gallery is None else _show(gallery),
            figures=shown,
            results=found.results,
            left_out=left_out,
            links=LINKS,
        )
    )
    size = len(text.encode())
    if size > LARGEST:
        raise ConfigurationError(
            f"The report would have {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}: show fewer "
            "--faces."
        )
    return text, left_out


def attention_figures(found: Found, folder: Path, dataset: str) -> list[tuple[str, Path]]:
    """Titles and files of the attention maps that ``facehall bench sr`` drew.

    Those of photographs are people's faces: they are shown only in a report of that dataset.
    """
    figures = []
    for result in found.of("sr"):
        drawn_of = result.content["settings"]["dataset"]
        if drawn_of not in ("synthetic", dataset):
            continue
        stem = f"{Path(result.name).stem}-attention-"
        for path in sorted(folder.glob(f"{stem}*.png")):
            network = path.stem.removeprefix(stem)
            figures.append((f"{network} on {views.faces_of(drawn_of)}", path))
    return figures


def _figures(files: Sequence[tuple[str, Path]]) -> tuple[list[Figure], list[LeftOut]]:
    shown, broken = [], []
    for title, path in files:
        try:
            picture = pictures.figure(path)
        except ConfigurationError:
            broken.append(LeftOut(path.name, "is no picture that can be read"))
            continue
        alt = f"Attention maps of {title}, a row for each face, a column for each unit"
        shown.append(Figure(title, _image(picture, alt, lossless=False)))
    return shown, broken


def _show(gallery: Gallery) -> Show:
    play = gallery.shown
    return Show(
        words=views.faces_of(gallery.dataset),
        agent=play.agent,
        looking=play.looking,
        number=gallery.number,
        hero=_hero(gallery, play),
        strips=[_strip(gallery, play, face) for face in range(len(gallery.truth))],
        heats=[_heat_row(gallery, steps) for steps in sorted({min(FEW, play.steps), play.steps})],
        mean=_image(gallery.mean, f"The mean of {gallery.number} test faces"),
        scale=_image(pictures.heat_scale(), "Colour scale from dark blue, never, to yellow"),
        photographs=gallery.dataset != "synthetic",
    )


def _hero(gallery: Gallery, play: Play) -> list[tuple[str, Image]]:
    """One face from the low resolution to the truth."""
    truth, small = gallery.truth[0], gallery.small[0]
    few = min(FEW, play.steps)
    corners = play.corners(0)[:few]
    looked = draw_attention(play.frames[few][0], corners, play.geometry.patch_size, upscale=2)
    height, width = small.shape[:2]
    return [
        (
            f"What it starts from: {width} × {height} pixels",
            _image(
                pictures.enlarged(small, gallery.scale),
                f"A face of {width} by {height} coarse pixels",
            ),
        ),
        (
            f"Where it looked first: {few} patches",
            _image(looked, f"The face with the outlines of {few} patches", lossless=False),
        ),
        (
            f"After {play.steps} patches",
            _image(play.frames[-1][0], f"The face, sharp after {play.steps} patches"),
        ),
        ("The truth", _image(truth, "The face as it was before it was made small")),
    ]


def _strip(gallery: Gallery, play: Play, face: int) -> Strip:
    psnr = play.psnr[face].tolist()
    title = f"Face {face + 1}"
    frames = []
    for step, picture, patch in pictures.film(play, face):
        name = f"patch {step}" if step else "start"
        alt = f"{title} after {step} patches" if step else f"{title} before the first patch"
        frames.append(
            Frame(
                name,
                f"{psnr[step]:.2f} dB",
                _image(picture, alt, lossless=False),
                None if patch is None else _image(patch, f"The restored patch {step} alone"),
            )
        )
    truth = _image(gallery.truth[face], f"{title} as it really is")
    return Strip(
        title,
        before=_image(play.frames[0][face], f"{title}, blurred, before the first patch"),
        after=_image(play.frames[-1][face], f"{title}, restored by {play.steps} patches"),
        change=f"{written(psnr[0], '.2f')} → {written(psnr[-1], '.2f')} dB",
        frames=[*frames, Frame("truth", "", truth, None)],
    )


def _heat_row(gallery: Gallery, steps: int) -> HeatRow:
    looks = {play.agent: play.looks(steps) for play in gallery.plays}
    # Not the largest of all: a single place where a fixed order returns to would darken the rest.
    highest = float(np.quantile(np.stack(list(looks.values())), 0.99))
    return HeatRow(
        title=f"The first {steps} patches"
        if steps < gallery.shown.steps
        else f"All {steps} patches",
        note=f"{highest:.1f} or more",
        maps=[
            Heat(
                play.agent,
                f"{play.mean(steps):.2f} dB",
                _image(
                    pictures.heat(looks[play.agent], highest),
                    f"Where {play.agent} looks: most often {_whereabouts(looks[play.agent])}",
                ),
            )
            for play in gallery.plays
        ],
    )


def _whereabouts(values: pictures.Map) -> str:
    """The middle of the brightest tenth, in words.

    >>> import numpy as np
    >>> values = np.zeros((9, 9))
    >>> values[0, 4] = 1.0
    >>> _whereabouts(values)
    'at the top, in the middle'
    """
    rows, columns = (values >= 0.9 * values.max()).nonzero()
    third = [
        int(3 * places.mean() / side)
        for places, side in zip((rows, columns), values.shape, strict=True)
    ]
    down = ("at the top", "half-way up", "at the bottom")[third[0]]
    across = ("on the left", "in the middle", "on the right")[third[1]]
    return f"{down}, {across}"


def _image(picture: Picture, alt: str, lossless: bool = True) -> Image:
    height, width = picture.shape[:2]
    address = pictures.png(picture) if lossless else pictures.webp(picture)
    return Image(address, alt, width, height)


def _environment() -> Environment:
    loader = PackageLoader("facehall_env.benchmarks.report", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (loader.get_source(environment, name)[0] for name in ("style.css", "slider.js"))
    environment.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        # The page may run this script and nothing else, and fetch nothing at all.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "chart": _chart,
    }
    return environment


def _chart(chart: Chart, id_: str) -> Markup:
    """Drawn twice, of which the style sheet shows the one that fits the window."""
    return Markup('<div class="wide">{0}</div><div class="narrow">{1}</div>').format(
        line_chart(chart, WIDE, f"{id_}-wide"), line_chart(chart, NARROW, f"{id_}-narrow")
    )
