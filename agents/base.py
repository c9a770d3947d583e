"""What an agent is: batched, on the core's device, with a memory that resets itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError

Observation = Mapping[str, Any]
AgentState = dict[str, Tensor]


class Agent(ABC):
    """Chooses the next patch for each face of a batch.

    Agents take batched observations as the vector environment and
    :func:`facehall_env.observations.observe` give them (numpy arrays or tensors) and keep what
    they remember in ``state``, a dictionary of tensors with one row per face. The state is None
    before the first call. Rows whose ``observation["step"]`` is 0 begin a new episode and are
    cleared by the agent itself, so the caller hands back what it got and need not know where
    episodes end, whatever the autoreset mode.

    Args:
        core: The environment's core; fixes the locations, the episode length and the device.
    """

    name: str = "agent"

    def __init__(
        self, core: HallucinationCore, observation_keys: tuple[str, ...] = ("step",)
    ) -> None:
        self.geometry = core.geometry
        self.num_steps = core.num_steps
        self.device = core.device
        self.observation_keys = observation_keys

    @abstractmethod
    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """Chooses one location per face.

        Args:
            observation: At least the entries of :attr:`observation_keys`, batched.
            state: What the previous call returned, None at the start.
            deterministic: Whether a stochastic policy takes its most likely action.

        Returns:
            Actions, (N,) int64 on the core's device, and the state for the next call.
        """

    def read(self, observation: Observation, key: str) -> Tensor:
        """One entry of the observation as a tensor on the agent's device.

        Raises:
            ConfigurationError: If the environment does not provide that entry.
        """
        if key not in observation:
            raise ConfigurationError(
                f"The {self.name} agent reads {key!r}, but the observation has only "
                f"{sorted(observation)}: create the environment with observation="
                f"{self.observation_keys}."
            )
        return torch.as_tensor(observation[key], device=self.device)

    def steps_taken(self, observation: Observation) -> Tensor:
        """How many patches each face has had, (N,) int64, from the entry ``step`` = t / T."""
        fraction = self.read(observation, "step")
        return (fraction.reshape(fraction.shape[0]) * self.num_steps).round().long()
