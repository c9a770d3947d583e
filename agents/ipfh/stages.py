"""IPFH from nothing: what ``facehall train ipfh`` does (section III-C), stage by stage.

1. The coarse hallucinator restores whole faces, from which episodes start.
2. The cognition network learns to tell people apart; it judges textures, features and identities.
3. The local restorer learns from random patches, of untouched faces and of its own results.
4. The controller and the restorer learn together (:mod:`facehall_env.agents.ipfh.two_part`).

Every stage is a training run in a folder of its own and leaves its weights beside them. Where these
lie already, or are given, it is passed over; where it was interrupted, it goes on.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from facehall_env import data, enhancers, metrics
from facehall_env.agents.base import Agent
from facehall_env.agents.ipfh.two_part import IPFHLearner, Part, RestorerLosses, TermWeights
from facehall_env.agents.play import rollout
from facehall_env.agents.reinforce.learner import ReinforceAgent, check_settings
from facehall_env.agents.training import (
    TrainAgentConfig,
    Trainer,
    chunks,
    curve_scores,
    initial_policy,
    make_core,
    run_trainer,
)
from facehall_env.checkpoints import load_tensors
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.files import atomic_path
from facehall_env.recognition import Cognition, load_cognition
from facehall_env.registry import parse_settings
from facehall_env.rewards.ipfh import PATCH_TERMS, IPFHReward
from facehall_env.spec import BICUBIC, check_device
from facehall_env.training.cognition import (
    DATASET_SETTINGS,
    TrainCognitionConfig,
    check_people,
    train_cognition,
)
from facehall_env.training.distributed import Team, launch
from facehall_env.training.dual_consistency import Down, DualConsistency
from facehall_env.training.enhancer import TrainEnhancerConfig, train_enhancer
from facehall_env.training.limits import check_numbers
from facehall_env.training.run import CHECKPOINT, LOG, TrainingRun
from facehall_env.training.sr import TrainSRConfig, train_sr

Keep = Literal["best", "last"]
COARSE, PAID = "coarse", "ipfh"
"""Names for what this training makes itself: where episodes start, and what is rewarded."""


@dataclass
class TrainIPFHConfig(TrainAgentConfig):
    """Settings of ``facehall train ipfh``; those without a stage's name are the last stage's."""

    out: Path = Path("runs/ipfh")
    """Folder for a folder of each stage (coarse, cognition, restorer, joint) and the weights:
    coarse.safetensors, cognition.safetensors, restorer.safetensors (before the last stage),
    enhancer.safetensors (after it) and the agent, best.safetensors, whose name is the same
    whichever update --keep takes."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset, NAME=VALUE; of the synthetic faces images_per_person=10 unless it is
    given, so that there are people to recognise."""
    scale: int = 8
    """Factor between low and high resolution."""
    enhancer: str = "ipfh"
    """The local restorer: ipfh, or another network that sharpens patches."""
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the restorer, NAME=VALUE, such as width=32."""
    enhancer_weights: str | None = None
    """Weights of a restorer that has learned from random patches: its stage is passed over."""
    initial: str = COARSE
    """What the faces start from: the coarse hallucinator that is trained here (coarse), the file of
    one that has been, or another network's; then its stage is passed over, as it is with bicubic
    (the row of Table VIII without it)."""
    cognition: Path | None = None
    """A trained cognition network: its stage is passed over."""
    num_steps: int = 20
    """Patches in an episode."""
    policy: str = "ipfh"
    """Network that chooses the patches: ipfh, the paper's controller, or conv, or fc."""
    reward: str = PAID
    """What the controller maximises: the paper's rewards with the weights below (ipfh), or a reward
    by name, such as delta_psnr."""
    joint: bool = True
    """Train the restorer together with the controller."""
    without: tuple[Part, ...] = ()
    """Leave parts out of losses and rewards, as the rows of Table IX do: dual (both domains), hr,
    lr, mse, texture, perceptual (the features), identity."""
    mse_hr: float = 1.0
    """Weight of the squared error at full resolution, in losses and rewards; the paper gives no
    weights."""
    texture_hr: float = 1.0
    """Weight of the texture at full resolution."""
    mse_lr: float = 1.0
    """Weight of the squared error of what is made small again."""
    texture_lr: float = 1.0
    """Weight of its texture."""
    feature: float = 1.0
    """Weight of the distance of the final face's features, which is about a thousand times the
    squared error of its pixels: 0.001 brings the two to the same size."""
    identity: float = 1.0
    """Weight of the loss of the final face's identity, which is of the features' size."""
    down: Down = "average"
    """How faces are made small again (Table X): by averages, or by convolutions that are learned in
    the last stage."""
    updates: int = 500
    """Updates of the last stage; each plays one episode of a batch. --minutes is its length in wall
    time instead."""
    batch: int = 64
    """Episodes in an update."""
    learning_rate: float | None = None
    """Of the policy; by default what suits it. The paper has 1e-3 to 1e-5 for all networks."""
    final_learning_rate: float = 0.01
    """Share of the learning rates that is left at the end; they fall linearly."""
    enhancer_learning_rate: float = 2e-4
    """Of the restorer in the last stage."""
    beta1: float = 0.9
    """First momentum of Adam in the last stage."""
    keep: Keep = "best"
    """Which controller and restorer the folder is left with: those of the highest PSNR on held-out
    faces (best), or those after the last update (last), which a loss that trades PSNR for something
    else, or a comparison after equally many updates, asks for. The folder joint has both: with
    --resume a run that is over takes the others."""
    gamma: float = 1.0
    """Discount of later rewards; the paper has none."""
    coarse_updates: int = 20_000
    """Length of the coarse hallucinator's stage."""
    coarse_minutes: float | None = None
    """Its length in wall time instead."""
    coarse_settings: tuple[str, ...] = ()
    """Settings of the coarse hallucinator, NAME=VALUE."""
    coarse_batch: int | None = None
    """Faces in an update; by default as in its recipe."""
    coarse_learning_rate: float | None = None
    """Highest learning rate; by default as in its recipe."""
    cognition_updates: int = 2000
    """Length of the cognition network's stage."""
    cognition_minutes: float | None = None
    """Its length in wall time instead."""
    cognition_people: int | None = None
    """Tell only so many people apart; all by default."""
    cognition_min_images: int = 3
    """People with fewer images are left out."""
    cognition_width: int = 16
    """Channels of the first stage of SphereFace-20; 64 in the paper."""
    cognition_embedding: int = 128
    """Values of an embedding; 512 in the paper."""
    cognition_batch: int = 64
    """Faces in an update."""
    cognition_learning_rate: float = 0.1
    """Of SGD, at the start."""
    restorer_updates: int = 4000
    """Updates of the restorer's stage on random patches of untouched faces."""
    restorer_batch: int = 32
    """Patches in an update, also on its own results."""
    restorer_rollout_updates: int = 2000
    """Updates on faces that it has restored random patches of before."""
    restorer_minutes: float | None = None
    """Length of the restorer's stage in wall time instead, shared as the updates are."""
    restorer_learning_rate: float = 1e-3
    """Highest learning rate of the restorer's stage; on its own results it is 0.4 of that."""

    @property
    def weights(self) -> TermWeights:
        """How much each term of losses and rewards counts."""
        given = {field.name: getattr(self, field.name) for field in fields(TermWeights)}
        return TermWeights(**given).without(self.without)

    @property
    def judged(self) -> bool:
        """Whether a term needs the cognition network."""
        return any(not name.startswith("mse") for name in self.weights.nonzero())


@dataclass(frozen=True)
class Folder:
    """Where a pipeline leaves what.

    Args:
        root: Its folder.
    """

    root: Path

    @property
    def coarse(self) -> Path:
        """Weights of the coarse hallucinator."""
        return self.root / "coarse.safetensors"

    @property
    def cognition(self) -> Path:
        """The cognition network."""
        return self.root / "cognition.safetensors"

    @property
    def restorer(self) -> Path:
        """Weights of the restorer after random patches."""
        return self.root / "restorer.safetensors"

    @property
    def enhancer(self) -> Path:
        """Weights of the restorer after the last stage."""
        return self.root / "enhancer.safetensors"

    @property
    def agent(self) -> Path:
        """The agent."""
        return self.root / "best.safetensors"


class IPFHTrainer(Trainer):
    """The last stage, one update at a time.

    Args:
        config: The settings of all.
        team: The processes that share an update's episodes.

    Raises:
        ConfigurationError: If the settings contradict each other, or nobody knows who is on the
            faces and the identity counts.
        WeightsError: If an earlier stage left no weights.
    """

    config: TrainIPFHConfig
    learner: IPFHLearner
    agent: ReinforceAgent
    criterion = "held_out/psnr"

    def __init__(self, config: TrainIPFHConfig, team: Team | None = None) -> None:
        folder = Folder(config.out)
        torch.manual_seed(config.seed)
        self.cognition, texture = None, None
        if config.judged:
            self.cognition = load_cognition(folder.cognition).to(config.device)
            texture = self.cognition.recogniser
        consistency = DualConsistency(config.scale, config.down, texture).to(config.device)
        paid = ipfh_reward(config.weights, self.cognition, consistency)
        placed = replace(config, enhancer_weights=str(folder.restorer), initial=_initial(config))
        core = make_core(
            placed,
            paid if config.reward == PAID else config.reward,
            config.action_stride,
            config.action_offset,
            validate=False,
        )
        (team or Team()).check_shares(batch=config.batch // config.samples_per_face)
        super().__init__(config, core, config.seed, team)
        labelled = cast(IPFHReward, paid.for_people(self.people))
        losses = RestorerLosses(config.weights, consistency, self.cognition, labelled.labels)
        policy = initial_policy(core, config.policy, config.init, config.seed)
        self.learner = IPFHLearner(core, policy, config, losses, team)
        self.agent = ReinforceAgent(core, policy, mask_visited=config.mask_visited)

    def update(self) -> dict[str, float]:
        """See :meth:`Trainer.update`."""
        return self.learner.update(self.draw(self.config.batch // self.config.samples_per_face))

    @property
    def moves_the_mark(self) -> bool:
        """See :meth:`Trainer.moves_the_mark`."""
        return self.config.joint

    @torch.no_grad()
    def measure(self, agent: Agent) -> dict[str, float]:
        """See :meth:`Trainer.measure`; also SSIM, and the cosine of the embeddings to the truth's.

        These are the embeddings of the network that is trained with: a mark of progress, no
        measurement of how well the restored faces are recognised.
        """
        curves, ssim, cosine = [], [], []
        for faces in chunks(self.pool.held_out()):
            played = rollout(self.core, agent, faces)
            curves.append(played.psnr)
            image, hr = played.state.image, played.state.hr
            ssim.append(metrics.score(image, hr, self.pool.protocol, self.core.scale, ("ssim",)))
            if self.cognition is not None:
                embed = self.cognition.recogniser.embed
                cosine.append(torch.cosine_similarity(embed(image), embed(hr)))
        scores = curve_scores(torch.cat(curves))
        scores["held_out/ssim"] = torch.cat([each["ssim"] for each in ssim]).mean().item()
        if cosine:
            scores["held_out/cosine"] = torch.cat(cosine).mean().item()
        return scores

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Writes the agent, and beside it the restorer that it belongs to."""
        super().save(path, provenance)
        enhancers.save(self.core.enhancer, restorer_beside(path), provenance)


def ipfh_reward(
    weights: TermWeights, cognition: Cognition | None, consistency: DualConsistency
) -> IPFHReward:
    """The rewards of the paper (eqs. 10 and 12), weighted as the losses are.

    Args:
        weights: Of the terms.
        cognition: The cognition network, for terms that need one.
        consistency: Compares patches and faces.

    Raises:
        ConfigurationError: If nothing is left.
    """
    patch = {term: getattr(weights, loss) for term, loss in PATCH_TERMS.items()}
    face = {
        "ipfh_face_mse": weights.mse_hr,
        "ipfh_face_texture": weights.texture_hr,
        "ipfh_feature": weights.feature,
        "ipfh_identity": weights.identity,
    }
    return IPFHReward(cognition, {**patch, **face}, consistency=consistency)


def restorer_beside(agent: Path) -> Path:
    """Where the restorer lies that an agent was saved with."""
    return agent.with_name(f"{agent.stem}-enhancer.safetensors")


def train_ipfh(config: TrainIPFHConfig) -> Path:
    """Trains what is missing, in order.

    Returns:
        Path of the agent, ``best.safetensors`` in the folder, which with ``keep="last"`` is a copy
        of ``joint/last.safetensors``; the weights of the networks lie beside it.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        DatasetError: If the dataset has no identities, and the cognition network is to be trained.
        EnhancerError: If a training diverges.
        WeightsError: If given weights, or those of the last stage that are to be kept, are missing
            or hold something else.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
    """
    config = _completed(config)
    stages = (_coarse, _cognition, _restorer, _joint)
    with TrainingRun(config.out, config, config.resume) as run:
        if run.restore() is None:
            run.save(0, {}, {})
        for number, stage in enumerate(stages, start=1):
            stage(config, Folder(config.out))
            run.save(number, {}, {})
    return Folder(config.out).agent


def _completed(config: TrainIPFHConfig) -> TrainIPFHConfig:
    """The settings, checked before anything is trained, with what the dataset needs for people."""
    paid = ipfh_reward(config.weights, None, DualConsistency(config.scale, config.down))
    if config.keep not in get_args(Keep):
        raise ConfigurationError(f"keep={config.keep!r} is unknown: use one of {get_args(Keep)}.")
    if config.one_shot and config.joint:
        raise ConfigurationError(
            "one_shot=True pastes pieces of a whole restored face, which leaves a local restorer "
            "nothing to learn: leave it out, or give joint=False."
        )
    if config.cognition is not None:
        load_tensors(config.cognition, "cognition")
    if config.judged and not config.dataset_settings:
        people = DATASET_SETTINGS.get(config.dataset, {})
        settings = tuple(f"{key}={value}" for key, value in people.items())
        config = replace(config, dataset_settings=settings)
    _rehearse(config, paid)
    return config


def _rehearse(config: TrainIPFHConfig, paid: IPFHReward) -> None:
    """Builds what the stages are made of, so that what the last one refuses is said at first."""
    check_numbers(vars(config))
    check_device(config.device)
    given, enhancer = _given_coarse(config), None
    if config.enhancer_weights is None:
        settings = parse_settings(config.enhancer_settings)
        enhancer = enhancers.make(config.enhancer, config.scale, weights=None, **settings)
    initial = BICUBIC if config.initial == COARSE else config.initial
    core = make_core(
        replace(config, initial=initial if given is None else str(given)),
        paid if config.reward == PAID else config.reward,
        config.action_stride,
        config.action_offset,
        enhancer=enhancer,
    )
    check_settings(config, core)
    initial_policy(core, config.policy, config.init, config.seed)
    if config.cognition is None and config.judged:
        check_people(
            data.make(config.dataset, split="train", **parse_settings(config.dataset_settings))
        )


def _given_coarse(config: TrainIPFHConfig) -> Path | None:
    """The file from whose network's result faces start."""
    path = Path(config.initial)
    return path if path.suffix == ".safetensors" else None


def _coarse(config: TrainIPFHConfig, folder: Folder) -> None:
    """Eq. 2: whole faces, by their squared error."""
    if folder.coarse.is_file():
        return
    if config.initial != COARSE:
        given = _given_coarse(config)
        if given is not None:
            _put(given, folder.coarse)
        return
    settings = TrainSRConfig(
        model="coarse",
        model_settings=config.coarse_settings,
        updates=config.coarse_updates,
        minutes=config.coarse_minutes,
        batch=config.coarse_batch,
        learning_rate=config.coarse_learning_rate,
        **_shared(config, "coarse"),
    )
    _put(train_sr(settings).with_name("best.safetensors"), folder.coarse)


def _cognition(config: TrainIPFHConfig, folder: Folder) -> None:
    """Eq. 14: who is on a face."""
    if folder.cognition.is_file() or not config.judged:
        return
    if config.cognition is not None:
        _put(config.cognition, folder.cognition)
        return
    shared = _shared(config, "cognition")
    known = {field.name for field in fields(TrainCognitionConfig)}
    settings = TrainCognitionConfig(
        updates=config.cognition_updates,
        minutes=config.cognition_minutes,
        people=config.cognition_people,
        min_images=config.cognition_min_images,
        width=config.cognition_width,
        embedding=config.cognition_embedding,
        batch=config.cognition_batch,
        learning_rate=config.cognition_learning_rate,
        **{name: value for name, value in shared.items() if name in known},
    )
    _put(train_cognition(settings), folder.cognition)


def _restorer(config: TrainIPFHConfig, folder: Folder) -> None:
    """Random patches, of untouched faces and then of those that it has restored so far.

    They lie on the controller's grid of locations, where the restorer will be asked.
    """
    if folder.restorer.is_file():
        return
    if config.enhancer_weights is not None:
        _put(Path(config.enhancer_weights), folder.restorer)
        return
    settings = TrainEnhancerConfig(
        enhancer=config.enhancer,
        enhancer_settings=config.enhancer_settings,
        initial=_initial(config),
        fresh_on="patches",
        fresh_steps=config.restorer_updates,
        fresh_batch=config.restorer_batch,
        fresh_learning_rate=config.restorer_learning_rate,
        rollout_steps=config.restorer_rollout_updates,
        rollout_envs=config.restorer_batch,
        minutes=config.restorer_minutes,
        rollout_learning_rate=0.4 * config.restorer_learning_rate,
        num_steps=config.num_steps,
        border=config.border,
        action_stride=config.action_stride,
        action_offset=config.action_offset,
        loss="mse",
        **_shared(config, "restorer"),
    )
    _put(train_enhancer(settings), folder.restorer)


def _joint(config: TrainIPFHConfig, folder: Folder) -> None:
    """Eqs. 9, 16 and 17: the controller and the restorer together."""
    joint = folder.root / "joint"
    if not folder.agent.is_file():
        launch(_train_joint, replace(config, resume=_goes_on(joint)))
    # Also of a training that is over, for what is to be kept of it may have changed.
    kept = joint / f"{config.keep}.safetensors"
    for weights in (kept, restorer_beside(kept)):
        if not weights.is_file():
            raise WeightsError(
                f"{weights} is missing, which --keep {config.keep} asks for: give the other one, "
                f"or remove {folder.agent} and {joint} to train the last stage again."
            )
    _put(restorer_beside(kept), folder.enhancer)
    _put(kept, folder.agent)


def _train_joint(config: TrainIPFHConfig, team: Team) -> Path:
    """What each of the processes does; the one that leads writes."""
    with TrainingRun(config.out / "joint", config, config.resume, writes=team.leads) as run:
        return run_trainer(run, IPFHTrainer(config, team))


def _initial(config: TrainIPFHConfig) -> str:
    """What the faces start from, as other trainings call it."""
    coarse = Folder(config.out).coarse
    return str(coarse) if coarse.is_file() else config.initial


def _shared(config: TrainIPFHConfig, stage: str) -> dict[str, Any]:
    """Settings that an earlier stage has of the pipeline's."""
    names = (
        *("dataset", "dataset_settings", "scale", "protocol", "limit", "validation_faces"),
        *("seed", "device", "devices", "num_nodes"),
    )
    out = config.out / stage
    return {**{n: getattr(config, n) for n in names}, "out": out, "resume": _goes_on(out)}


def _goes_on(stage: Path) -> bool:
    """Whether a stage was interrupted; without a checkpoint it begins again, with a new log."""
    if (stage / CHECKPOINT).is_file():
        return True
    (stage / LOG).unlink(missing_ok=True)
    return False


def _put(weights: Path, place: Path) -> None:
    if place.is_file() and filecmp.cmp(weights, place, shallow=False):
        return
    with atomic_path(place) as temporary:
        shutil.copyfile(weights, temporary)
