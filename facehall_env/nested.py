"""Settings that hold other settings: by the names of their innermost fields, or from files.

On a command line and in a file the settings of a training are one flat list of names, ``scale``
among them, while in Python the scale is ``config.episode.faces.scale``. The names are unique.

`typed` makes dataclasses, and whatever else a field may be, of what TOML and JSON can hold.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from facehall_env import limits
from facehall_env.errors import ConfigurationError
from facehall_env.registry import unknown_name

NONE = "none"
"""Word for None, which TOML lacks."""
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

Config = TypeVar("Config")
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a value stands in one file or several, for errors.

    Attributes:
        path: Keys from the outermost to the value's own.
        sources: The files that keys were read from, by the keys' paths.
    """

    path: Keys = ()
    sources: Mapping[Keys, str] = dataclasses.field(default_factory=dict)

    def __truediv__(self, key: str) -> Place:
        """A key inside of the value."""
        return Place((*self.path, key), self.sources)

    def __str__(self) -> str:
        """The dotted path, and the file if it is known."""
        dotted = ".".join(self.path).replace(".[", "[")
        for length in range(len(self.path), -1, -1):
            if (file := self.sources.get(self.path[:length])) is not None:
                return f"{dotted} in {file}" if dotted else file
        return dotted or "its content"

    def error(self, text: str) -> ConfigurationError:
        """An error about the value."""
        return ConfigurationError(f"{self}: {text}")

    def mismatch(self, value: Any, expected: str) -> ConfigurationError:
        """An error about a value of another type."""
        text = "null" if value is None else repr(value)
        text = text if len(text) <= 40 else f"{text[:37]}..."
        return ConfigurationError(f"{self} is {text}, expected {expected}")

    def check_keys(self, found: Mapping[str, Any], known: Collection[str]) -> None:
        """Refuses keys that are not known.

        Raises:
            ConfigurationError: Naming the file, the key and the nearest names.
        """
        for key in found:
            if key not in known:
                raise (self / key).error(str(unknown_name("key", key, known)))

    def check_limits(self, own: Any) -> None:
        """Refuses numbers of a dataclass that lie outside of their limits.

        Raises:
            ConfigurationError: Naming the file and the key.
        """
        try:
            limits.check(own)
        except ConfigurationError as error:
            raise (self / str(error).partition("=")[0]).error(str(error)) from error


def typed(kind: Any, value: Any, place: Place = Place()) -> Any:
    """A value of a TOML or JSON file as its type wants it.

    Mappings become dataclasses, where keys that are no fields are ignored, and lists tuples. Texts
    become paths, ``"none"`` becomes None, and null NaN where a number is expected.

    Args:
        kind: The type, such as a dataclass or the type of one of its fields.
        value: What was read.
        place: Where it stands.

    Raises:
        ConfigurationError: If a field is missing or of another type; begins with its place.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return typed(inner[0], value, place)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, place)
    if dataclasses.is_dataclass(kind):
        own = cast(type[Any], kind)
        return value if isinstance(value, own) else _constructed(own, value, place)
    if origin is Literal and not any(type(value) is type(w) and value == w for w in inner):
        raise place.mismatch(value, f"one of {', '.join(map(str, inner))}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            example = "" if isinstance(value, Mapping) else f", such as [{value!r}]"
            raise place.mismatch(value, f"a list{example}")
        kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
        if len(kinds) != len(value):
            raise place.mismatch(value, f"a list of {len(kinds)} values")
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(typed(own, item, place / f"[{n}]") for n, (own, item) in pairs)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise place.mismatch(value, "names with values")
        return {key: typed(inner[1], item, place / key) for key, item in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and (value is None or type(value) is int):
        return math.nan if value is None else float(value)
    # True is an int to Python, but no number to a reader.
    if kind in _WORDS and not (
        isinstance(value, kind) and isinstance(value, bool) is (kind is bool)
    ):
        raise place.mismatch(value, _WORDS[kind])
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, place: Place) -> Any:
    if types.NoneType in kinds and value in (None, NONE):
        return None
    kinds = tuple(kind for kind in kinds if kind is not types.NoneType)
    if len(kinds) == 1:
        return typed(kinds[0], value, place)
    for kind in kinds:
        with suppress(ConfigurationError):
            return typed(kind, value, place)
    raise place.mismatch(value, " or ".join(_WORDS.get(kind, str(kind)) for kind in kinds))


def _constructed(kind: type[Any], content: Any, place: Place) -> Any:
    if not isinstance(content, Mapping):
        raise place.mismatch(content, "names with values")
    hints, values = get_type_hints(kind, include_extras=True), {}
    for own in dataclasses.fields(kind):
        if own.name in content:
            values[own.name] = typed(hints[own.name], content[own.name], place / own.name)
        elif own.default is dataclasses.MISSING is own.default_factory:
            raise ConfigurationError(f"there is no {place / own.name}")
    return kind(**values)


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
