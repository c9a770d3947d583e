"""The network of ours behind Stable-Baselines3's algorithms.

The action head is spatial: 1x1 convolutions over a map of the face judge every location, whatever
the number of locations, where SB3's own heads have weights of their own for each one (8 million
for a location per pixel). All five policies share the layers of
:class:`~facehall_env.agents.reinforce.policies.ConvolutionalPolicy`:

    observation -> SpatialExtractor -> [summary | map] -> SpatialLatents -> actor:  SpatialHead
                                        (an LSTM reads the summary)      -> critic: one value
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.agents.reinforce.policies import SUMMARY, LocationJudge, MapEncoder
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError, MissingExtraError
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
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.type_aliases import Schedule
    from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
except ImportError as error:
    raise MissingExtraError("sb3-contrib", "sb3") from error

OBSERVATION = ("image", "coverage", "last_action", "step")
"""What the spatial policies read: the ``observation`` of environments that they are trained on."""
CRITIC_WIDTH = 64
HYPERPARAMETERS = Path(__file__).parents[1] / "hyperparameters"


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
        features: Tensor, lstm_states: tuple[Tensor, Tensor], episode_starts: Tensor, lstm: nn.LSTM
    ) -> tuple[Tensor, Tensor]:  # so says the base; the second is the pair of states
        output, states = RecurrentActorCriticPolicy._process_sequence(
            features[:, :SUMMARY], lstm_states, episode_starts, lstm
        )
        return torch.cat((output, features), dim=1), states


class DuellingHead(nn.Module):
    """Q values: the value of the face plus the advantage of each location over their mean."""

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


def hyperparameters(algorithm: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The tuned settings of an algorithm, out of ``hyperparameters/<algorithm>.json``, changed.

    Beside the keywords of the algorithm they are ``n_envs``, ``n_timesteps``, ``width`` (of the
    map) and ``policy_kwargs``; a learning rate ``"lin_0.001"`` falls linearly to zero, as in
    rl-baselines3-zoo.

    Raises:
        UnknownNameError: If there is no such algorithm, or it has no setting of a changed name.
    """
    if algorithm not in SPATIAL:
        raise unknown_name("algorithm", algorithm, SPATIAL)
    text = (HYPERPARAMETERS / f"{algorithm}.json").read_text(encoding="utf-8")
    settings: dict[str, Any] = json.loads(text)
    own = inspect.signature(SPATIAL[algorithm][0]).parameters
    known = {*settings, *own, "width"} - {"policy", "env", "seed", "device"}
    for name in changes or {}:
        if name not in known:
            raise unknown_name("hyperparameter", name, known)
    return {**settings, **(changes or {})}


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
        seed: Seed of everything drawn, the environment's faces included.
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
