"""Training runs of Stable-Baselines3's algorithms: ``facehall train agent ppo`` and others.

The run's folder is that of every training here (:class:`~facehall_env.training.run.TrainingRun`).
Its checkpoint holds tensors and JSON, no pickle: network, optimiser, and how many steps were done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from facehall_env import limits
from facehall_env.agents.fixed.even import EvenAgent
from facehall_env.agents.integrations.sb3_agents import SB3Agent
from facehall_env.agents.integrations.sb3_policies import OBSERVATION, hyperparameters, make_model
from facehall_env.agents.settings import TrainSB3Config
from facehall_env.agents.training import SHOWN, above, build, environment_keywords, held_out_scores
from facehall_env.data import FaceDataset
from facehall_env.data.images import ImageArray
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress
from facehall_env.registry import parse_settings
from facehall_env.sb3 import FaceHallucinationVecEnv
from facehall_env.training.face_pool import FacePool
from facehall_env.training.run import TrainingRun
from facehall_env.training.trainer import Learner, Metadata, Tensors, shown

LOG_EVERY = 20
"""Episodes between entries of an off-policy algorithm; the others make one for each rollout."""


class PoolFaces(FaceDataset):
    """The training faces of a pool, then, if asked for, the same mirrored."""

    def __init__(
        self, pool: FacePool, name: str, image_size: tuple[int, int], mirrored: bool
    ) -> None:
        self.name, self.split, self.image_size = name, "train", image_size
        self._pool = pool
        self._sides = 2 if mirrored else 1

    def __len__(self) -> int:
        """Number of faces."""
        return self._sides * self._pool.num_training

    def __getitem__(self, index: int) -> ImageArray:
        """Face ``index``, uint8 (H, W, 3)."""
        side, number = divmod(self.checked(index), self._pool.num_training)
        image: ImageArray = self._pool.images[number].permute(1, 2, 0).numpy()
        return image[:, ::-1] if side else image

    def key(self, index: int) -> str:
        """Side and number."""
        side, number = divmod(self.checked(index), self._pool.num_training)
        return f"{'mirrored' if side else 'train'}/{number:05d}"


class SB3Trainer(Learner):
    """A model with its faces.

    Args:
        done: Steps that were done before; changes what is drawn from here on.
    """

    def __init__(self, config: TrainSB3Config, done: int = 0) -> None:
        super().__init__()
        self.config = config
        settings = hyperparameters(config.algo, parse_settings(config.hyperparameter))
        self.total = int(_taken(settings, "n_timesteps", config.timesteps))
        number = int(_taken(settings, "n_envs", None))
        limits.check(config)
        episode = config.episode
        dataset, _, core = build(config)
        self.pool = FacePool.open(episode.faces, config, dataset=dataset)
        faces = PoolFaces(self.pool, dataset.name, dataset.image_size, config.flip)
        objects = {"dataset": faces, "enhancer": core.enhancer, "weights": None}
        keywords = {**environment_keywords(episode), **objects, "observation": OBSERVATION}
        self.envs = FaceHallucinationVecEnv(number, **keywords)
        self.model = make_model(config.algo, self.envs, seed=config.seed + done, **settings)
        self.modules["policy"] = self.model.policy
        self.optimizers["policy"] = self.model.policy.optimizer
        self.agent = SB3Agent(self.envs.core, config.algo, policy=self.model.policy)
        self.best = float("-inf")
        self._even: dict[str, float] = {}

    @property
    def steps(self) -> int:
        """Steps done so far, over all environments."""
        return self.model.num_timesteps

    def learn(self, callback: BaseCallback, logger: Logger) -> None:
        """Trains until the number of steps asked for is reached."""
        self.model.set_logger(logger)
        every = LOG_EVERY if isinstance(self.model, OffPolicyAlgorithm) else 1
        left = self.total - self.steps
        self.model.learn(left, callback, log_interval=every, reset_num_timesteps=False)

    def validate(self) -> dict[str, float]:
        """PSNR of the held-out faces in dB, by the likeliest actions, and above the even agent."""
        core, faces = self.envs.core, self.pool.held_out()
        scores = held_out_scores(core, self.agent, faces)
        self._even = self._even or held_out_scores(core, EvenAgent(core), faces)
        return above(scores, self._even)

    def state_metadata(self) -> dict[str, Any]:
        """See :meth:`Learner.state_metadata`."""
        own = {"updates": self.model._n_updates, "best": self.best}
        return {**super().state_metadata(), **own}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """See :meth:`Learner.restore`."""
        super().restore(step, tensors, metadata)
        model = self.model
        model.num_timesteps = step
        model._n_updates = metadata["updates"]
        self.best = metadata["best"]
        if isinstance(model, OffPolicyAlgorithm):
            # Nothing is remembered: fill the memory before learning from it again.
            model.learning_starts += step


class RunLog(KVWriter):
    """Hands what Stable-Baselines3 logs to the run's log."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Logs the numbers among the values."""
        numbers = {
            key: float(value)
            for key, value in key_values.items()
            if not isinstance(value, str) and "time/" not in key
        }
        self._run.log(step, numbers)

    def close(self) -> None:
        """Nothing to close: the run closes its own files."""


class Watch(BaseCallback):
    """Measures and saves along the way."""

    def __init__(self, run: TrainingRun, trainer: SB3Trainer, bar: Any) -> None:
        super().__init__()
        self._run, self._trainer, self._bar = run, trainer, bar

    def validate(self) -> None:
        """Logs the held-out PSNR and keeps the weights if they are the best so far."""
        trainer, run = self._trainer, self._run
        scores = trainer.validate()
        run.log(trainer.steps, scores)
        self._bar.set_postfix_str(shown(scores, SHOWN))
        if scores["held_out/psnr_auc"] > trainer.best:
            trainer.best = scores["held_out/psnr_auc"]
            provenance = {**run.provenance(), "held_out": scores, "steps": trainer.steps}
            trainer.agent.save(run.directory / "best.safetensors", provenance)

    def save(self) -> None:
        """Writes the checkpoint."""
        trainer = self._trainer
        self._run.save(trainer.steps, trainer.state_tensors(), trainer.state_metadata())

    def _on_step(self) -> bool:
        config, number = self._trainer.config, self._trainer.envs.num_envs
        self._bar.update(number)
        if self.num_timesteps % config.validate_every < number:
            self.validate()
        if self.num_timesteps % config.checkpoint_every < number:
            self.save()
        return True


def train_sb3(config: TrainSB3Config) -> Path:
    """Trains a policy and writes the weights that did best on held-out faces.

    Returns:
        Path of the best weights, ``best.safetensors`` in the run's folder.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        UnknownNameError: If there is no such algorithm, dataset, enhancer or reward.
    """
    with TrainingRun(config.out, config, config.resume) as run:
        checkpoint = run.restore()
        trainer = SB3Trainer(config, done=checkpoint[0] if checkpoint else 0)
        if checkpoint is not None:
            trainer.restore(*checkpoint)
        done, total = trainer.steps, trainer.total
        with progress(total=total, initial=done, desc="training", unit="patch") as bar:
            watch = Watch(run, trainer, bar)
            trainer.learn(watch, Logger(None, [RunLog(run)]))
            watch.validate()
            watch.save()
        provenance = {**run.provenance(), "steps": trainer.steps}
        trainer.agent.save(run.directory / "last.safetensors", provenance)
    return run.directory / "best.safetensors"


def _taken(settings: dict[str, Any], name: str, given: int | None) -> float:
    """Takes a number out of the settings, or what was given in its place."""
    value = settings.pop(name, None) if given is None else given
    settings.pop(name, None)
    if not isinstance(value, int | float) or value < 1:
        raise ConfigurationError(f"{name}={value!r} is out of range: give a number of 1 or more.")
    return value
