"""The profile of an update: whose time is whose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facehall_env.agents.reinforce.training import ReinforceTrainer
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.speed import timing, update
from facehall_env.benchmarks.speed.settings import UpdateConfig
from facehall_env.benchmarks.speed.timing import SpanTimer
from facehall_env.enhancers import ENHANCERS, Enhancer
from facehall_env.spec import EpisodeSpec


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self, *_: Any) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "now", clock)
    return clock


def test_a_spans_time_is_without_that_of_spans_inside(clock: Clock) -> None:
    timer = SpanTimer(torch.device("cpu"))

    class Network(nn.Module):
        def forward(self) -> None:
            clock.time += 4

    network = Network()
    timer.watch([network, network], "inner")
    clock.time += 100
    for _ in range(2):
        with timer("outer"):
            clock.time += 1
            network()
            clock.time += 2
            with timer("other"):
                clock.time += 8
    assert timer.seconds == {"outer": 6, "inner": 8, "other": 16}


def test_an_update_is_charged_to_who_worked(clock: Clock, monkeypatch) -> None:
    class Slow(Enhancer):
        def __init__(self, scale: int) -> None:
            super().__init__(scale)
            self.amount = nn.Parameter(torch.ones(()))

        def forward(
            self, patch: torch.Tensor, image: torch.Tensor, location: torch.Tensor
        ) -> torch.Tensor:
            clock.time += 3
            return patch * self.amount

    monkeypatch.setitem(ENHANCERS._factories, "slow", Slow)
    trainer = ReinforceTrainer(
        UpdateConfig(
            episode=EpisodeSpec(
                enhancer="slow",
                weights=None,
                steps=4,
                reward="delta_psnr",
                action_stride=8,
            ),
            joint=True,
            batch=2,
            updates=2,
            limit=4,
        )
    )

    def later(seconds: float) -> Any:
        def pass_time(*_: Any) -> None:
            clock.time += seconds

        return pass_time

    trainer.learner.policy.register_forward_hook(later(2))
    for name, seconds in (("policy", 5), ("enhancer", 7)):
        trainer.learner.optimizers[name].register_step_post_hook(later(seconds))
    observe, draw = profiling_target("observe"), trainer.pool.draw
    monkeypatch.setattr(
        "facehall_env.agents.reinforce.learner.observe", lambda *a: (later(0.5)(), observe(*a))[1]
    )
    monkeypatch.setattr(trainer.pool, "draw", lambda *a: (later(1.5)(), draw(*a))[1])
    updates: list[int] = []
    seconds = update.profile(trainer, 2, lambda: updates.append(1))
    assert len(updates) == 3
    assert {name: value for name, value in seconds.items() if value} == {
        "enhancer/forward": 2 * 4 * 3,
        "policy/forward": 2 * 4 * 2,
        "policy/optimise": 2 * 5,
        "enhancer/optimise": 2 * 7,
        "env/observe": 2 * 4 * 0.5,
        "env/faces": 2 * 1.5,
    }


def profiling_target(name: str) -> Any:
    from facehall_env.agents.reinforce import learner

    return getattr(learner, name)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "profile update --weights None --one-shot --batch 2 --steps 2 --limit 4 "
        f"--updates 1 --out {tmp_path}"
    )
    assert main(arguments.split()) == 0
    content = json.loads((tmp_path / "profile.json").read_text("utf-8"))
    assert content["command"] == f"facehall {arguments}"
    assert sum(content["shares"].values()) == pytest.approx(1)
    assert sum(span["seconds"] for span in content["spans"]) == pytest.approx(
        content["seconds_per_update"]
    )
    others = [s["share"] for s in content["spans"] if s["span"].startswith("other/")]
    assert content["largest_other"]["share"] == max(others)
    names = {span["span"] for span in content["spans"]}
    assert {"policy/forward", "policy/backward", "enhancer/forward", "env/step"} <= names
    printed = capsys.readouterr().out
    assert f"{100 * content['largest_other']['share']:.1f} %" in printed


def test_several_processes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "update", "--devices", "2"]) == 2
    assert "leave both at 1" in capsys.readouterr().err
