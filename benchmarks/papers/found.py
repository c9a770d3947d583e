"""What an experiment has found so far: scores of each image, means, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facehall_env.benchmarks.papers.experiment import Experiment
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.settings import PaperConfig
from facehall_env.benchmarks.papers.tables import PaperTable, Row, Source
from facehall_env.benchmarks.statistics import Estimate, mean_ci

Values = NDArray[np.float64]
"""(N,), one number for each image, or each pair of images in verification; NaN where there is
none."""
Place = tuple[str, str, str]
"""Row, condition and metric."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table; numbers are NaN, or null in a file, where there are none.

    Attributes:
        value: Mean over the images, or a cost.
        ci: Half width of its 95 % interval.
        images: Number of images.
        reason: Why there is no value.
        paper: The paper's number as it is printed.
        minus: Difference to the row that differences are to, paired over images.
        minus_ci: Half width of its 95 % interval.
    """

    value: float | None = math.nan
    ci: float | None = math.nan
    images: int = 0
    reason: str = ""
    paper: str | None = None
    minus: float | None = None
    minus_ci: float | None = None


@dataclass
class Found:
    """Everything that was found.

    Attributes:
        table: The columns that were asked for.
        values: For each image, by row, condition and metric.
        cells: By row, condition and metric.
        sources: Where the faces of each condition came from; absent ones are missing.
        missing: Why, by condition.
        sizes: Height and width of the faces, by condition.
        origins: Where the parts of each row came from, by row and condition.
        maps: Mean squared error at each pixel (H, W), by row and condition, if asked for.
        shares: Trainings of all rows together, in multiples of a row's time; those that rows share
            count once.
        notes: What the user should know.
    """

    experiment: Experiment
    table: PaperTable
    config: PaperConfig
    values: dict[Place, Values] = field(default_factory=dict)
    cells: dict[Place, Cell] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    origins: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    maps: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    shares: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def minutes(self) -> float | None:
        """Minutes of all trainings together; None without any."""
        each = self.table.measuring.minutes
        return None if each is None or not self.shares else each * self.shares

    def blame(self, row: Row, condition: str, reason: str, metrics: Sequence[str]) -> None:
        """Notes why a row has no values."""
        for name in metrics:
            self.cells[row.key, condition, name] = Cell(reason=reason.rstrip("."))

    def take(self, place: Place, values: Values) -> None:
        """Notes the scores of images, and their mean."""
        if np.isfinite(values).any():
            mean = estimate(values)
            self.values[place] = values
            self.cells[place] = Cell(mean.value, mean.half_width, int(np.isfinite(values).sum()))

    def difference(self, place: Place, other: Place) -> Estimate | None:
        """Paired difference of a cell to another over the images of both; None without any."""
        if place not in self.values or other not in self.values:
            return None
        own, theirs = self.values[place], self.values[other]
        number = min(len(own), len(theirs))
        gap = own[:number] - theirs[:number]
        return estimate(gap) if np.isfinite(gap).any() else None

    def reasons(self) -> list[str]:
        """Why cells are empty, each reason once."""
        table, by_reason = self.table, dict[str, list[str]]()
        rows = {row.key: row for row in table.rows}
        for name in {column.metric for column in table.columns}:
            if METRICS[name].source == "none":
                by_reason[METRICS[name].why] = [METRICS[name].title]
        for (row, key, name), cell in self.cells.items():
            absent = rows[row].kind == "paper-only" or METRICS[name].source == "none"
            if not cell.reason or absent:
                continue
            # A metric that cannot be had is the same for all rows.
            everywhere = all(
                self.cells[other.key, key, name].reason == cell.reason
                for other in table.rows
                if other.kind != "paper-only"
            )
            of_metric = METRICS[name].make is not None or METRICS[name].source == "pairs"
            blamed = METRICS[name].title if everywhere and of_metric else rows[row].name
            by_reason.setdefault(cell.reason, []).append(blamed)
        for own in table.rows:
            if own.kind == "paper-only":
                by_reason.setdefault(f"the paper's numbers alone, {own.why}", []).append(own.name)
        return [f"{', '.join(dict.fromkeys(own))}: {why}." for why, own in by_reason.items()]


def estimate(values: Values) -> Estimate:
    """Mean and half width of the 95 % interval of what is finite."""
    return mean_ci(values[np.isfinite(values)])
