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
from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch

import facehall_env
from facehall_env.benchmarks.tables import Table
from facehall_env.core import cpu_has_bfloat16
from facehall_env.errors import ConfigurationError
from facehall_env.files import cache_dir, results_dir, write_text_atomic
from facehall_env.training.run import versions

R = TypeVar("R", bound="Row")

NOT_IN_THE_NUMBERS = frozenset({"out", "publish", "fresh", "trust_pickle", "readme"}) | {
    "film_faces",
    "figure_faces",
    "attention_figure",
}
"""Settings that no numbers depend on."""


class Row:
    """Base of the frozen dataclasses that a results file's rows are.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Score(Row):
    ...     model: str
    ...     psnr: float
    >>> Score.from_json({"model": "sparnet", "psnr": None})
    Score(model='sparnet', psnr=nan)
    """

    @classmethod
    def from_json(cls: type[R], content: Mapping[str, Any]) -> R:
        """The row that `to_json` wrote; null becomes NaN where a number is expected.

        Raises:
            ConfigurationError: If a field is missing or of another type.
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # subclasses are
            optional = field.default is not dataclasses.MISSING
            if field.name not in content and not optional:
                raise ConfigurationError(f"has a row without {field.name!r}")
            value = content.get(field.name, field.default)
            kind = str(field.type)
            if value is None and kind == "float":
                value = math.nan
            known = {"float": float | int, "int": int, "str": str}.get(kind)
            if (known is not None and not isinstance(value, known)) or isinstance(value, bool):
                raise ConfigurationError(f"has {field.name} = {value!r}, expected a {kind}")
            values[field.name] = float(value) if kind == "float" else value
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The fields by their names."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]  # see above


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
    root = Path(facehall_env.__file__).resolve().parents[1]
    if not (root / ".git").exists() or not (root / "benchmarks" / "results").is_dir():
        raise ConfigurationError(
            "--publish writes into benchmarks/results of a checkout of facehall, which this "
            "installation is not: leave it out, or install the checkout with pip install -e."
        )
    return root / "benchmarks" / "results"


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
