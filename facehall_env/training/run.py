"""One training run on disk: configuration, log, TensorBoard, and a checkpoint to resume from."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import facehall_env
from facehall_env import limits
from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.errors import ConfigurationError
from facehall_env.files import remove_unfinished, write_text_atomic
from facehall_env.spec import check_device

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT = "checkpoint.safetensors"
CONFIG = "config.json"
LOG = "log.jsonl"
_PLACES = ("device", "devices", "num_nodes", "threads", "address", "num_env_runners")
MAY_CHANGE = frozenset((*_PLACES, "out", "resume", "keep", "trust_pickle", "checkpoint_every"))
"""Settings that a resumed run may have different from the one it continues."""


class TrainingRun:
    """The folder of a run.

    It holds ``config.json``, ``log.jsonl`` (one object per logged step), TensorBoard events and
    ``checkpoint.safetensors``, which is always whole: a killed run loses the steps since the last
    checkpoint and nothing else.

    Args:
        config: A dataclass with the run's settings, JSON-serialisable.
        writes: False in processes that work for another one: these only read.

    Raises:
        ConfigurationError: If the folder holds a run and ``resume`` is False, or the reverse, or
            a run with other settings.
    """

    def __init__(
        self, directory: str | os.PathLike[str], config: Any, resume: bool, writes: bool = True
    ) -> None:
        limits.check(config)
        if hasattr(config, "device"):
            check_device(config.device)
        self.directory = Path(directory)
        self.settings = _as_json(dataclasses.asdict(config))
        self.resumed = resume
        self.writes = writes
        self._writer: SummaryWriter | None = None
        self._started = time.monotonic()
        self._seconds_before = 0.0
        found = (self.directory / CHECKPOINT).is_file()
        if found and not resume:
            raise ConfigurationError(
                f"{self.directory} already holds a training run: continue it with --resume, or "
                "give another --out."
            )
        if resume and not found:
            raise ConfigurationError(
                f"{self.directory} holds no checkpoint to resume: check --out, or start without "
                "--resume."
            )
        if resume:
            self._check_settings(_flat(_as_json(dataclasses.asdict(type(config)()))))
        if writes:
            self.directory.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.directory / CHECKPOINT)
            write_text_atomic(self.directory / CONFIG, json.dumps(self.settings, indent=1) + "\n")

    def __enter__(self) -> TrainingRun:
        """Opens the run."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the logs."""
        if self._writer is not None:
            self._writer.close()

    @property
    def seconds(self) -> float:
        """Time spent on this run, the parts before it was resumed included."""
        return self._seconds_before + time.monotonic() - self._started

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds values to ``log.jsonl`` and TensorBoard."""
        if not self.writes:
            return
        entry = {"step": step, "seconds": round(self.seconds, 1), **values}
        with (self.directory / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        for name, value in values.items():
            self._tensorboard().add_scalar(name, value, step)

    def save(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, atomically.

        After ``step`` updates, the tensors and the metadata, which is JSON-serialisable, are all
        that the run needs to go on.
        """
        if not self.writes:
            return
        state = {"step": step, "seconds": self.seconds, "state": dict(metadata)}
        save_tensors(self.directory / CHECKPOINT, tensors, state, kind="training")

    def restore(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """What :meth:`save` last wrote (step, tensors, metadata); None for a new run.

        Log entries of steps after the checkpoint, which will be run again, are dropped.
        """
        if not self.resumed:
            return None
        tensors, metadata = load_tensors(self.directory / CHECKPOINT, kind="training")
        self._seconds_before = metadata["seconds"]
        log = self.directory / LOG
        if self.writes and log.is_file():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= metadata["step"]]
            write_text_atomic(log, "".join(kept))
        return metadata["step"], tensors, metadata["state"]

    def provenance(self) -> dict[str, Any]:
        """How this run's weights came to be: settings, versions, time."""
        settings = {k: v for k, v in _flat(self.settings).items() if k not in ("out", "resume")}
        return {
            "settings": settings,
            "minutes": round(self.seconds / 60, 1),
            "versions": versions(),
        }

    def _check_settings(self, defaults: dict[str, Any]) -> None:
        content = (self.directory / CONFIG).read_text(encoding="utf-8")
        # A setting that did not exist when the run began did what its default does.
        before, now = {**defaults, **_flat(json.loads(content))}, _flat(self.settings)
        for name in sorted(before.keys() | now.keys()):
            if name not in MAY_CHANGE and before.get(name) != now.get(name):
                raise ConfigurationError(
                    f"{self.directory} was run with {name}={before.get(name)!r}, this command says "
                    f"{now.get(name)!r}: resume with the same settings, or give another --out."
                )

    def _tensorboard(self) -> SummaryWriter:
        if self._writer is None:
            # Importing it takes a second, which a run that never logs need not wait for.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.directory))
        return self._writer


def versions() -> dict[str, str]:
    """Versions of the project and of what its numbers depend on."""
    return {
        "facehall-env": facehall_env.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a JSON file."""
    content: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return content


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by the names of the innermost ones."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        values |= _flat(value) if isinstance(value, dict) else {name: value}
    return values


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 1 << 62  # A line cut short by a kill: drop it.
