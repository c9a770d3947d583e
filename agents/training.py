"""Training runs of agents: what ``facehall train agent`` and ``facehall train static`` do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env import data, enhancers
from facehall_env.agents.base import Agent
from facehall_env.agents.even import EvenAgent
from facehall_env.agents.policies import Policy
from facehall_env.agents.reinforce import (
    Reinforce,
    ReinforceAgent,
    ReinforceConfig,
    untrained_policy,
)
from facehall_env.agents.rollout import rollout
from facehall_env.agents.static import StaticAgent
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.enhancers import OneShot
from facehall_env.errors import ConfigurationError
from facehall_env.patches import Border
from facehall_env.training.faces import FacePool
from facehall_env.training.run import TrainingRun, versions

CHUNK = 32
"""Faces that are played at once where nothing is learned from them."""


@dataclass
class AgentTaskConfig:
    """What an agent is trained on."""

    dataset: str = "synthetic"
    """Where the faces come from; always its official training split."""
    scale: int = 4
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made."""
    enhancer: str = "compact"
    """Restores the patches."""
    enhancer_weights: str | None = "auto"
    """Those that come with the project (auto), a file, or None for an untrained network."""
    one_shot: bool = False
    """Let the enhancer's network restore the whole face once and paste pieces of that: steps then
    cost next to nothing, which is enough to learn most of where to look."""
    num_steps: int = 25
    """Patches in an episode."""
    border: Border = "centre"
    """Patches centred anywhere, or kept inside the image."""
    limit: int | None = None
    """Use only this many faces of the training split."""
    device: str = "cpu"
    """Where to train."""


@dataclass
class TrainAgentConfig(ReinforceConfig, AgentTaskConfig):
    """Settings of ``facehall train agent``."""

    out: Path = Path("runs/agent")
    """Folder for the log, the checkpoint and the weights: best.safetensors and last.safetensors,
    and enhancer.safetensors of joint training."""
    policy: str = "conv"
    """Network: conv, or the paper's fc."""
    reward: str = "delta_psnr"
    """What is maximised: a reward by name, or a weighted sum of several."""
    action_stride: int = 8
    """Spacing of the locations in pixels; the paper has 1."""
    init: Path | None = None
    """Start from the weights of another agent instead of from scratch."""
    flip: bool = True
    """Mirror half of the faces."""
    validation_faces: int = 64
    """Faces of the training split that are held out to watch the progress."""
    validate_every: int = 25
    """Updates between measurements of the held-out PSNR."""
    checkpoint_every: int = 10
    """Updates between checkpoints."""
    resume: bool = False
    """Continue the run in the folder exactly where its checkpoint stands."""


@dataclass
class TrainStaticConfig(AgentTaskConfig):
    """Settings of ``facehall train static``."""

    out: Path = Path("runs/static.safetensors")
    """File for the sequence."""
    faces: int = 128
    """Training faces to fit it on."""
    stride: int = 16
    """Spacing of the locations that are tried, in pixels."""
    seed: int = 0
    """Seed of the choice of faces."""


def make_core(
    config: AgentTaskConfig, reward: str = "delta_psnr", action_stride: int = 1
) -> HallucinationCore:
    """The process that the settings describe.

    Raises:
        UnknownNameError: If there is no such enhancer or reward.
        ConfigurationError: If ``one_shot`` is asked of an enhancer that works on patches only.
        WeightsError: If the enhancer's weights are missing or made for something else.
    """
    enhancer = enhancers.make(
        config.enhancer,
        scale=config.scale,
        weights=config.enhancer_weights,
        dataset=config.dataset,
    )
    if config.one_shot:
        enhancer = OneShot(enhancer.whole_face(), enhancer.scale, enhancer.patch_size)
    return HallucinationCore(
        enhancer,
        reward=reward,
        border=config.border,
        num_steps=config.num_steps,
        action_stride=action_stride,
        device=config.device,
    )


class AgentTrainer:
    """A REINFORCE learner with its faces; its whole state can be saved and restored."""

    def __init__(self, config: TrainAgentConfig) -> None:
        self.config = config
        self.core = make_core(config, config.reward, config.action_stride)
        self.learner = Reinforce(self.core, self._make_policy(), config)
        self.pool = FacePool(
            data.make(config.dataset, split="train"),
            data.protocols.get(config.protocol),
            config.scale,
            held_out=config.validation_faces,
            limit=config.limit,
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.agent = ReinforceAgent(
            self.core, self.learner.policy, mask_visited=config.mask_visited
        )
        self.best = float("-inf")
        self._even: dict[str, float] = {}

    def update(self) -> dict[str, float]:
        """One update on freshly drawn faces; returns what is worth logging."""
        number = self.config.batch // self.config.samples_per_face
        index = self.pool.draw(number, self.generator)
        # Drawn in any case, so that mirroring or not sees the same faces.
        flip = torch.rand(number, generator=self.generator) < 0.5
        faces = self.pool.faces(index, flip if self.config.flip else None)
        return self.learner.update(faces.to(self.core.device))

    def validate(self) -> dict[str, float]:
        """PSNR of the held-out faces in dB, by the likeliest actions, and above the even agent."""
        scores = self.measure(self.agent)
        if not self._even or self.config.joint:  # which moves the mark too
            self._even = self.measure(EvenAgent(self.core))
        above = {f"{name}_above_even": scores[name] - self._even[name] for name in scores}
        return {**scores, **above}

    def measure(self, agent: Agent) -> dict[str, float]:
        """Mean PSNR of the held-out faces in dB after T and after 5 patches, and over t = 1..T."""
        curves = [rollout(self.core, agent, faces).psnr for faces in _chunks(self.pool.held_out())]
        curve = torch.cat(curves).mean(0)
        early = min(5, self.core.num_steps)
        return {
            "held_out/psnr": curve[-1].item(),
            f"held_out/psnr_{early}": curve[early].item(),
            "held_out/psnr_auc": curve[1:].mean().item(),
        }

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on."""
        return {
            **self.learner.state_tensors(),
            "faces_generator": self.generator.get_state(),
        }

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to :meth:`state_tensors` and is no tensor; JSON-serialisable."""
        return {"learner": self.learner.state_metadata(), "best": self.best}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.learner.restore(step, tensors, metadata["learner"])
        self.generator.set_state(tensors["faces_generator"])
        self.best = metadata["best"]

    def _make_policy(self) -> Policy:
        config = self.config
        if config.init is None:
            return untrained_policy(config.policy, self.core, config.seed)
        policy = ReinforceAgent(self.core, weights=config.init).policy
        if policy.name != config.policy:
            raise ConfigurationError(
                f"{config.init} holds a {policy.name!r} policy, but policy={config.policy!r}: "
                "give both the same."
            )
        return policy


def train_agent(config: TrainAgentConfig) -> Path:
    """Trains a policy and writes the weights that did best on held-out faces.

    Returns:
        Path of the best weights, ``best.safetensors`` in the run's folder.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        EnhancerError: If joint training diverges.
    """
    with TrainingRun(config.out, config, config.resume) as run:
        trainer = AgentTrainer(config)
        checkpoint = run.restore()
        if checkpoint is not None:
            trainer.restore(*checkpoint)
        bar = tqdm(total=config.updates, initial=trainer.learner.updates, desc="training")
        with bar:
            for scores in _updates(trainer):
                bar.update()
                updates = trainer.learner.updates
                run.log(updates, scores)
                if updates % config.validate_every == 0 or updates == config.updates:
                    _validate(run, trainer, bar)
                if updates % config.checkpoint_every == 0 or updates == config.updates:
                    run.save(updates, trainer.state_tensors(), trainer.state_metadata())
        trainer.agent.save(run.directory / "last.safetensors", run.provenance())
        if config.joint:
            path = run.directory / "enhancer.safetensors"
            enhancers.save(trainer.core.enhancer, path, run.provenance())
    return run.directory / "best.safetensors"


def train_static(config: TrainStaticConfig) -> Path:
    """Fits one sequence of locations for all faces and writes it.

    Returns:
        Path of the file.
    """
    dataset = data.make(config.dataset, split="train")
    protocol = data.protocols.get(config.protocol)
    generator = torch.Generator().manual_seed(config.seed)
    number = min(len(dataset), config.limit or len(dataset))
    if not 1 <= config.faces <= number:
        raise ConfigurationError(
            f"faces={config.faces} is out of range: the training split gives {number} faces."
        )
    chosen = torch.randperm(number, generator=generator)[: config.faces].tolist()
    faces = protocol.degrade(dataset.batch(chosen), config.scale)
    agent = StaticAgent.fit(make_core(config), _chunks(faces), stride=config.stride, progress=True)
    settings = {key: str(value) for key, value in vars(config).items() if key != "out"}
    agent.save(config.out, {"settings": settings, "versions": versions()})
    return config.out


def _updates(trainer: AgentTrainer) -> Iterator[dict[str, float]]:
    while trainer.learner.updates < trainer.config.updates:
        yield trainer.update()


def _validate(run: TrainingRun, trainer: AgentTrainer, bar: Any) -> None:
    """Logs the held-out PSNR and keeps the weights if they are the best so far."""
    scores = trainer.validate()
    run.log(trainer.learner.updates, scores)
    bar.set_postfix(
        psnr=f"{scores['held_out/psnr']:.2f} dB",
        area=f"{scores['held_out/psnr_auc']:.2f} dB",
        above_even=f"{scores['held_out/psnr_auc_above_even']:+.3f}",
    )
    if scores["held_out/psnr_auc"] > trainer.best:
        trainer.best = scores["held_out/psnr_auc"]
        provenance = {**run.provenance(), "held_out": scores, "updates": trainer.learner.updates}
        trainer.agent.save(run.directory / "best.safetensors", provenance)


def _chunks(faces: Faces) -> Iterator[Faces]:
    for first in range(0, len(faces.hr), CHUNK):
        yield faces.rows(slice(first, first + CHUNK))
