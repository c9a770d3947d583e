"""How much choosing where to look is worth: every agent on the same images and enhancer.

One episode of the largest number of patches serves all smaller ones, since it begins in the same
way; and what an agent has made of each batch is kept, so that an interrupted benchmark goes on
where it stood and a further agent does not have the others play again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from facehall_env.agents.storage import load_agent
from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.cache import Cache
from facehall_env.benchmarks.provenance import output_folder
from facehall_env.benchmarks.quality import opening
from facehall_env.benchmarks.quality import patch_selection_table as table
from facehall_env.benchmarks.quality.settings import PatchSelectionConfig
from facehall_env.benchmarks.restorers import (
    NetworkSpec,
    PatchByPatch,
    PatchByPatchSpec,
    Restorer,
    Spec,
    WholeFaceSpec,
    build,
    check_agent,
)
from facehall_env.benchmarks.scoring import Measurements, TestFaces, limit_of, score
from facehall_env.benchmarks.statistics import NONE, flat
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError
from facehall_env.spec import BICUBIC
from facehall_env.state import CoreState

NAMED = ("dataset", "scale", "protocol", "enhancer", "initial", "border")
"""Settings that the names of the results say."""


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        faces: The test faces in their order.
        restorers: Who played, by name.
        measured: Their measurements, by name.
        rows: The table: one row for each agent and number of patches.
    """

    config: PatchSelectionConfig
    faces: TestFaces
    restorers: Mapping[str, Restorer]
    measured: Mapping[str, Measurements]
    rows: Sequence[table.PatchSelectionRow]

    @property
    def tables(self) -> tuple[tables.Table, tables.Table]:
        """A line for each agent; and a line for each agent and number of patches."""
        title = f"Where to look: {self.config.enhancer} on {self.config.faces.dataset}"
        return table.summary(self.rows, title), table.detail(self.rows, f"{title}, in detail")


def run(config: PatchSelectionConfig, command: str = "", console: Console | None = None) -> Results:
    """Runs the benchmark, prints the tables and writes the results.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Raises:
        FacehallError: If the settings, the data or the weights do not allow it.
    """
    output_folder(config.out, config.publish)
    results = measure_all(config)
    console = console or tables.terminal()
    for shown in reversed(results.tables):
        console.print(shown)
    tables.say_written(console, *write(results, command))
    return results


def measure_all(config: PatchSelectionConfig) -> Results:
    """Opens the faces, loads the agents, and has everyone play; raises what `run` raises."""
    config.check()
    if config.readme is not None:
        tables.check_markers(config.readme)
    dataset = config.faces.open("test")
    restorers = build(specifications(config), opening.conditions(config, dataset))
    faces = opening.open_faces(config, dataset)
    cache = Cache(config.out / ".cache", config.fresh)
    how = (config.steps, config.fsim_limit, config.batch, cache)
    limits = {who: limit_of(who, config.limit, config.oracle_limit) for who in restorers}
    measured = {who.name: score(who, faces, *how, limit=limits[who]) for who in restorers}
    by_name = {restorer.name: restorer for restorer in restorers}
    about = {name: _description(config, restorer) for name, restorer in by_name.items()}
    rows = table.table_rows(measured, config.steps, about)
    extra = {word.partition("=")[0] for word in config.extra_enhancer}
    # On another enhancer the gap is another one.
    rows = [
        replace(row, **flat({"oracle_share": NONE})) if row.agent in extra else row for row in rows
    ]
    return Results(config, faces, by_name, measured, rows)


def specifications(config: PatchSelectionConfig) -> list[Spec]:
    """Everyone who plays, in the order of the table.

    Raises:
        ConfigurationError: If a word cannot be understood.
        WeightsError: If the file of an agent is missing or damaged.
    """
    replaced, further = _policies(config.policy)
    initial = NetworkSpec.of(config.initial)
    enhancer = NetworkSpec(config.enhancer, config.weights)

    def agent(name: str, word: str, network: NetworkSpec) -> PatchByPatchSpec:
        oracle = {"stride": config.oracle_stride, "refine": config.oracle_refine}
        return PatchByPatchSpec(
            name,
            word,
            network,
            initial,
            steps=config.steps[-1],
            seed=config.seed,
            border=config.border,
            action_stride=config.action_stride,
            action_offset=config.action_offset,
            agent_settings=oracle if word == "oracle" else {},
        )

    specs: list[Spec] = [
        WholeFaceSpec(name, initial)
        if name == table.START and name not in replaced
        else agent(name, str(replaced.get(name, name)), enhancer)
        for name in dict.fromkeys((*config.agents, *replaced))
    ]
    specs += [agent(name, str(path), enhancer) for name, path in further.items()]
    for word in config.extra_enhancer:
        name, weights, who = _extra(word)
        check_agent(who)
        specs.append(agent(name, who, NetworkSpec(config.enhancer, weights)))
    return specs


def write(results: Results, command: str) -> list[Path]:
    """Writes JSON, Markdown and figures; returns their paths."""
    config = results.config
    players = [who for who in results.restorers.values() if isinstance(who, PatchByPatch)]
    steps = config.steps[-1]
    content = {
        "notes": table.NOTES,
        "enhancer_provenance": players[0].core.enhancer.provenance if players else {},
        "rows": [row.to_json() for row in results.rows],
        "curves": [
            {"agent": name, "images": len(own), "psnr": own.over(steps, 1).psnr.mean(0).tolist()}
            for name, own in results.measured.items()
        ],
    }
    words, shown = config.words, results.tables
    written = opening.write("patch-selection", config, words, command, content, *shown, named=NAMED)
    written += [_plot(results, written[0].with_suffix(".png")), *_film(results, written[0])]
    if config.readme is not None:
        tables.insert_into(config.readme, shown[0])
        written.append(config.readme)
    return written


def replay(results: Results, name: str, faces: int) -> tuple[HallucinationCore, list[CoreState]]:
    """Plays again what an agent did to the first faces: its core, and the states t = 0 to T."""
    restorer = results.restorers[name]
    if not isinstance(restorer, PatchByPatch):
        raise ConfigurationError(f"{name!r} is no agent: give the row of one.")
    actions = results.measured[name].actions[:faces]
    given = results.faces.rows(slice(len(actions)))
    return restorer.core, plots.replay(restorer.core, given, actions)


def _description(config: PatchSelectionConfig, restorer: Restorer) -> dict[str, Any]:
    """What the rows of a restorer say beside its scores."""
    player: dict[str, Any] = {
        "enhancer_weights": config.weights and Path(config.weights).name,
        "action_offset": 0,
    }
    if isinstance(restorer, PatchByPatch):
        player = {
            "enhancer_weights": restorer.enhancer_weights,
            "agent_weights": restorer.agent_weights,
            "action_stride": restorer.core.geometry.stride,
            "action_offset": restorer.core.geometry.centre,
        }
    return {
        **player,
        "enhancer": config.enhancer,
        "dataset": config.faces.dataset,
        "scale": config.faces.scale,
        "protocol": config.faces.protocol,
        "precision": config.precision,
        "initial": Path(config.initial).name,
    }


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


def _plot(results: Results, path: Path) -> Path:
    """Mean curves over the images that everyone has played."""
    config, number = results.config, min(map(len, results.measured.values()))
    curves = {
        name: np.asarray(own.over(config.steps[-1], 1).psnr[:number].mean(0))
        for name, own in results.measured.items()
    }
    title = f"{config.enhancer}, {config.faces_in_words}, {number} test images"
    begun = Path(config.initial).stem
    title += "" if config.initial == BICUBIC else f", from faces restored by {begun}"
    plots.plot_curves(curves, path, title, start=begun)
    return path


def _film(results: Results, path: Path) -> list[Path]:
    """The attended patches of the rl agent, or of whoever comes closest to it in the table."""
    names = [name for name, who in results.restorers.items() if isinstance(who, PatchByPatch)]
    if not names:
        return []
    path = path.with_name(f"{path.stem}-patches.png")
    name = "rl" if "rl" in names else names[-1]
    core, states = replay(results, name, results.config.film_faces)
    plots.save_filmstrip(core, states, path)
    return [path]
