"""The results on disk: which files hold some, and what is wrong with the others.

A results file names its benchmark in the field ``benchmark``, and its format in ``version``; the
first format of each benchmark has no such field. A file that holds something else, has another
version, was cut off, or was changed by hand so that its numbers contradict one another is left
out, with a sentence that says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from facehall_env.benchmarks.papers.results import PaperResult, experiment_of
from facehall_env.benchmarks.provenance import Content, read_json
from facehall_env.benchmarks.report.contents import CONTENTS
from facehall_env.errors import ConfigurationError

C = TypeVar("C", bound="Content | PaperResult")


@dataclass(frozen=True)
class Result(Generic[C]):
    """What one file holds."""

    path: Path
    content: C

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name


@dataclass(frozen=True)
class LeftOut:
    """A file that is not in the report; the reason continues the sentence of its name."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """All that was found, in the order of the files' names."""

    results: tuple[Result[Any], ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def of(self, kind: type[C]) -> list[Result[C]]:
        """The results of one benchmark."""
        return [result for result in self.results if isinstance(result.content, kind)]


def read_results(*folders: Path) -> Found:
    """Reads the results files (``*.json``) of some folders.

    Args:
        *folders: Of two files of one name the one in the earlier folder is read.

    Raises:
        ConfigurationError: If there is no such folder, or nothing in them can be used; names what
            was there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(
                f"There is no folder {folder}: give one that benchmarks write to as --results."
            )
    # Files whose names begin with a dot are being written.
    paths = {path.name: path for folder in reversed(folders) for path in folder.glob("[!.]*.json")}
    read = [read_result(paths[name]) for name in sorted(paths)]
    results = tuple(one for one in read if isinstance(one, Result))
    left_out = tuple(one for one in read if isinstance(one, LeftOut))
    if not results:
        where = " and ".join(map(str, folders))
        there = "; ".join(f"{file.name} {file.reason}" for file in left_out)
        raise ConfigurationError(
            f"There are no results in {where}{f' ({there})' if there else ''}: run `facehall bench "
            "paper sparnet-IV` or another benchmark first, or give another folder as --results."
        )
    return Found(results, left_out)


def read_result(path: Path) -> Result[Any] | LeftOut:
    """Reads one file, whatever it may hold."""
    try:
        return Result(path, _content(read_json(path)))
    except ConfigurationError as error:
        return LeftOut(path.name, str(error))


def _content(raw: Mapping[str, Any]) -> Content | PaperResult:
    name = raw["benchmark"]
    kind = CONTENTS.get(name)
    if kind is None:
        known = ", ".join(CONTENTS)
        raise ConfigurationError(f"is of a benchmark that is not known here ({name}, not {known})")
    which = f" {experiment_of(raw)}" if kind is PaperResult else ""
    again = f"run `{kind.again}{which}` again"
    version = raw.get("version", 1)
    if version != kind.version:
        raise ConfigurationError(
            f"is of version {version!r}, this report reads version {kind.version}: {again}"
        )
    try:
        content = kind.from_json(raw)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"is of another version, or was changed by hand ({error}): {again}"
        ) from error
    if problem := content.contradiction():
        raise ConfigurationError(f"was changed by hand, or is damaged ({problem}): {again}")
    return content
