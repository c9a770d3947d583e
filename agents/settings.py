"""Options of the commands that train agents.

| command ``train ...`` | settings | function in ``facehall_env.agents`` |
|---|---|---|
| ``agent reinforce`` | `TrainAgentConfig` | ``reinforce.training:train_agent`` |
| ``agent dagger`` | `TrainDaggerConfig` | ``dagger:train_dagger`` |
| ``agent qmap`` | `TrainQMapConfig` | ``qmap.training:train_qmap`` |
| ``agent ppo`` and others | `TrainSB3Config` | ``integrations.sb3_training:train_sb3`` |
| ``agent rllib-ppo`` | `TrainRLlibConfig` | ``integrations.rllib_training:train_rllib`` |
| ``agent static`` | `TrainStaticConfig` | ``fixed.static_training:train_static`` |
| ``ipfh`` | `TrainIPFHConfig` | ``ipfh.stages:train_ipfh`` |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from facehall_env.errors import ConfigurationError
from facehall_env.limits import Ge, Seed
from facehall_env.literals import Down, Loss
from facehall_env.spec import EpisodeSpec, FacesSpec
from facehall_env.training.settings import (
    Count,
    Decay,
    EpisodeConfig,
    HeldOutConfig,
    LoopConfig,
    NaturalNumber,
    NotNegative,
    Positive,
    RunConfig,
    Share,
    SharedConfig,
)

Keep = Literal["best", "last"]
Part = Literal["dual", "hr", "lr", "mse", "texture", "perceptual", "identity"]
COARSE, PAID = "coarse", "ipfh"
"""Names for what the training of IPFH makes itself: where episodes start, and the reward."""


def _rewarded(action_stride: int) -> EpisodeSpec:
    return EpisodeSpec(reward="delta_psnr", action_stride=action_stride)


@dataclass
class TaskConfig(EpisodeConfig):
    """Options of every training of an agent."""

    episode: EpisodeSpec = field(default_factory=lambda: _rewarded(1))
    one_shot: bool = False
    """Let the enhancer's network restore the whole face once (in tiles, if it only knows patches)
    and paste pieces of that: steps then cost next to nothing, which is enough to learn most of
    where to look."""


@dataclass
class AgentConfig(TaskConfig, HeldOutConfig, RunConfig):
    """Options of every training of an agent that has a folder for its run."""

    out: Path = Path("runs/agent")
    """Folder for the log, the checkpoint and the weights: best.safetensors and last.safetensors,
    and enhancer.safetensors of joint training."""
    episode: EpisodeSpec = field(default_factory=lambda: _rewarded(8))
    flip: bool = True  # Mirror half of the faces.
    validation_faces: Count = 64
    validate_every: Count = 25
    checkpoint_every: Count = 10


@dataclass
class UpdatesConfig(AgentConfig, LoopConfig):
    """Options of every training of an agent that is made of our own updates."""

    init: Path | None = None  # Start from the weights of another agent instead of from scratch.
    log_every: Count = 1


@dataclass
class ReinforceConfig:
    """Settings of REINFORCE."""

    updates: Count = 500  # Updates in all; each plays one episode of a batch.
    batch: Count = 32  # Episodes in an update.
    samples_per_face: Count = 1  # Episodes of the same face in an update; must divide the batch.
    learning_rate: Positive | None = None
    """Learning rate of the policy; by default what suits it: 2e-4 for fc (the paper's), 1e-3 for
    conv, 5e-4 for ipfh."""
    value_learning_rate: Positive = 1e-3  # Learning rate of the value head.
    final_learning_rate: Share = 0.1
    """Share of the learning rates that is left at the end; they fall linearly."""
    beta1: Decay = 0.5  # First momentum of Adam; the paper's.
    gamma: Share = 0.9  # Discount of later rewards; the paper has 1, which is noisier.
    baseline: Literal["value", "ema", "group", "none"] = "value"
    """A value head on the hidden state, a running mean for each step, the mean of the other
    episodes of the same face, or nothing."""
    normalise: Literal["step", "batch", "none"] = "step"
    """Bring the advantages to mean 0 and deviation 1: for each step, over all steps, or not."""
    entropy: NotNegative = 0.01  # Weight of the policy's entropy at the start.
    final_entropy: NotNegative = 0.0  # Weight of the entropy at the end; it changes linearly.
    grad_clip: NotNegative = 5.0  # Largest norm of the policy's gradient; 0 for no limit.
    foresight: bool = False
    """Predict the next reward of every location by restoring the whole face, and leave only the
    rest of the return to sampling: on average the same gradient, with far less noise. Costs a
    restoration of the whole face in each step, or nothing with a one-shot enhancer."""
    mask_visited: bool = False  # Never visit a location twice in an episode.
    joint: bool = False  # Train the enhancer on the same episodes, as the paper does.
    enhancer_learning_rate: Positive = 2e-4
    """Learning rate of the enhancer, when it is trained too; falls with the policy's."""
    enhancer_loss: Loss = "mse"  # Loss on each restored patch, on its pixels inside the image.
    seed: Seed = 0  # Seed of everything that is drawn.


@dataclass
class TrainAgentConfig(ReinforceConfig, UpdatesConfig, SharedConfig):
    """Settings of ``facehall train agent``."""

    policy: str = "conv"  # Network: conv, Attention-FH's fc, or IPFH's controller, ipfh.


@dataclass
class ImitationConfig:
    """Settings of DAgger, the imitation of the greedy oracle."""

    updates: Count = 100  # Updates in all; each plays one episode of a batch.
    batch: Count = 32  # Episodes in an update.
    learning_rate: Positive | None = None
    """Learning rate of the policy; by default what suits it: 2e-4 for fc, 1e-3 for conv. Falls to a
    tenth."""
    temperature: Positive = 0.1
    """Temperature of the labels as a share of the best gain; lower ones come closer to the best
    location alone."""
    oracle_steps: Share = 0.5
    """Share of the updates in which the oracle still takes some steps; from all of them at first
    to none."""
    stride: Count = 16
    """Spacing in pixels of the locations that the oracle tries, with enhancers that work on patches
    only; with others one look at the whole restored face judges all."""
    grad_clip: NotNegative = 5.0  # Largest norm of the gradient; 0 for no limit.
    seed: Seed = 0  # Seed of everything that is drawn.


@dataclass
class TrainDaggerConfig(ImitationConfig, UpdatesConfig):
    """Settings of ``facehall train agent dagger``; its loss does not depend on --reward."""

    policy: str = "conv"  # Network: conv, Attention-FH's fc, or IPFH's controller, ipfh.


@dataclass
class QMapConfig:
    """Settings of QMap."""

    updates: Count = 300
    """Updates in all; each takes one step in every environment and learns from the memory."""
    envs: Count = 32
    """Faces that are restored at the same time, at different steps of their episodes."""
    tries: Annotated[int, Ge(2)] = 8  # Locations of each face whose gain is measured in a step.
    gradient_steps: Count = 4  # Batches learned from in an update.
    learn_batch: Count = 32  # States in such a batch.
    memory: Annotated[int, Ge(2)] = 128  # Steps of all environments that the replay memory holds.
    learning_rate: Positive = 1e-3
    """Highest learning rate; it rises at first and falls to zero along a cosine."""
    gamma: Share = 0.0  # Discount of later rewards; 0 is a regression of the gains.
    exploration: Share = 0.3
    """Share of the steps that go to one of the tried locations at random; falls to a fifth."""
    density_weight: NotNegative = 0.5
    """Weight of the error of the uncorrected gains of all locations, which enhancers that restore
    whole faces give away at once."""
    width: Count = 32  # Channels of the network.
    lookahead: bool = False
    """Show the network what the enhancer would make of the whole face, which costs a restoration of
    it in each step; only with enhancers that restore whole faces."""
    guess: str = ""
    """File of an enhancer that restores whole faces with the least squared error: start from the
    gains by its guess of the truth. It is stored with the agent; needs --lookahead."""
    averaging: Share = 0.01
    """Share of the network that goes into the averaged one with each batch (Polyak averaging). The
    averaged one is the agent that is kept, and values the next state."""
    grad_clip: NotNegative = 1.0  # Largest norm of the gradient; 0 for no limit.
    seed: Seed = 0  # Seed of everything that is drawn.


@dataclass
class TrainQMapConfig(QMapConfig, UpdatesConfig):
    """Settings of ``facehall train agent qmap``; its gains do not depend on --reward."""

    episode: EpisodeSpec = field(default_factory=lambda: _rewarded(4))
    checkpoint_every: Count = 25
    """Updates between checkpoints, which hold the replay memory."""


@dataclass
class TrainStaticConfig(TaskConfig):
    """Settings of ``facehall train agent static``; the sequence does not depend on --reward."""

    out: Path = Path("runs/static.safetensors")  # File for the sequence.
    limit: Count = 128  # Number of training faces to fit it on, drawn at random.
    stride: Count = 16  # Spacing of the locations that are tried, in pixels.
    seed: Seed = 0  # Seed of the choice of faces.


@dataclass
class TrainSB3Config(AgentConfig):
    """Settings of ``facehall train agent NAME`` for an algorithm of Stable-Baselines3.

    A resumed run has the network, the optimiser and the number of patches of its checkpoint;
    episodes, and the memory of dqn, begin anew.
    """

    algo: str = "ppo"  # Name of the algorithm.
    timesteps: Count | None = None
    """Patches in all, over all environments; by default the n_timesteps of the algorithm."""
    hyperparameter: tuple[str, ...] = ()
    """Hyperparameters of the algorithm, NAME=VALUE with the value as in JSON or a word; all others
    are those of its file in agents/hyperparameters."""
    validate_every: Count = 2500
    """Patches between measurements on the held-out faces."""
    checkpoint_every: Count = 2500
    """Patches between checkpoints."""


@dataclass
class TrainRLlibConfig(AgentConfig):
    """Settings of ``facehall train agent rllib-ppo``.

    The seed is that of policy, environments and actions; RLlib's minibatches are not seeded.
    """

    out: Path = Path("runs/rllib-ppo")
    """Folder for the log, RLlib's checkpoint and the weights: best.safetensors and
    last.safetensors."""
    policy: str = "conv"  # Network: conv, or the paper's fc.
    address: str | None = None
    """Address of the Ray cluster, such as auto; by default Ray is started on this machine."""
    num_env_runners: NaturalNumber = 2
    """Processes that play episodes, anywhere in the cluster; 0 plays in the learner's."""
    envs_per_runner: Count = 8  # Episodes that each of them plays at once, in one batch.
    gpus_per_runner: NotNegative = 0.0  # GPUs for each of them; give device as well.
    gpus_per_learner: NotNegative = 0.0  # GPUs for the learner.
    updates: Count = 200  # PPO updates in all.
    batch: Count = 64  # Episodes in an update, at least.
    minibatch: Count = 16
    """Episodes in each of its gradient steps; all of them where the batch has no more."""
    epochs: Count = 4  # How often an update goes over its episodes.
    learning_rate: Positive | None = None
    """Learning rate of Adam; by default what suits the policy."""
    gamma: Share = 0.9  # Discount of later rewards.
    gae_lambda: Share = 0.95
    """Generalised advantage estimation: 0 trusts the value head, 1 the sampled returns."""
    clip: Positive = 0.2  # By how much a gradient step may change the probability of an action.
    entropy: NotNegative = 0.01  # Weight of the policy's entropy.
    grad_clip: Positive = 5.0  # Largest norm of the gradient.
    validate_every: Count = 10
    trust_pickle: bool = False
    """RLlib's checkpoints hold pickles, which can run any code as soon as they are read: says
    that the folder to resume is your own."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms of IPFH's losses and rewards; the paper does not give them."""

    mse_hr: NotNegative = 1.0  # Weight of the mean squared error at full resolution.
    texture_hr: NotNegative = 1.0  # Weight of the texture (Gram matrices) at full resolution.
    mse_lr: NotNegative = 1.0  # Weight of the mean squared error of the downsampled result.
    texture_lr: NotNegative = 1.0  # Weight of the texture of the downsampled result.
    feature: NotNegative = 1.0
    """Weight of the distance of the final face's features, L_f, which is about a thousand times the
    squared error of its pixels: 0.001 brings the two to the same size."""
    identity: NotNegative = 1.0
    """Weight of the loss of the final face's identity, L_id, which is of the features' size."""

    def without(self, parts: Sequence[Part]) -> TermWeights:
        """The same with the terms of these parts at zero.

        Raises:
            ConfigurationError: If there is no such part.

        >>> TermWeights().without(["hr", "identity"]).nonzero()
        ('mse_lr', 'texture_lr', 'feature')
        """
        for part in parts:
            if part not in PARTS:
                raise ConfigurationError(
                    f"without={part!r} is unknown: use some of {', '.join(get_args(Part))}."
                )
        return dataclasses.replace(self, **{t: 0.0 for part in parts for t in PARTS[part]})

    def nonzero(self) -> tuple[str, ...]:
        """Names of the terms that count."""
        return tuple(name for name, weight in dataclasses.asdict(self).items() if weight)


PARTS: dict[Part, tuple[str, ...]] = {
    "dual": ("mse_hr", "texture_hr", "mse_lr", "texture_lr"),
    "hr": ("mse_hr", "texture_hr"),
    "lr": ("mse_lr", "texture_lr"),
    "mse": ("mse_hr", "mse_lr"),
    "texture": ("texture_hr", "texture_lr"),
    "perceptual": ("feature",),
    "identity": ("identity",),
}
"""The terms of each part that a row of Table IX leaves out."""


@dataclass
class TrainIPFHConfig(TrainAgentConfig):
    """Settings of ``facehall train ipfh``; those without a stage's name are the last stage's.

    Trained networks take the place of stages: the coarse hallucinator's file as --initial, or
    bicubic for none (a row of Table VIII), the cognition network's as --cognition, and as --weights
    that of a restorer that has learned from random patches. Synthetic faces have
    images_per_person=10 unless it is given, so that there are people to recognise.
    """

    out: Path = Path("runs/ipfh")
    """Folder for a folder of each stage (coarse, cognition, restorer, joint) and the weights:
    coarse.safetensors, cognition.safetensors, restorer.safetensors (before the last stage),
    enhancer.safetensors (after it) and the agent, best.safetensors, whose name is the same
    whichever update --keep takes."""
    episode: EpisodeSpec = field(
        default_factory=lambda: EpisodeSpec(
            FacesSpec(scale=8), "ipfh", None, COARSE, steps=20, action_stride=8, reward=PAID
        )
    )
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the restorer as NAME=VALUE, such as width=32."""
    cognition: Path | None = None  # A trained cognition network: its stage is passed over.
    policy: str = "ipfh"
    """Network that chooses the patches: ipfh, the paper's controller, or conv, or fc."""
    joint: bool = True  # Train the restorer together with the controller.
    terms: TermWeights = field(default_factory=TermWeights)
    """Weights in losses and rewards; --reward ipfh pays by them."""
    without: tuple[Part, ...] = ()
    """Leave parts out of losses and rewards, as the rows of Table IX do: dual (both domains), hr,
    lr, mse, texture, perceptual (the features), identity."""
    down: Down = "average"
    """How faces are downsampled for the losses (Table X): by averages, or by convolutions that are
    learned in the last stage."""
    batch: Count = 64  # Episodes in an update.
    learning_rate: Positive | None = None
    """Learning rate of the policy; by default what suits it. The paper has 1e-3 to 1e-5 for all
    networks."""
    final_learning_rate: Share = 0.01
    beta1: Decay = 0.9  # First momentum of Adam in the last stage.
    gamma: Share = 1.0  # Discount of later rewards; the paper has none.
    keep: Keep = "best"
    """Which controller and restorer the folder is left with: those with the highest PSNR on
    held-out faces (best), or those after the last update (last), which suits a loss that trades
    PSNR for something else, or a comparison after equally many updates. The folder joint has both:
    with --resume a run that is over takes the others."""
    coarse_updates: Count = 20_000  # Length of the coarse hallucinator's stage.
    coarse_minutes: Positive | None = None
    """Length of the coarse hallucinator's stage in wall time instead."""
    coarse_settings: tuple[str, ...] = ()  # Settings of the coarse hallucinator as NAME=VALUE.
    coarse_batch: Count | None = None
    """Faces in an update of the coarse hallucinator; by default as in its recipe."""
    coarse_learning_rate: Positive | None = None
    """Highest learning rate of the coarse hallucinator; by default as in its recipe."""
    cognition_updates: Count = 2000  # Length of the cognition network's stage.
    cognition_minutes: Positive | None = None
    """Length of the cognition network's stage in wall time instead."""
    cognition_people: Annotated[int, Ge(2)] | None = None
    """Tell only this many people apart; all by default."""
    cognition_min_images: Annotated[int, Ge(2)] = 3  # People with fewer images are left out.
    cognition_width: Count = 16  # Channels of the first stage of SphereFace-20; 64 in the paper.
    cognition_embedding: Count = 128  # Values of an embedding; 512 in the paper.
    cognition_batch: Count = 64  # Faces in an update of the cognition network.
    cognition_learning_rate: Positive = 0.1
    """Learning rate of the cognition network's SGD at the start."""
    restorer_updates: NaturalNumber = 4000
    """Updates of the restorer's stage on random patches of untouched faces."""
    restorer_batch: Count = 32
    """Patches in an update of the restorer's stage, also on its own results."""
    restorer_rollout_updates: NaturalNumber = 2000
    """Updates on faces that it has restored random patches of before."""
    restorer_minutes: Positive | None = None
    """Length of the restorer's stage in wall time instead, shared as the updates are."""
    restorer_learning_rate: Positive = 1e-3
    """Highest learning rate of the restorer's stage; on its own results it is 0.4 of that."""

    @property
    def term_weights(self) -> TermWeights:
        """The weight of each term of losses and rewards, zero for those left out."""
        return self.terms.without(self.without)

    @property
    def judged(self) -> bool:
        """Whether a term needs the cognition network."""
        return any(not name.startswith("mse") for name in self.term_weights.nonzero())
