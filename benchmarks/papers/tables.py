"""Tables as data: which methods a paper compares, on which faces, and what it found.

A table also says how each method is made and trained. Nothing in the engine knows a table, a
dataset or a network by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from facehall_env.limits import Ge, Gt, Seed

SHOWN_ROLES = ("model", "initial", "enhancer", "agent")
"""Parts that restore; all others only take part in the training of these."""
ROLES = ("model", "initial", "cognition", "restorer", "look", "enhancer", "agent")
"""Parts of a row, each behind those that it is trained with."""

IMAGES_PER_PAIR = 20
"""Test images for each pair of a fold, where the number of pairs is not given."""

RowKind = Literal["start", "model", "agent", "truth", "paper-only"]
"""What a row is: the faces as they start, a network that restores whole faces, an agent that lets
an enhancer restore patches, the true faces, or nothing of ours."""
Kind = Literal["table", "figure"]

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A network or an agent of a row.

    Attributes:
        use: Its name among the experiment's networks.
        network: Name in the registry of enhancers, if it is a network that restores.
        agent: Name in the registry of agents, if it is one.
        settings: Keywords of the factory; ``"@NAME"`` stands for something of the row.
        trainer: What trains it (`facehall_env.benchmarks.papers.trainers`); None if nothing does.
        training: Settings of the trainer.
        of: The part whose training leaves this one, too.
        file: Which of the training's files it is; None for the trainer's own.
        share: Share of the row's time.
    """

    use: str
    network: str | None = None
    agent: str | None = None
    settings: Content = field(default_factory=dict)
    trainer: str | None = None
    training: Content = field(default_factory=dict)
    of: str | None = None
    file: str | None = None
    share: Annotated[float, Ge(0)] = 1.0


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        key: Short name for the command line.
        name: As in the paper.
        paper: The paper's numbers, one for each column as it prints them; None where it has none.
        parts: By role: model, or enhancer, agent and initial, and what these are trained with, each
            behind those that it needs.
        steps: Patches of an agent.
        why: Why only the paper has the row.
        series: The line of a figure that it belongs to.
        x: Where it stands on that line.
    """

    key: str
    name: str
    kind: RowKind
    paper: tuple[str | None, ...]
    parts: Mapping[str, Part] = field(default_factory=dict)
    steps: Annotated[int, Ge(1)] = 1
    why: str = "it is not part of this project"
    series: str = ""
    x: float | None = None

    @property
    def trained(self) -> bool:
        """Whether anything of it has to be trained."""
        return any(part.trainer for part in self.parts.values())


@dataclass(frozen=True)
class Faces:
    """A dataset with its options."""

    name: str
    options: Content = field(default_factory=dict)

    @property
    def keywords(self) -> dict[str, Any]:
        """The options as the dataset wants them: lists become tuples."""
        return {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}


@dataclass(frozen=True)
class Source:
    """Where the faces of a condition come from.

    Attributes:
        differs: How this differs from what the paper has, in a few words; empty if it does not.
    """

    test: Faces
    train: Faces
    differs: str = ""


@dataclass(frozen=True)
class Condition:
    """Faces and scale that some columns belong to.

    Attributes:
        key: Its name in the file.
        title: What the paper calls it.
        scale: Factor between the resolutions.
        sources: The paper's faces, and behind them what may stand in for them.
        images: Number of the paper's test images; None if the paper does not say.
    """

    key: str
    title: str
    scale: int
    sources: tuple[Source, ...]
    images: int | None = None


@dataclass(frozen=True)
class Column:
    """A metric under a condition, by their keys."""

    condition: str
    metric: str


@dataclass(frozen=True)
class Figure:
    """How the rows are drawn.

    Attributes:
        draw: Bars for each row, or lines.
        across: What a line goes through: rows of one series, or conditions.
        x: Name of the horizontal axis.
        maps: Also draw the mean error of each row at each pixel.
    """

    draw: Literal["bars", "lines"]
    across: Literal["rows", "conditions"] = "rows"
    x: str = ""
    maps: bool = False


@dataclass(frozen=True)
class Measuring:
    """How a table is measured and its networks are trained.

    Attributes:
        minutes: Training of each row under each condition; None trains nothing.
        limit: Number of test images, the first ones of a fixed random order.
        fsim_limit: Number of images on which FSIM, which is slow, is taken.
        pairs: Matched pairs of each fold that verification takes, and as many mismatched ones; a
            twentieth of ``limit`` by default.
        train_limit: Largest number of faces to train on.
        seed: Seed of the trainings and of random agents.
        action_stride: Spacing in pixels of the locations of agents that learn nothing; the others
            have their own.
        action_offset: On which row and column of its cell a patch is centred; the middle by
            default.
        batch: Images that are restored at once.
        time_batch: Faces that are restored at once when time is measured.
        seconds: Least length of one measurement of time.
        repetitions: Measurements of each time, in turns; medians are reported.
        mobilefacenet: File with the weights of MobileFaceNet, which some columns and trainings
            need.
        lpips: Files with the weights of LPIPS: of its network and of its linear layers.
    """

    minutes: Annotated[float, Gt(0)] | None = None
    limit: Annotated[int, Ge(1)] = 1000
    fsim_limit: Annotated[int, Ge(0)] = 200
    pairs: Annotated[int, Ge(1)] | None = None
    train_limit: Annotated[int, Ge(1)] = 10_000
    seed: Seed = 0
    action_stride: Annotated[int, Ge(1)] = 1
    action_offset: Annotated[int, Ge(0)] | None = None
    batch: Annotated[int, Ge(1)] = 32
    time_batch: Annotated[int, Ge(1)] = 1
    seconds: Annotated[float, Ge(0)] = 0.5
    repetitions: Annotated[int, Ge(1)] = 5
    mobilefacenet: str | None = None
    lpips: tuple[str, str] | None = None

    @property
    def pairs_of_fold(self) -> int:
        """Matched pairs of each fold."""
        return self.pairs or max(2, self.limit // IMAGES_PER_PAIR)


@dataclass(frozen=True)
class PaperTable:
    """A table or a figure.

    Attributes:
        number: As the paper counts.
        title: What it compares.
        protocol: Name of the preset that degrades the faces and scores the results.
        reference: Key of the row that differences are to.
        columns: In the paper's order.
        caption: What differs from the paper beside settings.
        conditions: By their keys, in the order of the columns.
        rows: In the paper's order.
    """

    paper: str
    number: str
    title: str
    protocol: str
    reference: str
    columns: tuple[Column, ...]
    caption: str
    conditions: Mapping[str, Condition]
    rows: tuple[Row, ...]
    measuring: Measuring = Measuring()
    kind: Kind = "table"
    figure: Figure | None = None

    @property
    def heading(self) -> str:
        """Its title with where it comes from."""
        return f"{self.paper}, {self.kind.capitalize()} {self.number}: {self.title}"

    def of(self, condition: str) -> list[str]:
        """The metrics under a condition."""
        return [column.metric for column in self.columns if column.condition == condition]


def number_of(text: str | None) -> float | None:
    """What the paper prints, as a number.

    >>> number_of("58.51%"), number_of(None)
    (58.51, None)
    """
    return None if text is None else float(text.rstrip("%"))
