"""The environments that are compared: the batched one, and several single ones side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils.performance import benchmark_vector_step
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import nn

from facehall_env import data
from facehall_env.benchmarks.speed.peak_memory import START_METHOD
from facehall_env.benchmarks.speed.settings import IN_PROCESSES, EnvsConfig, Kind
from facehall_env.benchmarks.speed.timing import SpanTimer
from facehall_env.benchmarks.speed.untrained import make_enhancer
from facehall_env.core import HallucinationCore
from facehall_env.data import FaceDataset
from facehall_env.data.images import ImageArray
from facehall_env.enhancers import Enhancer
from facehall_env.errors import MissingExtraError
from facehall_env.literals import Precision
from facehall_env.vector import FaceHallucinationVectorEnv

NUM_FACES = 32


def make_env(
    config: EnvsConfig,
    kind: Kind,
    number: int,
    precision: Precision,
    network: Enhancer | None = None,
) -> VectorEnv[Any, Any, Any]:
    """One of the environments that are compared, of so many episodes.

    All single environments of this process share ``network``, which is kind to them; those in
    processes have their own.
    """
    settings: dict[str, Any] = {
        "dataset": _FacesInMemory(),
        "scale": config.scale,
        "weights": None,
        "device": config.device,
        "precision": precision,
    }
    if kind in IN_PROCESSES:
        # Python and torch are then read once, and copied with all that they have read.
        multiprocessing.set_forkserver_preload([__name__])
        one = partial(_single, settings, config.enhancer)
        if kind == "AsyncVectorEnv":
            return AsyncVectorEnv([one] * number, context=START_METHOD)
        return _Sb3VectorEnv(
            sb3_environments().SubprocVecEnv([one] * number, start_method=START_METHOD)
        )
    settings["enhancer"] = network or make_enhancer(config.enhancer, config.scale)
    if kind == "batched":
        return FaceHallucinationVectorEnv(num_envs=number, **settings)
    single = partial(_single, settings)
    if kind == "SyncVectorEnv":
        return SyncVectorEnv([single] * number)
    return _Sb3VectorEnv(sb3_environments().DummyVecEnv([single] * number))


@contextmanager
def stepped(
    config: EnvsConfig, kind: Kind, number: int, precision: Precision
) -> Iterator[list[int]]:
    """An environment that has begun and taken a step, as the numbers of its processes."""
    with closing(make_env(config, kind, number, precision)) as env:
        env.reset(seed=config.seed)
        env.step(env.action_space.sample())
        inner = env.envs if isinstance(env, _Sb3VectorEnv) else env
        yield [process.pid for process in getattr(inner, "processes", ())]


class Watched(VectorWrapper):
    """An environment whose network is timed.

    Args:
        env: The environment.
        config: The settings.

    Attributes:
        shares: Share of the time that the network took, in each measurement; empty where the
            network is not in this process.
        patches: Patches that it has restored since the last reset.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], config: EnvsConfig) -> None:
        super().__init__(env)
        self.shares: list[float] = []
        self.patches = 0
        self._config = config
        self._networks = list(dict.fromkeys(core.enhancer for core in _cores(env)))
        self._timer = SpanTimer(torch.device(config.device))
        self._timer.watch(self._networks, "network")
        for network in self._networks:
            network.register_forward_hook(self._count)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Starts new episodes, which is where a measurement begins."""
        self._timer.seconds.clear()
        self.patches = 0
        return super().reset(**options)

    def steps_per_second(self) -> float:
        """Measures once."""
        # Typed as an int, but only ever compared with the time that has passed.
        seconds: Any = self._config.seconds
        rate = float(benchmark_vector_step(self, seconds, self._config.seed))
        if self._networks:
            self.shares.append(self._timer.seconds["network"] / self.patches * rate)
        return rate

    def _count(self, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.patches += len(output)


class _FacesInMemory(FaceDataset):
    """The first drawn faces, which cost nothing to read: environments are measured, not drawing."""

    def __init__(self) -> None:
        faces = data.make("synthetic", split="train")
        self.name, self.split, self.image_size = faces.name, faces.split, faces.image_size
        self._images = [faces[index] for index in range(NUM_FACES)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> ImageArray:
        return self._images[self.checked(index)]

    def key(self, index: int) -> str:
        return str(self.checked(index))


class _Sb3VectorEnv(VectorEnv[Any, Any, Any]):
    """A Stable-Baselines3 `VecEnv` as Gymnasium's function that measures steps expects it."""

    def __init__(self, envs: Any) -> None:
        self.envs = envs
        self.num_envs = envs.num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.action_space = batch_space(envs.action_space, envs.num_envs)
        self.single_action_space = envs.action_space

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.envs.seed(seed)
        return self.envs.reset(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, done, _ = self.envs.step(actions)
        return observation, reward, done, np.zeros_like(done), {}

    def close_extras(self, **kwargs: Any) -> None:
        self.envs.close()


def _single(settings: Mapping[str, Any], enhancer: str | None = None) -> gym.Env[Any, Any]:
    """A single environment; with a network of its own in a process, which has one thread."""
    if enhancer is not None:
        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)
        settings = {**settings, "enhancer": make_enhancer(enhancer, settings["scale"])}
    return gym.make("facehall_env:FaceHallucination-v0", disable_env_checker=True, **settings)


def sb3_environments() -> Any:
    """The module of Stable-Baselines3 with its environments, or a `MissingExtraError`."""
    try:
        from stable_baselines3.common import vec_env
    except ImportError as error:
        raise MissingExtraError("Stable-Baselines3", "sb3") from error
    return vec_env


def _cores(env: VectorEnv[Any, Any, Any]) -> list[HallucinationCore]:
    """The cores of an environment that are in this process."""
    if isinstance(env, FaceHallucinationVectorEnv):
        return [env.core]
    if isinstance(env, _Sb3VectorEnv):
        env = env.envs
    return [single.unwrapped.core for single in getattr(env, "envs", ())]
