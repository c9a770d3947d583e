"""Experiments as files: everything a result needs, in one file and those that it extends.

An experiment says what a paper's table compares, and with which settings. What a file says outside
of ``ours`` is what the paper states; what it says under ``ours`` is what is run here instead. The
difference of the two is part of every result; see `facehall_env.benchmarks.papers.differences`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from facehall_env.benchmarks.papers import reading
from facehall_env.benchmarks.papers.overrides import apply
from facehall_env.benchmarks.papers.tables import PaperTable
from facehall_env.errors import ConfigurationError
from facehall_env.nested import Keys, Place
from facehall_env.registry import unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "experiments"
OURS = "ours"
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")

Content = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper with all its settings.

    Attributes:
        name: Name of its file, and of its results.
        content: What the file and those that it extends say, as one file would say it.
        sources: Which file each key comes from.
        small: Whether to take the small variants of the networks.
    """

    name: str
    content: Content
    sources: Mapping[Keys, str]
    small: bool = False

    @cached_property
    def ours(self) -> PaperTable:
        """What is run."""
        own = reading.merged(self._paper, self.content.get(OURS, {}))
        return reading.read(own, self._place, self.small)

    @cached_property
    def papers(self) -> PaperTable:
        """What the paper states."""
        return reading.read(self._paper, self._place)

    @property
    def resolved(self) -> Content:
        """The content without the networks, methods and faces that no row or column names."""
        return _used(self.content)

    @property
    def _place(self) -> Place:
        """Where keys stand, which may be among the paper's settings or under "ours"."""
        ours = {key[1:]: file for key, file in self.sources.items() if key[:1] == (OURS,)}
        return Place(sources={**self.sources, **ours})

    @property
    def _paper(self) -> Content:
        return {key: value for key, value in self.content.items() if key != OURS}


def available(folder: Path = FOLDER) -> list[str]:
    """Names of all experiments in a folder, in the order of the papers' tables and figures."""
    names = [path.stem for path in folder.glob("*.toml") if "columns" in _read(path)]
    return sorted(names, key=_order)


def load(name: str, changes: Sequence[str] = (), small: bool = False) -> Experiment:
    """Reads an experiment.

    Args:
        name: Its name, or the path of a file.
        changes: Other settings, ``KEY=VALUE``; see `facehall_env.benchmarks.papers.overrides`.
        small: Take the small variants of the networks, to try something out.

    Raises:
        UnknownNameError: If there is no such experiment; names the nearest ones.
        ConfigurationError: If a file or a change says something that is not understood; names the
            file and the key.
    """
    path = _find(name)
    content: Content = {}
    sources: dict[Keys, str] = {(): path.name}
    for file in _chain(path, ()):
        own = {key: value for key, value in _read(file).items() if key != "extends"}
        content = reading.merged(content, own)
        sources |= {key: file.name for key in _paths(own)}
    if "columns" not in content:
        raise ConfigurationError(
            f"{path} is no experiment but a part of several: it has no columns. Experiments are "
            f"{', '.join(available())}."
        )
    for change in changes:
        ours = apply(_used(content), change)
        content = reading.merged(content, {OURS: ours})
        sources |= {(OURS, *key): f"--set {change}" for key in _paths(ours)}
    return Experiment(path.stem, content, sources, small)


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    if (own := FOLDER / f"{name}.toml").is_file():
        return own
    if path.suffix == ".toml":
        raise ConfigurationError(f"There is no file {name}.")
    raise unknown_name("experiment", name, available())


def _chain(path: Path, below: tuple[Path, ...]) -> list[Path]:
    """The files that a file extends, each once, before the file itself."""
    if path.resolve() in below:
        circle = " extends ".join(file.name for file in (*below, path))
        raise ConfigurationError(f"{path.name}, extends: {circle}, which is a circle.")
    words = _read(path).get("extends", [])
    names = [words] if isinstance(words, str) else words
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ConfigurationError(
            f"{path.name}, extends: {words!r} is not a name or a list of them."
        )
    files: list[Path] = []
    for name in names:
        file = path.with_name(f"{name}.toml")
        file = file if file.is_file() else FOLDER / file.name
        if not file.is_file():
            known = {own.stem for folder in (path.parent, FOLDER) for own in folder.glob("*.toml")}
            raise ConfigurationError(f"{path.name}, extends: {unknown_name('file', name, known)}")
        files += _chain(file, (*below, path.resolve()))
    return list(dict.fromkeys([*files, path]))


def _read(path: Path) -> Content:
    try:
        content: Content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    return content


def _paths(content: Mapping[str, Any], above: Keys = ()) -> Iterator[Keys]:
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, key))


def _used(content: Content) -> Content:
    names = reading.used(content) | reading.used(reading.merged(content, content.get(OURS, {})))
    content = json.loads(json.dumps(content))
    for part in (content, content.get(OURS, {})):
        for section in ("networks", "methods", "faces"):
            kept = {k: v for k, v in part.get(section, {}).items() if (section, k) in names}
            part.pop(section, None)
            if kept:
                part[section] = kept
    return content


def _order(name: str) -> tuple[str, bool, int]:
    paper, _, number = name.rpartition("-")
    place = _ROMAN.index(number) if number in _ROMAN else int(number) if number.isdigit() else 0
    return paper.removesuffix("-figure"), paper.endswith("-figure"), place
