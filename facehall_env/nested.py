"""Settings that hold other settings, by the names of their innermost fields.

On a command line and in a file the settings of a training are one flat list of names, ``scale``
among them, while in Python the scale is ``config.episode.faces.scale``. The names are unique.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast, get_type_hints

from facehall_env.registry import unknown_name

Config = TypeVar("Config")


def leaf_types(kind: Any) -> dict[str, Any]:
    """The innermost fields of a dataclass and their types, which have to be resolvable."""
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    types: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint: Any = hints[field.name]
        types |= leaf_types(hint) if dataclasses.is_dataclass(hint) else {field.name: hint}
    return types


def leaves(config: Any) -> dict[str, Any]:
    """The innermost fields of a dataclass and their values.

    >>> from facehall_env.spec import EpisodeSpec
    >>> leaves(EpisodeSpec(steps=9))["steps"], leaves(EpisodeSpec())["scale"]
    (9, 4)
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values |= leaves(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values


def build(kind: type[Config], **values: Any) -> Config:
    """A dataclass from values of its innermost fields; the others have their defaults.

    Raises:
        UnknownNameError: If there is no field of one of the names.

    >>> from facehall_env.spec import EpisodeSpec
    >>> build(EpisodeSpec, scale=8, steps=9).faces.scale
    8
    """
    # Fields without a default are given here, and those inside other dataclasses afterwards.
    fields = [field.name for field in dataclasses.fields(cast(Any, kind))]
    own = {name: values.pop(name) for name in fields if name in values}
    return changed(kind(**own), **values)


def changed(config: Config, **values: Any) -> Config:
    """The same settings with other values of some innermost fields; see :func:`build`."""
    known = leaves(config)
    for name in values:
        if name not in known:
            raise unknown_name("setting", name, known)
    return cast(Config, _changed(config, values))


def _changed(config: Any, values: dict[str, Any]) -> Any:
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _changed(value, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return dataclasses.replace(config, **changes)
