"""Results files: what each says about how it came to be, where it is written, how it is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import gymnasium
import numpy as np
import torch

import facehall_env
from facehall_env import nested
from facehall_env.benchmarks.tables import Table
from facehall_env.core import cpu_has_bfloat16
from facehall_env.errors import ConfigurationError
from facehall_env.files import cache_dir, results_dir, write_text_atomic
from facehall_env.training.run import versions

R = TypeVar("R", bound="Row")

LARGEST = 32 * 2**20
"""Bytes; results files are far smaller."""
NOT_IN_THE_NUMBERS = frozenset({"out", "publish", "fresh", "trust_pickle", "readme"}) | {
    "film_faces",
    "figure_faces",
    "attention_figure",
}
"""Settings that no numbers depend on."""


class Row:
    """Base of the frozen dataclasses in a results file: texts, numbers, rows, tuples, mappings.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Score(Row):
    ...     model: str
    ...     psnr: float
    >>> Score.from_json({"model": "sparnet", "psnr": None})
    Score(model='sparnet', psnr=nan)
    >>> Score.from_json({"model": "sparnet", "psnr": "30.5"}, "rows[3]")
    Traceback (most recent call last):
    ...
    facehall_env.errors.ConfigurationError: rows[3].psnr is '30.5', expected a number
    """

    @classmethod
    def from_json(cls: type[R], content: Any, place: str = "") -> R:
        """The row that `to_json` wrote; null becomes NaN where a number is expected.

        Keys that are no fields are ignored.

        Args:
            content: What `json.loads` returns.
            place: Where in the file it stands, as ``rows[3]``.

        Raises:
            ConfigurationError: If a field is missing or of another type; begins with its place.
        """
        made: R = nested.typed(cls, content, nested.Place((place,) if place else ()))
        return made

    def to_json(self) -> dict[str, Any]:
        """The fields by their names."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]  # see above


@dataclasses.dataclass(frozen=True)
class Machine(Row):
    """What computed: processor or graphics card, threads, whether it computes with bfloat16."""

    device: str
    threads: int
    cpu_bfloat16: bool = True


@dataclasses.dataclass(frozen=True)
class Content(Row):
    """What every results file holds: what was typed, the libraries' versions, what computed."""

    again: ClassVar[str]
    """Command that makes such a file again."""
    version: ClassVar[int] = 1
    """Version of the format that is read."""

    command: str
    versions: Mapping[str, str]
    machine: Machine

    def contradiction(self) -> str | None:
        """Where the numbers contradict one another, or are missing; None if they do not."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == ():
                return f"{field.name} is empty, expected a list with at least one entry"
        return None


def header(
    benchmark: str, config: Any, command: str, leave_out: Collection[str] = NOT_IN_THE_NUMBERS
) -> dict[str, Any]:
    """What a results file begins with: command, versions, machine and settings behind its numbers.

    The settings are a dataclass, whose ``device`` is that of the machine; the numbers do not depend
    on those that are left out.
    """
    settings = resolved_settings(config, leave_out)
    place = torch.device(str(settings.get("device", "cpu")))
    libraries = {"numpy": np.__version__, "gymnasium": gymnasium.__version__}
    return {
        "benchmark": benchmark,
        "command": command,
        "versions": {**versions(), **libraries},
        "machine": {
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "cpu_bfloat16": cpu_has_bfloat16(),
        },
        "settings": settings,
    }


def resolved_settings(
    config: Any, leave_out: Collection[str] = NOT_IN_THE_NUMBERS
) -> dict[str, Any]:
    """Settings of a dataclass as JSON; those of nested dataclasses stand beside its own."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            settings |= resolved_settings(value, leave_out)
        elif field.name not in leave_out:
            settings[field.name] = json.loads(json.dumps(value, default=str))
    return settings


def file_stem(
    words: Collection[str],
    config: Any,
    named: Collection[str] = (),
    leave_out: Collection[str] = NOT_IN_THE_NUMBERS,
) -> str:
    """Name of a results file without its suffix: some words, and a hash of all other settings.

    The same settings always give the same name, and others give another one. Without a setting
    that differs from its default there is no hash.

    Args:
        words: What the name says.
        config: The settings, a dataclass.
        named: Settings that the words say already.
        leave_out: Settings that the numbers do not depend on.
    """
    usual = resolved_settings(type(config)(), leave_out)
    settings = resolved_settings(config, leave_out).items()
    changed = {k: own for k, own in settings if k not in named and own != usual.get(k)}
    if not changed:
        return "-".join(words)
    content = json.dumps(changed, sort_keys=True)
    return "-".join((*words, hashlib.sha256(content.encode()).hexdigest()[:8]))


def output_folder(out: Path, publish: bool) -> Path:
    """Where results are written: ``out``, or the checkout's own results to ``publish`` them.

    Raises:
        ConfigurationError: If they are meant for the repository, and the program does not run from
            a checkout.
    """
    if not publish:
        return out
    folder = published_folder()
    if folder is None:
        raise ConfigurationError(
            "--publish writes into benchmarks/results of a checkout of facehall, which this "
            "installation is not: leave it out, or install the checkout with pip install -e."
        )
    return folder


def published_folder() -> Path | None:
    """The results of the checkout that the program runs from; None if it is installed."""
    root = Path(facehall_env.__file__).resolve().parents[1]
    folder = root / "benchmarks" / "results"
    return folder if (root / ".git").exists() and folder.is_dir() else None


def write_results(
    folder: Path, stem: str, content: Mapping[str, Any], *tables: Table
) -> list[Path]:
    """Writes ``stem`` with the suffix .json and, for people, with .md; returns their paths.

    The title of the first table is that of the Markdown file.
    """
    paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".md")]
    write_json(paths[0], content)
    first, *others = tables
    parts = [f"# {first.title}\n\n{first.markdown()}"]
    parts += [f"## {table.title}\n\n{table.markdown()}" for table in others]
    write_text_atomic(paths[1], "\n".join(parts))
    return paths


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes results as JSON; numbers that are not finite become null, which JSON lacks."""
    text = json.dumps(_plain(content), indent=1, allow_nan=False)
    write_text_atomic(path, f"{text}\n")


def _plain(content: Any) -> Any:
    if isinstance(content, str):
        return without_places(content)
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _plain(item) for key, item in content.items()}
    return [_plain(item) for item in content] if isinstance(content, list | tuple) else content


def read_json(path: Path) -> Mapping[str, Any]:
    """Reads a results file.

    Raises:
        ConfigurationError: If it holds no results; the message continues the name of the file.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST // 2**20} MiB")
        content = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_no_number, parse_float=_number
        )
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        why = "not text in UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ConfigurationError(f"is damaged: it is no JSON ({why})") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("benchmark"), str):
        raise ConfigurationError('holds no results: it has no field "benchmark"')
    return content


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def without_places(text: str) -> str:
    """A text that names the folders of this machine by what they are for.

    Results are read elsewhere, where messages about missing files would name folders that nobody
    has. The user's data and cache, the current folder and the home are replaced, in that order;
    other folders that were typed stay.
    """
    for place, name in _places():
        text = re.sub(rf"(?<![\w.~/-]){re.escape(place)}(?![\w-]|\.\w)", name, text)
    return text


def _places() -> list[tuple[str, str]]:
    """Folders of this machine and how to call them; not those that begin every path."""
    given = os.environ.get("FACEHALL_DATA")
    known = [
        *([(Path(given).expanduser(), "FACEHALL_DATA")] if given else []),
        (results_dir(), "the results"),
        (cache_dir(), "the cache"),
        (Path.cwd(), "."),
        (Path.home(), "~"),
    ]
    return [(str(path), name) for path, name in known if path.is_absolute() and path.name]
