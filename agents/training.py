"""Training runs of agents: what ``facehall train agent`` and ``facehall train static`` do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from facehall_env import data, enhancers
from facehall_env.agents.base import Agent
from facehall_env.agents.dagger import Imitation, ImitationConfig
from facehall_env.agents.fixed.even import EvenAgent
from facehall_env.agents.fixed.static import StaticAgent
from facehall_env.agents.play import rollout
from facehall_env.agents.qmap.agent import QMapAgent
from facehall_env.agents.qmap.learner import QMapConfig, QMapLearner, load_guess, untrained_network
from facehall_env.agents.reinforce.learner import (
    Reinforce,
    ReinforceAgent,
    ReinforceConfig,
    untrained_policy,
)
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.enhancers.patch.tiles import whole_or_tiled
from facehall_env.errors import ConfigurationError
from facehall_env.patches import Border
from facehall_env.registry import parse_settings
from facehall_env.rewards import Reward
from facehall_env.spec import BICUBIC, load_initial
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team, launch
from facehall_env.training.face_pool import FacePool
from facehall_env.training.limits import check_numbers
from facehall_env.training.loop import fit
from facehall_env.training.run import TrainingRun, versions
from facehall_env.training.trace import span

CHUNK = 32
"""Faces that are played at once where nothing is learned from them."""


@dataclass
class AgentTaskConfig:
    """What an agent is trained on."""

    dataset: str = "synthetic"
    """Where the faces come from; always its official training split."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset, NAME=VALUE, such as size=256."""
    scale: int = 4
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made."""
    enhancer: str = "compact"
    """Restores the patches."""
    enhancer_weights: str | None = "auto"
    """Those that come with the project (auto), a file, or None for an untrained network."""
    initial: str = BICUBIC
    """What the faces start from: bicubic, or the result of a network that restores whole faces, by
    its name or the file of its weights."""
    one_shot: bool = False
    """Let the enhancer's network restore the whole face once (in tiles, if it only knows patches)
    and paste pieces of that: steps then cost next to nothing, which is enough to learn most of
    where to look."""
    num_steps: int = 25
    """Patches in an episode."""
    border: Border = "centre"
    """Patches centred anywhere, or kept inside the image."""
    limit: int | None = None
    """Use only this many faces of the training split."""
    device: str = "cpu"
    """Where to train."""


@dataclass
class AgentRunConfig(AgentTaskConfig):
    """How a learner of ours is trained: the settings that all of them have."""

    out: Path = Path("runs/agent")
    """Folder for the log, the checkpoint and the weights: best.safetensors and last.safetensors,
    and enhancer.safetensors of joint training."""
    action_stride: int = 8
    """Spacing of the locations in pixels; the paper has 1."""
    action_offset: int | None = None
    """On which row and column of its cell a patch is centred; the middle by default. Patches of
    32x32 can tile the image at a spacing of 8 if it is 7."""
    updates: int = 500
    """Length of the training."""
    minutes: float | None = None
    """Length of the training in wall time instead of updates; what changes along it follows its
    share."""
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
    log_every: int = 1
    """Updates between entries in the log."""
    resume: bool = False
    """Continue the run in the folder exactly where its checkpoint stands."""


@dataclass
class TrainAgentConfig(ReinforceConfig, AgentRunConfig):
    """Settings of ``facehall train agent``."""

    policy: str = "conv"
    """Network: conv, Attention-FH's fc, or IPFH's controller, ipfh."""
    reward: str = "delta_psnr"
    """What is maximised: a reward by name, or a weighted sum of several."""
    devices: int = 1
    """Devices, or on the CPU processes, that share each batch."""
    num_nodes: int = 1
    """Machines with as many devices each."""


@dataclass
class TrainDaggerConfig(ImitationConfig, AgentRunConfig):
    """Settings of ``facehall train agent --algo dagger``."""

    policy: str = "conv"
    """Network: conv, Attention-FH's fc, or IPFH's controller, ipfh."""


@dataclass
class TrainQMapConfig(QMapConfig, AgentRunConfig):
    """Settings of ``facehall train agent --algo qmap``."""

    action_stride: int = 4
    """Spacing of the locations in pixels."""
    checkpoint_every: int = 25
    """Updates between checkpoints, which hold the replay memory."""


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
    config: AgentTaskConfig,
    reward: str | Reward = "delta_psnr",
    action_stride: int = 1,
    action_offset: int | None = None,
    validate: bool = True,
    enhancer: Enhancer | None = None,
) -> HallucinationCore:
    """The process that the settings describe.

    Args:
        config: The settings.
        reward: What is maximised.
        action_stride: Spacing of the locations in pixels.
        action_offset: On which row and column of its cell a patch is centred.
        validate: Check each step, for which the device is waited for.
        enhancer: Takes the place of the settings' one.

    Raises:
        UnknownNameError: If there is no such enhancer or reward.
        WeightsError: If the enhancer's weights are missing or made for something else.
    """
    if enhancer is None:
        enhancer = enhancers.make(
            config.enhancer,
            scale=config.scale,
            weights=config.enhancer_weights,
            dataset=config.dataset,
        )
    if config.one_shot:
        network = whole_or_tiled(enhancer)
        enhancer = OneShot(network, enhancer.scale, enhancer.patch_size, takes="start")
    faces = data.make(config.dataset, split="train", **parse_settings(config.dataset_settings))
    return HallucinationCore(
        enhancer,
        image_size=faces.image_size,
        reward=reward,
        border=config.border,
        num_steps=config.num_steps,
        action_stride=action_stride,
        action_offset=action_offset,
        device=config.device,
        validate=validate,
        initial=load_initial(config.initial, config.scale, config.dataset),
    )


class Learner(Protocol):
    """What learns: its whole state can be saved and restored between updates."""

    updates: int
    config: Any

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, but the faces."""

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to it and is no tensor; JSON-serialisable."""

    def restore(
        self, updates: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> None:
        """Puts both back."""


class Trainer(ABC):
    """A learner with its faces; its whole state can be saved and restored.

    Args:
        config: The settings.
        core: The process that is learned on.
        seed: Of the faces that are drawn.
        team: The processes that share an update.
    """

    config: AgentRunConfig
    learner: Learner
    agent: ReinforceAgent | QMapAgent
    criterion = "held_out/psnr_auc"
    """What the best weights are the best in."""

    def __init__(
        self, config: AgentRunConfig, core: HallucinationCore, seed: int, team: Team | None = None
    ) -> None:
        self.config = config
        self.updates = config.updates
        self.core = core
        self.team = team or Team()
        dataset = data.make(
            config.dataset, split="train", **parse_settings(config.dataset_settings)
        )
        # To whom the faces' identities refer; None where nobody knows.
        self.people: tuple[str, ...] | None = getattr(dataset, "people", ()) or None
        core.reward = core.reward.for_people(self.people)
        self.pool = FacePool(
            dataset,
            data.protocols.get(config.protocol),
            config.scale,
            held_out=config.validation_faces,
            limit=config.limit,
            progress=self.team.leads,
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.best = float("-inf")
        self._even: dict[str, float] = {}

    @property
    def step(self) -> int:
        """Updates so far."""
        return self.learner.updates

    @property
    def title(self) -> str:
        """What the progress bar says."""
        return f"training {self.agent.name}"

    def plan(self, budget: Budget) -> int:
        """Updates of the whole training, as it looks by now; what changes along it follows it."""
        total = budget.total(self.step, self.updates)
        self.learner.config = replace(self.learner.config, updates=total)
        return total

    def entries(self, measured: Mapping[str, float]) -> dict[str, float]:
        """What the log says of an update."""
        return dict(measured)

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """The held-out PSNR; keeps the weights if they are the best so far."""
        scores = self.validate()
        if scores[self.criterion] > self.best:
            self.best = scores[self.criterion]
            provenance = {**run.provenance(), "held_out": scores, "updates": self.step}
            self.save(run.directory / "best.safetensors", provenance)
        return scores

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The scores as the progress bar shows them."""
        return (
            f"psnr={scores['held_out/psnr']:.2f} dB, area={scores['held_out/psnr_auc']:.2f} dB, "
            f"above_even={scores['held_out/psnr_auc_above_even']:+.3f}"
        )

    @abstractmethod
    def update(self) -> dict[str, float]:
        """One update on freshly drawn faces; returns what is worth logging."""

    def draw(self, number: int) -> Faces:
        """This process's share of so many training faces, on the core's device."""
        with span("env/faces"):
            index = self.pool.draw(number, self.generator)
            # Drawn in any case, so that mirroring or not sees the same faces.
            flip = torch.rand(number, generator=self.generator) < 0.5
            own = self.team.own
            faces = self.pool.faces(own(index), own(flip) if self.config.flip else None)
            return faces.to(self.core.device)

    def validate(self) -> dict[str, float]:
        """PSNR of the held-out faces in dB, by the likeliest actions, and above the even agent."""
        scores = self.measure(self.agent)
        if not self._even or self.moves_the_mark:
            self._even = self.measure(EvenAgent(self.core))
        above = {f"{name}_above_even": scores[name] - self._even[name] for name in scores}
        return {**scores, **above}

    @property
    def moves_the_mark(self) -> bool:
        """Whether training changes what the even agent reaches: that of the enhancer does."""
        return False

    def measure(self, agent: Agent) -> dict[str, float]:
        """Mean PSNR of the held-out faces in dB after T and after 5 patches, and over t = 1..T."""
        return held_out_scores(self.core, agent, self.pool.held_out())

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Writes what was trained, with how that was done."""
        self.agent.save(path, provenance)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on."""
        return {
            **self.learner.state_tensors(),
            "faces_generator": self.generator.get_state(),
        }

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to :meth:`state_tensors` and is no tensor; JSON-serialisable."""
        return {"learner": self.learner.state_metadata(), "best": self.best}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.learner.restore(step, tensors, metadata["learner"])
        self.generator.set_state(tensors["faces_generator"])
        self.best = metadata["best"]


class AgentTrainer(Trainer):
    """REINFORCE on a policy, and with ``joint`` on the enhancer.

    Args:
        config: The settings.
        team: The processes that share an update's episodes.

    Raises:
        ConfigurationError: If the settings contradict each other.
    """

    config: TrainAgentConfig
    learner: Reinforce
    agent: ReinforceAgent

    def __init__(self, config: TrainAgentConfig, team: Team | None = None) -> None:
        torch.manual_seed(config.seed)  # of an untrained enhancer, the same in all processes
        # An agent of ours takes no impossible action, and an update checks what came of all.
        core = make_core(
            config, config.reward, config.action_stride, config.action_offset, validate=False
        )
        policy = initial_policy(core, config.policy, config.init, config.seed)
        self.learner = Reinforce(core, policy, config, team)
        (team or Team()).check_shares(batch=config.batch // config.samples_per_face)
        super().__init__(config, core, config.seed, team)
        self.agent = ReinforceAgent(core, policy, mask_visited=config.mask_visited)

    def update(self) -> dict[str, float]:
        """See :meth:`Trainer.update`."""
        return self.learner.update(self.draw(self.config.batch // self.config.samples_per_face))

    @property
    def moves_the_mark(self) -> bool:
        """See :meth:`Trainer.moves_the_mark`."""
        return self.config.joint


class DaggerTrainer(Trainer):
    """Imitation of the greedy oracle, the warm start of a policy.

    Args:
        config: The settings.

    Raises:
        ConfigurationError: If the settings contradict each other.
    """

    config: TrainDaggerConfig
    learner: Imitation
    agent: ReinforceAgent

    def __init__(self, config: TrainDaggerConfig) -> None:
        torch.manual_seed(config.seed)
        core = make_core(
            config,
            action_stride=config.action_stride,
            action_offset=config.action_offset,
            validate=False,
        )
        policy = initial_policy(core, config.policy, config.init, config.seed)
        self.learner = Imitation(core, policy, config)
        super().__init__(config, core, config.seed)
        self.agent = ReinforceAgent(core, policy)

    def update(self) -> dict[str, float]:
        """See :meth:`Trainer.update`."""
        return self.learner.update(self.draw(self.config.batch))


class QMapTrainer(Trainer):
    """Learning of the gains of all locations.

    Args:
        config: The settings.

    Raises:
        ConfigurationError: If the settings contradict each other.
    """

    config: TrainQMapConfig
    learner: QMapLearner
    agent: QMapAgent

    def __init__(self, config: TrainQMapConfig) -> None:
        torch.manual_seed(config.seed)
        core = make_core(
            config,
            action_stride=config.action_stride,
            action_offset=config.action_offset,
            validate=False,
        )
        super().__init__(config, core, config.seed)
        network, guess = untrained_network(core, config), load_guess(config.guess, core)
        if config.init is not None:
            before = QMapAgent(core, weights=config.init)
            network, guess = before.network, guess or before.guess
        self.learner = QMapLearner(core, network, config, self.draw, guess)
        self.agent = QMapAgent(core, self.learner.averaged, guess=guess)

    def update(self) -> dict[str, float]:
        """See :meth:`Trainer.update`."""
        return self.learner.update()


def initial_policy(core: HallucinationCore, name: str, init: Path | None, seed: int) -> Policy:
    """The network that training starts from: that of ``init``, or an untrained one.

    Raises:
        ConfigurationError: If the file holds another network.
        WeightsError: If it is missing, damaged, or made for other images or locations.
    """
    if init is None:
        return untrained_policy(name, core, seed)
    policy = ReinforceAgent(core, weights=init).policy
    if policy.name != name:
        raise ConfigurationError(
            f"{init} holds a {policy.name!r} policy, but policy={name!r}: give both the same."
        )
    return policy


def held_out_scores(core: HallucinationCore, agent: Agent, faces: Faces) -> dict[str, float]:
    """Mean PSNR in dB after T and after 5 patches, and over t = 1..T, for a training's log."""
    return curve_scores(torch.cat([rollout(core, agent, some).psnr for some in chunks(faces)]))


def curve_scores(psnr: Tensor) -> dict[str, float]:
    """The same of curves (N, T + 1)."""
    curve = psnr.mean(0)
    early = min(5, len(curve) - 1)
    return {
        "held_out/psnr": curve[-1].item(),
        f"held_out/psnr_{early}": curve[early].item(),
        "held_out/psnr_auc": curve[1:].mean().item(),
    }


def train_agent(config: TrainAgentConfig) -> Path:
    """Trains a policy and writes the weights that did best on held-out faces.

    Returns:
        Path of the best weights, ``best.safetensors`` in the run's folder.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        EnhancerError: If training diverges.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
    """
    return launch(_train, config)


def train_dagger(config: TrainDaggerConfig) -> Path:
    """Trains a policy to imitate the greedy oracle and writes the weights that did best.

    Returns:
        Path of the best weights, ``best.safetensors`` in the run's folder.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
    """
    with TrainingRun(config.out, config, config.resume) as run:
        return run_trainer(run, DaggerTrainer(config))


def train_qmap(config: TrainQMapConfig) -> Path:
    """Trains a qmap agent and writes the weights that did best on held-out faces.

    Returns:
        Path of the best weights, ``best.safetensors`` in the run's folder.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
    """
    with TrainingRun(config.out, config, config.resume) as run:
        return run_trainer(run, QMapTrainer(config))


def _train(config: TrainAgentConfig, team: Team) -> Path:
    """What each of the processes does; the one that leads writes."""
    with TrainingRun(config.out, config, config.resume, writes=team.leads) as run:
        trainer = AgentTrainer(config, team)
        best = run_trainer(run, trainer)
        if config.joint and team.leads:
            path = run.directory / "enhancer.safetensors"
            enhancers.save(trainer.core.enhancer, path, run.provenance())
    return best


def run_trainer(run: TrainingRun, trainer: Trainer) -> Path:
    """Trains to the end, from the checkpoint if there is one; returns the best weights' path."""
    scores = fit(run, trainer, trainer.config.minutes)
    if trainer.team.leads:
        provenance = {**run.provenance(), "held_out": scores, "updates": trainer.step}
        trainer.save(run.directory / "last.safetensors", provenance)
    return run.directory / "best.safetensors"


def train_static(config: TrainStaticConfig) -> Path:
    """Fits one sequence of locations for all faces and writes it.

    Returns:
        Path of the file.
    """
    check_numbers(vars(config))
    dataset = data.make(config.dataset, split="train", **parse_settings(config.dataset_settings))
    protocol = data.protocols.get(config.protocol)
    generator = torch.Generator().manual_seed(config.seed)
    number = min(len(dataset), config.limit or len(dataset))
    if not 1 <= config.faces <= number:
        raise ConfigurationError(
            f"faces={config.faces} is out of range: the training split gives {number} faces."
        )
    chosen = torch.randperm(number, generator=generator)[: config.faces].tolist()
    faces = protocol.degrade(dataset.batch(chosen), config.scale)
    agent = StaticAgent.fit(make_core(config), chunks(faces), stride=config.stride, progress=True)
    settings = {key: str(value) for key, value in vars(config).items() if key != "out"}
    agent.save(config.out, {"settings": settings, "versions": versions()})
    return config.out


def chunks(faces: Faces) -> Iterator[Faces]:
    """The faces, as many at a time as are played at once."""
    for first in range(0, len(faces.hr), CHUNK):
        yield faces.rows(slice(first, first + CHUNK))
