"""Kills trainings between two updates, and reads their logs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest


class Killed(Exception):
    """Stands for a SIGKILL between two updates."""


@pytest.fixture
def train_in_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Trains with a kill before each of some updates; resumes every time, at last to the end."""

    def run(
        trainer: type[Any], train: Callable[[Any], Path], config: Any, stops: Sequence[int]
    ) -> Path:
        update = trainer.update
        for stop in stops:

            def interrupted(self: Any, stop: int = stop) -> Any:
                if self.step == stop:
                    raise Killed
                return update(self)

            monkeypatch.setattr(trainer, "update", interrupted)
            with pytest.raises(Killed):
                train(config)
            config = dataclasses.replace(config, resume=True)
        monkeypatch.setattr(trainer, "update", update)
        return train(config)

    return run


@pytest.fixture
def log_without_times() -> Callable[[Path], list[dict[str, float]]]:
    """Reads the log of a run's folder; entries say when they were made, which differs."""

    def read(folder: Path) -> list[dict[str, float]]:
        lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
        entries = [json.loads(line) for line in lines]
        return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]

    return read
