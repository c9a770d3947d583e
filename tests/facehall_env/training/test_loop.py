"""The loop of all trainings, with a trainer that only counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.training.distributed import Team
from facehall_env.training.loop import fit
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import Count, LoopConfig
from facehall_env.training.trainer import Trainer


@dataclass
class Config(LoopConfig):
    log_every: Count = 2
    validate_every: Count = 3
    checkpoint_every: Count = 4
    updates: Count = 7
    device: str = "cpu"


class Second(Team):
    rank = 1
    size = 2


class Counter(Trainer):
    """Writes down what it is asked for."""

    def __init__(self, config: Config, team: Team | None = None) -> None:
        super().__init__(config, "counting", team)
        self.done: list[str] = []

    def learn(self) -> dict[str, float]:
        self.done.append(f"update {self.step + 1}")
        return {"loss": 10 * (self.step + 1)}

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        self.done.append(f"evaluate {self.step}")
        return {"score": self.step / 2}

    def state_tensors(self) -> dict[str, Tensor]:
        self.done.append(f"save {self.step}")
        return {"step": torch.tensor(self.step)}

    def state_metadata(self) -> dict[str, Any]:
        return {"own": "kept"}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        assert metadata["own"] == "kept"
        self.step = int(tensors["step"])


def log_of(folder: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


def test_what_is_done_when(tmp_path: Path) -> None:
    trainer = Counter(Config())
    with TrainingRun(tmp_path, Config(), resume=False) as run:
        assert fit(run, trainer) == {"score": 3.5}
    assert trainer.done == [
        "update 1",
        "update 2",
        "update 3",
        "evaluate 3",
        "update 4",
        "save 4",
        "update 5",
        "update 6",
        "evaluate 6",
        # At the end in any case.
        "update 7",
        "evaluate 7",
        "save 7",
    ]
    assert log_of(tmp_path) == [
        {"step": 2, "loss": 20},
        {"step": 3, "score": 1.5},
        {"step": 4, "loss": 40},
        {"step": 6, "score": 3.0},
        {"step": 6, "loss": 60},
        {"step": 7, "score": 3.5},
    ]


def test_a_run_that_is_over_does_nothing_more(tmp_path: Path) -> None:
    with TrainingRun(tmp_path, Config(), resume=False) as run:
        fit(run, Counter(Config()))
    before = log_of(tmp_path)
    again = Counter(Config())
    with TrainingRun(tmp_path, Config(), resume=True) as run:
        assert fit(run, again) == {"score": 3.5}
    assert again.done == []
    assert log_of(tmp_path) == before


KILLED = """
import os, signal, sys
from facehall_env.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half a checkpoint")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    with TrainingRun(tmp_path, Config(), resume=False) as run:
        run.save(7, {"step": torch.tensor(7)}, {"own": "kept"})
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    subprocess.run([sys.executable, "-c", KILLED, str(checkpoint)], check=False)
    (half,) = tmp_path.glob(".checkpoint-*")
    with TrainingRun(tmp_path, Config(), resume=True):
        assert half.exists()  # It is so young that another process may be at it.
    os.utime(half, (0, 0))
    with TrainingRun(tmp_path, Config(), resume=True, writes=False):
        assert half.exists()  # It is another process's folder.
    with TrainingRun(tmp_path, Config(), resume=True):
        assert not half.exists()
    assert checkpoint.read_bytes() == whole


def test_the_time_of_earlier_parts_counts(tmp_path: Path) -> None:
    with TrainingRun(tmp_path, Config(), resume=False) as run:
        run.save(2, {"step": torch.tensor(2)}, {"own": "kept", "spent": 61.0, "scores": {"a": 1.0}})
    trainer = Counter(Config())
    with TrainingRun(tmp_path, Config(), resume=True) as run:
        assert fit(run, trainer, minutes=1.0) == {"a": 1.0}
    assert trainer.done == []


def test_a_process_that_does_not_lead(tmp_path: Path) -> None:
    trainer = Counter(Config(), Second())
    with TrainingRun(tmp_path, Config(), resume=False, writes=False) as run:
        assert fit(run, trainer) == {}
    # Its part of the state is asked for all the same.
    assert [word for word in trainer.done if not word.startswith("update")] == ["save 4", "save 7"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["log_every", "validate_every", "checkpoint_every"])
def test_numbers_below_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=0: give a whole number of 1 or more"):
        TrainingRun(tmp_path, Config(**{name: 0}), resume=False)
