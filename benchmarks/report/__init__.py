"""``facehall report``: what was found, on one page that opens from the disk.

`reading` says which files of a folder hold results, `views` what is shown of them, `grids` and
`drawing` turn numbers into tables and curves, `pictures` restores a few faces to look at, and
`page` puts all of it into one HTML file that loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.report import page
from facehall_env.benchmarks.report.pictures import make_gallery
from facehall_env.benchmarks.report.reading import read_results
from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic


@dataclass
class ReportConfig:
    """Settings of ``facehall report``."""

    results: Path = Path("benchmarks/results")
    """Folder of the results."""
    out: Path = Path("facehall-report.html")
    """The page; one that is there is replaced when the new one is complete."""
    dataset: str = "synthetic"
    """Whose faces are shown. Synthetic ones belong to nobody; lfw takes your copy of the
    photographs, which are for research: do not publish such a page without thinking of them."""
    faces: int = 3
    """Faces that are shown being restored; 0 leaves the pictures of faces out."""
    images: int = 16
    """Test faces that the maps of where agents look are the mean of."""
    agents: tuple[str, ...] = ("random", "even", "saliency", "static", "rl", "qmap")
    """Who restores them, with the weights that come with the project."""
    steps: int = 25
    """Patches."""
    seed: int = 0
    """Of the choice of the faces, and of the random agent."""
    device: str = "cpu"
    """Where to compute."""

    def check(self) -> None:
        """Checks the settings.

        Raises:
            ConfigurationError: If a number is too small, or there are pictures of no agent.
        """
        for name, least in (("faces", 0), ("images", 1), ("steps", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"--{name} {getattr(self, name)}: give {least} or more.")
        if self.faces and not self.agents:
            raise ConfigurationError("--agents is empty: give at least one, or --faces 0.")
        if self.out.is_dir():
            raise ConfigurationError(f"--out {self.out} is a folder: give the name of a file.")


def run(config: ReportConfig, console: Console | None = None) -> Path:
    """Builds the page.

    Args:
        config: The settings.
        console: Where to say what was left out; the standard output by default.

    Returns:
        Path of the page.

    Raises:
        FacehallError: If there are no results, or the dataset or the weights are missing.
    """
    config.check()
    found = read_results(config.results)
    gallery = None
    if config.faces:
        gallery = make_gallery(
            config.dataset,
            config.agents,
            faces=config.faces,
            images=max(config.images, config.faces),
            steps=config.steps,
            seed=config.seed,
            device=config.device,
        )
    figures = page.attention_figures(found, config.results, config.dataset)
    text, left_out = page.render(found, gallery, figures)
    write_text_atomic(config.out, text)
    console = console or tables.terminal()
    for file in left_out:
        console.print(
            f"left out: {file.name} {file.reason}.", soft_wrap=True, highlight=False, markup=False
        )
    return config.out
