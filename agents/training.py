"""What all trainings of agents have in common: episodes, faces, and scores of held-out faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facehall_env.agents.base import Agent
from facehall_env.agents.fixed.even import EvenAgent
from facehall_env.agents.play import rollout
from facehall_env.agents.settings import TaskConfig, UpdatesConfig
from facehall_env.agents.storage import LearnedAgent
from facehall_env.checkpoints import under_prefix, with_prefix
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.enhancers.patch.tiles import whole_or_tiled
from facehall_env.nested import leaves
from facehall_env.rewards import Reward
from facehall_env.spec import EpisodeSpec, Setup
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team
from facehall_env.training.face_pool import FacePool
from facehall_env.training.run import TrainingRun
from facehall_env.training.trace import span
from facehall_env.training.trainer import BEST, Learner, Metadata, Tensors, Trainer

SHOWN = ("held_out/psnr", "held_out/psnr_auc", "held_out/psnr_auc_above_even")
"""The scores that a progress bar shows."""
CHUNK = 32
"""Number of faces that are played at once where nothing is learned from them."""


def build(
    config: TaskConfig,
    *,
    enhancer: Enhancer | None = None,
    reward: Reward | None = None,
    validate: bool = True,
) -> Setup:
    """The training split and the process that the settings describe.

    An enhancer and a reward that are given take the place of those named; with ``validate`` each
    step is checked, for which a GPU is waited for.

    Raises:
        UnknownNameError: If there is no such dataset, protocol, enhancer or reward.
        WeightsError: If the enhancer's weights are missing or made for something else.
    """
    if config.one_shot:
        network = config.episode.load_enhancer() if enhancer is None else enhancer
        whole = whole_or_tiled(network)
        enhancer = OneShot(whole, network.scale, network.patch_size, takes="start")
    return config.episode.build(enhancer=enhancer, reward=reward, validate=validate)


def environment_keywords(episode: EpisodeSpec) -> dict[str, Any]:
    """Keywords of `gymnasium.make_vec` for the episodes."""
    keywords = {**leaves(episode), "num_steps": episode.steps}
    del keywords["steps"], keywords["dataset_settings"]
    return keywords


class EpisodeTrainer(Trainer):
    """Trains a learner on episodes of freshly drawn faces.

    Subclasses set ``learner`` and ``agent``; ``reward`` takes the place of the one named in the
    settings.

    Attributes:
        learner: What learns.
        agent: What plays and is saved.
        core: The process that is learned on.
        pool: The faces.
        people: Names of the people that the faces' identities count; None if they are not known.
    """

    config: UpdatesConfig
    learner: Learner
    agent: LearnedAgent
    criterion = "held_out/psnr_auc"
    last_file = "last.safetensors"
    result_file = BEST
    shown = SHOWN

    def __init__(
        self, config: UpdatesConfig, team: Team | None = None, reward: Reward | None = None
    ) -> None:
        super().__init__(config, "training an agent", team)
        # The agents take no impossible action, and an update checks what came of all of them.
        setup = build(config, reward=reward, validate=False)
        self.core = setup.core
        self.people: tuple[str, ...] | None = getattr(setup.dataset, "people", ()) or None
        self.pool = FacePool.open(config.episode.faces, config, self.team.leads, setup.dataset)
        self._even: dict[str, float] = {}

    @property
    def updates_enhancer(self) -> bool:
        """Whether the enhancer is trained, too, so that other agents' scores change."""
        return False

    def plan(self, budget: Budget) -> int:
        """See :meth:`Trainer.plan`."""
        self.learner.total = super().plan(budget)
        return self.learner.total

    def draw(self, number: int) -> Faces:
        """This process's share of ``number`` training faces, on the core's device."""
        with span("env/faces"):
            index = self.pool.draw(number, self.rng)
            # Drawn in any case, so that mirroring or not sees the same faces.
            flip = torch.rand(number, generator=self.rng) < 0.5
            own = self.team.own
            faces = self.pool.faces(own(index), own(flip) if self.config.flip else None)
            return faces.to(self.core.device)

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """See :meth:`Trainer.evaluate`."""
        return self.keep_best(run, self.validate())

    def validate(self) -> dict[str, float]:
        """PSNR of the held-out faces in dB, by the likeliest actions, and above the even agent."""
        scores = self.measure(self.agent)
        if not self._even or self.updates_enhancer:
            self._even = self.measure(EvenAgent(self.core))
        return above(scores, self._even)

    def measure(self, agent: Agent) -> dict[str, float]:
        """Scores of an agent on the held-out faces; see :func:`held_out_scores`."""
        return held_out_scores(self.core, agent, self.pool.held_out())

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.save`."""
        self.agent.save(path, provenance)

    def state_tensors(self) -> dict[str, Tensor]:
        """See :meth:`Learner.state_tensors`."""
        own = super().state_tensors()
        return {**own, **with_prefix("learner", self.learner.state_tensors())}

    def state_metadata(self) -> dict[str, Any]:
        """See :meth:`Learner.state_metadata`."""
        return {**super().state_metadata(), "learner": self.learner.state_metadata()}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """See :meth:`Learner.restore`."""
        super().restore(step, tensors, metadata)
        self.learner.restore(step, under_prefix("learner", tensors), metadata["learner"])


def above(scores: Mapping[str, float], even: Mapping[str, float]) -> dict[str, float]:
    """Scores of an agent, and by how much they are above those of the even agent."""
    return {**scores, **{f"{name}_above_even": scores[name] - even[name] for name in scores}}


def held_out_scores(core: HallucinationCore, agent: Agent, faces: Faces) -> dict[str, float]:
    """Mean PSNR in dB after T and after 5 patches, and over t = 1..T, for a training's log."""
    return curve_scores(torch.cat([rollout(core, agent, some).psnr for some in chunks(faces)]))


def curve_scores(psnr: Tensor) -> dict[str, float]:
    """The scores of :func:`held_out_scores` for curves (N, T + 1)."""
    curve = psnr.mean(0)
    early = min(5, len(curve) - 1)
    return {
        "held_out/psnr": curve[-1].item(),
        f"held_out/psnr_{early}": curve[early].item(),
        "held_out/psnr_auc": curve[1:].mean().item(),
    }


def chunks(faces: Faces) -> Iterator[Faces]:
    """The faces, as many at a time as are played at once."""
    for first in range(0, len(faces.hr), CHUNK):
        yield faces.rows(slice(first, first + CHUNK))
