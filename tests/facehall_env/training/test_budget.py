"""Trainings with a limit of time, on clocks of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facehall_env import data, enhancers
from facehall_env.agents.reinforce.training import ReinforceTrainer, train_agent
from facehall_env.agents.settings import TrainAgentConfig
from facehall_env.checkpoints import load_tensors
from facehall_env.data import FaceDataset
from facehall_env.data.base import check_split
from facehall_env.errors import ConfigurationError
from facehall_env.nested import build
from facehall_env.training import budget, enhancer, loop, sr
from facehall_env.training.budget import Budget
from facehall_env.training.enhancer import train_enhancer
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import TrainEnhancerConfig, TrainSRConfig
from facehall_env.training.sr import train_sr


class Noise(FaceDataset):
    """Small pictures, as many colours as ``levels``."""

    def __init__(self, split: str = "train", levels: int = 256) -> None:
        self.name, self.split, self.image_size = "noise", check_split(split), (16, 16)
        self.levels = levels

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(self.checked(index))
        return rng.integers(0, self.levels, (16, 16, 3)).astype(np.uint8)

    def key(self, index: int) -> str:
        return str(index)


class Clock:
    """Seconds that pass when updates are made."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setitem(data.DATASETS._factories, "noise", Noise)

    def made(*args: Any) -> Budget:
        return Budget(*args, clock=own)

    monkeypatch.setattr(loop, "Budget", made)
    return own


def takes(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, seconds: float
) -> list[int]:
    """Has a method take some seconds; returns where its calls are counted."""
    calls: list[int] = []
    method: Callable[..., Any] = getattr(owner, name)

    def timed(self: Any, *args: Any) -> Any:
        calls.append(1)
        clock.now += seconds
        return method(self, *args)

    monkeypatch.setattr(owner, name, timed)
    return calls


class TestBudget:
    def test_updates_follow_the_pace(self) -> None:
        clock = Clock()
        own = Budget(2.0, clock=clock)
        assert own.total(0, 500) == 500
        clock.now = 10.0
        assert own.total(4, 500) == 48
        clock.now = 60.0
        assert own.total(10, 500) == 20
        clock.now = 119.0
        assert own.total(90, 500) == 91
        clock.now = 120.0
        assert own.total(91, 500) == 91

    def test_time_before_the_first_question_does_not_count(self) -> None:
        clock = Clock()
        own = Budget(1.0, clock=clock)
        clock.now = 1000.0
        assert own.total(0, 9) == 9
        assert own.spent == 0

    def test_a_resumed_run_has_spent_something(self) -> None:
        clock = Clock()
        own = Budget(1.0, spent=50.0, clock=clock)
        assert own.total(5, 9) == 6
        clock.now = 10.0
        assert own.total(6, 9) == 6
        assert own.spent == 60

    def test_stages_have_shares(self) -> None:
        clock = Clock()
        own = Budget(1.0, clock=clock)
        own.total(0, 9, 0.0, 0.25)
        clock.now = 15.0
        assert own.total(3, 9, 0.0, 0.25) == 3
        assert own.total(0, 9, 0.25, 1.0) == 9
        clock.now = 24.0
        assert own.total(2, 9, 0.25, 1.0) == 10

    def test_without_minutes_updates_count(self) -> None:
        own = Budget(None, processes=4)
        assert [own.total(done, 7) for done in (0, 3, 7)] == [7, 7, 7]

    @pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan")])
    def test_impossible_times_are_refused(self, minutes: float) -> None:
        with pytest.raises(ConfigurationError, match=r"minutes=.*positive"):
            Budget(minutes)

    def test_several_processes_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"2 processes"):
            budget.Budget(1.0, processes=2)


def entries(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def sr_config(out: Path, **settings: Any) -> TrainSRConfig:
    defaults: dict[str, Any] = {
        "enhancer": "vdsr",
        "enhancer_settings": ("layers=2", "width=2"),
        "dataset": "noise",
        "scale": 2,
        "batch": 2,
        "schedule": "cosine",
        "learning_rate": 1.0,
        "minutes": 1.0,
        "validation_faces": 2,
        "log_every": 1,
        "validate_every": 100,
        "checkpoint_every": 1,
    }
    return build(TrainSRConfig, **{**defaults, "out": out, **settings})


def test_networks_of_whole_faces_end_in_time(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = takes(clock, monkeypatch, sr.SRTrainer, "update", 7.5)
    path = train_sr(sr_config(tmp_path))
    assert len(calls) == 8
    assert enhancers.load(path).provenance["updates"] == 8
    logged = entries(tmp_path)
    rates = [entry["learning_rate"] for entry in logged if "learning_rate" in entry]
    # Half a cosine over the time; the first update knows no pace yet.
    shares = np.arange(8) / 8
    expected = 0.01 + 0.99 * (1 + np.cos(np.pi * shares)) / 2
    assert rates[1:] == pytest.approx(expected[1:])
    assert rates[0] == pytest.approx(1.0)
    assert [e["step"] for e in logged if "psnr/held_out" in e] == [8]


def test_an_interrupted_training_has_the_rest_of_its_time(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = takes(clock, monkeypatch, sr.SRTrainer, "update", 7.5)
    save = TrainingRun.save

    def stop(run: TrainingRun, *state: Any) -> None:
        save(run, *state)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train_sr(sr_config(tmp_path))
    clock.now += 1000.0
    train_sr(sr_config(tmp_path, resume=True))
    assert len(calls) == 8


def test_options_reach_the_dataset(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sr_config(tmp_path, minutes=None, updates=1, dataset_settings=("levels=1",))
    trainer = sr.SRTrainer(config)
    assert trainer.pool.images.max() == 0


def enhancer_config(out: Path, **settings: Any) -> TrainEnhancerConfig:
    """A minute, a quarter of it for the first stage."""
    return build(
        TrainEnhancerConfig,
        out=out,
        enhancer="narrow",
        dataset="noise",
        scale=2,
        minutes=1.0,
        fresh_updates=100,
        rollout_updates=300,
        fresh_batch=2,
        fresh_on="patches",
        rollout_envs=2,
        validation_faces=2,
        steps=2,
        checkpoint_every=1,
        **settings,
    )


@pytest.mark.parametrize("killed_after", [None, 2, 7])
def test_both_stages_of_an_enhancer_have_their_share(
    killed_after, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = takes(clock, monkeypatch, enhancer.EnhancerTrainer, "_fresh_update", 3.0)
    rollout = takes(clock, monkeypatch, enhancer.EnhancerTrainer, "_rollout_update", 9.0)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "narrow", Narrow)
    save = TrainingRun.save

    def stop(run: TrainingRun, *state: Any) -> None:
        save(run, *state)
        if len(fresh) + len(rollout) == killed_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "save", stop)
    if killed_after is not None:
        with pytest.raises(KeyboardInterrupt):
            train_enhancer(enhancer_config(tmp_path))
    train_enhancer(enhancer_config(tmp_path, resume=killed_after is not None))
    assert (len(fresh), len(rollout)) == (5, 5)


def test_a_slow_beginning_does_not_end_the_first_stage(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = takes(clock, monkeypatch, enhancer.EnhancerTrainer, "_fresh_update", 1.0)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "narrow", Narrow)
    quick = enhancer.EnhancerTrainer._fresh_update

    def first_slow(self: enhancer.EnhancerTrainer) -> float:
        clock.now += 0.0 if fresh else 9.0
        return quick(self)

    monkeypatch.setattr(enhancer.EnhancerTrainer, "_fresh_update", first_slow)
    takes(clock, monkeypatch, enhancer.EnhancerTrainer, "_rollout_update", 9.0)
    train_enhancer(enhancer_config(tmp_path))
    # After ten seconds for one it looks as if there were but one or two.
    assert len(fresh) == 6


def test_stages_without_updates(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "narrow", Narrow)
    config = enhancer_config(tmp_path)
    config.fresh_updates = config.rollout_updates = 0
    with pytest.raises(ConfigurationError, match="fresh_updates=0 and rollout_updates=0"):
        train_enhancer(config)


class Narrow(enhancers.Enhancer):
    """One weight."""

    name = "narrow"

    def __init__(self, scale: int = 4, patch_size: tuple[int, int] = (8, 8)) -> None:
        super().__init__(scale, patch_size)
        self.amount = enhancers.base.nn.Parameter(enhancers.base.torch.ones(()))

    def forward(self, patch: Any, image: Any, location: Any) -> Any:
        return patch * self.amount


def test_a_policy_ends_in_time(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = takes(clock, monkeypatch, ReinforceTrainer, "update", 10.0)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "narrow", Narrow)
    config = build(
        TrainAgentConfig,
        out=tmp_path,
        enhancer="narrow",
        weights=None,
        dataset="noise",
        scale=2,
        minutes=1.0,
        batch=2,
        steps=2,
        validation_faces=2,
        action_stride=8,
        checkpoint_every=1,
    )
    train_agent(config)
    assert len(calls) == 6
    _, metadata = load_tensors(tmp_path / "checkpoint.safetensors", "training")
    assert metadata["step"] == 6
    assert metadata["state"]["spent"] == 60.0
    # The held-out faces were looked at once, at the end.
    assert [entry["step"] for entry in entries(tmp_path) if "held_out/psnr" in entry] == [6]
