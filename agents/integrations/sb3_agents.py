"""Agents that play policies of Stable-Baselines3, and their files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from facehall_env.agents.base import AgentState, Observation
from facehall_env.agents.integrations.sb3_policies import (
    OBSERVATION,
    SPATIAL,
    SpatialExtractor,
    build_policy,
)
from facehall_env.agents.storage import (
    LearnedAgent,
    check_geometry,
    describe_geometry,
    load_agent,
    shipped,
)
from facehall_env.checkpoints import fill
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError, MissingExtraError, WeightsError
from facehall_env.observations import KEYS, observation_space
from facehall_env.patches import PatchGeometry
from facehall_env.registry import unknown_name

try:
    from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
    from stable_baselines3.common.save_util import load_from_zip_file
    from stable_baselines3.common.vec_env import VecTransposeImage
    from stable_baselines3.dqn.policies import DQNPolicy
except ImportError as error:
    raise MissingExtraError("sb3-contrib", "sb3") from error


class SB3Agent(LearnedAgent):
    """Plays a policy of Stable-Baselines3 or sb3-contrib.

    Recurrent policies remember their LSTM's state, maskable ones the locations they have visited.

    Args:
        algorithm: What the policy was trained by, and the agent's name; one of
            :data:`~facehall_env.agents.SB3_ALGORITHMS` for the spatial policies.
        policy: A policy, such as ``model.policy``; by default an untrained spatial one.
        weights: A file written by :meth:`save`, ``"auto"`` for the agent that comes with the
            project for the core's enhancer and scale, or None.
        dataset: What ``"auto"`` should be trained on.

    Raises:
        UnknownNameError: If there is no such algorithm.
        ConfigurationError: If a policy and weights are both given.
        WeightsError: If the weights are missing or damaged, or weights or policy are made for
            another observation or other locations.
    """

    def __init__(
        self,
        core: HallucinationCore,
        algorithm: str = "ppo",
        policy: BasePolicy | None = None,
        weights: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
    ) -> None:
        self.name = algorithm
        self.provenance: dict[str, Any] = {}
        self.trained_steps = core.num_steps
        if policy is None:
            policy = self._make_policy(core, weights, dataset)
        elif weights is not None:
            raise ConfigurationError(
                f"The {algorithm} agent was given a policy and weights: give one of them."
            )
        else:
            check_spaces("The policy", _spaces_text(policy), core, policy.observation_space)
        # Each kind of policy has a _predict of its own signature, hence Any.
        self.policy: Any = policy.to(core.device)
        entries: Any = policy.observation_space
        self._entries = dict(entries.spaces)
        super().__init__(core, tuple(dict.fromkeys((*self._entries, "step"))))

    @torch.no_grad()
    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState]:
        """The policy's actions, (N,); remembers an LSTM's state or the visited locations."""
        self.policy.set_training_mode(False)
        seen = {key: self._entry(observation, key) for key in self._entries}
        begins = self.steps_taken(observation) == 0
        if isinstance(self.policy, RecurrentActorCriticPolicy):
            return self._act_with_memory(seen, begins, state, deterministic)
        if isinstance(self.policy, MaskableActorCriticPolicy):
            return self._act_masked(seen, begins, state, deterministic)
        action: Tensor = self.policy._predict(seen, deterministic)
        return action.reshape(-1), {}

    def stored(self) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """See :meth:`LearnedAgent.stored`.

        Raises:
            ConfigurationError: If the policy is not one of the spatial ones, which alone can be
                built again from their settings.
        """
        if self.name not in SPATIAL or not isinstance(self.policy, SPATIAL[self.name][1]):
            raise ConfigurationError(
                f"A {type(self.policy).__name__} of {self.name!r} cannot be saved without a "
                "pickle: use the spatial policies, or the model's own save()."
            )
        config = {
            **_spaces_text(self.policy),
            "num_steps": self.trained_steps,
            "width": _extractor(self.policy).map_shape[0],
            "policy_kwargs": _memory_settings(self.policy),
        }
        return self.policy.state_dict(), config

    def _make_policy(
        self, core: HallucinationCore, weights: str | os.PathLike[str] | None, dataset: str | None
    ) -> BasePolicy:
        if self.name not in SPATIAL:
            raise unknown_name("algorithm", self.name, SPATIAL)
        space = channels_first(observation_space(core, OBSERVATION))
        if weights is None:
            return build_policy(self.name, core, space)
        path = shipped(self.name, core, dataset) if weights == "auto" else weights
        tensors, metadata = load_agent(path, self.name)
        config = metadata["config"]
        check_spaces(f"{path}", config, core, space)
        check_geometry(path, metadata["geometry"], core.geometry)
        policy = build_policy(self.name, core, space, config["width"], config["policy_kwargs"])
        fill(policy, tensors, f"{path} for the {self.name!r} policy")
        self.provenance, self.trained_steps = metadata["provenance"], config["num_steps"]
        return policy

    def _entry(self, observation: Observation, key: str) -> Tensor:
        """An entry as the policy wants it: channels first, the step as in training."""
        value = self.read(observation, key)
        if key == "step":
            return value * (self.num_steps / self.trained_steps)
        if tuple(value.shape[1:]) != self._entries[key].shape:
            value = value.permute(0, 3, 1, 2)
        return value

    def _act_with_memory(
        self, seen: dict[str, Tensor], begins: Tensor, state: AgentState | None, deterministic: bool
    ) -> tuple[Tensor, AgentState]:
        if state is None:
            layers, _, units = self.policy.lstm_hidden_state_shape
            zeros = torch.zeros(len(begins), layers, units, device=self.device)
            state = {"hidden": zeros, "cell": zeros}
        # SB3 has the layers first; agents' memories have one row per face.
        before = (state["hidden"].transpose(0, 1), state["cell"].transpose(0, 1))
        before = (before[0].contiguous(), before[1].contiguous())
        action, after = self.policy._predict(seen, before, begins.float(), deterministic)
        memory = {"hidden": after[0].transpose(0, 1), "cell": after[1].transpose(0, 1)}
        return action.reshape(-1), memory

    def _act_masked(
        self, seen: dict[str, Tensor], begins: Tensor, state: AgentState | None, deterministic: bool
    ) -> tuple[Tensor, AgentState]:
        shape = (len(begins), self.geometry.num_locations)
        visited = torch.zeros(shape, dtype=torch.bool, device=self.device)
        if state is not None:
            visited = state["visited"] & ~begins[:, None]
        free = ~visited | visited.all(dim=1, keepdim=True)
        action = self.policy._predict(seen, deterministic, free).reshape(-1)
        return action, {"visited": visited.scatter(1, action[:, None], True)}


def load_archive(
    path: str | os.PathLike[str], core: HallucinationCore, allow_pickle: bool = False
) -> SB3Agent:
    """The agent in an archive that a model's own ``save`` has written.

    Args:
        path: The ``.zip`` file, of any algorithm for discrete actions, with any policy.
        core: The environment's core.
        allow_pickle: Whether its author is trusted to run code here.

    Raises:
        WeightsError: If it is not allowed, missing, no such archive, or made for another
            observation or other locations; both are named.
    """
    file = Path(path)
    if not zipfile.is_zipfile(file):
        raise WeightsError(f"{file} is missing or no archive of Stable-Baselines3: check the path.")
    if not allow_pickle:
        raise WeightsError(
            f"{file} holds pickles, which can run any code of whoever made it as soon as they are "
            "read: if you trust them, say so by --trust-pickle or allow_pickle=True; otherwise "
            "use the best.safetensors of `facehall train agent`, which holds none."
        )
    data, parameters, _ = load_from_zip_file(file, device=core.device)
    try:
        policy = data["policy_class"](  # type: ignore[index]
            data["observation_space"],  # type: ignore[index]
            data["action_space"],  # type: ignore[index]
            lambda _: 0.0,
            **data["policy_kwargs"],  # type: ignore[index]
        )
        policy.load_state_dict(parameters["policy"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{file} holds no policy that can be built again ({error}): save it with the versions "
            "of Stable-Baselines3 that are installed here."
        ) from error
    agent = SB3Agent(core, file.stem, policy=policy)
    made_for = getattr(getattr(policy, "features_extractor", None), "geometry", None)
    if isinstance(made_for, PatchGeometry):  # Spatial policies have one; others only a number.
        check_geometry(file, describe_geometry(made_for), core.geometry)
    return agent


def check_spaces(
    what: str, theirs: Mapping[str, str], core: HallucinationCore, space: spaces.Space[Any]
) -> None:
    """Checks that a policy is made for this observation and these locations.

    Args:
        what: Name of the policy for an error message.
        theirs: Its spaces as texts, under ``observation_space`` and ``action_space``.
        core: The environment's core.
        space: The policy's observation space, whose entries' names say what to compare.

    Raises:
        WeightsError: With both spaces in the message.
    """
    ours: dict[str, str] = {"action_space": str(spaces.Discrete(core.geometry.num_locations))}
    known = isinstance(space, spaces.Dict) and set(space.spaces) <= set(KEYS)
    keys = tuple(space.spaces) if isinstance(space, spaces.Dict) and known else OBSERVATION
    ours["observation_space"] = _text(channels_first(observation_space(core, keys)))
    for name, own in ours.items():
        if theirs[name] != own:
            raise WeightsError(
                f"{what} was trained with the {name.replace('_', ' ')} {theirs[name]}, but the "
                f"environment has {own}: create the environment with the settings of the "
                "training, or train an agent for it."
            )


def channels_first(space: spaces.Dict) -> spaces.Dict:
    """The space as Stable-Baselines3's models see it, which puts the channels of images first."""
    entries = dict(space.spaces)
    for key, entry in entries.items():
        if not isinstance(entry, spaces.Box) or not is_image_space(entry):
            continue
        if not is_image_space_channels_first(entry):
            entries[key] = VecTransposeImage.transpose_space(entry, key)
    return spaces.Dict(entries)


def _text(space: spaces.Space[Any]) -> str:
    """The space in words, its entries by the alphabet, since their order means nothing."""
    if isinstance(space, spaces.Dict):
        space = spaces.Dict(dict(sorted(space.spaces.items())))
    return str(space)


def _spaces_text(policy: BasePolicy) -> dict[str, str]:
    return {
        "observation_space": _text(policy.observation_space),
        "action_space": str(policy.action_space),
    }


def _extractor(policy: BasePolicy) -> SpatialExtractor:
    network = policy.q_net if isinstance(policy, DQNPolicy) else policy
    extractor = network.features_extractor
    if not isinstance(extractor, SpatialExtractor):
        raise ConfigurationError(
            f"The policy's features come from a {type(extractor).__name__}, expected a "
            "SpatialExtractor: leave features_extractor_class out."
        )
    return extractor


def _memory_settings(policy: BasePolicy) -> dict[str, Any]:
    """Keywords that build the LSTMs of a recurrent policy again."""
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return {}
    return {
        "lstm_hidden_size": policy.lstm_actor.hidden_size,
        "n_lstm_layers": policy.lstm_actor.num_layers,
        "shared_lstm": policy.shared_lstm,
        "enable_critic_lstm": policy.enable_critic_lstm,
    }
