"""Faces that agents restore while the report is built, and where the agents looked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facehall_env.benchmarks.report.settings import ReportConfig
from facehall_env.benchmarks.restorers import (
    Conditions,
    NetworkSpec,
    PatchByPatch,
    PatchByPatchSpec,
    build,
    check_agent,
)
from facehall_env.benchmarks.scoring import TestFaces
from facehall_env.observations import to_uint8
from facehall_env.patches import PatchGeometry
from facehall_env.progress import progress
from facehall_env.rendering import Picture, cut_patch, draw_attention
from facehall_env.spec import FacesSpec
from facehall_env.state import CoreState

ENHANCER = NetworkSpec("compact")
"""Network that restores the patches."""
FILM_STEPS = (1, 2, 3, 5, 9, 16, 25)
"""Numbers of patches after which a film strip shows the face."""
FEW = 5
"""A small number of patches: what an agent does first tells most about it."""
BLIND = frozenset({"random", "even", "static"})
"""Agents that take the same places on all faces, or places drawn at random."""
BATCH = 16
"""Faces that are restored at once."""

Map = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One picture of a film strip, after ``step`` patches, with the PSNR by then in dB.

    Attributes:
        face: The face with its patches drawn in, (2H, 2W, 3) uint8.
        patch: The newest patch alone; None before the first one.
    """

    step: int
    psnr: float
    face: Picture
    patch: Picture | None


@dataclass(frozen=True)
class Play:
    """How one agent restored all faces.

    Attributes:
        geometry: The locations it chose from.
        actions: (N, T) int64.
        psnr: (N, T + 1) float64 in dB.
        frames: The first K faces before the first and after each patch: T + 1 lists of pictures.
    """

    agent: str
    geometry: PatchGeometry
    actions: Tensor
    psnr: Tensor
    frames: Sequence[Sequence[Picture]]

    @property
    def steps(self) -> int:
        """Number of patches T."""
        return self.actions.shape[1]

    @property
    def looking(self) -> bool:
        """Whether the places it chooses depend on the face."""
        return self.agent not in BLIND

    def mean(self, step: int) -> float:
        """Mean PSNR after so many patches, in dB."""
        return float(self.psnr[:, step].mean())

    def attention(self, step: int, face: int) -> Picture:
        """A face after some patches, with their outlines drawn in, (2H, 2W, 3) uint8."""
        corners = self._corners(face)[:step]
        return draw_attention(self.frames[step][face], corners, self.geometry.patch_size, upscale=2)

    def film(self, face: int) -> list[Frame]:
        """The pictures of a face's film strip: the start, `FILM_STEPS`, and the end."""
        corners, size = self._corners(face), self.geometry.patch_size
        return [
            Frame(
                step,
                float(self.psnr[face, step]),
                self.attention(step, face),
                cut_patch(self.frames[step][face], corners[step - 1], size) if step else None,
            )
            for step in sorted({0, *(s for s in FILM_STEPS if s < self.steps), self.steps})
        ]

    def _corners(self, face: int) -> list[tuple[int, int]]:
        """First row and column of each patch of a face."""
        pairs = self.geometry.top_left(self.actions[face]).tolist()
        return [(top, left) for top, left in pairs]


@dataclass(frozen=True)
class HeatMaps:
    """Where the agents look in the first steps, all in one scale of colours.

    Attributes:
        highest: Patches per face that have the brightest colour.
        maps: (H, W) for each agent: how many patches cover each pixel, the mean over the faces.
    """

    steps: int
    highest: float
    maps: Sequence[tuple[Play, Map]]


@dataclass(frozen=True)
class Gallery:
    """Faces that were restored for the report.

    Attributes:
        number: Number of faces N that the agents restored.
        truth: The first K of them in their true form.
        small: The same K at low resolution.
        mean: The mean of all N.
    """

    dataset: str
    scale: int
    number: int
    truth: Sequence[Picture]
    small: Sequence[Picture]
    mean: Picture
    plays: Sequence[Play] = field(default=())

    @property
    def shown(self) -> Play:
        """The play with the highest mean PSNR in the end, of agents that look at the face."""
        looking = [play for play in self.plays if play.looking]
        return max(looking or self.plays, key=lambda play: play.mean(play.steps))

    def heat_maps(self) -> list[HeatMaps]:
        """Maps of the first few patches and of all patches."""
        rows = []
        for steps in sorted({min(FEW, self.shown.steps), self.shown.steps}):
            maps = [coverage(play.geometry, play.actions[:, :steps]) for play in self.plays]
            # Not the maximum: one place to which a fixed order returns would darken the rest.
            highest = float(np.quantile(np.stack(maps), 0.99))
            rows.append(HeatMaps(steps, highest, list(zip(self.plays, maps, strict=True))))
        return rows


def coverage(geometry: PatchGeometry, actions: Tensor) -> Map:
    """How many patches of actions (N, T) cover each pixel, the mean over the faces, (H, W)."""
    corners = geometry.top_left(actions.flatten())
    rows, columns = (
        _covered(corners[:, axis], geometry.patch_size[axis], geometry.image_size[axis])
        for axis in (0, 1)
    )
    total: Map = (rows.T @ columns).numpy() / len(actions)
    return total


def _covered(first: Tensor, length: int, side: int) -> Tensor:
    """Which places from 0 to ``side`` lie in each of M intervals, (M, side) float64."""
    places = torch.arange(side)
    return ((places >= first[:, None]) & (places < first[:, None] + length)).double()


def make_gallery(config: ReportConfig) -> Gallery:
    """Lets agents restore ``images`` test faces with the weights that come with the project.

    All steps are kept of the first ``faces``.

    Raises:
        FacehallError: If the dataset or some weights are missing, or there is no such agent.
    """
    for name in config.agents:
        check_agent(name)
    spec = FacesSpec(config.dataset)
    dataset = spec.open("test")
    number = min(max(config.images, config.faces), len(dataset))
    chosen = np.random.default_rng(config.seed).choice(len(dataset), number, replace=False)
    truth = dataset.batch(chosen.tolist())
    faces = TestFaces(truth, spec.degradation, spec.scale, config.device)
    restorers = build(
        [
            PatchByPatchSpec(name, name, ENHANCER, steps=config.steps, seed=config.seed)
            for name in config.agents
        ],
        Conditions(dataset.image_size, spec.scale, config.dataset, config.device),
    )
    total = len(restorers) * number * config.steps
    with progress(total=total, desc="pictures", unit="patch") as bar:
        plays = [
            _play(restorer, faces, config.faces, bar)
            for restorer in restorers
            if isinstance(restorer, PatchByPatch)
        ]
    shown = faces.rows(slice(config.faces))
    return Gallery(
        dataset=config.dataset,
        scale=spec.scale,
        number=number,
        truth=_pictures(shown.hr),
        small=_pictures(shown.lr),
        mean=_pictures(truth.float().mean(0, keepdim=True) / 255)[0],
        plays=plays,
    )


def _play(restorer: PatchByPatch, faces: TestFaces, kept: int, bar: Any) -> Play:
    """Lets one agent restore all faces, in batches, and keeps the pictures of the first ones."""
    bar.set_description(f"pictures: {restorer.name}")
    frames: list[list[Picture]] = [[] for _ in range(restorer.steps + 1)]
    played = []
    for first in range(0, len(faces), BATCH):
        shown = slice(max(0, kept - first))
        step = iter(frames)

        def keep(state: CoreState, shown: slice = shown, step: Iterator[Any] = step) -> None:
            next(step).extend(_pictures(state.image[shown]))
            bar.update(state.num_envs * bool((state.step > 0).all()))

        batch = faces.rows(slice(first, first + BATCH))
        played.append(restorer.play(batch, first, on_step=keep))
    return Play(
        agent=restorer.name,
        geometry=restorer.core.geometry,
        actions=torch.cat([one.actions for one in played]).cpu(),
        psnr=torch.cat([one.psnr for one in played]).cpu(),
        frames=frames,
    )


def _pictures(images: Tensor) -> list[Picture]:
    return list(to_uint8(images.cpu()).numpy())
