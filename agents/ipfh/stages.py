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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facehall_env import enhancers, limits
from facehall_env.agents.ipfh.training import (
    Folder,
    IPFHTrainer,
    initial_of,
    ipfh_reward,
    restorer_beside,
)
from facehall_env.agents.reinforce.agent import initial_policy
from facehall_env.agents.reinforce.learner import check_settings
from facehall_env.agents.settings import COARSE, PAID, TrainIPFHConfig
from facehall_env.agents.training import build
from facehall_env.checkpoints import load_tensors
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.files import atomic_path
from facehall_env.nested import changed
from facehall_env.registry import parse_settings
from facehall_env.rewards.ipfh import IPFHReward
from facehall_env.spec import BICUBIC
from facehall_env.training.cognition import DATASET_SETTINGS, check_people, train_cognition
from facehall_env.training.dual_consistency import DualConsistency
from facehall_env.training.enhancer import train_enhancer
from facehall_env.training.loop import train
from facehall_env.training.run import CHECKPOINT, LOG, TrainingRun
from facehall_env.training.settings import TrainCognitionConfig, TrainEnhancerConfig, TrainSRConfig
from facehall_env.training.sr import train_sr


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
    limits.check(config)
    faces = config.episode.faces
    paid = ipfh_reward(config.term_weights, None, DualConsistency(faces.scale, config.down))
    if config.one_shot and config.joint:
        raise ConfigurationError(
            "one_shot=True pastes pieces of a whole restored face, which leaves a local restorer "
            "nothing to learn: leave it out, or give joint=False."
        )
    if config.cognition is not None:
        load_tensors(config.cognition, "cognition")
    if config.judged and not faces.dataset_settings:
        settings = DATASET_SETTINGS.get(faces.dataset, ())
        config = changed(config, dataset_settings=settings)
    _rehearse(config, paid)
    return config


def _rehearse(config: TrainIPFHConfig, paid: IPFHReward) -> None:
    """Builds what the stages are made of, so that what the last one refuses is said at first."""
    episode, enhancer = config.episode, None
    if episode.weights is None:
        settings = parse_settings(config.enhancer_settings)
        enhancer = enhancers.make(episode.enhancer, episode.faces.scale, weights=None, **settings)
    placed = changed(config, initial=BICUBIC) if episode.initial == COARSE else config
    # The reward itself cannot be built before there is a cognition network.
    placed = changed(placed, reward="delta_psnr") if episode.reward == PAID else placed
    dataset, _, core = build(placed, enhancer=enhancer)
    core.reward = paid if episode.reward == PAID else core.reward
    check_settings(config, core)
    initial_policy(core, config.policy, config.init, config.seed)
    if config.cognition is None and config.judged:
        check_people(dataset)


def _coarse(config: TrainIPFHConfig, folder: Folder) -> None:
    """Eq. 2: whole faces, by their squared error."""
    if folder.coarse.is_file():
        return
    if config.episode.initial != COARSE:
        given = Path(config.episode.initial)
        if given.suffix == ".safetensors":
            _put(given, folder.coarse)
        return
    settings = TrainSRConfig(
        enhancer="coarse",
        enhancer_settings=config.coarse_settings,
        faces=config.episode.faces,
        device=config.device,
        limit=config.limit,
        validation_faces=config.validation_faces,
        **_of_stage(config, "coarse", ("updates", "batch", "learning_rate")),
    )
    _put(train_sr(settings).with_name("best.safetensors"), folder.coarse)


def _cognition(config: TrainIPFHConfig, folder: Folder) -> None:
    """Eq. 14: who is on a face."""
    if folder.cognition.is_file() or not config.judged:
        return
    if config.cognition is not None:
        _put(config.cognition, folder.cognition)
        return
    own = ("updates", "people", "min_images", "width", "embedding", "batch", "learning_rate")
    settings = TrainCognitionConfig(
        dataset=config.episode.faces.dataset,
        dataset_settings=config.episode.faces.dataset_settings,
        device=config.device,
        **_of_stage(config, "cognition", own),
    )
    _put(train_cognition(settings), folder.cognition)


def _restorer(config: TrainIPFHConfig, folder: Folder) -> None:
    """Random patches, of untouched faces and then of those that it has restored so far.

    They lie on the controller's grid of locations, where the restorer will be asked.
    """
    if folder.restorer.is_file():
        return
    if config.episode.weights is not None:
        _put(Path(config.episode.weights), folder.restorer)
        return
    settings = TrainEnhancerConfig(
        episode=replace(config.episode, initial=initial_of(config), reward="delta_mse"),
        enhancer_settings=config.enhancer_settings,
        limit=config.limit,
        validation_faces=config.validation_faces,
        fresh_on="patches",
        fresh_updates=config.restorer_updates,
        fresh_batch=config.restorer_batch,
        fresh_learning_rate=config.restorer_learning_rate,
        rollout_updates=config.restorer_rollout_updates,
        rollout_envs=config.restorer_batch,
        rollout_learning_rate=0.4 * config.restorer_learning_rate,
        loss="mse",
        **_of_stage(config, "restorer"),
    )
    _put(train_enhancer(settings), folder.restorer)


def _joint(config: TrainIPFHConfig, folder: Folder) -> None:
    """Eqs. 9, 16 and 17: the controller and the restorer together."""
    joint = folder.root / "joint"
    if not folder.agent.is_file():
        train(IPFHTrainer, replace(config, resume=_goes_on(joint)), joint)
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


def _of_stage(config: TrainIPFHConfig, stage: str, own: Sequence[str] = ()) -> dict[str, Any]:
    """An earlier stage's own settings, named after it, and those of the whole training."""
    out = config.out / stage
    shared = {name: getattr(config, name) for name in ("seed", "devices", "num_nodes")}
    shared |= {name: getattr(config, f"{stage}_{name}") for name in ("minutes", *own)}
    return {**shared, "out": out, "resume": _goes_on(out)}


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
