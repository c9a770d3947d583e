"""What the benchmarks of restored faces have in common: settings, and the files they write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facehall_env.benchmarks.provenance import write_json
from facehall_env.benchmarks.tables import Table
from facehall_env.core import Precision
from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic
from facehall_env.spec import BICUBIC

NOT_IN_THE_NUMBERS = frozenset({"out", "fresh", "trust_pickle"})
"""Settings that the numbers of no such benchmark depend on."""


@dataclass
class RestoringConfig:
    """Which faces are restored by whom; a benchmark adds what it does with them.

    The command line shows the words below a setting as its help, of the benchmark's own class if
    that has some.
    """

    dataset: str = "synthetic"
    """Where the faces come from; always its official test split."""
    scale: int = 4
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made and what the metrics look at."""
    models: tuple[str, ...] = (BICUBIC, "compact")
    """The rows: NAME, with the weights that come with the project; NAME=PATH with those in a file,
    NAME being the network's name or one for the row; NAME=None, untrained, for its cost alone."""
    agents: tuple[str, ...] = ()
    """Further rows: ROW=ENHANCER,AGENT or ROW=ENHANCER,AGENT,INITIAL restores patch by patch.
    ENHANCER and INITIAL, a network from whose result it starts, are names or files of weights;
    AGENT is a name or a file."""
    steps: int = 25
    """Patches of an agent, T."""
    action_stride: int = 1
    """Spacing in pixels of the locations of agents that learn nothing; others have their own."""
    action_offset: int | None = None
    """With --action-stride: on which row and column of its cell a patch is centred; the middle by
    default. Of learned agents only archives (.zip) need it, which do not say."""
    batch: int = 32
    """Images that are restored at once when they are scored."""
    seed: int = 0
    """Seed of the random agent."""
    trust_pickle: bool = False
    """Read archives (.zip) of Stable-Baselines3 given as agents, though their pickles can run any
    code of whoever made them."""
    device: str = "cpu"
    """Where to compute."""
    precision: Precision = "fp32"
    """Of the networks: fp32 or bf16."""
    out: Path = Path("benchmarks/results")
    """Folder for the results: JSON, Markdown, figures, and the cache."""
    fresh: bool = False
    """Score everything again, whatever an earlier run has left in the cache."""

    def check_counts(self, *names: str) -> None:
        """Checks settings that say how many of something there are.

        Raises:
            ConfigurationError: If one of them is below 1.
        """
        for name in names:
            value = getattr(self, name)
            if value < 1:
                raise ConfigurationError(f"--{name.replace('_', '-')} {value}: give 1 or more.")

    def stem_of(self, benchmark: str, *words: str) -> str:
        """What the names of a benchmark's results begin with.

        Args:
            benchmark: Its name.
            *words: What else tells its results apart.

        >>> RestoringConfig(dataset="lfw", precision="bf16").stem_of("identity")
        'identity-lfw-x4-bicubic-bf16'
        """
        precision = () if self.precision == "fp32" else (self.precision,)
        grid = grid_words(self.action_stride, self.action_offset)
        return "-".join(
            (benchmark, self.dataset, f"x{self.scale}", self.protocol, *words, *grid, *precision)
        )


def grid_words(stride: int, offset: int | None) -> list[str]:
    """What a grid of locations adds to a results file's name; nothing if every pixel is one.

    >>> grid_words(8, 7)
    ['stride8', 'offset7']
    """
    if stride == 1:
        return []
    return [f"stride{stride}", *([] if offset is None else [f"offset{offset}"])]


def write_results(folder: Path, stem: str, content: Mapping[str, Any], table: Table) -> list[Path]:
    """Writes JSON and, for people, Markdown; returns their paths.

    Args:
        folder: Where they go.
        stem: Their names without the suffixes.
        content: Of the JSON file.
        table: Of the Markdown file.
    """
    paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".md")]
    write_json(paths[0], content)
    write_text_atomic(paths[1], f"# {table.title}\n\n{table.markdown()}")
    return paths
