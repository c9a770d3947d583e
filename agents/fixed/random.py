"""Locations drawn uniformly: the paper's "Random Patch" (Attention-FH, Table 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.core import HallucinationCore


class RandomAgent(Agent):
    """Draws each patch uniformly among all different ones.

    With patches kept inside the image, many locations near an edge are clamped to the same patch:
    it is drawn as often as any other.

    It owns its random numbers: two agents with one seed play the same actions, whatever else
    draws from torch's global generator. ``deterministic`` changes nothing.
    """

    name = "random"

    def __init__(self, core: HallucinationCore, seed: int = 0) -> None:
        super().__init__(core)
        # On the CPU, so that a seed means the same sequence on every device.
        self._generator = torch.Generator().manual_seed(seed)
        self._choices = core.geometry.distinct_actions()

    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """Draws (N,) locations; keeps no state."""
        number = self.read(observation, "step").shape[0]
        drawn = torch.randint(len(self._choices), (number,), generator=self._generator)
        return self._choices[drawn].to(self.device), None
