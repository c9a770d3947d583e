"""Who plays in the patch-selection benchmark: from names and files to agents on their cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facehall_env import agents, enhancers
from facehall_env.agents.storage import archive_locations, grid_of, load_agent, shipped
from facehall_env.benchmarks.quality.patch_selection_table import START
from facehall_env.benchmarks.scoring import Contestant
from facehall_env.core import HallucinationCore
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError
from facehall_env.spec import BICUBIC, Setup, build_core

if TYPE_CHECKING:
    from facehall_env.benchmarks.quality.patch_selection import PatchSelectionConfig

LEARNED = {
    "rl": "rl-conv",
    **{name: name for name in ("static", "qmap", *agents.SB3_ALGORITHMS)},
}
"""Agents that need weights, and what the names of the shipped files begin with."""

ORACLE_BATCH = 8
"""Most images that the oracle plays at once: it restores many patches of each, and an interrupt
loses a batch."""


@dataclass(frozen=True)
class Player:
    """A contestant, and what the results say of it.

    Attributes:
        contestant: Who is measured.
        weights: Name of the agent's file, if it is a learned one.
        enhancer_weights: "auto", the name of the enhancer's file, or None for an untrained one.
        limit: On how many images it plays.
        batch: On how many of them at once.
        extra: Whether it plays on another enhancer than the rest, so that their gap to the oracle
            is none of its.
    """

    contestant: Contestant
    weights: str | None
    enhancer_weights: str | None
    limit: int
    batch: int
    extra: bool = False


def gather_players(config: PatchSelectionConfig, setup: Setup) -> list[Player]:
    """Everyone, in the order of the table; weights are read, so that what is wrong comes out."""
    replaced, further = _policies(config.policy)
    # The setup's own enhancer may have been rounded to bf16 already: that twice changes nothing.
    cores = partial(_core, config, setup, setup.core.enhancer)
    names = dict.fromkeys((*config.agents, *replaced))
    players = [_player(config, cores, name, name, replaced.get(name)) for name in names]
    players += [_player(config, cores, name, "", path) for name, path in further.items()]
    for text in config.extra_enhancer:
        name, weights, agent = _extra(text)
        enhancer = enhancers.make(config.enhancer, scale=config.scale, weights=weights)
        path = None if agent in agents.available() else Path(agent)
        player = _player(config, partial(_core, config, setup, enhancer), name, agent, path)
        players.append(replace(player, enhancer_weights=Path(weights).name, extra=True))
    rows = [player.contestant.name for player in players]
    if len(set(rows)) < len(rows):
        raise ConfigurationError(
            f"The rows would be called {', '.join(rows)}: give each one a name of its own."
        )
    return players


def _core(
    config: PatchSelectionConfig, setup: Setup, enhancer: Enhancer, learned: Path | None = None
) -> HallucinationCore:
    """The process for an agent; a learned one, in a file, has a grid of locations of its own."""
    stride, offset = config.action_stride or 1, config.action_offset
    if config.action_stride is None and learned is not None:
        stride, trained = _trained_grid(learned, setup.dataset.image_size)
        offset = offset if trained is None else trained
    return build_core(
        dataset=setup.dataset,
        scale=config.scale,
        protocol=setup.protocol,
        enhancer=enhancer,
        initial=setup.core.initial or BICUBIC,
        num_steps=config.steps[-1],
        border=config.border,
        action_stride=stride,
        action_offset=offset,
        device=config.device,
        precision=config.precision,
    ).core


def _player(
    config: PatchSelectionConfig,
    core_for: Callable[[Path | None], HallucinationCore],
    name: str,
    agent: str,
    path: Path | None,
) -> Player:
    """A row of the table: an agent by name, or the one in a file."""
    make: Callable[[int], agents.Agent] | None
    seed = 0
    if path is None and agent in LEARNED:
        path = shipped(LEARNED[agent], core_for(None), config.dataset)
    core = core_for(path)
    if path is not None:
        make = _always(agents.load(path, core, config.trust_pickle))
    elif agent == START:
        make = None
    elif agent == "random":
        seed = config.seed
        # Seeded for each batch, so that it draws the same wherever an earlier run stopped.
        make = partial(_random_agent, core, config.seed)
    else:
        oracle = {"stride": config.oracle_stride, "refine": config.oracle_refine}
        settings = oracle if agent == "oracle" else {}
        make = _always(agents.make(agent, core, **settings))
    return Player(
        Contestant(name, core, make, seed),
        weights=None if path is None else path.name,
        enhancer_weights=config.weights and Path(config.weights).name,
        limit=min(config.limit, config.oracle_limit) if agent == "oracle" else config.limit,
        batch=min(config.batch, ORACLE_BATCH) if agent == "oracle" else config.batch,
    )


def _trained_grid(path: Path, image_size: tuple[int, int]) -> tuple[int, int | None]:
    """Stride and offset of the locations of the agent in a file; no offset if it does not say."""
    if path.suffix == ".zip":
        # Counted without unpickling; what does not fit is refused when the agent is loaded.
        locations = archive_locations(path) or 1
        return max(1, math.isqrt(math.prod(image_size) // locations)), None
    return grid_of(load_agent(path)[1]["geometry"])


def _always(agent: agents.Agent) -> Callable[[int], agents.Agent]:
    return lambda _: agent


def _random_agent(core: HallucinationCore, seed: int, first_image: int) -> agents.Agent:
    # Far apart, so that the batches of one seed are not those of the next.
    return agents.make("random", core, seed=seed * 1_000_003 + first_image)


def _policies(given: Sequence[str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Files that take the place of a shipped agent, by its name, and further rows by theirs."""
    replaced, further = {}, {}
    for text in given:
        name, separator, path = text.partition("=")
        if separator and not Path(text).is_file():
            further[name] = Path(path)
        elif Path(text).suffix == ".zip":
            raise ConfigurationError(
                f"--policy {text} is an archive that does not say which agent it is: give its row "
                f"a name, as in NAME={text}."
            )
        else:
            _, metadata = load_agent(text)
            replaced[str(metadata["agent"])] = Path(text)
    return replaced, further


def _extra(text: str) -> tuple[str, str, str]:
    name, separator, rest = text.partition("=")
    weights, comma, agent = rest.rpartition(",")
    if not (name and separator and weights and comma and agent):
        raise ConfigurationError(
            f"--extra-enhancer {text!r} is not NAME=WEIGHTS,AGENT: give the row's name, the "
            "enhancer's file, and the name or the file of an agent."
        )
    return name, weights, agent
