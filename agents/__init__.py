"""Who chooses the patches.

```python
from facehall_env import agents

agent = agents.make("even", core)
action, state = agent.act(observation, state)
```
"""

from __future__ import annotations

if __name__ == "agents":
    raise ImportError(
        "import facehall_env.agents: the bare name agents would load a second copy of it."
    )

import os
from functools import partial
from pathlib import Path
from typing import Any

from facehall_env.agents.base import AGENTS, Agent, AgentState, Observation
from facehall_env.agents.change import ChangeAgent
from facehall_env.agents.controller import Controller
from facehall_env.agents.even import EvenAgent
from facehall_env.agents.first_look import FirstLookPolicy
from facehall_env.agents.oracle import GreedyOracle
from facehall_env.agents.qmap import QMapAgent
from facehall_env.agents.random import RandomAgent
from facehall_env.agents.reinforce import ReinforceAgent
from facehall_env.agents.rollout import Rollout, rollout
from facehall_env.agents.saliency import SaliencyAgent
from facehall_env.agents.static import StaticAgent
from facehall_env.agents.storage import load_agent
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError

__all__ = [
    "AGENTS",
    "SB3_ALGORITHMS",
    "Agent",
    "AgentState",
    "ChangeAgent",
    "Controller",
    "EvenAgent",
    "FirstLookPolicy",
    "GreedyOracle",
    "Observation",
    "QMapAgent",
    "RandomAgent",
    "ReinforceAgent",
    "Rollout",
    "SaliencyAgent",
    "StaticAgent",
    "available",
    "load",
    "make",
    "rollout",
]

SB3_ALGORITHMS = ("ppo", "recurrent_ppo", "maskable_ppo", "a2c", "dqn")
"""Algorithms of Stable-Baselines3 and sb3-contrib, which are agents by these names."""


def _sb3_agent(algorithm: str, core: HallucinationCore, **config: Any) -> Agent:
    # The extra is imported when one of its agents is asked for.
    from facehall_env.agents.sb3 import SB3Agent

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
        from facehall_env.agents.sb3 import load_archive

        return load_archive(path, core, allow_pickle)
    _, metadata = load_agent(path)
    return make(metadata["agent"], core, weights=path)
