"""Settings of the command that makes the papers' tables. Importing this module is light."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from facehall_env.errors import ConfigurationError
from facehall_env.files import results_dir


@dataclass
class PaperConfig:
    """Settings of ``facehall bench paper``."""

    experiment: str = ""
    """Name of an experiment, such as sparnet-IV or sparnet-figure-7, or the path of a file."""
    set: tuple[str, ...] = ()
    """Other settings for a trial as KEY=VALUE, such as limit=8 or ipfh.updates=150."""
    weights: tuple[str, ...] = ()
    """Files instead of trained networks: ROW=PATH, ROW:PART=PATH or ROW:PART@CONDITION=PATH, with
    the short names that stand in the experiment's file. *:PART=PATH is for every row that would
    train that part and has no file of its own."""
    list: bool = False
    """List the experiments."""
    small: bool = False
    """Take small variants of the networks, to see whether a command works: no numbers to keep."""
    dataset: str | None = None
    """Take these faces for everything; one of this name may be downloaded. By default the paper's
    where they are on this machine, or else what stands in for them."""
    dataset_settings: tuple[str, ...] = ()
    """Options of --dataset as NAME=VALUE, such as images_per_person=10 of the synthetic faces,
    which gives them identities."""
    scale: int | None = None
    """Only the columns of this scale."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = field(default_factory=results_dir)
    """Folder for the results (JSON, Markdown, figures) and for the cache with trained weights."""
    publish: bool = False
    """Write the results into benchmarks/results of this checkout instead."""
    fresh: bool = False
    """Score everything again, whatever an earlier run has left; trained weights stay."""

    def check(self) -> None:
        """Checks what needs no experiment.

        Raises:
            ConfigurationError: If no experiment is named, or there are options of no dataset.
        """
        if not self.experiment and not self.list:
            raise ConfigurationError(
                "Name an experiment, such as sparnet-IV; --list shows what there is."
            )
        if self.dataset_settings and self.dataset is None:
            raise ConfigurationError(
                f"--dataset-settings {' '.join(self.dataset_settings)} are options of --dataset, "
                "which is not given: name it, or leave them out."
            )
