"""QMap: what restoring the patch at any location would win, for all locations at once.

The return of an episode is the sum of the gains of its steps, and while an agent is trained the
truth is there: the gain of *any* location can be measured by restoring the patch there without
pasting it. So there is no need to learn from sampled returns. A fully convolutional network looks
at the face and predicts the gain at every location; the agent goes where it expects most.

    Q(s, a) = gain(s, a) + gamma * E[max over a' of Q(s', a')]

With gamma = 0 that is a regression of measured gains. With a larger gamma a second head predicts
the discounted rest, by double Q-learning on the steps that were taken.

What a patch wins depends on the truth linearly: |I - truth|^2 - |R - truth|^2, of a face I that
becomes R, is (I - R)(I + R - 2 truth). So the expected gain needs no more of the truth than its
expectation, and that is what a network trained to restore whole faces with the least squared error
estimates. Such a network is the agent's *guess*: the gains by it are where the agent starts from,
and what it learns is by how much they are wrong. Learning is off-policy: the
states come from the agent's own episodes, are kept in a replay memory and used many times.

The network is in :mod:`facehall_env.agents.qmap.network`, the learning in
:mod:`facehall_env.agents.qmap.learner`; here is the agent that they make.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facehall_env.agents.base import AgentState, Observation
from facehall_env.agents.lookahead import check_sees_enough
from facehall_env.agents.qmap.learner import untrained_network
from facehall_env.agents.qmap.network import KEYS, GainNetwork, look_closer, remember_guess
from facehall_env.agents.settings import QMapConfig
from facehall_env.agents.storage import LearnedAgent, check_geometry, load_agent, shipped
from facehall_env.checkpoints import fill, under_prefix, with_prefix
from facehall_env.core import HallucinationCore
from facehall_env.enhancers import Enhancer
from facehall_env.enhancers.weights import build, describe
from facehall_env.errors import ConfigurationError


class QMapAgent(LearnedAgent):
    """Goes where the network expects most.

    Args:
        network: Predicts the gains; or None, and ``weights``.
        guess: Restores whole faces, for networks that start from a guess of the truth.
        weights: A file written by :meth:`save`, ``"auto"`` for the agent that comes with the
            project for the core's enhancer and scale, or None for an untrained network.
        dataset: What ``"auto"`` should be trained on.
        temperature: Temperature of sampled actions (``deterministic=False``), in typical gains.
        seed: Seed of sampled actions and of an untrained network.

    Raises:
        ConfigurationError: If a network and weights are both given.
        WeightsError: If the file is missing, damaged, or made for other images or locations.
    """

    name = "qmap"

    def __init__(
        self,
        core: HallucinationCore,
        network: GainNetwork | None = None,
        weights: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
        temperature: float = 0.1,
        seed: int = 0,
        guess: Enhancer | None = None,
    ) -> None:
        super().__init__(core, KEYS)
        self.provenance: dict[str, Any] = {}
        if network is not None and weights is not None:
            raise ConfigurationError(
                "The qmap agent was given a network and weights: give one of them."
            )
        if weights is not None:
            network, guess = self._load(
                core, shipped("qmap", core, dataset) if weights == "auto" else weights
            )
        elif network is None:
            network = untrained_network(core, QMapConfig(seed=seed))
        if network.guess != (guess is not None):
            raise ConfigurationError(
                f"The qmap network is made for guess={network.guess}, but was given "
                f"{'none' if guess is None else guess.name}: give it what it was trained with."
            )
        if network.lookahead:
            check_sees_enough(core)
        self.network = network.to(core.device)
        self.guess = None if guess is None else guess.to(core.device).eval()
        self.core = core
        self.temperature = temperature
        self._generator = torch.Generator(core.device).manual_seed(seed)

    @torch.no_grad()
    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """The best locations, or sampled ones, (N,); the guess is made once and kept."""
        seen = {key: self.read(observation, key) for key in self.observation_keys}
        if self.guess is not None:
            state = remember_guess(self.guess, seen, state)
        look_closer(self.core, self.network, seen, None if state is None else state["guess"])
        gain, rest, _ = self.network(seen)
        value = gain + rest
        if deterministic:
            return value.argmax(1), state
        chances = (value / self.temperature).softmax(1)
        return torch.multinomial(chances, 1, generator=self._generator)[:, 0], state

    def stored(self) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """See :meth:`LearnedAgent.stored`."""
        tensors = with_prefix("network", self.network.state_dict())
        config: dict[str, Any] = {"network": self.network.config}
        if self.guess is not None:
            # In half precision: of a guess, three digits are more than enough.
            halves = {name: value.half() for name, value in self.guess.state_dict().items()}
            tensors |= with_prefix("guess", halves)
            config["guess"] = describe(self.guess)
        return tensors, config

    def _load(
        self, core: HallucinationCore, path: str | os.PathLike[str]
    ) -> tuple[GainNetwork, Enhancer | None]:
        tensors, metadata = load_agent(path, self.name)
        check_geometry(path, metadata["geometry"], core.geometry)
        network = GainNetwork(core.geometry, **metadata["config"]["network"])
        fill(network, under_prefix("network", tensors), f"{path} for the qmap network")
        self.provenance = metadata["provenance"]
        guess = None
        if "guess" in metadata["config"]:
            guess = build(metadata["config"]["guess"])
            halves = under_prefix("guess", tensors)
            singles = {name: value.float() for name, value in halves.items()}
            fill(guess, singles, f"{path} for the guess of the qmap agent")
        return network, guess
