"""Pictures for the report: faces that are restored when it is built, and figures found on disk."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env.agents import rollout
from facehall_env.benchmarks.players import Player, gather_players
from facehall_env.benchmarks.quality.patch_selection import PatchSelectionConfig
from facehall_env.data import Protocol
from facehall_env.errors import ConfigurationError
from facehall_env.observations import to_uint8
from facehall_env.patches import PatchGeometry
from facehall_env.rendering import Corner, Picture, cut_patch, draw_attention
from facehall_env.spec import build_core
from facehall_env.state import CoreState

STEPS = (1, 2, 3, 5, 9, 16, 25)
"""After which patches a film strip shows the face."""
FEW = 5
"""A small number of patches: what an agent does first tells most about it."""
BLIND = frozenset({"random", "even", "static"})
"""Agents that go the same ways on all faces, or anywhere."""
BATCH = 16
"""Faces that are played at once."""
COLOURS = "cividis"
"""Of heat maps: brighter is more, for readers of any colour vision."""
WIDEST = 1600
"""Pixels; figures from the disk are made no wider."""

Map = NDArray[np.float64]


@dataclass(frozen=True)
class Play:
    """What one agent did to all faces.

    Attributes:
        agent: Its name.
        geometry: Its locations.
        actions: (N, T) int64.
        psnr: (N, T + 1) float64 in dB.
        frames: The first faces before the first and after each patch: T + 1 lists of K pictures.
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
        """Whether where it goes depends on the face."""
        return self.agent not in BLIND

    def mean(self, step: int) -> float:
        """Mean PSNR after so many patches, in dB."""
        return float(self.psnr[:, step].mean())

    def corners(self, face: int) -> list[Corner]:
        """First row and column of each patch of a face."""
        pairs = self.geometry.top_left(self.actions[face]).tolist()
        return [(top, left) for top, left in pairs]

    def looks(self, steps: int) -> Map:
        """How many of the first patches covered each pixel, the mean over the faces, (H, W)."""
        return coverage(self.geometry, self.actions[:, :steps])


@dataclass(frozen=True)
class Gallery:
    """Faces that were restored for the report.

    Attributes:
        dataset: Where they come from.
        scale: Factor between low and high resolution.
        enhancer: Name of the network that restored the patches.
        number: On how many faces the agents played, N.
        truth: The first K of them, as they are.
        small: The same at low resolution.
        mean: The mean of all N.
        plays: What each agent did.
    """

    dataset: str
    scale: int
    enhancer: str
    number: int
    truth: Sequence[Picture]
    small: Sequence[Picture]
    mean: Picture
    plays: Sequence[Play] = field(default=())

    @property
    def shown(self) -> Play:
        """The agent with the highest mean PSNR in the end, of those that look at the face."""
        looking = [play for play in self.plays if play.looking]
        return max(looking or self.plays, key=lambda play: play.mean(play.steps))


def coverage(geometry: PatchGeometry, actions: Tensor) -> Map:
    """How many patches cover each pixel, the mean over the faces.

    Args:
        geometry: Of the patches.
        actions: (N, T) int64.

    Returns:
        (H, W) float64.
    """
    corners = geometry.top_left(actions.flatten())
    rows, columns = (
        _inside(corners[:, axis], geometry.patch_size[axis], geometry.image_size[axis])
        for axis in (0, 1)
    )
    total: Map = (rows.T @ columns).numpy() / len(actions)
    return total


def _inside(first: Tensor, length: int, side: int) -> Tensor:
    """Which places from 0 to ``side`` lie in each of some intervals, (M, side) float64."""
    places = torch.arange(side)
    return ((places >= first[:, None]) & (places < first[:, None] + length)).double()


def make_gallery(
    dataset: str,
    agents: Sequence[str],
    *,
    faces: int,
    images: int,
    steps: int,
    seed: int,
    device: str = "cpu",
) -> Gallery:
    """Has agents restore test faces with the weights that come with the project.

    Args:
        dataset: Where the faces come from.
        agents: Who plays; each one alone on the same faces.
        faces: Of how many all steps are kept, K.
        images: On how many they play, N.
        steps: Patches, T.
        seed: Of the choice of the faces, and of the random agent.
        device: Where to compute.

    Raises:
        FacehallError: If the dataset or some weights are missing, or there is no such agent.
    """
    config = PatchSelectionConfig(
        dataset=dataset,
        agents=tuple(agents),
        steps=(steps,),
        limit=images,
        seed=seed,
        device=device,
    )
    config.check()
    setup = build_core(dataset=dataset, split="test", num_steps=steps, device=device)
    players = gather_players(config, setup)
    number = min(images, len(setup.dataset))
    chosen = np.random.default_rng(seed).choice(len(setup.dataset), number, replace=False)
    truth = setup.dataset.batch(chosen.tolist())
    with tqdm(total=len(players) * number * steps, desc="pictures", unit="patch") as bar:
        plays = [
            _play(player, setup.protocol, truth, config.scale, faces, bar) for player in players
        ]
    small = setup.protocol.degrade(truth[:faces], config.scale).lr
    return Gallery(
        dataset=dataset,
        scale=config.scale,
        enhancer=setup.core.enhancer.name,
        number=number,
        truth=_pictures(truth[:faces].float() / 255),
        small=_pictures(small),
        mean=_pictures(truth.float().mean(0, keepdim=True) / 255)[0],
        plays=plays,
    )


def _play(
    player: Player, protocol: Protocol, truth: Tensor, scale: int, faces: int, bar: Any
) -> Play:
    """Has one agent restore all faces, in batches."""
    core, make_agent = player.contestant.core, player.contestant.make_agent
    if make_agent is None:
        raise ConfigurationError(
            f"--agents {player.contestant.name} chooses no patches: give agents only."
        )
    bar.set_description(f"pictures: {player.contestant.name}")
    frames: list[list[Picture]] = [[] for _ in range(core.num_steps + 1)]
    played = []
    for first in range(0, len(truth), BATCH):
        kept = slice(max(0, faces - first))
        step = iter(frames)

        def keep(state: CoreState, kept: slice = kept, step: Iterator[Any] = step) -> None:
            next(step).extend(_pictures(state.image[kept]))
            bar.update(state.num_envs * bool((state.step > 0).all()))

        batch = protocol.degrade(truth[first : first + BATCH].to(core.device), scale)
        played.append(rollout(core, make_agent(first), batch, on_step=keep))
    return Play(
        agent=player.contestant.name,
        geometry=core.geometry,
        actions=torch.cat([one.actions for one in played]).cpu(),
        psnr=torch.cat([one.psnr for one in played]).cpu(),
        frames=frames,
    )


def heat(values: Map, highest: float) -> Picture:
    """A map as colours, from 0 to ``highest``."""
    from matplotlib import colormaps

    coloured: Picture = colormaps[COLOURS](values / max(highest, 1e-12), bytes=True)[..., :3]
    return coloured


def heat_scale(width: int = 256, height: int = 12) -> Picture:
    """The colours of `heat` from left to right."""
    return heat(np.tile(np.linspace(0.0, 1.0, width), (height, 1)), 1.0)


def film(play: Play, face: int) -> list[tuple[int, Picture, Picture | None]]:
    """The steps of a film strip: number of patches, the face with them drawn in, the last patch."""
    corners, size = play.corners(face), play.geometry.patch_size
    shown = sorted({0, *(step for step in STEPS if step < play.steps), play.steps})
    return [
        (
            step,
            draw_attention(play.frames[step][face], corners[:step], size, upscale=2),
            cut_patch(play.frames[step][face], corners[step - 1], size) if step else None,
        )
        for step in shown
    ]


def enlarged(picture: Picture, factor: int) -> Picture:
    """A picture with pixels of ``factor`` by ``factor``, sharp-edged."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def png(picture: Picture) -> str:
    """A picture as a ``data:`` address, without loss."""
    return _address(picture, "PNG", optimize=True)


def webp(picture: Picture) -> str:
    """A picture as a ``data:`` address, small, with losses that are hard to see."""
    return _address(picture, "WEBP", quality=88, method=4)


def figure(path: Path) -> Picture:
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


def _address(picture: Picture, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _pictures(images: Tensor) -> list[Picture]:
    return list(to_uint8(images.cpu()).numpy())
