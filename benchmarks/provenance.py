"""What every results file says of how it came to be, and how it is written."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from facehall_env.core import cpu_has_bfloat16
from facehall_env.files import cache_dir, write_text_atomic
from facehall_env.training.run import versions


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
    benchmark: str, config: Any, command: str, leave_out: Collection[str] = ("out",)
) -> dict[str, Any]:
    """What a results file begins with: which benchmark, how it came to be, its settings.

    Args:
        benchmark: Its name.
        config: Its settings, a dataclass with a ``device``.
        command: What was typed.
        leave_out: Settings that the numbers do not depend on.
    """
    settings = {
        key: _plain(value)
        for key, value in dataclasses.asdict(config).items()
        if key not in leave_out
    }
    return {"benchmark": benchmark, **provenance(command, config.device), "settings": settings}


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
