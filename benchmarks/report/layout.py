"""What a page consists of: sections of blocks, which hold sentences, curves and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facehall_env.benchmarks.tables import Table

DATASETS = {
    "lfw": "photographs of Labeled Faces in the Wild",
    "synthetic": "faces drawn by the computer",
}


@dataclass(frozen=True)
class Chart:
    """PSNR gained by patches.

    Attributes:
        description: What there is to see, for readers who do not see it.
        curves: (T + 1,) decibels gained since the start, for each agent.
        start: PSNR of the images before the first patch, in dB.
        x_ticks: Numbers of patches to write below.
        note: What else one has to know.
    """

    title: str
    description: str
    curves: Mapping[str, Sequence[float]]
    start: float
    x_ticks: Sequence[int]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """What the page shows of one results file.

    Attributes:
        intro: A sentence or two.
        details: Tables for those who want to know more.
        notes: Sentences below the tables.
        settings: Sentences below the details: how it was made.
    """

    title: str
    intro: str
    tables: Sequence[Table]
    details: Sequence[Table] = ()
    chart: Chart | None = None
    notes: Sequence[str] = ()
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """Blocks of one kind.

    Attributes:
        id: Its anchor in the page's address.
        intro: A sentence or two.
        blocks: What it shows; the page leaves out a section without blocks.
        terms: Words and what they mean.
    """

    id: str
    title: str
    intro: str
    blocks: Sequence[Block]
    terms: Mapping[str, str] = field(default_factory=dict)


def faces_of(dataset: str) -> str:
    """A dataset in words.

    >>> faces_of("synthetic"), faces_of("helen")
    ('faces drawn by the computer', 'faces of helen')
    """
    return DATASETS.get(dataset, f"faces of {dataset}")
