"""The benchmark's figures: PSNR by patches, and the attended patches step by step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

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
    "random": "#999999",
    "even": "#E69F00",
    "saliency": "#CC79A7",
    "static": "#009E73",
    "rl": "#D55E00",
    "qmap": "#000000",
    "oracle": "#0072B2",
}
"""Okabe and Ito's palette, which readers with any colour vision can tell apart."""
FURTHER = ("#56B4E9", "#5D3A9B", "#8C6D31")
"""For agents without a colour of their own; the palette's yellow cannot be read on white."""
BASELINE = "bicubic"
FILM_STEPS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 20, 25)

Curves = Mapping[str, npt.NDArray[np.float64]]


def plot_curves(
    curves: Curves, path: str | os.PathLike[str], title: str, start: str = BASELINE
) -> None:
    """Draws PSNR by patches, each line named at its end, the best agent's thick.

    Args:
        curves: (T + 1,) mean PSNR in dB for each agent; "bicubic" is drawn as the baseline.
        path: PNG file to write.
        title: Above the axes.
        start: What the baseline is called.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=160, layout="constrained")
    axes: Any = figure.add_subplot()
    last = max(len(curve) for curve in curves.values()) - 1
    further = iter(FURTHER * len(curves))
    best = _best(curves)
    ends = {}
    for name, curve in curves.items():
        baseline = name == BASELINE
        colour = "#555555" if baseline else COLOURS.get(name) or next(further)
        axes.plot(
            range(len(curve)),
            curve,
            color=colour,
            linewidth=2.4 if name == best else 1.6,
            linestyle=":" if baseline else "-",
            zorder=3 if name == best else 2,
        )
        ends[name] = (float(curve[-1]), colour)
    axes.set_xlim(0, last)
    bottom, top = axes.get_ylim()
    heights = spread([end for end, _ in ends.values()], 0.055 * (top - bottom))
    for (name, (end, colour)), height in zip(ends.items(), heights, strict=True):
        axes.annotate(
            start if name == BASELINE else name,
            (last, end),
            (last * 1.03, height),
            color=colour,
            fontsize=9,
            fontweight="bold" if name == best else "normal",
            verticalalignment="center",
            annotation_clip=False,
            # To the beginning of the name: to its middle, lines would cross other names.
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkB": 0,
            },
        )
    axes.set_xlabel("patches")
    axes.set_ylabel("PSNR [dB]")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _best(curves: Curves) -> str | None:
    """The agent that ends highest of those that do not see the truth."""
    agents = [name for name in curves if name not in (BASELINE, "oracle")]
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
    images = [_pictures(state.image) for state in states]
    truth = _pictures(states[0].hr)
    psnr = [state.psnr.tolist() for state in states]
    episodes = [
        Episode(
            images=[step[row] for step in images],
            boxes=corners,
            truth=truth[row],
            psnr=[step[row] for step in psnr],
        )
        for row, corners in enumerate(_corners(core, states[-1]))
    ]
    last = len(states) - 1
    steps = sorted({step for step in FILM_STEPS if step < last} | {last})
    strip = filmstrip(episodes, core.geometry.patch_size, steps=steps)
    with atomic_path(path) as temporary:
        Image.fromarray(strip).save(temporary, format="PNG")


def save_animation(
    core: HallucinationCore, states: Sequence[CoreState], path: str | os.PathLike[str]
) -> None:
    """Writes a GIF of the faces, one below the other, being restored."""
    lr, truth = _pictures(states[0].lr), _pictures(states[0].hr)
    corners = _corners(core, states[-1])
    frames = []
    for step, state in enumerate(states):
        rows = [
            draw_frame(
                lr[row],
                image,
                truth[row],
                corners[row][:step],
                core.geometry.patch_size,
                num_steps=len(states) - 1,
                psnr=state.psnr[row].item(),
            )
            for row, image in enumerate(_pictures(state.image))
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
