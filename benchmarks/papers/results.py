"""A table's results as they stand in a file: typed, written as JSON, and read again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

from facehall_env.benchmarks.papers.differences import Difference, differences, sentences
from facehall_env.benchmarks.papers.found import Cell, Found
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.tables import Column, number_of
from facehall_env.benchmarks.provenance import Row, header

BENCHMARK = "paper-table"
Verdict = Literal["holds", "does not hold", "undecided"]
HOLDS: Verdict = "holds"
FAILS: Verdict = "does not hold"
OPEN: Verdict = "undecided"


@dataclass(frozen=True)
class RowResult:
    """A row, as in `Row` of the table, with the numbers that were found.

    Attributes:
        weights: Where each part came from, by condition and part.
        cells: One for each column.
    """

    key: str
    name: str
    kind: str
    series: str
    x: float | None
    weights: Mapping[str, Any]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ConditionResult:
    """The faces and the scale of some columns.

    Attributes:
        missing: Why nothing was measured.
        test: Dataset with its options.
        train: Dataset of the trainings with its options.
        differs: How the faces differ from the paper's.
        images: Largest number of images of a cell.
    """

    key: str
    title: str
    scale: int
    missing: str = ""
    test: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    differs: str = ""
    image_size: tuple[int, ...] = ()
    images: int = 0


@dataclass(frozen=True)
class ColumnResult:
    """A column: a metric under a condition, its title, digits behind the point, the better side."""

    condition: str
    metric: str
    title: str
    digits: int
    lower: bool


@dataclass(frozen=True)
class Ordering:
    """Two rows that are neighbours in the paper's order of a column, all by their titles.

    Attributes:
        better: The row that is better in the paper.
        paper: The paper's difference.
        difference: Ours, paired over images.
        ci: Half width of its 95 % interval.
        digits: Digits behind the point.
        verdict: Whether the order is the same here.
    """

    condition: str
    metric: str
    better: str
    worse: str
    paper: float
    difference: float | None
    ci: float | None
    digits: int
    verdict: Verdict


@dataclass(frozen=True)
class Budget:
    """Minutes of all trainings, and of each row's; rows that share trainings share the time."""

    minutes: float | None
    shares: float
    each: float | None


@dataclass(frozen=True, kw_only=True)
class PaperResult(Row):
    """A table or figure of a paper, made anew.

    Attributes:
        settings: Settings of the command.
        version: Version of the file's format.
        name: Name of the experiment.
        experiment: The experiment itself, as one file would say it.
        paper, kind, number, title, caption, protocol, reference: As in `PaperTable`.
        budget: Time of the trainings.
        notes: What is missing.
        differences: Settings that are not known to be the paper's.
        conditions: In the order of the columns.
        columns: In the paper's order.
        rows: In the paper's order.
        orderings: The paper's orders.
    """

    again: ClassVar = "facehall bench paper"
    """Command that makes such a file again, behind which the experiment is named."""

    benchmark: str
    command: str
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    version: int = 2
    name: str
    experiment: Mapping[str, Any]
    paper: str
    kind: str
    number: str
    title: str
    caption: str
    protocol: str
    reference: str
    budget: Budget
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]
    conditions: tuple[ConditionResult, ...]
    columns: tuple[ColumnResult, ...]
    rows: tuple[RowResult, ...]
    orderings: tuple[Ordering, ...]

    @property
    def heading(self) -> str:
        """Its title with where it comes from."""
        return f"{self.paper}, {self.kind.capitalize()} {self.number}: {self.title}"

    @property
    def differences_in_words(self) -> list[str]:
        """A sentence for each group of networks that differ in the same settings."""
        return sentences(self.differences)

    def contradiction(self) -> str | None:
        """What in it contradicts something else in it; None if nothing does."""
        columns, keys = len(self.columns), [row.key for row in self.rows]
        conditions = [condition.key for condition in self.conditions]
        for column in self.columns:
            if column.condition not in conditions:
                return f"a column of {column.condition}, of which nothing is said"
        for row in self.rows:
            if len(row.cells) != columns:
                return f"the row {row.key} has {len(row.cells)} cells for {columns} columns"
        if self.reference not in keys:
            return f"differences to {self.reference}, of which there is no row"
        for line in self.orderings:
            if line.difference is not None:
                within = line.ci is None or abs(line.difference) <= line.ci
                if within != (line.verdict == OPEN):
                    return f"{line.better} before {line.worse} is called {line.verdict}"
        return None


_OF_TABLE = ("paper", "kind", "number", "title", "caption", "protocol", "reference")
_OF_ROW = ("key", "name", "kind", "series", "x")


def describe(found: Found, command: str = "") -> PaperResult:
    """What was found, as its file holds it."""
    table, asked = found.table, found.experiment
    return PaperResult(
        **header(BENCHMARK, found.config, command),
        name=asked.name,
        experiment=asked.resolved,
        **{name: getattr(table, name) for name in _OF_TABLE},
        budget=Budget(
            found.minutes, found.shares, table.measuring.minutes if found.shares else None
        ),
        notes=tuple(found.notes),
        differences=tuple(differences(table, asked.papers)),
        conditions=tuple(_condition(found, key) for key in table.conditions),
        columns=tuple(_column(column) for column in table.columns),
        rows=tuple(
            RowResult(
                **{name: getattr(row, name) for name in _OF_ROW},
                weights={
                    key: found.origins[row.key, key]
                    for key in table.conditions
                    if found.origins.get((row.key, key))
                },
                cells=tuple(
                    _cell(found, row.key, column, paper)
                    for column, paper in zip(table.columns, row.paper, strict=True)
                ),
            )
            for row in table.rows
        ),
        orderings=tuple(orderings(found)),
    )


def orderings(found: Found) -> list[Ordering]:
    """Rows that are neighbours in the paper's order, and whether that is theirs here, too.

    An order holds where the paired difference exceeds its 95 % interval, and does not where it
    does so the other way round.
    """
    table, lines = found.table, []
    for place, column in enumerate(table.columns):
        metric, where = METRICS[column.metric], (column.condition, column.metric)
        title, source = table.conditions[where[0]].title, found.sources.get(where[0])
        if source is not None and source.differs:
            title += f" (on {source.test.name})"
        known = [
            (value, row)
            for row in table.rows
            if (value := number_of(row.paper[place])) is not None
            and (row.key, *where) in found.values
        ]
        known.sort(key=lambda item: item[0], reverse=not metric.lower)
        for (high, better), (low, worse) in pairwise(known):
            gap = found.difference((better.key, *where), (worse.key, *where))
            if gap is None or high == low:
                continue
            ahead = -gap.value if metric.lower else gap.value
            lines.append(
                Ordering(
                    condition=title,
                    metric=metric.title,
                    better=better.name,
                    worse=worse.name,
                    paper=high - low,
                    difference=gap.value,
                    ci=gap.half_width,
                    digits=metric.digits,
                    verdict=_verdict(ahead, gap.half_width),
                )
            )
    return lines


def experiment_of(content: Mapping[str, Any]) -> str:
    """The experiment that makes a result, of whichever version."""
    if "name" in content:
        return str(content["name"])
    words = [content.get("paper", "NAME"), content.get("number", "")]
    if content.get("kind") == "figure":
        words.insert(1, "figure")
    return "-".join(map(str, words)).rstrip("-")


def _verdict(ahead: float, half_width: float) -> Verdict:
    if math.isnan(half_width) or abs(ahead) <= half_width:
        return OPEN
    return HOLDS if ahead > 0 else FAILS


def _column(column: Column) -> ColumnResult:
    metric = METRICS[column.metric]
    return ColumnResult(column.condition, column.metric, metric.title, metric.digits, metric.lower)


def _condition(found: Found, key: str) -> ConditionResult:
    condition, source = found.table.conditions[key], found.sources.get(key)
    about = (key, condition.title, condition.scale)
    if source is None:
        return ConditionResult(*about, found.missing.get(key, "nothing of it can be measured"))
    cells = [cell for (_, where, _), cell in found.cells.items() if where == key]
    return ConditionResult(
        *about,
        test={"dataset": source.test.name, **source.test.options},
        train={"dataset": source.train.name, **source.train.options},
        differs=source.differs,
        image_size=found.sizes[key],
        images=max((cell.images for cell in cells), default=0),
    )


def _cell(found: Found, row: str, column: Column, paper: str | None) -> Cell:
    place = (row, column.condition, column.metric)
    reference = (found.table.reference, column.condition, column.metric)
    gap = None if place == reference else found.difference(place, reference)
    minus, minus_ci = (None, None) if gap is None else gap
    cell = found.cells.get(place, Cell(None, None))
    return dataclasses.replace(cell, paper=paper, minus=minus, minus_ci=minus_ci)
