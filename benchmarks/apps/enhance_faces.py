"""Faces of photographs, whose truth nobody knows, restored patch by patch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from facehall_env import agents, enhancers
from facehall_env.agents.storage import load_agent
from facehall_env.benchmarks.apps.enhance_pictures import Film
from facehall_env.benchmarks.apps.settings import EnhanceConfig
from facehall_env.benchmarks.restorers import (
    Conditions,
    NetworkSpec,
    PatchByPatch,
    PatchByPatchSpec,
    check_agent,
)
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Border, Kernel
from facehall_env.observations import STATE_KEY, to_uint8
from facehall_env.photos.composite import faces_without_truth
from facehall_env.rendering import Picture
from facehall_env.state import CoreState

FACE_SIDE = 128


class Restored(NamedTuple):
    """One face after its episode.

    Attributes:
        added: (3, H, W), the restored face minus the up-sampled one, on the CPU.
        film: The episode; None if it was not recorded.
    """

    added: Tensor
    film: Film | None


def restore(player: PatchByPatch, lr: Tensor, up: Kernel, record: bool) -> Iterator[Restored]:
    """Restores faces of photographs, all at once.

    Args:
        player: An agent and its process.
        lr: (N, 3, h, w), low-resolution faces in [0, 1].
        up: Kernel that enlarges them.
        record: Whether to keep the steps in between.
    """
    core = player.core
    faces = faces_without_truth(lr.to(core.device), core.scale, up)
    steps: list[Sequence[Picture]] = []

    def keep(state: CoreState) -> None:
        steps.append(list(to_uint8(state.image).cpu().numpy()))

    played = player.play(faces, on_step=keep if record else None)
    added = (played.state.image - faces.initial).cpu()
    for row, actions in enumerate(played.actions):
        film = None
        if record:
            corners = core.geometry.top_left(actions).tolist()
            film = Film([images[row] for images in steps], [(y, x) for y, x in corners])
        yield Restored(added[row], film)


def build_player(config: EnhanceConfig) -> PatchByPatch:
    """The enhancer and the agent that the settings name.

    The agent restores faces of the size in its file unless a size is given.

    Raises:
        FacehallError: As `facehall_env.enhancers.make` and `facehall_env.agents.load` do, and if
            the agent needs the truth.
    """
    enhancer = _enhancer(config)
    check_agent(config.agent)
    side = config.face_size or FACE_SIDE
    size: tuple[int, int] = (side, side)
    border: Border = "centre"
    if config.agent not in agents.available():
        geometry = load_agent(Path(config.agent))[1]["geometry"]
        border = geometry["border"]
        if config.face_size is None:
            height, width = geometry["image_size"]
            size = (height, width)
    place = Conditions(size, enhancer.scale, device=config.device)
    own = NetworkSpec(enhancer.name)
    player = PatchByPatchSpec(
        config.agent,
        config.agent,
        own,
        NetworkSpec.of(config.initial),
        steps=config.steps,
        seed=config.seed,
        border=border,
    ).build(place, lambda network: enhancer if network is own else network.load(place))
    if STATE_KEY in player.make_agent(0).observation_keys:
        raise ConfigurationError(
            f"The agent {config.agent!r} needs the truth, which nobody knows of a photograph: "
            "choose another."
        )
    if any(side % enhancer.scale for side in size):
        raise ConfigurationError(
            f"Scale {enhancer.scale} does not divide --face-size {size[0]}: choose one that it "
            "divides."
        )
    return player


def _enhancer(config: EnhanceConfig) -> Enhancer:
    if config.weights is None:
        name = config.enhancer or "compact"
        return enhancers.make(name, scale=config.scale or 4, weights="auto")
    enhancer = enhancers.load(config.weights)
    if config.scale in (None, enhancer.scale) and config.enhancer in (None, enhancer.name):
        return enhancer
    # Says which of the two it is not.
    return enhancers.make(
        config.enhancer or enhancer.name, config.scale or enhancer.scale, config.weights
    )
