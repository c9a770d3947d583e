"""The agent that plays a policy network, and how a policy is made, shown a face and sampled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facehall_env.agents.base import AgentState, Observation
from facehall_env.agents.reinforce.policies import Policy, make_policy
from facehall_env.agents.storage import LearnedAgent, check_geometry, load_agent, shipped
from facehall_env.checkpoints import fill
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError
from facehall_env.training.distributed import Team

SMALLEST_LOGIT = -1e9
"""The logit of a location that is not to be chosen."""


class ReinforceAgent(LearnedAgent):
    """Plays a policy network.

    Args:
        policy: The network, or the name of one: ``"conv"``, ``"fc"`` or ``"ipfh"``.
        weights: A file written by :meth:`save`, ``"auto"`` for the agent that comes with the
            project for the core's enhancer and scale, or None for an untrained network.
        dataset: What ``"auto"`` should be trained on.
        mask_visited: Never visit a location twice in an episode; as trained by default.
        seed: Seed of sampled actions (``deterministic=False``) and of an untrained network.

    Raises:
        UnknownNameError: If there is no such policy.
        ConfigurationError: If a network and weights are both given.
        WeightsError: If the file is missing, damaged, or made for other images or locations.
    """

    name = "rl"

    def __init__(
        self,
        core: HallucinationCore,
        policy: str | Policy = "conv",
        weights: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
        mask_visited: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.provenance: dict[str, Any] = {}
        if isinstance(policy, str):
            policy, trained_with_mask = self._make_policy(core, policy, weights, dataset, seed)
        elif weights is not None:
            raise ConfigurationError(
                "The rl agent was given a network and weights: give the network's name with "
                "weights, or load them into the network before."
            )
        else:
            trained_with_mask = False
        super().__init__(core, policy.observation_keys)
        self.policy = policy.to(core.device)
        self.mask_visited = trained_with_mask if mask_visited is None else mask_visited
        self._generator = torch.Generator(core.device).manual_seed(seed)

    @torch.no_grad()
    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState]:
        """The most likely locations, or sampled ones, (N,); remembers the LSTM's state."""
        seen = {key: self.read(observation, key) for key in self.observation_keys}
        logits, _, memory = self.policy(counted(seen, self.num_steps, self.policy), state)
        if self.mask_visited:
            visited = self._visited(observation, state, logits)
            everything = visited.all(dim=1, keepdim=True)
            logits = logits.masked_fill(visited & ~everything, SMALLEST_LOGIT)
        action = logits.argmax(1) if deterministic else draw(logits, self._generator)
        if self.mask_visited:
            memory["visited"] = visited.scatter(1, action[:, None], True)
        return action, memory

    def stored(self) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """See :meth:`LearnedAgent.stored`."""
        policy = self.policy
        config = {"policy": policy.name, "mask_visited": self.mask_visited, **policy.config}
        return policy.state_dict(), config

    def _make_policy(
        self,
        core: HallucinationCore,
        name: str,
        weights: str | os.PathLike[str] | None,
        dataset: str | None,
        seed: int,
    ) -> tuple[Policy, bool]:
        """The network, and whether it was trained never to visit a location twice."""
        if weights is None:
            return untrained_policy(name, core, seed), False
        path = shipped(f"rl-{name}", core, dataset) if weights == "auto" else weights
        tensors, metadata = load_agent(path, self.name)
        check_geometry(path, metadata["geometry"], core.geometry)
        config = dict(metadata["config"])
        trained_with_mask = bool(config.pop("mask_visited"))
        policy = make_policy(config.pop("policy"), core.geometry, **config)
        fill(policy, tensors, f"{path} for the {policy.name!r} policy")
        self.provenance = metadata["provenance"]
        return policy, trained_with_mask

    def _visited(
        self, observation: Observation, state: AgentState | None, logits: Tensor
    ) -> Tensor:
        """Which locations this episode has visited, (N, num_locations) bool."""
        if state is None:
            return torch.zeros_like(logits, dtype=torch.bool)
        goes_on = self.steps_taken(observation) > 0
        return state["visited"] & goes_on[:, None]


def untrained_policy(name: str, core: HallucinationCore, seed: int) -> Policy:
    """A policy network for the core's locations, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = make_policy(name, core.geometry, num_steps=core.num_steps)
    return policy.to(core.device)


def initial_policy(core: HallucinationCore, name: str, init: Path | None, seed: int) -> Policy:
    """The network that training starts from: that of ``init``, or an untrained one.

    Raises:
        ConfigurationError: If the file holds another network.
        WeightsError: If it is missing, damaged, or made for other images or locations.
    """
    if init is None:
        return untrained_policy(name, core, seed)
    policy = ReinforceAgent(core, weights=init).policy
    if policy.name != name:
        raise ConfigurationError(
            f"{init} holds a {policy.name!r} policy, but policy={name!r}: give both the same."
        )
    return policy


def counted(observation: Mapping[str, Tensor], num_steps: int, policy: Policy) -> dict[str, Tensor]:
    """The observation with ``step`` in units of the episodes that the policy was made for.

    So after t patches a policy sees the same whatever the length of the present episodes.
    """
    return {**observation, "step": observation["step"] * (num_steps / policy.num_steps)}


def draw(logits: Tensor, generator: torch.Generator, team: Team | None = None) -> Tensor:
    """Samples one action per row, (N, A) to (N,) int64; nothing flows through it.

    The actions are those of `torch.multinomial`, which would look at the probabilities on the
    host; on several devices, those that one would draw for the rows of all.
    """
    team = team or Team()
    number, actions = logits.shape
    race = logits.new_empty(team.size * number, actions).exponential_(generator=generator)
    return (logits.detach().softmax(1) / team.own(race)).argmax(1)
