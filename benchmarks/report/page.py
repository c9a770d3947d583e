"""The page: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from rich.console import Console

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.papers.pages import DIFFERENCES
from facehall_env.benchmarks.plots import curves_svg
from facehall_env.benchmarks.provenance import published_folder
from facehall_env.benchmarks.report import results_page
from facehall_env.benchmarks.report.contents import WholeFaces
from facehall_env.benchmarks.report.gallery import FEW, Gallery, Map, make_gallery
from facehall_env.benchmarks.report.layout import Chart, faces_of
from facehall_env.benchmarks.report.reading import Found, LeftOut, read_results
from facehall_env.benchmarks.report.sections import sections
from facehall_env.benchmarks.report.selection import headlines
from facehall_env.benchmarks.report.settings import ReportConfig
from facehall_env.errors import ConfigurationError
from facehall_env.files import results_dir, write_text_atomic
from facehall_env.rendering import Picture

PAPER = (
    "https://openaccess.thecvf.com/content_cvpr_2017/html/"
    "Cao_Attention-Aware_Face_Hallucination_CVPR_2017_paper.html"
)
"""The only address outside of the page: where to read on. Nothing is loaded from it."""
LARGEST = 8_000_000
"""Bytes that a page may have."""
WIDEST = 1600
"""Pixels; figures from the results' folder are made no wider."""
COLOURS = "cividis"
"""Colours of heat maps: brighter is more, for readers with any colour vision."""


def run(config: ReportConfig, console: Console | None = None) -> Path:
    """Builds the page, says which files it leaves out, and returns its path.

    Raises:
        FacehallError: If there are no results, or the dataset or the weights are missing.
    """
    config.check()
    folders = config.results or _usual_folders()
    if config.out.suffix == ".md":
        text, left_out = results_page.render(read_results(folders[-1]))
    else:
        found = read_results(*folders)
        gallery = make_gallery(config) if config.faces else None
        text, left_out = render(found, gallery, attention_figures(found, config.dataset))
    write_text_atomic(config.out, text)
    console = console or tables.terminal()
    for file in left_out:
        console.print(
            f"left out: {file.name} {file.reason}.", soft_wrap=True, highlight=False, markup=False
        )
    return config.out


def render(
    found: Found, gallery: Gallery | None = None, figures: Sequence[tuple[str, Path]] = ()
) -> tuple[str, list[LeftOut]]:
    """Makes the page; the files that are left out are those of ``found``, and broken figures.

    Args:
        found: The results.
        gallery: Faces that were restored for it, if any.
        figures: Titles and files of attention maps to show.

    Raises:
        ConfigurationError: If the page is too large.
    """
    shown, left_out = [], list(found.left_out)
    for title, path in figures:
        try:
            shown.append((title, read_figure(path)))
        except ConfigurationError:
            left_out.append(LeftOut(path.name, "is no picture that can be read"))
    template = _environment().get_template("page.html")
    text = template.render(
        sections=sections(found),
        headlines=headlines(found),
        gallery=gallery,
        figures=shown,
        results=found.results,
        left_out=left_out,
    )
    size = len(text.encode())
    if size > LARGEST:
        raise ConfigurationError(
            f"The report would have {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}: show fewer "
            "--faces."
        )
    return text, left_out


def _usual_folders() -> list[Path]:
    """The user's folder of results, and the published ones of a checkout."""
    own, published = results_dir(), published_folder()
    if published is None:
        return [own]
    return [own, published] if own.is_dir() else [published]


def attention_figures(found: Found, dataset: str) -> list[tuple[str, Path]]:
    """Titles and files of the attention maps that ``facehall bench sr`` drew.

    Those of photographs are people's faces: they are shown only in a report of that dataset.
    """
    figures = []
    for result in found.of(WholeFaces):
        drawn_of = result.content.settings.dataset
        if drawn_of not in ("synthetic", dataset):
            continue
        stem = f"{result.path.stem}-attention-"
        for path in sorted(result.path.parent.glob(f"{stem}*.png")):
            network = path.stem.removeprefix(stem)
            figures.append((f"{network} on {faces_of(drawn_of)}", path))
    return figures


def read_figure(path: Path) -> Picture:
    """A figure from the disk, no wider than `WIDEST`.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"{path} is no picture that can be read ({error}).") from error
    height, width = picture.shape[:2]
    if width <= WIDEST:
        return picture
    size = (WIDEST, max(1, round(height * WIDEST / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def address(picture: Picture, kind: str, **options: Any) -> str:
    """A picture as a ``data:`` address."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def heat(values: Map, highest: float = 1.0) -> Picture:
    """A map as colours, from 0 to ``highest``."""
    from matplotlib import colormaps

    coloured: Picture = colormaps[COLOURS](values / max(highest, 1e-12), bytes=True)[..., :3]
    return coloured


def whereabouts(values: Map) -> str:
    """The centre of the brightest tenth of a map, in words.

    >>> import numpy as np
    >>> values = np.zeros((9, 9))
    >>> values[0, 4] = 1.0
    >>> whereabouts(values)
    'at the top, in the middle'
    """
    rows, columns = (values >= 0.9 * values.max()).nonzero()
    down, across = (
        int(3 * places.mean() / side)
        for places, side in zip((rows, columns), values.shape, strict=True)
    )
    return (
        f"{('at the top', 'half-way up', 'at the bottom')[down]}, "
        f"{('on the left', 'in the middle', 'on the right')[across]}"
    )


def draw_chart(chart: Chart, id_: str) -> Markup:
    """A chart drawn for wide and for narrow windows; the style sheet shows the one that fits."""
    parts = []
    for name, size in (("wide", (760, 440)), ("narrow", (360, 440))):
        svg = curves_svg(
            chart.curves,
            f"{id_}-{name}",
            chart.title,
            chart.description,
            y_label="gain in dB",
            x_ticks=chart.x_ticks,
            size=size,
            font=13,
        )
        parts.append(f'<div class="{name}">{svg}</div>')
    return Markup("".join(parts))


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
        "paper": PAPER,
        "few": FEW,
        "chart": draw_chart,
        "table": lambda table, id_: Markup(table.html(id_)),
        "faces_of": faces_of,
        "differences": DIFFERENCES,
        "png": partial(address, kind="PNG", optimize=True),
        # Small, with losses that are hard to see.
        "webp": partial(address, kind="WEBP", quality=88, method=4),
        "heat": heat,
        "heat_scale": heat(np.tile(np.linspace(0.0, 1.0, 256), (12, 1))),
        "whereabouts": whereabouts,
    }
    return environment
