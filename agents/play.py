"""Playing whole episodes of an agent on the core, with a stopwatch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from facehall_env.agents.base import Agent, AgentState
from facehall_env.clock import now
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.observations import observe
from facehall_env.state import CoreState


@dataclass(frozen=True)
class Rollout:
    """One episode of each of N faces.

    Attributes:
        actions: (N, T) int64, the locations in order.
        psnr: (N, T + 1) float64 in dB, of the image before the first and after each patch.
        state: The final state.
        agent_seconds: Time the agent took to choose, observations included.
        enhancer_seconds: Time the core took: restoring, pasting, measuring.
    """

    actions: Tensor
    psnr: Tensor
    state: CoreState
    agent_seconds: float
    enhancer_seconds: float

    @property
    def total_seconds(self) -> float:
        """Time of the whole episode."""
        return self.agent_seconds + self.enhancer_seconds

    @property
    def area(self) -> Tensor:
        """Area under each PSNR-by-patches curve: the mean over t = 1..T, (N,) in dB."""
        return self.psnr[:, 1:].mean(dim=1)


@torch.no_grad()
def rollout(
    core: HallucinationCore,
    agent: Agent,
    faces: Faces,
    deterministic: bool = True,
    on_step: Callable[[CoreState], None] | None = None,
) -> Rollout:
    """Plays one episode of every face, all at once on the core's device.

    A stochastic agent takes its most likely actions if ``deterministic``; ``on_step`` is called
    with the state at the start and after every step.
    """
    started = now(core.device)
    state = core.reset(faces)
    enhancer_seconds, agent_seconds = now(core.device) - started, 0.0
    memory: AgentState | None = None
    curve = [state.psnr]
    if on_step is not None:
        on_step(state)
    for _ in range(core.num_steps):
        started = now(core.device)
        observation = observe(core, state, agent.observation_keys)
        action, memory = agent.act(observation, memory, deterministic)
        chosen = now(core.device)
        state, _, _ = core.step(state, action)
        enhancer_seconds += now(core.device) - chosen
        agent_seconds += chosen - started
        curve.append(state.psnr)
        if on_step is not None:
            on_step(state)
    psnr = torch.stack(curve, dim=1)
    return Rollout(state.actions, psnr, state, agent_seconds, enhancer_seconds)
