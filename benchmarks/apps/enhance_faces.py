"""Faces of photographs, whose truth nobody knows, restored patch by patch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from facehall_env.data import protocols
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Border, Kernel
from facehall_env.observations import STATE_KEY, to_uint8
from facehall_env.photos.composite import faces_without_truth
from facehall_env.rendering import Picture
from facehall_env.state import CoreState

FACE_SIDE = 128


@dataclass(frozen=True)
class Restored:
    """One face after its episode.

    Attributes:
        added: (3, H, W), the restored face minus the up-sampled one, on the CPU.
        film: The episode; None if it was not recorded.
    """

    added: Tensor
    film: Film | None


@dataclass(frozen=True)
class FaceRestorer:
    """Plays episodes of faces of photographs.

    Attributes:
        player: An agent and its process.
        up: Kernel that enlarges the faces.
        batch: Most faces at once.
        record: Whether to keep the steps in between.
    """

    player: PatchByPatch
    up: Kernel = "bicubic"
    batch: int = 32
    record: bool = True

    @property
    def scale(self) -> int:
        """Factor by which photographs are enlarged."""
        return self.player.core.scale

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch."""
        return self.player.core.geometry.patch_size

    @property
    def face_size(self) -> tuple[int, int]:
        """Height and width of restored faces."""
        return self.player.core.geometry.image_size

    @property
    def lr_size(self) -> tuple[int, int]:
        """Height and width of low-resolution faces."""
        height, width = self.face_size
        return height // self.scale, width // self.scale

    def restore(self, lr: Tensor) -> list[Restored]:
        """Restores (N, 3, h, w) low-resolution faces in [0, 1], batch by batch."""
        return [face for some in lr.split(self.batch) for face in self._together(some)]

    def _together(self, lr: Tensor) -> Iterator[Restored]:
        core = self.player.core
        faces = faces_without_truth(lr.to(core.device), self.scale, self.up)
        steps: list[Sequence[Picture]] = []

        def keep(state: CoreState) -> None:
            steps.append(list(to_uint8(state.image).cpu().numpy()))

        played = self.player.play(faces, on_step=keep if self.record else None)
        added = (played.state.image - faces.initial).cpu()
        for row, actions in enumerate(played.actions):
            film = None
            if self.record:
                corners = core.geometry.top_left(actions).tolist()
                film = Film([images[row] for images in steps], [(y, x) for y, x in corners])
            yield Restored(added[row], film)


def build_restorer(config: EnhanceConfig) -> FaceRestorer:
    """The enhancer and the agent that the settings name.

    Raises:
        FacehallError: As `facehall_env.enhancers.make` and `facehall_env.agents.load` do, and if
            the agent needs the truth.
    """
    enhancer = _enhancer(config)
    place, spec = _specification(config, enhancer)

    def load(network: NetworkSpec) -> Enhancer:
        return enhancer if network is spec.enhancer else network.load(place)

    player = spec.build(place, load)
    if STATE_KEY in player.make_agent(0).observation_keys:
        raise ConfigurationError(
            f"The agent {config.agent!r} needs the truth, which nobody knows of a photograph: "
            "choose another."
        )
    if any(side % enhancer.scale for side in place.image_size):
        raise ConfigurationError(
            f"Scale {enhancer.scale} does not divide --face-size {place.image_size[0]}: "
            "choose one that it divides."
        )
    return FaceRestorer(player, protocols.get(config.protocol).up, config.batch, config.gif)


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


def _specification(
    config: EnhanceConfig, enhancer: Enhancer
) -> tuple[Conditions, PatchByPatchSpec]:
    """The agent, and the faces that it can restore: those of its file unless a size is given."""
    check_agent(config.agent)
    side = config.face_size or FACE_SIDE
    size = (side, side)
    border: Border = "centre"
    if config.agent not in agents.available():
        geometry = load_agent(Path(config.agent))[1]["geometry"]
        border = geometry["border"]
        if config.face_size is None:
            height, width = geometry["image_size"]
            size = (height, width)
    place = Conditions(size, enhancer.scale, device=config.device)
    spec = PatchByPatchSpec(
        config.agent,
        config.agent,
        NetworkSpec(enhancer.name),
        NetworkSpec.of(config.initial),
        steps=config.steps,
        seed=config.seed,
        border=border,
    )
    return place, spec
