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
    """Base of the frozen dataclasses that a results file is made of.

    Their fields are texts, numbers, other rows, and tuples or mappings of these.

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
    """What computed.

    Attributes:
        device: The processor or graphics card.
        threads: Threads of the processor.
        cpu_bfloat16: Whether the processor computes with bfloat16.
    """

    device: str
    threads: int
    cpu_bfloat16: bool = True


@dataclasses.dataclass(frozen=True)
class Content(Row):
    """What every results file holds.

    Attributes:
        command: What was typed.
        versions: Versions of the libraries, by name.
        machine: What computed.
    """

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


def provenance(command: str, device: str) -> dict[str, Any]:
    """The command, the versions and the machine behind some numbers.

    Args:
        command: What was typed.
        device: Where it was computed.
    """
    place = torch.device(device)
    machine = {
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "cpu_bfloat16": cpu_has_bfloat16(),
    }
    libraries = {"numpy": np.__version__, "gymnasium": gymnasium.__version__}
    return {"command": command, "versions": {**versions(), **libraries}, "machine": machine}


def header(
    benchmark: str,
    config: Any,
    command: str,
    leave_out: Collection[str] = NOT_IN_THE_NUMBERS,
) -> dict[str, Any]:
    """What a results file begins with: which benchmark, how it came to be, its settings.

    Args:
        benchmark: Its name.
        config: Its settings, a dataclass; its ``device`` is that of the machine.
        command: What was typed.
        leave_out: Settings that the numbers do not depend on.
    """
    settings = resolved_settings(config, leave_out)
    device = str(settings.get("device", "cpu"))
    return {"benchmark": benchmark, **provenance(command, device), "settings": settings}


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
            settings[field.name] = _plain(value)
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
    settings = resolved_settings(config, leave_out)
    changed = {
        key: value
        for key, value in settings.items()
        if key not in named and value != usual.get(key, None)
    }
    stem = "-".join(words)
    if not changed:
        return stem
    content = json.dumps(changed, sort_keys=True)
    return f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def output_folder(out: Path, publish: bool) -> Path:
    """Where results are written: ``out``, or the checkout's own results.

    Args:
        out: Folder of the user.
        publish: Whether the results are meant for the repository.

    Raises:
        ConfigurationError: If they are, and the program does not run from a checkout.
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
    """Writes JSON and, for people, Markdown; returns their paths.

    Args:
        folder: Where they go.
        stem: Their names without the suffixes.
        content: Content of the JSON file.
        *tables: Tables of the Markdown file, of which the first one's title is the file's.
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
    plain = _finite(without_places(content))
    write_text_atomic(path, json.dumps(plain, indent=1, allow_nan=False) + "\n")


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


def without_places(content: Any) -> Any:
    """Content whose texts name the folders of this machine by what they are for.

    Results are read elsewhere, where messages about missing files would name folders that nobody
    has. The user's data and cache, the current folder and the home are replaced, in that order;
    other folders that were typed stay.

    Args:
        content: A text, or anything of mappings and sequences; what is no text stays.
    """
    if isinstance(content, str):
        for place, name in _places():
            whole = rf"(?<![\w.~/-]){re.escape(place)}(?![\w-]|\.\w)"
            content = re.sub(whole, name, content)
        return content
    if isinstance(content, Mapping):
        return {key: without_places(item) for key, item in content.items()}
    if isinstance(content, list | tuple):
        return [without_places(item) for item in content]
    return content


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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
