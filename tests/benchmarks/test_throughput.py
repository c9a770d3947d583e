"""Throughput: what is counted as whose time, and how ratios come about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facehall_env.benchmarks import throughput
from facehall_env.benchmarks.cli import main
from facehall_env.benchmarks.throughput import ThroughputConfig
from facehall_env.enhancers import ENHANCERS, Enhancer
from facehall_env.vector import FaceHallucinationVectorEnv


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self, *_: Any) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "now", clock)
    return clock


@pytest.fixture
def three_seconds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An enhancer whose every call takes three seconds."""

    class ThreeSeconds(Enhancer):
        name = "three_seconds"

        def forward(
            self, patch: torch.Tensor, image: torch.Tensor, location: torch.Tensor
        ) -> torch.Tensor:
            clock.time += 3
            return patch

    monkeypatch.setitem(ENHANCERS._factories, "three_seconds", lambda scale: ThreeSeconds(scale))


def test_stopwatch_adds_up_the_networks_time(clock: Clock) -> None:
    class Network(nn.Module):
        def forward(self, seconds: float) -> float:
            clock.time += seconds
            return seconds

    network = Network()
    watch = throughput.Stopwatch(network, torch.device("cpu"))
    for seconds in (2.0, 5.0):
        network(seconds)
        clock.time += 100
    assert watch.seconds == 7


@pytest.mark.usefixtures("three_seconds")
def test_network_share(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    step = FaceHallucinationVectorEnv.step

    def slow_step(env: FaceHallucinationVectorEnv, actions: Any) -> Any:
        clock.time += 1
        return step(env, actions)

    monkeypatch.setattr(FaceHallucinationVectorEnv, "step", slow_step)
    config = ThroughputConfig(enhancer="three_seconds", share_envs=2, seconds=12, repetitions=2)
    calls: list[int] = []
    share = throughput.network_share(config, lambda: calls.append(1))
    assert share["share"] == share["lowest"] == share["highest"] == 0.75
    assert share["precision"] == "fp32"
    assert share["num_envs"] == 2
    assert len(calls) == 2


@pytest.mark.usefixtures("three_seconds")
def test_patches_per_second() -> None:
    config = ThroughputConfig(
        enhancers=("three_seconds",), num_envs=(2, 4), precisions=("fp32",), seconds=6
    )
    (row,) = throughput.enhancer_rows(config, lambda: None)
    assert row["patches_per_second"] == pytest.approx(4 / 3)
    assert row["batch"] == 4
    assert row["ratio"] == 1


def test_measurements_take_turns() -> None:
    order: list[str] = []
    numbers: Iterator[float] = iter(range(10))

    def measurement(name: str) -> float:
        order.append(name)
        return next(numbers)

    timings = throughput.take_turns(
        {"a": lambda: measurement("a"), "b": lambda: measurement("b")}, 3, lambda: None
    )
    assert order == ["a", "b"] * 3
    assert timings == {"a": [0, 2, 4], "b": [1, 3, 5]}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "bench throughput --enhancer tiny --enhancers tiny bicubic --num-envs 1 2 --share-envs 2 "
        f"--seconds 0.02 --repetitions 2 --precisions fp32 bf16 --out {tmp_path}"
    )
    assert main(arguments.split()) == 0
    content = json.loads((tmp_path / "throughput.json").read_text("utf-8"))
    assert content["command"] == f"facehall {arguments}"
    assert 0 < content["network_share"]["share"] < 1
    assert isinstance(content["machine"]["cpu_bfloat16"], bool)
    rows = content["vector_env"]
    assert [(row["precision"], row["num_envs"]) for row in rows] == [
        ("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2),
    ]  # fmt: skip
    for row in rows:
        rates = row["batched_steps_per_second"], row["sync_steps_per_second"]
        assert row["ratio"] == pytest.approx(rates[0] / rates[1])
    for row in content["enhancers"]:
        assert row["ratio_to"] == "bicubic"
        assert (row["ratio"] == 1) == (row["enhancer"] == "bicubic")
    printed = capsys.readouterr().out
    assert f"{rows[3]['ratio']:.2f}" in printed
    assert f"{content['network_share']['share']:.0%}" in printed


@pytest.mark.parametrize("option", ["--num-envs", "--seconds 0", "--repetitions 0"])
def test_bad_settings(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", *option.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
