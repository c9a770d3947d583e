"""What each kind of results file holds, made of the benchmarks' own rows.

A `Content` is read by `from_json`, which names the first field that is missing or of another type,
and says in `contradiction` where its numbers cannot be those that were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from facehall_env.benchmarks.papers.results import BENCHMARK, PaperResult
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
    """Settings of the benchmarks that the report mentions."""

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
        psnr: (T + 1,) means in dB over the images.
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
    """Pairs of faces that a recogniser compared: where they come from, and how many of what."""

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
            scores = {name: own.balanced_accuracy for name, own in row.attributes.items()}
            if not scores:
                return f"{row.model} has no attributes"
            if different := set(scores) ^ set(self.rows[0].attributes):
                first = self.rows[0].model
                return f"{min(different)} is an attribute of only one of {first} and {row.model}"
            if unknown := set(scores) - set(self.share):
                return f"nothing says how many faces have {min(unknown)}"
            mean = sum(scores.values()) / len(scores)
            if not abs(row.balanced_accuracy - mean) <= TOLERANCE:
                return (
                    f"{row.model}: {row.balanced_accuracy:.4f} in the table, {mean:.4f} is the "
                    "mean over the attributes"
                )
        return super().contradiction() or _repeated([row.model for row in self.rows])


def _repeated(names: list[str]) -> str | None:
    return f"two rows of {max(names, key=names.count)}" if len(set(names)) < len(names) else None


CONTENTS: dict[str, type[Content] | type[PaperResult]] = {
    BENCHMARK: PaperResult,
    "patch-selection": PatchSelection,
    "sr": WholeFaces,
    "identity": Identity,
    "attributes": Attributes,
    **{kind.benchmark: kind for kind in (Environments, NetworkTime, UpdateProfile, TrainingMemory)},
}
"""The contents that the report knows, by the ``benchmark`` field of their files."""
