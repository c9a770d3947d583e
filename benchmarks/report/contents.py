"""What each kind of results file holds, made of the benchmarks' own rows.

A `Content` is read by `from_json`, which names the first field that is missing or of another type,
and says in `contradiction` where its numbers cannot be those that were measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from facehall_env.benchmarks.provenance import Content, Row
from facehall_env.benchmarks.quality.attributes import AttributesRow
from facehall_env.benchmarks.quality.identity import IdentityRow
from facehall_env.benchmarks.quality.patch_selection_table import PatchSelectionRow
from facehall_env.benchmarks.quality.sr import SRRow
from facehall_env.benchmarks.speed.contents import (
    Environments,
    NetworkTime,
    TrainingMemory,
    UpdateProfile,
)
from facehall_env.spec import BICUBIC

TOLERANCE = 1e-6
"""Decibels, or shares, within which numbers that say the same thing agree."""


@dataclass(frozen=True)
class Settings(Row):
    """Settings that the report mentions.

    Attributes:
        dataset: Where the faces come from.
        scale: Factor between low and high resolution.
        protocol: How they are degraded.
        enhancer: Network that restores patches.
        initial: What restores the faces before the first patch.
        recogniser: What tells attributes, as NAME=WEIGHTS.
        time_batch: Faces at once, where time is measured.
    """

    dataset: str
    scale: int
    protocol: str
    enhancer: str = ""
    initial: str = BICUBIC
    recogniser: str = ""
    time_batch: int = 1


@dataclass(frozen=True)
class Curve(Row):
    """PSNR by patches.

    Attributes:
        agent: Name of the row.
        images: Number of images.
        psnr: (T + 1,) means in dB.
    """

    agent: str
    images: int
    psnr: tuple[float, ...]


@dataclass(frozen=True)
class PatchSelection(Content):
    """Results of ``facehall bench patch-selection``."""

    again = "facehall bench patch-selection"

    settings: Settings
    rows: tuple[PatchSelectionRow, ...]
    curves: tuple[Curve, ...]

    @property
    def steps(self) -> list[int]:
        """The numbers of patches, in increasing order."""
        return sorted({row.steps for row in self.rows})

    @property
    def images(self) -> int:
        """The largest number of images on which an agent played."""
        return max(row.images for row in self.rows)

    def at(self, steps: int) -> list[PatchSelectionRow]:
        """The rows of a number of patches."""
        return [row for row in self.rows if row.steps == steps]

    def contradiction(self) -> str | None:
        """Each row stands once, and says what its curve says."""
        curves = {curve.agent: curve.psnr for curve in self.curves}
        seen = set()
        for row in self.rows:
            where = f"{row.agent} after {row.steps} patches"
            if (row.agent, row.steps) in seen:
                return f"two rows of {where}"
            seen.add((row.agent, row.steps))
            if row.agent not in curves:
                return f"a row of {row.agent}, but no curve"
            curve = curves[row.agent]
            if not 0 < row.steps < len(curve):
                return f"a row of {where}, its curve has {len(curve) - 1}"
            if not abs(row.psnr - curve[row.steps]) <= TOLERANCE:
                return (
                    f"{where}: {row.psnr:.3f} dB in the table, {curve[row.steps]:.3f} dB in the "
                    "curve"
                )
        return super().contradiction()


@dataclass(frozen=True)
class WholeFaces(Content):
    """Results of ``facehall bench sr``."""

    again = "facehall bench sr"

    settings: Settings
    relative_to: str
    rows: tuple[SRRow, ...]

    def contradiction(self) -> str | None:
        """Each row stands once, the one that others are compared with among them."""
        names = [row.model for row in self.rows]
        if self.relative_to not in names:
            return f"relative to {self.relative_to}, of which there is no row"
        return _repeated(names)


@dataclass(frozen=True)
class Pairs(Row):
    """Pairs of faces that a recogniser compared.

    Attributes:
        source: Where the pairs come from.
        number: Number of pairs.
        images: Number of their images.
        people: Number of people on these.
    """

    source: str
    number: int
    images: int
    people: int


@dataclass(frozen=True)
class Identity(Content):
    """Results of ``facehall bench identity``."""

    again = "facehall bench identity"

    settings: Settings
    pairs: Pairs
    rows: tuple[IdentityRow, ...]


@dataclass(frozen=True)
class Attributes(Content):
    """Results of ``facehall bench attributes``.

    Attributes:
        share: How many of the faces have each attribute.
    """

    again = "facehall bench attributes"

    settings: Settings
    share: Mapping[str, float]
    rows: tuple[AttributesRow, ...]

    def contradiction(self) -> str | None:
        """All rows tell the same attributes, and have the mean over them."""
        for row in self.rows:
            told = {name: own.balanced_accuracy for name, own in row.attributes.items()}
            if not told:
                return f"{row.model} is of no attribute"
            if different := set(told) ^ set(self.rows[0].attributes):
                first = self.rows[0].model
                return f"{min(different)} is not told of {first} and {row.model} alike"
            if unknown := set(told) - set(self.share):
                return f"{min(unknown)} is told, but not how many have it"
            mean = sum(told.values()) / len(told)
            if not abs(row.balanced_accuracy - mean) <= TOLERANCE:
                return (
                    f"{row.model}: {row.balanced_accuracy:.4f} in the table, {mean:.4f} is the "
                    "mean over the attributes"
                )
        return super().contradiction() or _repeated([row.model for row in self.rows])


@dataclass(frozen=True)
class PaperCell(Row):
    """One number of a paper's table.

    Attributes:
        value: Ours; NaN where there is none.
        ci: Half width of its interval.
        minus: Difference from the reference.
        minus_ci: Half width of the interval of that.
        paper: What the paper prints, if anything.
        images: Number of images.
    """

    value: float
    ci: float
    minus: float
    minus_ci: float
    paper: str | None
    images: int


@dataclass(frozen=True)
class PaperRow(Row):
    """A method of a paper's table.

    Attributes:
        key: Short name.
        name: Name in the table.
        cells: One for each column.
    """

    key: str
    name: str
    cells: tuple[PaperCell, ...]


@dataclass(frozen=True)
class PaperColumn(Row):
    """A column of a paper's table.

    Attributes:
        condition: Key of its condition.
        title: Name of the metric.
        digits: Digits behind the point.
        lower: Whether lower numbers are better.
    """

    condition: str
    title: str
    digits: int
    lower: bool


@dataclass(frozen=True)
class PaperCondition(Row):
    """Faces of a paper's table.

    Attributes:
        key: Short name.
        title: Name in the table.
        differs: In what our faces differ from the paper's.
        missing: Why there are none.
    """

    key: str
    title: str
    differs: str | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Ordering(Row):
    """Two rows that are neighbours in the paper's order.

    Attributes:
        condition: Title of the faces.
        metric: Title of the metric.
        better: Name of the row that is better in the paper.
        worse: Name of the other.
        paper: The paper's difference.
        difference: Ours.
        ci: Half width of its interval.
        digits: Digits behind the point.
        verdict: Whether ours has the same sign.
    """

    condition: str
    metric: str
    better: str
    worse: str
    paper: float
    difference: float
    ci: float
    digits: int
    verdict: str


@dataclass(frozen=True)
class Budget(Row):
    """Time of the trainings.

    Attributes:
        minutes: Minutes of all; NaN without a budget.
        each: Minutes of each row.
    """

    minutes: float
    each: float


@dataclass(frozen=True)
class PaperResult(Content):
    """Results of ``facehall bench paper``.

    Attributes:
        paper: Short name of the paper.
        kind: Table or figure.
        number: Its number.
        title: Its title.
        caption: What one has to know.
        protocol: How the faces are degraded.
        reference: Key of the row that others are compared with.
        budget: Time of the trainings.
        conditions: The faces.
        columns: The columns.
        rows: The rows.
        orderings: Which rows are better than which.
        notes: What could not be made, and why.
    """

    again = "facehall bench paper"

    paper: str
    kind: str
    number: str
    title: str
    caption: str
    protocol: str
    reference: str
    budget: Budget
    conditions: tuple[PaperCondition, ...]
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]
    orderings: tuple[Ordering, ...]
    notes: tuple[str, ...]

    def contradiction(self) -> str | None:
        """What refers to something that is not there, and verdicts that the numbers deny."""
        conditions = [condition.key for condition in self.conditions]
        for column in self.columns:
            if column.condition not in conditions:
                return f"a column of {column.condition}, of which nothing is said"
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                return (
                    f"the row {row.key} has {len(row.cells)} cells for {len(self.columns)} columns"
                )
        if self.reference not in [row.key for row in self.rows]:
            return f"differences to {self.reference}, of which there is no row"
        for line in self.orderings:
            if math.isnan(line.difference):
                continue
            within = math.isnan(line.ci) or abs(line.difference) <= line.ci
            if within != (line.verdict == "undecided"):
                return f"{line.better} before {line.worse} is called {line.verdict}"
        return None


def _repeated(names: list[str]) -> str | None:
    return f"two rows of {max(names, key=names.count)}" if len(set(names)) < len(names) else None


CONTENTS: dict[str, type[Content]] = {
    "patch-selection": PatchSelection,
    "sr": WholeFaces,
    "paper-table": PaperResult,
    "identity": Identity,
    "attributes": Attributes,
    **{kind.benchmark: kind for kind in (Environments, NetworkTime, UpdateProfile, TrainingMemory)},
}
"""The contents that the report knows, by the ``benchmark`` field of their files."""
