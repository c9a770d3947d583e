"""Attention-FH's policy without what was restored in between ("I_0" of its Table 3)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from facehall_env.agents.base import AgentState
from facehall_env.agents.reinforce.policies import POLICIES, FullyConnectedPolicy


class FirstLookPolicy(FullyConnectedPolicy):
    """The ``fc`` policy that sees the face as it was before the first patch, at every step.

    "Use original LR image as input for policy network instead of image that has been locally
    enhanced at previous steps" (section 4.4). It keeps that face in its memory, so that it plays
    in the same environment as the others. Settings are those of
    :class:`~facehall_env.agents.reinforce.policies.FullyConnectedPolicy`.
    """

    name = "fc-first"

    def forward(
        self, observation: Mapping[str, Tensor], memory: AgentState | None = None
    ) -> tuple[Tensor, Tensor, AgentState]:
        """See :meth:`Policy.forward`; the memory also holds the first face, (N, H, W, 3)."""
        first = observation["image"]
        rest = None
        if memory is not None:
            goes_on = observation["step"].reshape(-1, 1, 1, 1) > 0
            first = memory["first"].where(goes_on, first)
            rest = {key: tensor for key, tensor in memory.items() if key != "first"}
        logits, value, after = super().forward({**observation, "image": first}, rest)
        return logits, value, {**after, "first": first}


POLICIES[FirstLookPolicy.name] = FirstLookPolicy
