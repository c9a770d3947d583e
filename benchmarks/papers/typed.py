"""Typed values from what TOML and JSON can hold, with errors that name the file and the key."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Mapping
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
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}

Built = TypeVar("Built")
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a value stands, for errors.

    Attributes:
        sources: The files that keys were read from, by the keys' paths.
        path: Keys from the outermost to the value's own.
    """

    sources: Mapping[Keys, str]
    path: Keys = ()

    def __truediv__(self, key: str) -> Place:
        """A key inside of the value."""
        return Place(self.sources, (*self.path, key))

    def __str__(self) -> str:
        """The file and the dotted path."""
        for length in range(len(self.path), -1, -1):
            # What is run may stand among the paper's settings or under "ours".
            for path in (("ours", *self.path[:length]), self.path[:length]):
                if path in self.sources:
                    return f"{self.sources[path]}, {'.'.join(self.path) or 'the file'}"
        return ".".join(self.path)

    def error(self, text: str) -> ConfigurationError:
        """An error about the value."""
        return ConfigurationError(f"{self}: {text}")

    def check_keys(self, found: Mapping[str, Any], known: Collection[str]) -> None:
        """Refuses keys that are not known.

        Raises:
            ConfigurationError: Naming the file, the key and the nearest names.
        """
        for key in found:
            if key not in known:
                raise (self / key).error(str(unknown_name("key", key, known)))


def construct(kind: type[Built], content: Any, place: Place) -> Built:
    """A dataclass from a mapping of its fields.

    Args:
        kind: The dataclass.
        content: The mapping.
        place: Where it stands.

    Raises:
        ConfigurationError: If a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(content, Mapping):
        raise place.error(f"{content!r} is not a table of keys and values.")
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, kind))}
    place.check_keys(content, fields)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING is field.default_factory
        if required and name not in content:
            raise place.error(f"there is no key {name!r}.")
    return kind(**{key: value_of(hints[key], own, place / key) for key, own in content.items()})


def value_of(hint: Any, value: Any, place: Place) -> Any:
    """A value as its type wants it: lists become tuples, texts paths, "none" None.

    Raises:
        ConfigurationError: If it is of another type.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return value_of(inner[0], value, place)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, place)
    if origin is Literal:
        if not any(type(value) is type(word) and value == word for word in inner):
            raise place.error(f"{value!r} is none of {', '.join(map(str, inner))}.")
        return value
    if origin is tuple:
        return _tuple_of(inner, value, place)
    if dataclasses.is_dataclass(hint):
        kind = cast(type[Any], hint)
        return value if isinstance(value, kind) else construct(kind, value, place)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    known = hint in _WORDS
    if known and type(value) is not hint:
        raise place.error(f"{value!r} is not {_WORDS[hint]}.")
    if origin is not None and issubclass(origin, Mapping) and not isinstance(value, Mapping):
        raise place.error(f"{value!r} is not a table of keys and values.")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, place: Place) -> Any:
    if types.NoneType in kinds and value in (None, NONE):
        return None
    kinds = tuple(kind for kind in kinds if kind is not types.NoneType)
    for kind in kinds[:-1]:
        try:
            return value_of(kind, value, place)
        except ConfigurationError:
            continue
    return value_of(kinds[-1], value, place)


def _tuple_of(inner: tuple[Any, ...], value: Any, place: Place) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise place.error(f"{value!r} is not a list, such as [{value!r}].")
    kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
    if len(kinds) != len(value):
        raise place.error(f"{value!r} has {len(value)} values, expected {len(kinds)}.")
    return tuple(value_of(kind, own, place) for kind, own in zip(kinds, value, strict=True))


def check_limits(own: Any, place: Place) -> None:
    """Refuses numbers of a dataclass that lie outside of their limits.

    Raises:
        ConfigurationError: Naming the file and the key.
    """
    try:
        limits.check(own)
    except ConfigurationError as error:
        name = str(error).partition("=")[0]
        raise (place / name).error(str(error)) from error
