"""Figures of the benchmarks: PSNR by patches, restored faces step by step, attention maps."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import OneShot
from facehall_env.files import atomic_path
from facehall_env.observations import to_uint8
from facehall_env.rendering import (
    Episode,
    Panel,
    Picture,
    draw_frame,
    filmstrip,
    save_gif,
    side_by_side,
)
from facehall_env.state import CoreState

COLOURS = {
    "random": "#777777",
    "even": "#b37700",
    "saliency": "#b0568a",
    "static": "#00805c",
    "rl": "#c75000",
    "qmap": "#1c1d20",
    "oracle": "#0064a8",
    "ppo": "#2a8fc9",
    "recurrent_ppo": "#5d3a9b",
}
"""Okabe and Ito's palette, which readers with any colour vision can tell apart, darkened until
names in these colours can be read on white."""
FURTHER = ("#8c6d31", "#007f7f", "#a33b3b")
"""For agents without a colour of their own."""
INK, MUTED, RULE = "#1c1d20", "#55575e", "#dcd9d0"
ON_DARK = {
    "#777777": "#a5a5a5",
    "#b37700": "#f0b429",
    "#b0568a": "#e59ac6",
    "#00805c": "#2fc79c",
    "#c75000": "#ff8c50",
    "#0064a8": "#5cb3f2",
    "#2a8fc9": "#93d7fb",
    "#5d3a9b": "#baa2ef",
    "#8c6d31": "#d6ba7e",
    "#007f7f": "#5fd3d3",
    "#a33b3b": "#f29a9a",
    INK: "#eceae4",
    MUTED: "#a9abb2",
    RULE: "#363a40",
}
"""Each of the colours as it is drawn on a dark page."""
BASELINE = "bicubic"
ORACLE = "oracle"
FILM_STEPS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 20, 25)
SVG = "http://www.w3.org/2000/svg"

Curves = Mapping[str, npt.ArrayLike]


def plot_curves(
    curves: Curves, path: str | os.PathLike[str], title: str, start: str = BASELINE
) -> None:
    """Draws PSNR by patches into a PNG file.

    Args:
        curves: (T + 1,) mean PSNR in dB for each agent; "bicubic" is drawn as the baseline.
        path: PNG file to write.
        title: Above the axes.
        start: What the baseline is called.
    """
    figure = draw_curves(curves, start=start)
    save_figure(figure, path, title)


def save_figure(figure: Any, path: str | os.PathLike[str], title: str = "") -> None:
    """Writes a `matplotlib.figure.Figure` into a PNG file, with a title above it."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160)


def curves_svg(curves: Curves, id_: str, title: str, description: str, **options: Any) -> str:
    """Draws curves as an ``<svg>`` element that can stand within an HTML page.

    Each colour is written as ``light-dark(...)``, so that it follows the page's `color-scheme`.

    Args:
        curves: As in `draw_curves`.
        id_: The beginning of all identifiers in it, which have to be unique in the page.
        title: Its name for readers who do not see it.
        description: What there is to see.
        options: Further arguments of `draw_curves`.
    """
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Text stays text; the salt makes equal drawings equal files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "facehall"}):
        draw_curves(curves, **options).savefig(buffer, format="svg", transparent=True)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    # A style sheet within the drawing would hold for the whole page.
    for parent in (root, *root.iter(f"{{{SVG}}}defs")):
        for child in [child for child in parent if child.tag.endswith(("metadata", "}style"))]:
            parent.remove(child)
    for element in root.iter():
        for key, drawn in element.attrib.items():
            # Letters are those of the page.
            value = re.sub("font-family: [^;]*; ", "", drawn)
            value = re.sub("#[0-9a-f]{6}", _light_and_dark, value)
            reference = re.sub(r"^#|(?<=url\(#)", lambda sign: f"{sign.group()}{id_}-", value)
            element.set(key, f"{id_}-{value}" if key == "id" else reference)
    for name, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(f"{{{SVG}}}{name}", {"id": f"{id_}-{name}"})
        element.text = text
        root.insert(0, element)
    for name in ("width", "height"):
        del root.attrib[name]
    root.attrib |= {"role": "img", "aria-labelledby": f"{id_}-title {id_}-desc"}
    return ElementTree.tostring(root, encoding="unicode")


def _light_and_dark(colour: re.Match[str]) -> str:
    light = colour.group()
    return f"light-dark({light}, {ON_DARK[light]})" if light in ON_DARK else light


def draw_curves(
    curves: Curves,
    *,
    start: str = BASELINE,
    y_label: str = "PSNR [dB]",
    x_ticks: Sequence[int] | None = None,
    size: tuple[int, int] = (518, 317),
    font: int = 9,
) -> Any:
    """Draws curves by patches, each named at its end, the best agent's thick, the oracle's dashed.

    Args:
        curves: (T + 1,) values for each agent; "bicubic" is drawn as the baseline.
        start: What the baseline is called.
        y_label: What the values are.
        x_ticks: Numbers of patches to write below the axis; chosen by matplotlib by default.
        size: Width and height in points, 1/72 of an inch.
        font: Size of the letters in points.

    Returns:
        A `matplotlib.figure.Figure` with one axes.
    """
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes: Any = figure.add_subplot()
    lines = {name: np.asarray(curve, dtype=np.float64) for name, curve in curves.items()}
    further = iter(FURTHER * len(lines))
    best = _best(lines)
    colours = {
        name: MUTED if name == BASELINE else COLOURS.get(name) or next(further) for name in lines
    }
    for name, line in lines.items():
        axes.plot(
            line,
            label=name,
            color=colours[name],
            linewidth=2.6 if name == best else 1.6,
            linestyle={BASELINE: ":", ORACLE: "--"}.get(name, "-"),
            zorder=3 if name == best else 2,
        )
    last = max(1, *(len(line) - 1 for line in lines.values()))
    axes.set_xlim(0, last)
    bottom, top = axes.get_ylim()
    gap = 1.7 * font / height * (top - bottom)
    heights = spread([float(line[-1]) for line in lines.values()], gap)
    for (name, line), place in zip(lines.items(), heights, strict=True):
        axes.annotate(
            start if name == BASELINE else name,
            (len(line) - 1, line[-1]),
            (last * (1 + 27 / width), place),
            color=colours[name],
            fontsize=font,
            fontweight="bold" if name == best else "normal",
            verticalalignment="center",
            annotation_clip=False,
            # To the beginning of the name: to its middle, lines would cross other names.
            arrowprops={
                "arrowstyle": "-",
                "color": colours[name],
                "linewidth": 0.8,
                "relpos": (0, 0.5),
                "shrinkB": 0,
            },
        )
    if x_ticks is not None:
        axes.set_xticks(_apart(x_ticks, 2 * font / width * last))
    axes.set_xlabel("patches", fontsize=font, color=MUTED)
    dress(axes, y_label, font)
    return figure


def dress(axes: Any, title: str, font: int = 9) -> None:
    """Gives axes the look that all figures have: a title on the left and horizontal rules only."""
    axes.set_title(title, fontsize=font, color=MUTED, loc="left")
    axes.tick_params(labelsize=font, labelcolor=MUTED, color=MUTED, left=False)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def _apart(ticks: Sequence[int], gap: float) -> list[int]:
    """The ticks that have room for their numbers, from the last one backwards."""
    kept: list[int] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or kept[-1] - tick >= gap:
            kept.append(tick)
    return kept


def _best(curves: Mapping[str, npt.NDArray[np.float64]]) -> str | None:
    """The agent that ends highest of those that do not see the truth."""
    agents = [name for name in curves if name not in (BASELINE, ORACLE)]
    return max(agents, key=lambda name: float(curves[name][-1]), default=None)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Moves values apart until neighbours differ by ``gap``, each as little as needed.

    >>> spread([1.0, 5.0, 1.0], 2.0)
    [0.0, 5.0, 2.0]
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    # Runs of labels that touch, each laid out around the mean of what it holds.
    runs: list[list[int]] = []
    for index in order:
        run = [index]
        while runs and _ends(runs[-1], values, gap)[1] + gap > _ends(run, values, gap)[0]:
            run = runs.pop() + run
        runs.append(run)
    placed = [0.0] * len(values)
    for run in runs:
        start = _ends(run, values, gap)[0]
        for place, index in enumerate(run):
            placed[index] = start + place * gap
    return placed


def _ends(run: Sequence[int], values: Sequence[float], gap: float) -> tuple[float, float]:
    half = (len(run) - 1) * gap / 2
    centre = sum(values[index] for index in run) / len(run)
    return centre - half, centre + half


def replay(core: HallucinationCore, faces: Faces, actions: Tensor) -> list[CoreState]:
    """Plays known actions (N, T) again: the states of t = 0 to T."""
    states = [core.reset(faces)]
    for action in actions.to(core.device).T:
        states.append(core.step(states[-1], action)[0])
    return states


def save_filmstrip(
    core: HallucinationCore, states: Sequence[CoreState], path: str | os.PathLike[str]
) -> None:
    """Draws the attended patches step by step, a row for each face (Attention-FH, Fig. 5).

    Args:
        core: The process that was played.
        states: What `replay` returned.
        path: PNG file to write.
    """
    images = zip(*(_pictures(state.image) for state in states), strict=True)
    psnr = zip(*(state.psnr.tolist() for state in states), strict=True)
    truth, corners = _pictures(states[0].hr), _corners(core, states[-1])
    parts = zip(images, corners, truth, psnr, strict=True)
    episodes = [Episode(*own) for own in parts]
    last = len(states) - 1
    steps = sorted({step for step in FILM_STEPS if step < last} | {last})
    strip = filmstrip(episodes, core.geometry.patch_size, steps=steps)
    with atomic_path(path) as temporary:
        Image.fromarray(strip).save(temporary, format="PNG")


def save_animation(
    core: HallucinationCore, states: Sequence[CoreState], path: str | os.PathLike[str]
) -> None:
    """Writes a GIF of the faces, one below the other, being restored."""
    lr, truth, corners = (
        _pictures(states[0].lr),
        _pictures(states[0].hr),
        _corners(core, states[-1]),
    )
    size, last, frames = core.geometry.patch_size, len(states) - 1, []
    for step, state in enumerate(states):
        faces = zip(lr, _pictures(state.image), truth, corners, state.psnr.tolist(), strict=True)
        rows = [
            draw_frame(low, image, high, boxes[:step], size, num_steps=last, psnr=psnr)
            for low, image, high, boxes, psnr in faces
        ]
        frames.append(np.concatenate(rows))
    save_gif(frames, path)


def _pictures(images: Tensor) -> list[Picture]:
    return list(to_uint8(images).cpu().numpy())


def _corners(core: HallucinationCore, state: CoreState) -> list[list[tuple[int, int]]]:
    """First row and column of each face's patches."""
    corners = [core.geometry.top_left(actions) for actions in state.actions]
    return [[(top, left) for top, left in face.tolist()] for face in corners]


@torch.no_grad()
def save_attention(network: OneShot, faces: Faces, path: str | os.PathLike[str]) -> None:
    """Draws where a network looks (SPARNet, Fig. 6 and 9): a row for each face.

    Each map is drawn from black, its least value on all these faces, to yellow, its largest; both
    stand below it.

    Args:
        network: One whose ``network.attention_maps(image)`` gives (N, 1, h, w) by name.
        faces: N faces, on its device.
        path: PNG file to write.
    """
    maps: Mapping[str, Tensor] = network.network.attention_maps(  # type: ignore[operator]
        faces.lr if network.takes == "lr" else faces.initial
    )
    columns = {"input": (_pictures(faces.initial), "")}
    for name, attention in maps.items():
        columns[name] = _coloured(attention, faces.hr.shape[2:])
    restored = network.restore(faces.initial, faces.lr).clamp(0, 1)
    columns |= {"restored": (_pictures(restored), ""), "truth": (_pictures(faces.hr), "")}
    last = len(faces.hr) - 1
    rows = [
        side_by_side(
            [
                Panel(pictures[row], "" if row else name, footer if row == last else "")
                for name, (pictures, footer) in columns.items()
            ],
            gap=6,
        )
        for row in range(len(faces.hr))
    ]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, format="PNG")


def _coloured(attention: Tensor, size: Sequence[int]) -> tuple[list[Picture], str]:
    """Maps (N, 1, h, w) as pictures of some size, and the range that their colours stand for."""
    from matplotlib import colormaps

    low, high = attention.min().item(), attention.max().item()
    large = functional.interpolate(attention.float(), size=tuple(size), mode="nearest")
    shares = (large[:, 0] - low) / max(high - low, 1e-12)
    colours = colormaps["inferno"](shares.cpu().numpy(), bytes=True)
    return list(colours[..., :3]), f"{low:.2f} to {high:.2f}"
