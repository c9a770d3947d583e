"""What every results file says of how it came to be, and how it is written."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from facehall_env.core import cpu_has_bfloat16
from facehall_env.files import write_text_atomic
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
    write_text_atomic(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


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
