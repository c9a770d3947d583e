"""``facehall demo``: the main job in a minute, on drawn faces and with the shipped weights."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.apps.settings import DemoConfig
from facehall_env.benchmarks.quality.patch_selection import measure_all, replay, write
from facehall_env.benchmarks.quality.settings import PatchSelectionConfig


def run(config: DemoConfig, command: str = "", console: Console | None = None) -> list[Path]:
    """Plays all agents, prints the table, and writes it with figures and a GIF; returns the paths.

    Raises:
        WeightsError: If the weights that come with the project are missing.
    """
    console = console or tables.terminal()
    console.print(
        f"Every agent restores {config.limit} drawn faces, patch by patch; this takes less than "
        "a minute."
    )
    results = measure_all(
        PatchSelectionConfig(**vars(config), oracle_limit=config.limit, fsim_limit=0)
    )
    console.print(results.tables[0])
    gif = config.out / "restoring.gif"
    core, states = replay(results, "rl", config.film_faces)
    plots.save_animation(core, states, gif)
    written = [gif, *write(results, command)]
    tables.say_written(console, *written)
    return written
