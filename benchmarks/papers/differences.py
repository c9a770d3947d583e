"""What an experiment does otherwise than its paper, defaults included.

Every setting that a result depends on is one of three: the paper states it and it is the same, the
paper states another value, or the paper does not state it. The last two are differences. Networks
are as their papers have them unless an experiment says otherwise, so a default of a network counts
as the paper's; a default of a trainer does not.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facehall_env import nested
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.tables import Measuring, PaperTable, Part, Row
from facehall_env.benchmarks.papers.trainers import GIVEN, TRAINERS, references
from facehall_env.enhancers import ENHANCERS

NOT_STATED = "not stated"
_NO_EFFECT = frozenset(
    {"checkpoint_every", "devices", "enhancer_settings", "log_every", "num_nodes"}
)
"""Settings of trainings that do not change what is learned, or are compared as the network's."""
_WITHOUT_REWARD = "enhancer"
"""Trainer of episodes whose reward nothing depends on."""
_OTHER_STAGES = ("coarse_", "cognition_", "restorer_")
"""Settings of stages of IPFH's training that are passed over, since their networks are given."""
_OF_TRAINING = ("seed", "train_limit")
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """A setting that is not known to be the paper's.

    Attributes:
        of: The networks that it is a setting of; none if it is one of the whole table.
        setting: Its name.
        ours: Its value here.
        paper: The paper's, or "not stated".
    """

    of: tuple[str, ...]
    setting: str
    ours: str
    paper: str


def differences(ours: PaperTable, papers: PaperTable) -> list[Difference]:
    """All differences of ours to the paper's, those of the whole table first, then by networks."""
    found = [
        Difference((), f"test images of {condition.title}", _text(ours.measuring.limit), theirs)
        for condition in ours.conditions.values()
        if (theirs := _text(condition.images or NOT_STATED)) != _text(ours.measuring.limit)
    ]
    metrics = {column.metric for column in ours.columns}
    sources = {METRICS[name].source for name in metrics}
    # Weights matter only beside what a network costs, which does not depend on them.
    trained = sources != {"cost"} and any(row.trained for row in ours.rows)
    names = [*(_OF_TRAINING if trained else ())]
    names += ["fsim_limit"] if "fsim" in metrics else []
    names += ["pairs_of_fold"] if "pairs" in sources else []
    if ours.measuring.action_stride != 1 or ours.measuring.action_offset is not None:
        names += ["action_stride", "action_offset"]
    found += [Difference((), n, _text(getattr(ours.measuring, n)), NOT_STATED) for n in names]
    rows_there = {row.key: row for row in papers.rows}
    by_name: dict[str, dict[tuple[str, str, str], None]] = {}
    for row in ours.rows:
        for where, setting in _of_row(row, rows_there.get(row.key), ours.measuring, trained):
            by_name.setdefault(where, {})[setting] = None
    # Networks that differ in the same settings are named together.
    together: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for name, settings in by_name.items():
        together.setdefault(tuple(settings), []).append(name)
    return found + [
        Difference(tuple(names), *setting)
        for settings, names in together.items()
        for setting in settings
    ]


def sentences(found: Iterable[Difference]) -> list[str]:
    """The differences in words, one sentence for networks that differ in the same settings."""
    by_names: dict[tuple[str, ...], list[Difference]] = {}
    for own in found:
        by_names.setdefault(own.of, []).append(own)
    lines = []
    for names, group in by_names.items():
        parts = [
            f"{own.setting} {own.ours} ({own.paper})" for own in group if own.paper != NOT_STATED
        ]
        unstated = [f"{own.setting} {own.ours}" for own in group if own.paper == NOT_STATED]
        if unstated:
            parts.append(f"{NOT_STATED} in the paper: {', '.join(unstated)}")
        lines.append(f"{', '.join(names) or 'All'}: {'; '.join(parts)}.")
    return lines


def _of_row(
    row: Row, theirs: Row | None, measuring: Measuring, trained: bool
) -> Iterable[tuple[str, tuple[str, str, str]]]:
    """Names of networks, each with a setting, its value and the paper's."""
    if theirs is not None and theirs.parts and row.steps != theirs.steps:
        yield row.key, ("steps", _text(row.steps), _text(theirs.steps))
    for role, part in row.parts.items():
        paper = theirs.parts.get(role, Part("")) if theirs is not None else Part("")
        if part.use != paper.use:
            yield row.key, (role, part.use, paper.use or "none")
        for setting, (own, other) in _of_part(part, paper, measuring, trained).items():
            here = "none" if own is _ABSENT else _text(own)
            stated = NOT_STATED if other is _ABSENT else _text(other)
            if own is _ABSENT or other is _ABSENT or here != stated:
                yield part.use, (setting, here, stated)
    if theirs is not None:
        for role in theirs.parts.keys() - row.parts.keys():
            yield row.key, (role, "none", theirs.parts[role].use)


def _of_part(
    part: Part, paper: Part, measuring: Measuring, trained: bool
) -> dict[str, tuple[Any, Any]]:
    """Settings of a part with their values and the paper's."""
    pairs: dict[str, tuple[Any, Any]] = {}
    if part.network != paper.network:
        pairs["network"] = part.network, paper.network
        pairs |= {key: (value, _ABSENT) for key, value in part.settings.items()}
    else:
        defaults = _defaults(part.network)
        for key in {**paper.settings, **part.settings}:
            default = defaults.get(key, _ABSENT)
            pairs[key] = part.settings.get(key, default), paper.settings.get(key, default)
    if part.trainer != paper.trainer and trained:
        pairs["trainer"] = part.trainer or "none, weights that come with the project", paper.trainer
    if part.trainer is None or not trained:
        return pairs
    stated = paper.training if paper.trainer == part.trainer else {}
    own = _training(part, stated, measuring)
    return pairs | {key: (value, stated.get(key, _ABSENT)) for key, value in own.items()}


def _training(part: Part, paper: Mapping[str, Any], measuring: Measuring) -> dict[str, Any]:
    """All settings that a training depends on, with its defaults."""
    trainer = TRAINERS[str(part.trainer)]
    named = references(part.training)
    config = trainer.configure(**{k: v for k, v in part.training.items() if k not in named})
    left_out = {*GIVEN, *_NO_EFFECT, *(trainer.network or ())}
    values = {
        name: value
        for name, value in {**nested.leaves(config), **named}.items()
        if name not in left_out and not name.startswith(_OTHER_STAGES)
    }
    recipe = getattr(ENHANCERS.get(part.network), "recipe", None) if part.network else None
    if recipe is not None and part.trainer == "sr":
        for name, value in dataclasses.asdict(recipe).items():
            values[name] = value if values.get(name) is None else values[name]
    if part.trainer == _WITHOUT_REWARD:
        values.pop("reward", None)
    if values.get("schedule") != "step":
        values.pop("step_updates", None)
    for name in [name for name, value in values.items() if value is None or value == ()]:
        if name not in paper:  # Nothing is chosen where the paper states nothing.
            del values[name]
    if "updates" not in part.training:
        values.pop("updates", None)
        minutes = measuring.minutes
        values["minutes"] = "none" if minutes is None else round(minutes * part.share, 6)
    return values


def _defaults(network: str | None) -> Mapping[str, Any]:
    if network is None:
        return {}
    keywords = inspect.signature(ENHANCERS.get(network)).parameters
    return {k: own.default for k, own in keywords.items() if own.default is not own.empty}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return json.dumps(list(value))
    return f"{value:,}" if isinstance(value, int) else str(value)
