"""How much choosing where to look is worth: every agent on the same images and enhancer.

One episode of the largest number of patches serves all smaller ones, since it begins in the same
way; and what an agent has made of each batch is kept, so that an interrupted benchmark goes on
where it stood and a further agent does not have the others play again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env import agents
from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.players import Player, gather_players
from facehall_env.benchmarks.provenance import header, write_json
from facehall_env.benchmarks.quality.patch_selection_table import NOTES, START, table_rows
from facehall_env.benchmarks.scoring import Cache, Measurements, Scoring, measure
from facehall_env.core import HallucinationCore, Precision
from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic
from facehall_env.patches import Border
from facehall_env.spec import BICUBIC, Setup, build_core
from facehall_env.state import CoreState

AGENTS = (START, "random", "even", "saliency", "static", "rl", "oracle")
NOT_IN_THE_NUMBERS = frozenset({"out", "faces", "readme", "fresh", "trust_pickle"})
ORDER_SEED = 0
"""Of the order of the test images, which no option changes."""


@dataclass
class PatchSelectionConfig:
    """Settings of ``facehall bench patch-selection``."""

    dataset: str = "synthetic"
    """Where the faces come from; always its official test split."""
    scale: int = 4
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made and what the metrics look at."""
    enhancer: str = "compact"
    """Restores the patches."""
    weights: str | None = "auto"
    """Of the enhancer: auto for those that come with the project, a file, or None."""
    initial: str = BICUBIC
    """What the faces start from: bicubic, or the result of a network that restores whole faces, by
    its name or the file of its weights."""
    agents: tuple[str, ...] = AGENTS
    """Who plays, in the order of the table; bicubic is the face that nobody has touched."""
    policy: tuple[str, ...] = ()
    """Learned agents: PATH in place of the shipped one of its kind, NAME=PATH as a further row."""
    trust_pickle: bool = False
    """Read archives (.zip) of Stable-Baselines3 given as policies, though their pickles can run any
    code of whoever made them."""
    extra_enhancer: tuple[str, ...] = ()
    """NAME=WEIGHTS,AGENT adds AGENT, a name or a file, on an enhancer with other weights."""
    steps: tuple[int, ...] = (5, 9, 16, 25)
    """Numbers of patches T to report; the largest one is played, the others are its beginnings."""
    limit: int = 1000
    """Number of test images, the first ones of a fixed random order."""
    oracle_limit: int = 200
    """Number of images for the oracle, the first of those; shares are computed on these."""
    oracle_stride: int = 16
    """Spacing in pixels of the locations that the oracle tries."""
    oracle_refine: int = 0
    """How often the oracle also tries the neighbours of its best location, at half the spacing."""
    fsim_limit: int = 200
    """Number of images on which FSIM, which is slow, is taken."""
    border: Border = "centre"
    """Patches centred anywhere, or kept inside the image."""
    action_stride: int | None = None
    """Spacing in pixels of the locations; by default the learned agents' own, and 1 for others."""
    action_offset: int | None = None
    """On which row and column of its cell a patch is centred; the middle by default. Of learned
    agents only archives (.zip) need it, which do not say."""
    batch: int = 32
    """Images that are played at once."""
    seed: int = 0
    """Seed of the random agent."""
    device: str = "cpu"
    """Where to compute."""
    precision: Precision = "fp32"
    """Of the enhancer: fp32 or bf16."""
    out: Path = Path("benchmarks/results")
    """Folder for the results: JSON, Markdown, two plots, and the cache."""
    faces: int = 3
    """Number of faces in the figure of the attended patches."""
    readme: Path | None = None
    """Markdown file to update between <!-- table:start --> and <!-- table:end -->."""
    fresh: bool = False
    """Measure everything again, whatever an earlier run has left in the cache."""

    def __post_init__(self) -> None:
        """Puts the numbers of patches in order."""
        self.steps = tuple(sorted(set(self.steps)))

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            ConfigurationError: If a number is too small, or the README has no place for a table.
            UnknownNameError: If there is no such agent.
        """
        if not self.steps:
            raise ConfigurationError("--steps is empty: give at least one number of patches.")
        least = {
            "--steps": self.steps[0],
            "--limit": self.limit,
            "--oracle-limit": self.oracle_limit,
            "--batch": self.batch,
            "--faces": self.faces,
        }
        for name, value in least.items():
            if value < 1:
                raise ConfigurationError(f"{name} has {value}: give numbers of 1 or more.")
        for name in self.agents:
            if name != START:
                agents.AGENTS.get(name)
        if self.readme is not None:
            tables.check_markers(self.readme)

    @property
    def stem(self) -> str:
        """What the names of the results begin with."""
        name = f"patch-selection-{self.enhancer}-{self.dataset}-x{self.scale}-{self.protocol}"
        if self.initial != BICUBIC:
            name = f"{name}-on-{Path(self.initial).stem}"
        return name if self.border == "centre" else f"{name}-{self.border}"


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        setup: Dataset, protocol and a core.
        images: (N, 3, H, W) uint8, the test images in their order.
        players: Who played, by name.
        measured: What they did.
        rows: The table: one for each agent and number of patches.
    """

    config: PatchSelectionConfig
    setup: Setup
    images: Tensor
    players: Mapping[str, Player]
    measured: Mapping[str, Measurements]
    rows: Sequence[Mapping[str, Any]]

    @property
    def title(self) -> str:
        """Of the table."""
        return f"Where to look: {self.config.enhancer} on {self.config.dataset}"


def run(config: PatchSelectionConfig, command: str = "", console: Console | None = None) -> Results:
    """Runs the benchmark, prints the tables and writes the results.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Raises:
        FacehallError: If the settings, the data or the weights do not allow it.
    """
    results = measure_all(config)
    console = console or tables.terminal()
    console.print(tables.detail(results.rows, results.title).rich())
    console.print(tables.summary(results.rows, results.title).rich())
    tables.say_written(console, *write(results, command))
    return results


def measure_all(config: PatchSelectionConfig) -> Results:
    """Has everyone play, and computes the table.

    Raises:
        FacehallError: See `run`.
    """
    config.check()
    setup = _setup(config)
    players = {player.contestant.name: player for player in gather_players(config, setup)}
    images = first_images(setup, config.limit)
    scoring = Scoring(setup.protocol, config.scale, config.steps, config.fsim_limit, config.batch)
    cache = Cache(config.out / ".cache", config.fresh)
    measured = {
        name: measure(
            player.contestant,
            images[: player.limit],
            replace(scoring, batch=player.batch),
            cache,
        )
        for name, player in players.items()
    }
    rows = [
        {**_description(config, players[row["agent"]]), **row}
        for row in table_rows(measured, config.steps)
    ]
    for row in rows:
        if players[row["agent"]].extra:
            row |= dict.fromkeys(("oracle_share", "oracle_share_ci"), math.nan)
    return Results(config, setup, images, players, measured, rows)


def first_images(setup: Setup, limit: int) -> Tensor:
    """The first ``limit`` images of the test split in the fixed order, (N, 3, H, W) uint8."""
    order = fixed_order(len(setup.dataset), limit)
    progress = tqdm(order, desc=f"{'images':>10}", unit="image")
    return torch.cat([setup.dataset.batch([index]) for index in progress])


def fixed_order(number: int, limit: int) -> list[int]:
    """The first numbers of a random order of ``range(number)`` that is always the same.

    So the first N images are a fair sample, and the first of a larger N are the same ones.

    >>> fixed_order(1000, 5)[:3] == fixed_order(1000, 3)
    True
    >>> sorted(fixed_order(4, 9))
    [0, 1, 2, 3]
    """
    # Fisher and Yates' shuffle, of which only the places that it has touched are kept: a dataset
    # of procedural faces may have billions.
    generator = np.random.default_rng(ORDER_SEED)
    moved: dict[int, int] = {}
    order = []
    for place in range(min(number, limit)):
        other = int(generator.integers(place, number))
        order.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return order


def write(results: Results, command: str) -> list[Path]:
    """Writes JSON, Markdown and figures; returns their paths."""
    config = results.config
    content = {
        **header("patch-selection", config, command, NOT_IN_THE_NUMBERS),
        "notes": NOTES,
        "enhancer_provenance": results.setup.core.enhancer.provenance,
        "rows": results.rows,
        "curves": [
            {"agent": name, "images": len(own), "psnr": own.psnr.mean(0).tolist()}
            for name, own in results.measured.items()
        ],
    }
    files = {suffix: config.out / f"{config.stem}{suffix}" for suffix in (".json", ".md", ".png")}
    write_json(files[".json"], content)
    summary = tables.summary(results.rows, results.title)
    detail = tables.detail(results.rows, results.title)
    write_text_atomic(
        files[".md"],
        f"# {results.title}\n\n{summary.markdown()}\n## In detail\n\n{detail.markdown()}",
    )
    _plot(results, files[".png"])
    written = [*files.values(), *_film(results)]
    if config.readme is not None:
        tables.insert_into(config.readme, summary)
        written.append(config.readme)
    return written


def _description(config: PatchSelectionConfig, player: Player) -> dict[str, Any]:
    return {
        "enhancer": player.contestant.core.enhancer.name,
        "enhancer_weights": player.enhancer_weights,
        "agent_weights": player.weights,
        "action_stride": player.contestant.core.geometry.stride,
        "action_offset": player.contestant.core.geometry.centre,
        "dataset": config.dataset,
        "scale": config.scale,
        "protocol": config.protocol,
        "precision": config.precision,
        "initial": Path(config.initial).name,
    }


def _setup(config: PatchSelectionConfig) -> Setup:
    return build_core(
        dataset=config.dataset,
        split="test",
        scale=config.scale,
        protocol=config.protocol,
        enhancer=config.enhancer,
        weights=config.weights,
        initial=config.initial,
        num_steps=config.steps[-1],
        border=config.border,
        device=config.device,
        precision=config.precision,
    )


def _plot(results: Results, path: Path) -> None:
    """Mean curves over the images that everyone has played."""
    number = min(map(len, results.measured.values()))
    curves = {name: np.asarray(own.psnr[:number].mean(0)) for name, own in results.measured.items()}
    config = results.config
    title = (
        f"{config.enhancer}, {config.dataset} {config.scale}x, protocol {config.protocol}, "
        f"{number} test images"
    )
    if config.initial == BICUBIC:
        plots.plot_curves(curves, path, title)
        return
    begun = Path(config.initial).stem
    plots.plot_curves(curves, path, f"{title}, from faces restored by {begun}", start=begun)


def _film(results: Results) -> list[Path]:
    """The attended patches of the rl agent, or of whoever comes closest to it in the table."""
    names = [name for name in results.measured if name != START]
    if not names:
        return []
    name = "rl" if "rl" in names else names[-1]
    path = results.config.out / f"{results.config.stem}-patches.png"
    core, states = replay(results, name, results.config.faces)
    plots.save_filmstrip(core, states, path)
    return [path]


def replay(results: Results, name: str, faces: int) -> tuple[HallucinationCore, list[CoreState]]:
    """Plays again what an agent did to the first faces: its core, and the states t = 0 to T."""
    core = results.players[name].contestant.core
    batch = results.setup.protocol.degrade(
        results.images[:faces].to(core.device), results.config.scale
    )
    actions = results.measured[name].actions[:faces]
    return core, plots.replay(core, batch.rows(slice(len(actions))), actions)
