"""Stable-Baselines3's algorithms with a network of ours, and their agents.

The action head is spatial: 1x1 convolutions over a map of the face judge every location, whatever
the number of locations, where SB3's own heads have weights of their own for each one (8 million
for a location per pixel). All five policies share the layers of
:class:`~facehall_env.agents.reinforce.policies.ConvolutionalPolicy`:

    observation -> SpatialExtractor -> [summary | map] -> SpatialLatents -> actor:  SpatialHead
                                        (an LSTM reads the summary)      -> critic: one value
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.agents.reinforce.policies import SUMMARY, LocationJudge, MapEncoder
from facehall_env.agents.storage import (
    check_geometry,
    describe_geometry,
    load_agent,
    save_agent,
    shipped,
)
from facehall_env.checkpoints import fill
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError, MissingExtraError, WeightsError
from facehall_env.observations import KEYS, observation_space
from facehall_env.patches import PatchGeometry
from facehall_env.registry import unknown_name
from facehall_env.sb3 import FaceHallucinationVecEnv

try:
    from sb3_contrib import MaskablePPO, RecurrentPPO
    from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    from stable_baselines3 import A2C, DQN, PPO
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
    from stable_baselines3.common.preprocessing import (
        is_image_space,
        is_image_space_channels_first,
    )
    from stable_baselines3.common.save_util import load_from_zip_file
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.type_aliases import Schedule
    from stable_baselines3.common.vec_env import VecTransposeImage
    from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
except ImportError as error:
    raise MissingExtraError("sb3-contrib", "sb3") from error

OBSERVATION = ("image", "coverage", "last_action", "step")
"""What the spatial policies read: the ``observation`` of environments that they are trained on."""
CRITIC_WIDTH = 64
HYPERPARAMETERS = Path(__file__).parent / "hyperparameters"


class SpatialExtractor(MapEncoder, BaseFeaturesExtractor):
    """Features extractor: a summary of the face, and a map with one cell per 8x8 pixels.

    Args:
        observation_space: A `Dict` with the entries of :data:`OBSERVATION`, channels first.
        geometry: The locations of the environment, ``core.geometry``.
        width: Channels of the map.

    Raises:
        ConfigurationError: If an entry is missing or the image cannot be divided into cells.
    """

    def __init__(
        self, observation_space: spaces.Dict, geometry: PatchGeometry, width: int = 32
    ) -> None:
        missing = [key for key in OBSERVATION if key not in observation_space.spaces]
        if missing:
            raise ConfigurationError(
                f"The spatial policy reads {missing[0]!r}, but the observation has only "
                f"{sorted(observation_space.spaces)}: create the environment with observation="
                f"{OBSERVATION}."
            )
        BaseFeaturesExtractor.__init__(self, observation_space, features_dim=SUMMARY)
        self._add_encoder(geometry.image_size, width)
        self.geometry = geometry
        self.map_shape = tuple(self.position.shape)
        self._features_dim = SUMMARY + self.position.numel()

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Features (N, SUMMARY + width * H/8 * W/8) of an observation with images in [0, 1]."""
        cells = self.encode(observation["image"] - 0.5, observation["coverage"] - 0.5)
        summary = self.summary(cells, observation["last_action"], observation["step"])
        return torch.cat((summary, cells.flatten(1)), dim=1)


class SpatialLatents(nn.Module):
    """What SB3 calls the MLP extractor: the rectified map for the actor, a vector for the critic.

    Args:
        extractor: Where the features come from.
        memory: Units of an LSTM whose output stands before the features; it is laid over the map.
    """

    def __init__(self, extractor: SpatialExtractor, memory: int = 0) -> None:
        super().__init__()
        self.map_shape, self.memory = extractor.map_shape, memory
        self.latent_dim_pi, self.latent_dim_vf = math.prod(self.map_shape), CRITIC_WIDTH
        if memory:
            self.recollection = nn.Linear(memory, self.map_shape[0])
        self.critic = nn.Sequential(nn.Linear(memory + SUMMARY, CRITIC_WIDTH), nn.ReLU())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The actor's and the critic's latents."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """(N, width * H/8 * W/8), the map in a row."""
        cells = features[:, self.memory + SUMMARY :].unflatten(1, self.map_shape)
        if self.memory:
            cells = cells + self.recollection(features[:, : self.memory])[:, :, None, None]
        return functional.relu(cells).flatten(1)

    def forward_critic(self, features: Tensor) -> Tensor:
        """(N, 64)."""
        latent: Tensor = self.critic(features[:, : self.memory + SUMMARY])
        return latent


class SpatialHead(LocationJudge):
    """From the actor's latents to one number for each location: logits or Q values."""

    def __init__(self, extractor: SpatialExtractor) -> None:
        super().__init__()
        self.map_shape = extractor.map_shape
        self._add_judge(extractor.geometry, self.map_shape[0])

    def forward(self, latent: Tensor) -> Tensor:
        """(N, width * H/8 * W/8) to (N, num_locations)."""
        return self.judge(latent.unflatten(1, self.map_shape))


class _SpatialActor:
    """Mixin: puts the spatial layers into one of SB3's actor-critic policies."""

    # The base classes' attributes have narrower types.
    mlp_extractor: Any
    action_net: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("features_extractor_class", SpatialExtractor)
        super().__init__(*args, **kwargs)

    def _build(self: Any, lr_schedule: Schedule) -> None:
        # As in the base, but for the layers, and without the orthogonal initialisation with its
        # gain of 0.01 for each layer of the head: three of them would leave no gradient.
        memory = getattr(self, "lstm_output_dim", 0)
        self.mlp_extractor = SpatialLatents(self.features_extractor, memory)
        self.action_net = SpatialHead(self.features_extractor)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )


class SpatialActorCriticPolicy(_SpatialActor, ActorCriticPolicy):
    """Policy of PPO and A2C; give ``features_extractor_kwargs={"geometry": core.geometry}``."""


class SpatialMaskablePolicy(_SpatialActor, MaskableActorCriticPolicy):
    """Policy of MaskablePPO; see :class:`SpatialActorCriticPolicy`."""


class SpatialRecurrentPolicy(_SpatialActor, RecurrentActorCriticPolicy):
    """Policy of RecurrentPPO: an LSTM reads the summary, and its output is laid over the map.

    Raises:
        ConfigurationError: If the critic is to have no LSTM at all.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not (kwargs.get("shared_lstm", False) or kwargs.get("enable_critic_lstm", True)):
            raise ConfigurationError(
                "shared_lstm and enable_critic_lstm are both false, but the spatial policy's "
                "critic reads an LSTM: set one of them."
            )
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        # The base class sizes the LSTMs by this after building all else.
        self.features_dim = SUMMARY

    @staticmethod
    def _process_sequence(
        features: Tensor,
        lstm_states: tuple[Tensor, Tensor],
        episode_starts: Tensor,
        lstm: nn.LSTM,
    ) -> tuple[Tensor, Tensor]:  # so says the base; the second is the pair of states
        output, states = RecurrentActorCriticPolicy._process_sequence(
            features[:, :SUMMARY], lstm_states, episode_starts, lstm
        )
        return torch.cat((output, features), dim=1), states


class DuellingHead(nn.Module):
    """Q values: the value of the face plus the advantage of each location over their mean.

    Args:
        extractor: Where the features come from.
    """

    def __init__(self, extractor: SpatialExtractor) -> None:
        super().__init__()
        self.latents = SpatialLatents(extractor)
        self.advantage = SpatialHead(extractor)
        self.value = nn.Linear(CRITIC_WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features to (N, num_locations)."""
        actor, critic = self.latents(features)
        advantage: Tensor = self.advantage(actor)
        q_values: Tensor = self.value(critic) + advantage - advantage.mean(1, keepdim=True)
        return q_values


class SpatialDQNPolicy(DQNPolicy):
    """Policy of DQN; see :class:`SpatialActorCriticPolicy`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("features_extractor_class", SpatialExtractor)
        # The dense layers are replaced below: one unit, so that they cost nothing until then.
        super().__init__(*args, **{**kwargs, "net_arch": [1]})

    def make_q_net(self) -> QNetwork:
        """A Q network with the spatial head."""
        network = super().make_q_net()
        extractor = network.features_extractor
        network.q_net = nn.Sequential(DuellingHead(extractor).to(self.device))  # type: ignore[arg-type]
        return network


SPATIAL: dict[str, tuple[type[BaseAlgorithm], type[BasePolicy]]] = {
    "ppo": (PPO, SpatialActorCriticPolicy),
    "recurrent_ppo": (RecurrentPPO, SpatialRecurrentPolicy),
    "maskable_ppo": (MaskablePPO, SpatialMaskablePolicy),
    "a2c": (A2C, SpatialActorCriticPolicy),
    "dqn": (DQN, SpatialDQNPolicy),
}
"""Each algorithm by its name, and its policy with the spatial head."""


def hyperparameters(algorithm: str) -> dict[str, Any]:
    """The tuned settings of an algorithm, out of ``hyperparameters/<algorithm>.json``.

    Beside the keywords of the algorithm they are ``n_envs``, ``n_timesteps``, ``width`` (of the
    map) and ``policy_kwargs``; a learning rate ``"lin_0.001"`` falls linearly to zero, as in
    rl-baselines3-zoo.

    Raises:
        UnknownNameError: If there is no such algorithm.
    """
    if algorithm not in SPATIAL:
        raise unknown_name("algorithm", algorithm, SPATIAL)
    text = (HYPERPARAMETERS / f"{algorithm}.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    return settings


def make_model(
    algorithm: str,
    envs: FaceHallucinationVecEnv,
    seed: int | None = None,
    width: int = 32,
    policy_kwargs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> BaseAlgorithm:
    """An untrained model of Stable-Baselines3 with the spatial policy.

    Args:
        algorithm: ``"ppo"``, ``"recurrent_ppo"``, ``"maskable_ppo"``, ``"a2c"`` or ``"dqn"``.
        envs: What it learns on; its observation has the entries of :data:`OBSERVATION`.
        seed: Of all that is drawn, the environment's faces included.
        width: Channels of the policy's map.
        policy_kwargs: Further settings of the policy, such as ``lstm_hidden_size``.
        **settings: Keywords of the algorithm.

    Raises:
        UnknownNameError: If there is no such algorithm.
        ConfigurationError: If it does not have one of the settings, or the observation lacks an
            entry.

    >>> envs = FaceHallucinationVecEnv(2, enhancer="bicubic", observation=OBSERVATION)
    >>> model = make_model("ppo", envs, n_steps=5, batch_size=10)
    >>> sum(parameter.numel() for parameter in model.policy.parameters())
    37602
    """
    if algorithm not in SPATIAL:
        raise unknown_name("algorithm", algorithm, SPATIAL)
    factory, policy = SPATIAL[algorithm]
    extractor = {"geometry": envs.core.geometry, "width": width}
    if isinstance(rate := settings.get("learning_rate"), str):
        settings["learning_rate"] = _schedule(rate)
    try:
        return factory(
            policy,
            envs,
            policy_kwargs={**(policy_kwargs or {}), "features_extractor_kwargs": extractor},
            seed=seed,
            device=envs.core.device,
            **settings,
        )
    except TypeError as error:
        raise ConfigurationError(
            f"{algorithm} cannot be built from {settings} ({error}): see "
            f"agents/hyperparameters/{algorithm}.json and the documentation of "
            f"{factory.__name__} for its settings."
        ) from error


def _schedule(text: str) -> Schedule:
    kind, separator, start = text.partition("_")
    try:
        rate = float(start)
    except ValueError:
        rate = math.nan
    if kind != "lin" or not separator or not rate > 0:
        raise ConfigurationError(
            f"learning_rate={text!r} is no schedule: give a number, or lin_0.001 for a rate that "
            "falls linearly to zero."
        )
    return lambda remaining: remaining * rate


def channels_first(space: spaces.Dict) -> spaces.Dict:
    """The space as Stable-Baselines3's models see it, which puts the channels of images first."""
    return spaces.Dict(
        {
            key: VecTransposeImage.transpose_space(entry, key)
            if isinstance(entry, spaces.Box)
            and is_image_space(entry)
            and not is_image_space_channels_first(entry)
            else entry
            for key, entry in space.spaces.items()
        }
    )


class SB3Agent(Agent):
    """Plays a policy of Stable-Baselines3 or sb3-contrib.

    Recurrent policies remember their LSTM's state, maskable ones the locations they have visited.

    Args:
        core: The environment's core.
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

    def save(
        self, path: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a spatial policy with what it was trained for, without a pickle.

        Args:
            path: File to write, whole or not at all.
            provenance: How it was trained. JSON-serialisable.

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
        save_agent(
            path,
            self.name,
            self.policy.state_dict(),
            self.geometry,
            config,
            self.provenance if provenance is None else provenance,
        )

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


def build_policy(
    algorithm: str,
    core: HallucinationCore,
    space: spaces.Dict,
    width: int = 32,
    policy_kwargs: Mapping[str, Any] | None = None,
) -> BasePolicy:
    """An untrained spatial policy without an algorithm around it."""
    extractor = {"geometry": core.geometry, "width": width}
    locations = spaces.Discrete(core.geometry.num_locations)
    return SPATIAL[algorithm][1](
        space,
        locations,
        lambda _: 0.0,  # the learning rate of an optimiser of no use
        features_extractor_kwargs=extractor,
        **(policy_kwargs or {}),
    )


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
    if isinstance(made_for, PatchGeometry):  # Of spatial policies; others know a number only.
        check_geometry(file, describe_geometry(made_for), core.geometry)
    return agent


def check_spaces(
    what: str, theirs: Mapping[str, str], core: HallucinationCore, space: spaces.Space[Any]
) -> None:
    """Refuses a policy made for another observation or other locations.

    Args:
        what: Whose policy it is, as an error should call it.
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
