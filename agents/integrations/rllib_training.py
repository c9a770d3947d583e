"""PPO on a Ray cluster with RLlib: what ``facehall train agent rllib-ppo`` does.

Environment runners, here or on other machines, play batches of episodes; a learner makes a PPO
update of them. The policies are those of REINFORCE, and what comes out is an ``rl`` agent, which
plays without Ray.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from facehall_env import limits
from facehall_env.agents.reinforce.agent import ReinforceAgent, untrained_policy
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.agents.settings import TrainRLlibConfig
from facehall_env.agents.training import build, environment_keywords, held_out_scores
from facehall_env.core import HallucinationCore
from facehall_env.data import FaceDataset
from facehall_env.data.images import ImageArray
from facehall_env.errors import ConfigurationError, MissingExtraError, WeightsError
from facehall_env.progress import progress
from facehall_env.training.run import TrainingRun

if TYPE_CHECKING:
    from ray.rllib.algorithms.ppo import PPO, PPOConfig  # pyright: ignore[reportMissingImports]

ENVIRONMENT = "facehall_env:FaceHallucination-v0"
"""With the package's name, so that environment runners import it."""
MODULE = "default_policy"
"""RLlib's name for the only policy there is."""


class FirstFaces(FaceDataset):
    """The first faces of a dataset."""

    def __init__(self, dataset: FaceDataset, number: int) -> None:
        self.name, self.split, self.image_size = dataset.name, dataset.split, dataset.image_size
        self._dataset, self._number = dataset, number

    def __len__(self) -> int:
        """How many there are."""
        return self._number

    def __getitem__(self, index: int) -> ImageArray:
        """See `FaceDataset`."""
        return self._dataset[self.checked(index)]

    def key(self, index: int) -> str:
        """See `FaceDataset`."""
        return self._dataset.key(self.checked(index))


class RLlibTrainer:
    """RLlib's algorithm, and a copy of its policy that is measured on held-out faces."""

    def __init__(self, config: TrainRLlibConfig) -> None:
        limits.check(config)
        self.config = config
        dataset, protocol, self.core = build(config)
        policy = untrained_policy(config.policy, self.core, config.seed)
        self.agent = ReinforceAgent(self.core, policy)
        number = min(len(dataset), config.limit or len(dataset))
        training = number - config.validation_faces
        if not 0 < config.validation_faces <= training:
            raise ConfigurationError(
                f"{number} faces cannot give {config.validation_faces} held-out ones and as many "
                "to train on: lower validation_faces or use a larger dataset."
            )
        self.held_out = protocol.degrade(dataset.batch(range(training, number)), self.core.scale)
        self.algorithm: PPO = algorithm_config(
            config, self.core, FirstFaces(dataset, training)
        ).build_algo()
        self.best = -math.inf

    def update(self) -> dict[str, float]:
        """One update; returns what is worth logging."""
        results = self.algorithm.train()
        played, learned = results["env_runners"], results["learners"][MODULE]
        values = {
            "return": played["episode_return_mean"],
            "length": played["episode_len_mean"],
            "episodes": played["num_episodes"],
            "entropy": learned["entropy"],
            "policy_loss": learned["policy_loss"],
            "value_loss": learned["vf_loss"],
        }
        return {name: float(value) for name, value in values.items()}

    def validate(self) -> dict[str, float]:
        """PSNR of the held-out faces in dB, by the likeliest actions."""
        self.copy_policy()
        return held_out_scores(self.core, self.agent, self.held_out)

    def copy_policy(self) -> None:
        """Brings the agent up to date with the learner."""
        weights = self.algorithm.learner_group.get_weights()[MODULE]
        named = {name.removeprefix("policy."): torch.as_tensor(v) for name, v in weights.items()}
        self.agent.policy.load_state_dict(named)

    def save(self, run: TrainingRun, updates: int) -> None:
        """Writes RLlib's checkpoint, then ours, which names it, then removes the one before."""
        self.copy_policy()
        folder = run.directory / f"rllib-{updates:06d}"
        self.algorithm.save_to_path(folder.absolute())
        tensors = dict(self.agent.policy.state_dict())
        run.save(updates, tensors, {"best": self.best, "rllib": folder.name})
        for old in run.directory.glob("rllib-*"):
            if old != folder:
                shutil.rmtree(old)

    def restore(self, run: TrainingRun) -> int:
        """Goes back to the last checkpoint of the run, if any, and returns the updates done.

        Raises:
            WeightsError: If nobody has said that the folder can be trusted.
        """
        checkpoint = run.restore()
        if checkpoint is None:
            return 0
        updates, _, metadata = checkpoint
        folder = run.directory / Path(metadata["rllib"]).name
        if not self.config.trust_pickle:
            raise WeightsError(
                f"{folder} holds pickles, which can run any code of whoever made it as soon as "
                "they are read: if it is your own, say so by --trust-pickle."
            )
        self.algorithm.restore_from_path(folder.absolute())
        self.best = metadata["best"]
        return updates


def train_rllib(config: TrainRLlibConfig) -> Path:
    """Trains a policy by PPO on a Ray cluster and writes the weights that did best.

    Returns:
        Path of the best weights, ``best.safetensors`` in the run's folder: an ``rl`` agent.

    Raises:
        MissingExtraError: If RLlib is not installed.
        WeightsError: If the run to resume is not said to be one's own.
    """
    with _ray(config), TrainingRun(config.out, config, config.resume) as run:
        trainer = RLlibTrainer(config)
        try:
            _train(trainer, run)
        finally:
            trainer.algorithm.stop()
        trainer.agent.save(run.directory / "last.safetensors", run.provenance())
    return run.directory / "best.safetensors"


def algorithm_config(
    config: TrainRLlibConfig, core: HallucinationCore, dataset: FaceDataset
) -> PPOConfig:
    """RLlib's PPO for our environment, batched, with our policy; it trains on ``dataset``.

    The core's enhancer, on the CPU, is sent to the environment runners.

    Raises:
        MissingExtraError: If RLlib is not installed.
    """
    try:
        from ray.rllib.algorithms.ppo import PPOConfig  # pyright: ignore[reportMissingImports]
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # pyright: ignore[reportMissingImports]

        from facehall_env.agents.integrations.rllib_module import PolicyModule
    except ImportError as error:
        raise MissingExtraError("RLlib", "rllib") from error

    steps = config.episode.steps
    policy = untrained_policy(config.policy, core, config.seed)
    # RLlib counts the step that it appends to each episode, and takes None for the whole batch.
    minibatch = config.minibatch * (steps + 1)
    # NEXT_STEP is what RLlib expects of a vector environment, and the default of ours. Fragments
    # of T steps are whole episodes, since the step that starts one again is not counted.
    return (
        PPOConfig()
        .environment(ENVIRONMENT, env_config=environment_settings(config, core, dataset, policy))
        .env_runners(
            num_env_runners=config.num_env_runners,
            num_envs_per_env_runner=config.envs_per_runner,
            num_gpus_per_env_runner=config.gpus_per_runner,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=steps,
            sample_timeout_s=None,
        )
        .learners(num_gpus_per_learner=config.gpus_per_learner)
        .training(
            train_batch_size_per_learner=config.batch * steps,
            minibatch_size=minibatch if minibatch <= config.batch * steps else None,
            num_epochs=config.epochs,
            lr=config.learning_rate or policy.learning_rate,
            gamma=config.gamma,
            lambda_=config.gae_lambda,
            clip_param=config.clip,
            entropy_coeff=config.entropy,
            grad_clip=config.grad_clip,
            use_kl_loss=False,
        )
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=PolicyModule,
                model_config={
                    "policy": config.policy,
                    "geometry": dataclasses.asdict(core.geometry),
                    "num_steps": steps,
                    "max_seq_len": steps + 1,
                    "seed": config.seed,
                },
            )
        )
        .callbacks(on_environment_created=partial(seed_runner, config.seed))
    )


def environment_settings(
    config: TrainRLlibConfig, core: HallucinationCore, dataset: FaceDataset, policy: Policy
) -> dict[str, Any]:
    """Keywords of `gymnasium.make_vec` for the environment runners."""
    return {
        **environment_keywords(config.episode),
        "dataset": dataset,
        "enhancer": copy.deepcopy(core.enhancer).cpu(),
        "weights": None,
        "observation": policy.observation_keys,
    }


def seed_runner(seed: int, *, env: Any, env_context: Any, **_: Any) -> None:
    """Seeds an environment runner and its environment: each sub-environment by its own number.

    RLlib's own seeds of two runners differ by one, so that all but one of the sub-environments of
    the second would draw the faces of the first's. So it is given none, and goes on with these.
    """
    runner = env_context.worker_index
    torch.manual_seed(seed + runner)
    env.reset(seed=seed + runner * env.num_envs)


@contextmanager
def _ray(config: TrainRLlibConfig) -> Iterator[None]:
    """Joins the cluster or starts one here, unless there is one already."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("RLlib", "rllib") from error
    if ray.is_initialized():
        yield
        return
    local: dict[str, Any] = {
        # More runners than cores take turns, where Ray would wait for ever for another core.
        "num_cpus": max(os.cpu_count() or 1, config.num_env_runners + 1),
        "include_dashboard": False,
    }
    ray.init(address=config.address, log_to_driver=False, **({} if config.address else local))
    try:
        yield
    finally:
        ray.shutdown()


def _train(trainer: RLlibTrainer, run: TrainingRun) -> None:
    config = trainer.config
    done = trainer.restore(run)
    with progress(total=config.updates, initial=done, desc="training") as bar:
        for updates in range(done + 1, config.updates + 1):
            scores = trainer.update()
            run.log(updates, scores)
            bar.update()
            last = updates == config.updates
            if last or updates % config.validate_every == 0:
                scores = _validate(trainer, run, updates)
                bar.set_postfix(psnr=f"{scores['held_out/psnr']:.2f} dB")
            if last or updates % config.checkpoint_every == 0:
                trainer.save(run, updates)
    trainer.copy_policy()


def _validate(trainer: RLlibTrainer, run: TrainingRun, updates: int) -> dict[str, float]:
    """Logs the held-out PSNR and keeps the weights if they are the best so far."""
    scores = trainer.validate()
    run.log(updates, scores)
    if scores["held_out/psnr_auc"] > trainer.best:
        trainer.best = scores["held_out/psnr_auc"]
        provenance = {**run.provenance(), "held_out": scores, "updates": updates}
        trainer.agent.save(run.directory / "best.safetensors", provenance)
    return scores
