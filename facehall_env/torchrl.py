"""The batched environment for TorchRL."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

import facehall_env  # noqa: F401 (registers the ids)
from facehall_env.errors import ConfigurationError, MissingExtraError

try:
    from torchrl.envs import EnvBase, GymWrapper
except ImportError as error:
    raise MissingExtraError("TorchRL", "torchrl") from error


if TYPE_CHECKING:
    Wrapper = VectorWrapper[dict[str, Any], Any, dict[str, Any], Any, Any]
else:  # Its type parameters have changed from version to version.
    Wrapper = VectorWrapper


class TorchRLInfo(Wrapper):
    """A vector environment whose information `torchrl.envs.GymWrapper` can read.

    With ``AutoresetMode.SAME_STEP`` Gymnasium hands the last observation of an ended episode over
    as ``info["final_obs"]``, one dictionary for each sub-environment. TorchRL looks for the
    entries of a `Dict` observation in ``info["final_info"]``, batched, takes them for zeros where
    they are not there, and raises on text and on dictionaries inside of that. So the information
    is those entries and nothing else.

    Args:
        env: Any vector environment with `Dict` observations.

    >>> envs = gym.make_vec(
    ...     "FaceHallucination-v0", 2, enhancer="bicubic", num_steps=1, autoreset_mode="SameStep"
    ... )
    >>> envs = TorchRLInfo(envs)
    >>> observation, info = envs.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = envs.step([0, 1])
    >>> observation["step"].tolist(), info["final_info"]["step"].tolist()
    ([[0.0], [0.0]], [[1.0], [1.0]])
    """

    def __init__(self, env: VectorEnv[dict[str, Any], Any, Any]) -> None:
        super().__init__(env)
        self.autoreset_mode: AutoresetMode = env.metadata["autoreset_mode"]

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The environment's observation, and no information."""
        return self.env.reset(seed=seed, options=options)[0], {}

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """The environment's step, with last observations for information where there are any."""
        observation, *signals, info = self.env.step(actions)
        last = {}
        if "final_obs" in info:
            last["final_info"] = copy.deepcopy(observation)
            # Rows that go on hold what they show now.
            for row in np.flatnonzero([one is not None for one in info["final_obs"]]):
                for key, values in last["final_info"].items():
                    values[row] = info["final_obs"][row][key]
        return observation, *signals, last


def make(
    name: str = "FaceHallucination-v0",
    num_envs: int = 1,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.DISABLED,
    **settings: Any,
) -> EnvBase:
    """Makes the batched environment ``name`` as TorchRL takes it, with batch size (N,).

    Actions are integers (N,), not one-hot vectors of thousands of entries.

    Args:
        name: The environment's id.
        num_envs: Number of sub-environments N.
        autoreset_mode: ``DISABLED``, with which TorchRL itself resets what has ended, or
            ``SAME_STEP``.
        **settings: All others; see `FaceHallucinationVectorEnv`. With ``output="torch"`` nothing
            is copied to the host between agent and environment.

    Raises:
        ConfigurationError: On settings that contradict each other or lie outside their range.
        MissingExtraError: On importing this module without TorchRL.

    >>> env = make(num_envs=2, enhancer="bicubic", num_steps=3)
    >>> env.rollout(3)["next", "step"][1].flatten()
    tensor([0.3333, 0.6667, 1.0000])
    """
    envs = gym.make_vec(name, num_envs, autoreset_mode=autoreset_mode, **settings)
    if envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
        raise ConfigurationError(
            "autoreset_mode='NextStep' has a step that takes no action, which TorchRL's rollouts "
            "cannot hold: use 'Disabled' or 'SameStep'."
        )
    env: EnvBase = GymWrapper(
        TorchRLInfo(envs),
        categorical_action_encoding=True,
        convert_actions_to_numpy=settings.get("output") != "torch",
        device=settings.get("device", "cpu"),
    )
    return env
