"""What the commands of ``facehall profile`` write into their files, and the tables of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from facehall_env.benchmarks.provenance import Content, Row
from facehall_env.benchmarks.tables import Column, Table, cell, section_starts


class Speed(Content, ABC):
    """Content of one of these files."""

    benchmark: ClassVar[str]
    """What the file says it holds."""

    @property
    @abstractmethod
    def tables(self) -> list[Table]:
        """The numbers as tables."""


@dataclass(frozen=True)
class EnvironmentRow(Row):
    """How fast an environment restores patches, and how many times faster the batched one is.

    Attributes:
        steps_per_second: Patches of all episodes in a second.
        network_share: Share of the time that the network takes; NaN where it is not known.
        peak_memory_mib: Most memory in MiB; NaN where it was not measured.
    """

    enhancer: str
    precision: str
    num_envs: int
    environment: str
    steps_per_second: float
    ratio: float
    network_share: float
    peak_memory_mib: float


@dataclass(frozen=True)
class PatchRateRow(Row):
    """How fast a network alone restores patches, as a ratio to another network, too."""

    enhancer: str
    precision: str
    batch: int
    patches_per_second: float
    ratio: float
    ratio_to: str


@dataclass(frozen=True)
class Environments(Speed):
    """What ``facehall profile envs`` found."""

    benchmark = "throughput"
    again = "facehall profile envs"

    vector_env: tuple[EnvironmentRow, ...]
    enhancers: tuple[PatchRateRow, ...]

    @property
    def tables(self) -> list[Table]:
        """The environments, and the networks alone."""
        rows, rates = self.vector_env, self.enhancers
        inside = [row.network_share for row in rows]
        beside = [round(1 / share - 1, 12) if share else math.nan for share in inside]
        environments = Table(
            f"Environments around {rows[0].enhancer}",
            [
                Column("environment", [row.environment for row in rows]),
                Column("precision", self._precisions(rows)),
                Column("N", [row.num_envs for row in rows]),
                Column("steps/s", [row.steps_per_second for row in rows], format=".0f"),
                Column("batched is faster by", [row.ratio for row in rows], format=".2f"),
                Column("in the network", inside, format=".0%"),
                Column("beside it", beside, format=".0%"),
                Column("peak MiB", [row.peak_memory_mib for row in rows], format=".0f"),
            ],
            sections=section_starts([(row.precision, row.num_envs) for row in rows]),
            caption="In the network: share of the time of a step; beside it: the rest, as a share "
            "of the network's time. Not known of other processes.",
            keys=3,
        )
        networks = Table(
            f"Networks alone, {rates[0].batch} patches at once",
            [
                Column("enhancer", [row.enhancer for row in rates]),
                Column("precision", self._precisions(rates)),
                Column("patches/s", [row.patches_per_second for row in rates], format=".0f"),
                Column(f"ratio to {rates[0].ratio_to}", [row.ratio for row in rates], format=".1f"),
            ],
            keys=2,
        )
        return [environments, networks]

    def _precisions(self, rows: Sequence[EnvironmentRow | PatchRateRow]) -> list[str]:
        emulated = self.machine.device == "cpu" and not self.machine.cpu_bfloat16
        note = " (in fp32: no bfloat16 here)" if emulated else ""
        return [row.precision + (note if row.precision == "bf16" else "") for row in rows]


@dataclass(frozen=True)
class NetworkRow(Row):
    """Milliseconds for a face of a network and of its convolutions alone, and their ratio."""

    precision: str
    form: str
    layout: str
    convolutions: int
    ms_per_image: float
    convolutions_ms_per_image: float
    ratio: float


@dataclass(frozen=True)
class NetworkSettings(Row):
    """Settings that the table mentions."""

    enhancer: str
    image_size: tuple[int, ...]
    batch: int
    repetitions: int


@dataclass(frozen=True)
class NetworkTime(Speed):
    """What ``facehall profile network`` found."""

    benchmark = "network"
    again = "facehall profile network"

    settings: NetworkSettings
    rows: tuple[NetworkRow, ...]

    @property
    def tables(self) -> list[Table]:
        """The times."""
        rows, settings = self.rows, self.settings
        alone = [row.convolutions_ms_per_image for row in rows]
        table = Table(
            f"{settings.enhancer} beside its convolutions",
            [
                Column("network", [row.form for row in rows]),
                Column("layout", [row.layout for row in rows]),
                Column("precision", [row.precision for row in rows]),
                Column("ms/image", [row.ms_per_image for row in rows], format=".1f"),
                Column("convolutions alone", alone, format=".1f"),
                Column("ratio", [row.ratio for row in rows], format=".2f", better="lower"),
            ],
            caption=f"{'x'.join(map(str, settings.image_size))} pixels, {settings.batch} at once, "
            f"{rows[0].convolutions} convolutions; medians of {settings.repetitions}.",
            keys=3,
        )
        return [table]


@dataclass(frozen=True)
class Span(Row):
    """A piece of an update, whose name begins with that of its part, and its share of the time."""

    span: str
    share: float


@dataclass(frozen=True)
class TimedSpan(Span):
    """A span with its seconds in each update."""

    seconds: float


@dataclass(frozen=True)
class UpdateSettings(Row):
    """Settings that the table mentions."""

    enhancer: str
    batch: str | int
    steps: str | int
    policy: str


@dataclass(frozen=True)
class UpdateProfile(Speed):
    """What ``facehall profile update`` found: the share of each part, and all spans.

    The largest of the others is the longest span that belongs to no part.
    """

    benchmark = "profile"
    again = "facehall profile update"

    settings: UpdateSettings
    seconds_per_update: float
    shares: Mapping[str, float]
    largest_other: Span
    spans: tuple[TimedSpan, ...]

    def contradiction(self) -> str | None:
        """Shares that do not sum to one."""
        total = sum(self.shares.values())
        return None if abs(total - 1) <= 1e-6 else f"the shares sum to {total:.3f}"

    @property
    def tables(self) -> list[Table]:
        """The parts, a section for each."""
        rows: list[tuple[str, str, str]] = []
        sections = []
        for part, share in self.shares.items():
            sections.append(len(rows))
            milliseconds = 1000 * share * self.seconds_per_update
            rows.append((part, f"{milliseconds:.1f}", cell(share, ".0%")))
            rows += [
                (f"  {span.span}", f"{1000 * span.seconds:.1f}", cell(span.share, ".1%"))
                for span in self.spans
                if self._part(span) == part
            ]
        settings, largest = self.settings, self.largest_other
        table = Table.of_text(
            "One REINFORCE update",
            ("part", "ms", "share"),
            rows,
            sections[1:],
            caption=f"{settings.batch} episodes of {settings.steps} patches, {settings.enhancer}, "
            f"{settings.policy} policy. Largest of the others: {largest.span}, "
            f"{cell(largest.share, '.1%')}.",
        )
        return [table]

    def _part(self, span: Span) -> str:
        name = span.span.partition("/")[0]
        return name if name in self.shares else "other"


@dataclass(frozen=True)
class MemoryRow(Row):
    """The most MiB of an update, by what becomes of the features; NaN if the process failed."""

    features: str
    peak_memory_mib: float


@dataclass(frozen=True)
class MemorySettings(Row):
    """Settings that the table mentions."""

    size: int
    batch: int


@dataclass(frozen=True)
class TrainingMemory(Speed):
    """What ``facehall profile memory`` found."""

    benchmark = "training-memory"
    again = "facehall profile memory"

    settings: MemorySettings
    rows: tuple[MemoryRow, ...]

    @property
    def tables(self) -> list[Table]:
        """The memory, and its ratio to that of the first row."""
        size, memory = self.settings.size, [row.peak_memory_mib for row in self.rows]
        table = Table(
            "Memory of an update of SPARNetHD",
            [
                Column("features", [row.features for row in self.rows]),
                Column("peak MiB", memory, format=",.0f"),
                Column("ratio", [each / memory[0] for each in memory], format=".2f"),
            ],
            caption=f"{size}x{size} pixels, {self.settings.batch} at once: weights, Adam's "
            "momenta, gradients and features of the generator, its average and the "
            "discriminators; without VGG19. No number: the process failed, mostly for lack of "
            "memory.",
        )
        return [table]
