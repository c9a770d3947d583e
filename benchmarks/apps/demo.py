"""``facehall demo``: the main job in a minute, on drawn faces and with the shipped weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.quality.patch_selection import (
    PatchSelectionConfig,
    measure_all,
    replay,
    write,
)


@dataclass
class DemoConfig:
    """Settings of ``facehall demo``."""

    out: Path = Path("facehall-demo")
    """Folder for the table, the figures and the GIF."""
    images: int = 16
    """Number of drawn faces."""
    steps: tuple[int, ...] = (5, 9)
    """Numbers of patches to report."""
    faces: int = 3
    """Number of faces in the GIF."""
    oracle_stride: int = 32
    """Spacing in pixels of the locations that the oracle tries; it takes most of the time."""
    oracle_refine: int = 2
    """How often the oracle also tries the neighbours of its best location, at half the spacing."""
    fresh: bool = False
    """Measure again what an earlier demo has left in the folder."""


def run(config: DemoConfig, command: str = "", console: Console | None = None) -> list[Path]:
    """Plays all agents, prints the table, and writes it with figures and a GIF.

    Returns:
        Paths of the GIF and of what else was written.

    Raises:
        WeightsError: If the weights that come with the project are missing.
    """
    console = console or tables.terminal()
    console.print(
        f"Every agent restores {config.images} drawn faces, patch by patch; this takes less than "
        "a minute."
    )
    results = measure_all(
        PatchSelectionConfig(
            dataset="synthetic",
            steps=config.steps,
            limit=config.images,
            oracle_limit=config.images,
            oracle_stride=config.oracle_stride,
            oracle_refine=config.oracle_refine,
            fsim_limit=0,
            faces=config.faces,
            out=config.out,
            fresh=config.fresh,
        )
    )
    table = tables.summary(results.rows, results.title)
    console.print(table.rich())
    gif = config.out / "restoring.gif"
    core, states = replay(results, "rl", config.faces)
    plots.save_animation(core, states, gif)
    written = [gif, *write(results, command)]
    tables.say_written(console, *written)
    return written
