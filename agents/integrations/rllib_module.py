"""Our recurrent policies as RLlib's modules; imported where Ray is."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns  # pyright: ignore[reportMissingImports]
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI  # pyright: ignore[reportMissingImports]
from ray.rllib.core.rl_module.torch import TorchRLModule  # pyright: ignore[reportMissingImports]
from torch import Tensor

from facehall_env.agents.base import AgentState
from facehall_env.agents.reinforce.policies import make_policy
from facehall_env.patches import PatchGeometry


class PolicyModule(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]  # no types there
    """A :class:`~facehall_env.agents.reinforce.policies.Policy` that RLlib samples from and learns.

    ``model_config`` has ``policy`` (its name), ``geometry`` (keywords of `PatchGeometry`),
    ``num_steps``, ``seed`` (of the weights), and RLlib's own ``max_seq_len``, one more than
    ``num_steps``: RLlib appends a step to each episode for the value of its end, and whole
    episodes are learned from.
    """

    def setup(self) -> None:
        """Builds the policy from ``model_config``."""
        config = self.model_config
        geometry = PatchGeometry(**config["geometry"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config["seed"])
            self.policy = make_policy(config["policy"], geometry, num_steps=config["num_steps"])

    def get_initial_state(self) -> AgentState:
        """An empty memory of one episode, which the policy clears by itself besides."""
        return {name: torch.zeros(self.policy.hidden) for name in ("hidden", "cell")}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Expected returns, (N, T); ``embeddings`` are these already."""
        return self._play(batch)[1] if embeddings is None else embeddings

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        logits, _values, memory = self._play(batch)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.STATE_OUT: memory}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        logits, values, _memory = self._play(batch)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.EMBEDDINGS: values}

    def _play(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, AgentState]:
        """Logits (N, T, locations), values (N, T) and the memory after T steps."""
        observation, memory = batch[Columns.OBS], batch[Columns.STATE_IN]
        steps = []
        for t in range(observation["step"].shape[1]):
            seen = {key: values[:, t] for key, values in observation.items()}
            logits, value, memory = self.policy(seen, memory)
            steps.append((logits, value))
        logits, values = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return logits, values, memory
