"""The agents by name: listing them imports none, and neither torch."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facehall_env.errors import ConfigurationError
from facehall_env.registry import Registry

if TYPE_CHECKING:
    from facehall_env.agents.base import Agent
    from facehall_env.core import HallucinationCore

AGENTS: Registry[Agent] = Registry(
    "agent",
    "facehall_env.agents",
    {
        "change": "facehall_env.agents.fixed.largest_change:ChangeAgent",
        "even": "facehall_env.agents.fixed.even:EvenAgent",
        "oracle": "facehall_env.agents.oracle:GreedyOracle",
        "qmap": "facehall_env.agents.qmap.agent:QMapAgent",
        "random": "facehall_env.agents.fixed.random:RandomAgent",
        "rl": "facehall_env.agents.reinforce.agent:ReinforceAgent",
        "saliency": "facehall_env.agents.fixed.saliency:SaliencyAgent",
        "static": "facehall_env.agents.fixed.static:StaticAgent",
    },
)
"""Other packages join by the entry-point group ``facehall_env.agents``."""

SB3_ALGORITHMS = ("ppo", "recurrent_ppo", "maskable_ppo", "a2c", "dqn")
"""Algorithms of Stable-Baselines3 and sb3-contrib, which are agents by these names."""


def _sb3_agent(algorithm: str, core: HallucinationCore, **config: Any) -> Agent:
    # The extra is imported when one of its agents is asked for.
    from facehall_env.agents.integrations.sb3_agents import SB3Agent

    return SB3Agent(core, algorithm, **config)


for _algorithm in SB3_ALGORITHMS:
    AGENTS.register(_algorithm)(partial(_sb3_agent, _algorithm))


def make(name: str, core: HallucinationCore, **config: Any) -> Agent:
    """Builds an agent by name, as ``gym.make`` builds an environment.

    Args:
        name: One of :func:`available`.
        core: The environment's core; the agent chooses among its locations.
        **config: Settings of that agent; see its class.

    Raises:
        UnknownNameError: If no agent is registered under ``name``.
        ConfigurationError: If the agent does not have one of the settings.
        WeightsError: If its weights are missing, damaged, or made for something else.

    >>> from facehall_env import enhancers
    >>> from facehall_env.core import HallucinationCore
    >>> core = HallucinationCore(enhancers.make("bicubic"))
    >>> make("even", core).name
    'even'
    """
    factory = AGENTS.get(name)
    try:
        return factory(core, **config)
    except TypeError as error:
        raise ConfigurationError(
            f"The agent {name!r} cannot be built from {config} ({error}): see its docstring for "
            "its settings."
        ) from error


def available() -> list[str]:
    """Names that :func:`make` accepts."""
    return AGENTS.available()


def load(
    path: str | os.PathLike[str], core: HallucinationCore, allow_pickle: bool = False
) -> Agent:
    """The learned agent in a file, for this core.

    Args:
        path: A file of ours, or an archive (``.zip``) of Stable-Baselines3.
        core: The environment's core.
        allow_pickle: Whether the author of an archive is trusted: it can run any code.

    Raises:
        WeightsError: If the file is missing, damaged, not to be trusted, or made for other images
            or locations; both are named.
        MissingExtraError: If it is an agent of Stable-Baselines3, which is not installed.
    """
    if Path(path).suffix == ".zip":
        from facehall_env.agents.integrations.sb3_agents import load_archive

        return load_archive(path, core, allow_pickle)
    from facehall_env.agents.storage import load_agent

    _, metadata = load_agent(path)
    return make(metadata["agent"], core, weights=path)
