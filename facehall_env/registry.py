"""Registries by name that other packages can join through entry points."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, Generic, TypeVar

from facehall_env.errors import ConfigurationError, UnknownNameError

T = TypeVar("T")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name nobody registered, with the nearest names first.

    >>> str(unknown_name("dataset", "lwf", ["folder", "lfw"]))
    "Unknown dataset 'lwf': did you mean 'lfw'? Available: folder, lfw."
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f": did you mean {' or '.join(map(repr, nearest))}?" if nearest else "."
    return UnknownNameError(
        f"Unknown {kind} {name!r}{hint} Available: {', '.join(names) or 'none'}."
    )


def named(kind: str, name: str, known: Mapping[str, T]) -> T:
    """The entry called ``name``; the UnknownNameError if there is none names the nearest ones."""
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def parse_settings(words: Iterable[str | tuple[str, Any]]) -> dict[str, Any]:
    """Keywords of a factory from words typed as NAME=VALUE, the value as in JSON or a plain word.

    Where a program gives settings, there are pairs of a name and a value instead.

    Raises:
        ConfigurationError: If a word is of another form.

    >>> parse_settings(["width=48", "patch_size=[64, 48]", "convolution=fourier"])
    {'width': 48, 'patch_size': [64, 48], 'convolution': 'fourier'}
    """
    settings: dict[str, Any] = {}
    for word in words:
        if not isinstance(word, str):
            settings[word[0]] = word[1]
            continue
        name, separator, value = word.partition("=")
        if not (separator and name.isidentifier()):
            raise ConfigurationError(f"The setting {word!r} is not NAME=VALUE: write width=48.")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


class Registry(Generic[T]):
    """Names mapped to factories of one kind of thing.

    The project's own factories are named by strings, ``"module:attribute"``, and imported when
    their name is asked for, so that listing the names imports nothing heavy. Other packages join
    by an entry point in the registry's group, which is loaded in the same way.

    Args:
        kind: What is registered, as it should read in an error ("enhancer").
        group: Entry-point group, for example ``facehall_env.enhancers``.
        built_in: The project's own factories by name.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.group = group
        self._built_in = dict(built_in or {})
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator that adds a factory under ``name``; a later registration replaces it."""

        def add(factory: Callable[..., T]) -> Callable[..., T]:
            self._factories[name] = factory
            return factory

        return add

    def available(self) -> list[str]:
        """All names, those of installed entry points included, sorted."""
        installed = (point.name for point in self._entry_points())
        return sorted({*self._built_in, *self._factories, *installed})

    def get(self, name: str) -> Callable[..., T]:
        """The factory registered under ``name``.

        Raises:
            UnknownNameError: If there is none; names the nearest ones.
        """
        if name not in self._factories:
            if name in self._built_in:
                points = [metadata.EntryPoint(name, self._built_in[name], self.group)]
            else:
                points = [point for point in self._entry_points() if point.name == name]
            if not points:
                raise unknown_name(self.kind, name, self.available())
            self._factories[name] = points[0].load()
        return self._factories[name]

    def _entry_points(self) -> metadata.EntryPoints:
        return metadata.entry_points(group=self.group)
