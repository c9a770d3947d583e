"""From the content of an experiment's files to its table, with errors that name file and key."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.tables import (
    ROLES,
    Column,
    Condition,
    Content,
    Faces,
    Figure,
    Measuring,
    PaperTable,
    Part,
    Row,
    RowKind,
    Source,
    number_of,
)
from facehall_env.benchmarks.papers.trainers import TRAINERS
from facehall_env.enhancers import ENHANCERS
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.nested import Place, typed
from facehall_env.registry import unknown_name

ABSENT = "-"
"""Stands in a file where the paper has no number."""


def _names(kind: type[Any]) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(kind))


SECTIONS = frozenset({"networks", "methods", "faces", "conditions", "rows"})
MEASURING = _names(Measuring)
KEYS = (_names(PaperTable) - {"measuring"}) | {"conventions"} | MEASURING | SECTIONS
NETWORK_KEYS = (_names(Part) - {"use", "share"}) | {"like", "small"}
_FACES_KEYS = frozenset({"test", "train", "differs", "instead", "images"})
_ROW_KEYS = (_names(Row) - {"key", "parts"}) | {"method"} | set(ROLES)


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
        ConfigurationError: If there is no such entry, or entries are like one another in a circle.
    """
    networks = content.get("networks", {})
    if name not in networks:
        raise unknown_name("network", name, networks)
    if name in below:
        raise ConfigurationError(f"networks: {' like '.join((*below, name))}, which is a circle.")
    own = networks[name]
    if "like" not in own:
        return dict(own)
    rest = {key: value for key, value in own.items() if key != "like"}
    return merged(entry(content, own["like"], (*below, name)), rest)


def _tables(content: Content, section: str) -> list[Content]:
    return [own for own in content.get(section, {}).values() if isinstance(own, Mapping)]


def used(content: Content) -> set[tuple[str, str]]:
    """The networks, methods and faces that the rows and conditions name, as (section, name)."""
    found: set[tuple[str, str]] = set()
    networks = content.get("networks", {})
    for row in _tables(content, "rows"):
        found.add(("methods", str(row.get("method"))))
        for role, part in _with_method(content, row).items():
            name = part.get("use") if isinstance(part, Mapping) else part
            while role in ROLES and name in networks and ("networks", name) not in found:
                found.add(("networks", str(name)))
                name = networks[name].get("like")
    for condition in _tables(content, "conditions"):
        found.add(("faces", str(condition.get("faces"))))
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
    for section in SECTIONS:
        if not isinstance(content.get(section, {}), Mapping):
            raise (place / section).error("write it as a table of entries.")
        for key, own in content.get(section, {}).items():
            if not isinstance(own, Mapping):
                raise (place / section / key).error(f"{own!r} is not a table of keys and values.")
    for key, own in content.get("networks", {}).items():
        (place / "networks" / key).check_keys(own, NETWORK_KEYS)
    if "figure" in content:
        (place / "figure").check_keys(content["figure"], _names(Figure))
    measuring = typed(Measuring, content, place)
    place.check_limits(measuring)
    if (measuring.action_offset or 0) >= measuring.action_stride:
        raise (place / "action_offset").error(
            f"{measuring.action_offset} lies outside of a cell: give a number below action_stride, "
            f"which is {measuring.action_stride}."
        )
    conditions = {key: _condition(content, key, place) for key in content.get("conditions", {})}
    columns = tuple(_column(t, conditions, place / "columns") for t in content.get("columns", ()))
    rows = tuple(
        _row(content, key, small, len(columns), place / "rows" / key)
        for key in content.get("rows", {})
    )
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise (place / "rows").error(f"two rows are called alike: {twice!r}.")
    caption = f"{content.get('conventions', '')} {content.get('caption', '')}".strip()
    made = {"measuring": measuring, "conditions": conditions, "columns": columns, "rows": rows}
    table: PaperTable = typed(PaperTable, {**content, **made, "caption": caption}, place)
    known = [row.key for row in rows]
    if table.reference not in known:
        raise (place / "reference").error(str(unknown_name("row", table.reference, known)))
    return table


def _column(text: str, conditions: Mapping[str, Condition], place: Place) -> Column:
    words = text.split()
    if len(words) != 2:
        raise place.error(f"{text!r} is not a condition and a metric, such as 'x8 psnr'.")
    for kind, word, known in zip(
        ("condition", "metric"), words, (conditions, METRICS), strict=True
    ):
        if word not in known:
            raise place.error(str(unknown_name(kind, word, known)))
    return Column(*words)


def _condition(content: Content, key: str, place: Place) -> Condition:
    own, faces = content["conditions"][key], content.get("faces", {})
    here = place / "conditions" / key
    here.check_keys(own, {"title", "scale", "faces"})
    if (name := own.get("faces")) not in faces:
        raise (here / "faces").error(str(unknown_name("faces", str(name), faces)))
    known, where = faces[name], place / "faces" / name
    sources = [_source(known, where)]
    if "instead" in known:
        sources.append(_source(known["instead"], where / "instead"))
    more = {"key": key, "sources": tuple(sources), "images": known.get("images")}
    condition: Condition = typed(Condition, {**own, **more}, here)
    here.check_limits(condition)
    return condition


def _source(own: Content, place: Place) -> Source:
    place.check_keys(own, _FACES_KEYS)
    test, train = (_faces(own.get(key, own.get("test")), place / key) for key in ("test", "train"))
    return Source(test, train, own.get("differs", ""))


def _faces(own: Any, place: Place) -> Faces:
    content = {"name": own} if isinstance(own, str) else own
    if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
        raise place.error(f"{own!r} does not name a dataset.")
    return Faces(content["name"], {k: v for k, v in content.items() if k != "name"})


def _with_method(content: Content, row: Content) -> dict[str, Any]:
    return merged(content.get("methods", {}).get(row.get("method"), {}), row)


def _row(content: Content, key: str, small: bool, columns: int, place: Place) -> Row:
    raw, methods = content["rows"][key], content.get("methods", {})
    if (method := raw.get("method")) is not None and method not in methods:
        raise (place / "method").error(str(unknown_name("method", str(method), methods)))
    whole = _with_method(content, raw)
    place.check_keys(whole, _ROW_KEYS)
    parts = {
        role: _part(content, whole[role], small, place / role) for role in ROLES if role in whole
    }
    words = str(whole.get("paper", "")).split()
    paper = tuple(None if word == ABSENT else word for word in words)
    try:
        list(map(number_of, paper))
    except ValueError as error:
        raise (place / "paper").error(f"{error}.") from error
    if len(paper) != columns:
        raise (place / "paper").error(f"{len(paper)} numbers for {columns} columns.")
    made = {"key": key, "kind": whole.get("kind") or _kind(parts, place)}
    row: Row = typed(Row, {**whole, **made, "paper": paper, "parts": parts}, place)
    place.check_limits(row)
    return row


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
    place.check_keys(whole, _names(Part))
    part: Part = typed(Part, whole, place)
    place.check_limits(part)
    if part.network is not None:
        _check_network(part, place)
    if part.trainer is None:
        return part
    if part.trainer not in TRAINERS:
        raise place.error(str(unknown_name("trainer", part.trainer, TRAINERS)))
    where = Place(("networks", own["use"], "training"), place.sources)
    training = TRAINERS[part.trainer].typed(part.training, where)
    return dataclasses.replace(part, training=training)


def _check_network(part: Part, place: Place) -> None:
    where = Place(("networks", part.use), place.sources)
    try:
        keywords = inspect.signature(ENHANCERS.get(str(part.network))).parameters
    except UnknownNameError as error:
        raise (where / "network").error(str(error)) from error
    if not any(word.kind is word.VAR_KEYWORD for word in keywords.values()):
        (where / "settings").check_keys(part.settings, keywords)
