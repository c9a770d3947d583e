"""Tables as data: what stands in the files of ``tables/``, read and checked.

A file says which methods a table compares, on which faces, how each is made and trained, and what
the paper found. How networks and agents are built and trained stands in ``networks.toml``, once for
all tables. Nothing in the engine knows a table, a dataset or a network by its name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.errors import ConfigurationError
from facehall_env.registry import unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "tables"
NETWORKS = "networks.toml"
ABSENT = "-"
"""Stands in a file where the paper has no number."""
SHOWN_ROLES = ("model", "initial", "enhancer", "agent")
"""Parts that restore; all others only take part in the training of these."""

RowKind = Literal["start", "model", "agent", "truth", "paper-only"]
"""What a row is: the faces as they start, a network that restores whole faces, an agent that lets
an enhancer restore patches, the true faces, or nothing of ours."""
Kind = Literal["table", "figure"]

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A network or an agent of a row.

    Attributes:
        use: Its name in ``networks.toml``.
        network: Name in the registry of enhancers, if it is a network that restores.
        agent: Name in the registry of agents, if it is one.
        settings: Keywords of the factory; ``"@NAME"`` stands for something of the row.
        trainer: What trains it (`facehall_env.benchmarks.papers.trainers`); None if nothing does.
        with_: Settings of the trainer.
        of: The part whose training leaves this one, too.
        file: Which of the training's files it is; None for the trainer's own.
        share: Of the row's time.
    """

    use: str
    network: str | None = None
    agent: str | None = None
    settings: Content = field(default_factory=dict)
    trainer: str | None = None
    with_: Content = field(default_factory=dict)
    of: str | None = None
    file: str | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        key: Short name for the command line.
        name: As in the paper.
        kind: What makes it.
        paper: The paper's numbers, one for each column as it prints them; None where it has none.
        parts: By role: model, or enhancer, agent and initial, and what these are trained with, each
            behind those that it needs.
        steps: Patches of an agent.
        why: Of a row that only the paper has: why.
        series: The line of a figure that it belongs to.
        x: Where it stands on that line.
    """

    key: str
    name: str
    kind: RowKind
    paper: tuple[str | None, ...]
    parts: Mapping[str, Part] = field(default_factory=dict)
    steps: int = 1
    why: str = ""
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


@dataclass(frozen=True)
class Source:
    """Where the faces of a condition come from.

    Attributes:
        test: Faces to compare on.
        train: Faces to train on.
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
    """

    key: str
    title: str
    scale: int
    sources: tuple[Source, ...]


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
class PaperTable:
    """A table or a figure.

    Attributes:
        paper: Short name of the paper, as in the command.
        number: As the paper counts.
        kind: Table or figure.
        title: What it compares.
        protocol: Name of the preset that makes the faces small and scores the results.
        reference: Key of the row that differences are to.
        columns: In the paper's order.
        caption: What differs from the paper.
        conditions: By their keys, in the order of the columns.
        rows: In the paper's order.
        figure: How it is drawn, of a figure.
    """

    paper: str
    number: str
    kind: Kind
    title: str
    protocol: str
    reference: str
    columns: tuple[Column, ...]
    caption: str
    conditions: Mapping[str, Condition]
    rows: tuple[Row, ...]
    figure: Figure | None = None

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.paper}-{self.kind}-{self.number}"

    @property
    def heading(self) -> str:
        """Its title with where it comes from."""
        return f"{self.paper}, {self.kind.capitalize()} {self.number}: {self.title}"

    def of(self, condition: str) -> list[str]:
        """The metrics under a condition."""
        return [column.metric for column in self.columns if column.condition == condition]


def available(folder: Path = FOLDER) -> list[tuple[str, Kind, str]]:
    """Paper, kind and number of all tables and figures, in the order of their numbers."""
    found: list[tuple[str, Kind, str]] = []
    for path in folder.glob("*.toml"):
        for kind in get_args(Kind):
            paper, separator, number = path.stem.partition(f"-{kind}-")
            if separator:
                found.append((paper, kind, number))
    return sorted(found, key=lambda item: (item[0], item[1] == "figure", _order(item[2])))


def load(
    paper: str, kind: Kind, number: str, small: bool = False, folder: Path = FOLDER
) -> PaperTable:
    """Reads a table.

    Args:
        paper: Short name of the paper.
        kind: Table or figure.
        number: As the paper counts.
        small: Take the small variants of the networks, to try something out.
        folder: Where the files are.

    Raises:
        UnknownNameError: If there is none of that number.
        ConfigurationError: If its file or ``networks.toml`` says something that is not understood.
    """
    path = folder / f"{paper}-{kind}-{number}.toml"
    if not path.is_file():
        numbers = [n for p, k, n in available(folder) if (p, k) == (paper, kind)]
        raise unknown_name(f"{kind} of {paper}", number, numbers)
    networks = _read(folder / NETWORKS)
    try:
        return _table(_read(path), networks, small)
    except (KeyError, TypeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigurationError(f"{path.name} cannot be understood: {what}") from error


def number_of(text: str | None) -> float | None:
    """What the paper prints, as a number.

    >>> number_of("58.51%"), number_of(None)
    (58.51, None)
    """
    return None if text is None else float(text.rstrip("%"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error


def _table(content: dict[str, Any], networks: Content, small: bool) -> PaperTable:
    columns = tuple(Column(*text.split()) for text in content.pop("columns"))
    for column in columns:
        if column.metric not in METRICS:
            raise unknown_name("metric", column.metric, METRICS)
    conditions = {key: _condition(key, own) for key, own in content.pop("conditions").items()}
    for column in columns:
        if column.condition not in conditions:
            raise unknown_name("condition", column.condition, conditions)
    rows = tuple(_row(dict(own), networks, small, len(columns)) for own in content.pop("rows"))
    for names in ([row.key for row in rows], [row.name for row in rows]):
        if len(set(names)) < len(names):
            raise ValueError(f"two rows are called alike: {max(names, key=names.count)!r}.")
    if content["reference"] not in [row.key for row in rows]:
        raise unknown_name("row", content["reference"], [row.key for row in rows])
    figure = content.pop("figure", None)
    return PaperTable(
        **{"kind": "table", **content},
        columns=columns,
        conditions=conditions,
        rows=rows,
        figure=None if figure is None else Figure(**figure),
    )


def _condition(key: str, content: Content) -> Condition:
    sources = tuple(
        Source(_faces(own["test"]), _faces(own["train"]), own.get("differs", ""))
        for own in content["sources"]
    )
    return Condition(key, content["title"], content["scale"], sources)


def _faces(content: Content) -> Faces:
    return Faces(content["name"], {k: v for k, v in content.items() if k != "name"})


def _row(content: dict[str, Any], networks: Content, small: bool, columns: int) -> Row:
    if missing := {"key", "name", "kind", "paper"} - content.keys():
        raise KeyError(min(missing))
    paper = tuple(None if word == ABSENT else word for word in content.pop("paper").split())
    for word in paper:
        number_of(word)
    if len(paper) != columns:
        raise ValueError(f"row {content['key']!r} has {len(paper)} numbers for {columns} columns.")
    if content["kind"] not in get_args(RowKind):
        raise unknown_name("kind of row", content["kind"], get_args(RowKind))
    plain = {"key", "name", "kind", "steps", "why", "series", "x"}
    given = {key: value for key, value in content.items() if key in plain}
    parts = {
        role: _part(own if isinstance(own, dict) else {"use": own}, networks, small)
        for role, own in content.items()
        if role not in plain
    }
    row = Row(**given, paper=paper, parts=parts)
    needed = {"model": {"model"}, "agent": {"enhancer", "agent"}}.get(row.kind, set())
    if not needed <= parts.keys():
        raise ValueError(f"row {row.key!r} lacks {', '.join(sorted(needed - parts.keys()))}.")
    return row


def _part(content: dict[str, Any], networks: Content, small: bool) -> Part:
    use = content["use"]
    if use not in networks:
        raise unknown_name(f"entry of {NETWORKS}", use, networks)
    base = dict(networks[use])
    reduced = base.pop("small", {})
    layers: list[Content] = [base]
    if small:
        if "network" in reduced:
            base = {**base, "settings": {}}
            layers = [base]
        layers.append(reduced)
    layers.append({key: value for key, value in content.items() if key not in ("use", "share")})
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    merged["with_"] = merged.pop("with", {})
    return Part(use=use, share=content.get("share", 1.0), **merged)


_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


def _order(number: str) -> int:
    return _ROMAN.index(number) if number in _ROMAN else int(number)
