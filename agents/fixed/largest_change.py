"""Where the enhancer would change most: a look ahead without anything learned."""

from __future__ import annotations

import torch
from torch import Tensor

from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.agents.lookahead import box_sums, check_lookahead, look_ahead
from facehall_env.core import HallucinationCore


class ChangeAgent(Agent):
    """Has the enhancer restore the whole face and looks where that differs most from what is there.

    An enhancer that gives the mean of what the truth may be wins, on average, the square of what
    it changes. That holds for untouched pixels; on its own output an enhancer also changes what
    it should leave, so that the agent is strong with few patches and does harm with many.
    Deterministic; each step costs one restoration of the whole face.

    Raises:
        ConfigurationError: If the enhancer works on patches only, or restores once, at the start.
    """

    name = "change"

    def __init__(self, core: HallucinationCore) -> None:
        super().__init__(core, ("image", "step"))
        check_lookahead(core)
        self.core = core
        actions = torch.arange(self.geometry.num_locations, device=self.device)
        self._corners = self.geometry.top_left(actions)

    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """Takes the (N,) locations whose patches hold the largest squared change; no state."""
        change = look_ahead(self.core, self.read(observation, "image")).float()
        sums = box_sums(change.square().sum(1), self._corners, self.geometry.patch_size)
        return sums.argmax(dim=1), None
