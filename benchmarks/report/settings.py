"""Options of ``facehall report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from facehall_env import limits
from facehall_env.errors import ConfigurationError
from facehall_env.limits import Ge, Seed


@dataclass
class ReportConfig:
    """Options of ``facehall report``."""

    results: tuple[Path, ...] = ()
    """Folders with results files; of two files of one name the first is shown. By default your own
    folder of results and, in a checkout, the published ones."""
    out: Path = Path("facehall-report.html")
    """The page to write; an existing one is replaced when the new one is complete. With the ending
    .md it holds the papers' tables in the last folder, and which of their orders hold."""
    dataset: str = "synthetic"
    """Dataset of the faces in the pictures. Synthetic ones show nobody; lfw takes your copy of the
    photographs, which are for research: do not publish such a page without thinking of them."""
    faces: Annotated[int, Ge(0)] = 3
    """Number of faces that are shown being restored; 0 leaves the pictures of faces out."""
    images: Annotated[int, Ge(1)] = 16
    """Number of test faces behind the maps of where agents look."""
    agents: tuple[str, ...] = ("random", "even", "saliency", "static", "rl", "qmap")
    """Agents that restore them, with the weights that come with the project."""
    steps: Annotated[int, Ge(1)] = 25
    """Patches in an episode."""
    seed: Seed = 0
    """Decides which faces are shown, and what the random agent does."""
    device: str = "cpu"
    """Device that computes: cpu, cuda, cuda:1, ..."""

    def check(self) -> None:
        """Refuses what cannot be.

        Raises:
            ConfigurationError: If a number is too small, there are pictures but no agent, or
                ``out`` is a folder.
        """
        limits.check(self)
        if self.faces and not self.agents:
            raise ConfigurationError("--agents is empty: give at least one, or --faces 0.")
        if self.out.is_dir():
            raise ConfigurationError(f"--out {self.out} is a folder: give the name of a file.")
