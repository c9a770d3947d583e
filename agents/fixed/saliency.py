"""Where the current image has most gradient, with inhibition of return."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.agents.lookahead import box_sums
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError
from facehall_env.patches import cover


def gradient_magnitude(image: Tensor) -> Tensor:
    """Length of the central-difference gradient of the mean of the channels.

    From (N, C, H, W) float to (N, 1, H, W), in the image's units per pixel.
    """
    grey = functional.pad(image.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    rows = (grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]) / 2
    columns = (grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]) / 2
    magnitude: Tensor = (rows.square() + columns.square()).sqrt()
    return magnitude


class SaliencyAgent(Agent):
    """Looks where the patch holds the most gradient magnitude.

    A restored patch is sharper than before and would attract the next look too. So each visit
    multiplies the saliency of its pixels by ``damping`` (inhibition of return): the agent visits
    the next best place and comes back when everything else has been seen as often.
    Deterministic.

    Args:
        damping: Factor on the saliency of a visited pixel, between 0 and 1.

    Raises:
        ConfigurationError: If ``damping`` lies outside [0, 1].
    """

    name = "saliency"

    def __init__(self, core: HallucinationCore, damping: float = 0.1) -> None:
        super().__init__(core, ("image", "step"))
        if not 0 <= damping <= 1:
            raise ConfigurationError(
                f"damping={damping} is out of range: give a factor between 0 and 1."
            )
        self.damping = damping
        actions = torch.arange(self.geometry.num_locations, device=self.device)
        self._corners = self.geometry.top_left(actions)

    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState]:
        """Takes (N,) locations of the largest damped saliency; remembers the damping map."""
        image = self.read(observation, "image").permute(0, 3, 1, 2).float()
        saliency = gradient_magnitude(image)[:, 0]
        weight = torch.ones_like(saliency)
        if state is not None:
            begins = self.steps_taken(observation) == 0
            weight = state["weight"].where(~begins[:, None, None], weight)
        sums = box_sums(saliency * weight, self._corners, self.geometry.patch_size)
        action = sums.argmax(dim=1)
        return action, {"weight": weight * self.damping ** self._visited(action, weight)}

    def _visited(self, action: Tensor, like: Tensor) -> Tensor:
        """The pixels of each chosen patch, (N, H, W) of zeros and ones."""
        nothing = torch.zeros_like(like, dtype=torch.bool)[:, None]
        corner = self._corners[action]
        return cover(nothing, corner, self.geometry.patch_size)[:, 0].to(like.dtype)
