"""Tables as data: what the content of an experiment says, checked and typed.

A table says which methods a paper compares, on which faces, how each is made and trained, and what
the paper found. Nothing in the engine knows a table, a dataset or a network by its name.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from facehall_env import limits
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.trainers import TRAINERS
from facehall_env.benchmarks.papers.typed import Place, construct
from facehall_env.enhancers import ENHANCERS
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.limits import Ge, Gt, Seed
from facehall_env.registry import unknown_name

ABSENT = "-"
"""Stands in a file where the paper has no number."""
SHOWN_ROLES = ("model", "initial", "enhancer", "agent")
"""Parts that restore; all others only take part in the training of these."""
ROLES = ("model", "initial", "cognition", "restorer", "look", "enhancer", "agent")
"""Parts of a row, each behind those that it is trained with."""

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
        kind: What makes it.
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


@dataclass(frozen=True)
class PaperTable:
    """A table or a figure.

    Attributes:
        paper: Short name of the paper.
        number: As the paper counts.
        title: What it compares.
        protocol: Name of the preset that degrades the faces and scores the results.
        reference: Key of the row that differences are to.
        columns: In the paper's order.
        caption: What differs from the paper beside settings.
        conditions: By their keys, in the order of the columns.
        rows: In the paper's order.
        measuring: How it is measured and trained.
        kind: Table or figure.
        figure: How a figure is drawn.
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


# The keys that a file may have.


@dataclass(frozen=True)
class _Head:
    paper: str
    number: str
    title: str
    protocol: str
    reference: str
    columns: tuple[str, ...]
    caption: str = ""
    conventions: str = ""
    kind: Kind = "table"


@dataclass(frozen=True)
class _Entry:
    like: str | None = None
    network: str | None = None
    agent: str | None = None
    settings: Content = field(default_factory=dict)
    trainer: str | None = None
    training: Content = field(default_factory=dict)
    of: str | None = None
    file: str | None = None
    small: Content = field(default_factory=dict)


@dataclass(frozen=True)
class _Faces:
    test: str | Content
    train: str | Content | None = None
    differs: str = ""
    instead: Content | None = None
    images: int | None = None


@dataclass(frozen=True)
class _Condition:
    title: str
    scale: Annotated[int, Ge(1)]
    faces: str


@dataclass(frozen=True)
class _Row:
    name: str
    paper: str
    kind: Literal["start", "truth"] | None = None
    method: str | None = None
    steps: Annotated[int, Ge(1)] = 1
    why: str = Row.why
    series: str = ""
    x: float | None = None


def _names(kind: type[Any]) -> set[str]:
    return {own.name for own in dataclasses.fields(kind)}


SECTIONS = frozenset({"networks", "methods", "faces", "conditions", "rows"})
KEYS = frozenset({*_names(_Head), *_names(Measuring), *SECTIONS, "figure"})
NETWORK_KEYS = frozenset(_names(_Entry))
_ROW_KEYS = _names(_Row) | set(ROLES)


def merged(base: Content, over: Content) -> dict[str, Any]:
    """Two layers of settings, key by key; another network than before begins without settings.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    if "network" in over and over["network"] != base.get("network"):
        base = {key: value for key, value in base.items() if key != "settings"}
    whole = dict(base)
    for key, value in over.items():
        before = whole.get(key)
        if isinstance(value, Mapping):
            value = merged(before if isinstance(before, Mapping) else {}, value)
        whole[key] = value
    return whole


def entry(content: Content, name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """One of the networks, with what it has from the one that it is like.

    Raises:
        ConfigurationError: If entries are like one another in a circle.
        UnknownNameError: If there is no such entry; names the nearest ones.
    """
    networks = content.get("networks", {})
    if name not in networks:
        raise unknown_name("network", name, networks)
    if name in below:
        raise ConfigurationError(f"networks.{name}.like: {' like '.join((*below, name))}, a circle.")
    own = networks[name]
    if "like" not in own:
        return dict(own)
    rest = {key: value for key, value in own.items() if key != "like"}
    return merged(entry(content, own["like"], (*below, name)), rest)


def used(content: Content) -> set[tuple[str, str]]:
    """The networks, methods and faces that the rows and conditions name, as (section, name)."""
    found: set[tuple[str, str]] = set()
    for row in content.get("rows", {}).values():
        if method := row.get("method"):
            found.add(("methods", method))
        for role, part in _with_method(content, row).items():
            if role in ROLES:
                name = part["use"] if isinstance(part, Mapping) else part
                while name is not None:
                    found.add(("networks", name))
                    name = content.get("networks", {}).get(name, {}).get("like")
    for condition in content.get("conditions", {}).values():
        found.add(("faces", condition.get("faces", "")))
    return found


def read(content: Content, place: Place, small: bool = False) -> PaperTable:
    """A table from the content of an experiment.

    Args:
        content: Either what the paper states or what is run, as one layer.
        place: Where it stands.
        small: Take the small variants of the networks.

    Raises:
        ConfigurationError: If something is unknown, missing or of a wrong type; names the file, the
            key and the nearest names.
    """
    place.check_keys(content, KEYS)
    head_keys, measuring_keys = _names(_Head), _names(Measuring)
    head = construct(_Head, {k: v for k, v in content.items() if k in head_keys}, place)
    own = {key: value for key, value in content.items() if key in measuring_keys}
    measuring = construct(Measuring, own, place)
    _check_limits(measuring, place)
    if (measuring.action_offset or 0) >= measuring.action_stride:
        raise (place / "action_offset").error(
            f"{measuring.action_offset} lies outside of a cell: give 0 to action_stride - 1, which "
            f"is {measuring.action_stride - 1}."
        )
    for section in SECTIONS:
        if not isinstance(content.get(section, {}), Mapping):
            raise (place / section).error("write it as a table of entries.")
    conditions = {
        key: _condition(content, key, place / "conditions" / key)
        for key in content.get("conditions", {})
    }
    columns = tuple(_column(text, conditions, place / "columns") for text in head.columns)
    for name, network in content.get("networks", {}).items():
        construct(_Entry, network, place / "networks" / name)
    rows = tuple(
        _row(content, key, small, len(columns), place / "rows" / key)
        for key in content.get("rows", {})
    )
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise (place / "rows").error(
            f"two rows are called alike: {max(names, key=names.count)!r}."
        )
    if head.reference not in content.get("rows", {}):
        known = content.get("rows", {})
        raise (place / "reference").error(str(unknown_name("row", head.reference, known)))
    figure = content.get("figure")
    return PaperTable(
        paper=head.paper,
        number=head.number,
        title=head.title,
        protocol=head.protocol,
        reference=head.reference,
        columns=columns,
        caption=f"{head.conventions} {head.caption}".strip(),
        conditions=conditions,
        rows=rows,
        measuring=measuring,
        kind=head.kind,
        figure=None if figure is None else construct(Figure, figure, place / "figure"),
    )


def _column(text: str, conditions: Mapping[str, Condition], place: Place) -> Column:
    words = text.split()
    if len(words) != 2:
        raise place.error(f"{text!r} is not a condition and a metric, such as 'x8 psnr'.")
    for kind, word, known in zip(("condition", "metric"), words, (conditions, METRICS), strict=True):
        if word not in known:
            raise place.error(str(unknown_name(kind, word, known)))
    return Column(*words)


def _condition(content: Content, key: str, place: Place) -> Condition:
    own = construct(_Condition, content["conditions"][key], place)
    faces = content.get("faces", {})
    if own.faces not in faces:
        raise (place / "faces").error(str(unknown_name("faces", own.faces, faces)))
    where = Place(place.sources, ("faces", own.faces))
    known = construct(_Faces, faces[own.faces], where)
    sources = [_source(known)]
    if known.instead is not None:
        sources.append(_source(construct(_Faces, known.instead, where / "instead")))
    return Condition(key, own.title, own.scale, tuple(sources), known.images)


def _source(own: _Faces) -> Source:
    test = _faces(own.test)
    return Source(test, test if own.train is None else _faces(own.train), own.differs)


def _faces(own: str | Content) -> Faces:
    if isinstance(own, str):
        return Faces(own)
    return Faces(str(own["name"]), {key: value for key, value in own.items() if key != "name"})


def _with_method(content: Content, row: Content) -> dict[str, Any]:
    method = content.get("methods", {}).get(row.get("method"), {})
    return merged(method, row)


def _row(content: Content, key: str, small: bool, columns: int, place: Place) -> Row:
    raw = content["rows"][key]
    if not isinstance(raw, Mapping):
        raise place.error(f"{raw!r} is not a table of keys and values.")
    place.check_keys(raw, _ROW_KEYS)
    methods = content.get("methods", {})
    if (method := raw.get("method")) is not None and method not in methods:
        raise (place / "method").error(str(unknown_name("method", method, methods)))
    whole = _with_method(content, raw)
    place.check_keys(whole, _ROW_KEYS)
    own = construct(_Row, {k: v for k, v in whole.items() if k not in ROLES}, place)
    paper = tuple(None if word == ABSENT else word for word in own.paper.split())
    try:
        list(map(number_of, paper))
    except ValueError as error:
        raise (place / "paper").error(f"{error}.") from error
    if len(paper) != columns:
        raise (place / "paper").error(f"{len(paper)} numbers for {columns} columns.")
    parts = {
        role: _part(content, whole[role], small, place / role) for role in ROLES if role in whole
    }
    return Row(
        key=key,
        name=own.name,
        kind=own.kind or _kind(parts, place),
        paper=paper,
        parts=parts,
        steps=own.steps,
        why=own.why,
        series=own.series,
        x=own.x,
    )


def _kind(parts: Mapping[str, Part], place: Place) -> RowKind:
    if not parts:
        return "paper-only"
    if "model" in parts:
        return "model"
    if missing := {"enhancer", "agent"} - parts.keys():
        raise place.error(f"it lacks {' and '.join(sorted(missing))}.")
    return "agent"


def _part(content: Content, own: Any, small: bool, place: Place) -> Part:
    own = {"use": own} if isinstance(own, str) else own
    if not isinstance(own, Mapping) or not isinstance(own.get("use"), str):
        raise place.error(f"{own!r} does not say which network: write {{ use = NAME }}.")
    try:
        whole = entry(content, own["use"])
    except (ConfigurationError, UnknownNameError) as error:
        raise place.error(str(error)) from error
    reduced = whole.pop("small", {})
    whole = merged(merged(whole, reduced if small else {}), own)
    part = construct(Part, whole, place)
    if part.trainer is not None:
        if part.trainer not in TRAINERS:
            raise place.error(str(unknown_name("trainer", part.trainer, TRAINERS)))
        training = TRAINERS[part.trainer].typed(part.training, place / "training")
        part = dataclasses.replace(part, training=training)
    if part.network is not None:
        _check_network(part, place)
    _check_limits(part, place)
    return part


def _check_network(part: Part, place: Place) -> None:
    try:
        keywords = inspect.signature(ENHANCERS.get(str(part.network))).parameters
    except UnknownNameError as error:
        raise (place / "network").error(str(error)) from error
    if not any(word.kind is word.VAR_KEYWORD for word in keywords.values()):
        (place / "settings").check_keys(part.settings, keywords)


def _check_limits(own: Any, place: Place) -> None:
    try:
        limits.check(own)
    except ConfigurationError as error:
        name = str(error).partition("=")[0]
        raise (place / name).error(str(error)) from error
