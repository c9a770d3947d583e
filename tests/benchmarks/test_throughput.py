"""Throughput: what is counted as whose time, and how ratios come about."""

from __future__ import annotations

import importlib
import json
import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.speed import env_kinds, envs, timing
from facehall_env.benchmarks.speed.peak_memory import peak_memory, private_memory
from facehall_env.benchmarks.speed.settings import EnvsConfig
from facehall_env.benchmarks.speed.untrained import make_enhancer
from facehall_env.enhancers import ENHANCERS, Enhancer
from facehall_env.errors import MissingExtraError


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


class Time:
    """The module `time` with such a clock."""

    def __init__(self, clock: Clock) -> None:
        self.time = clock


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


@pytest.mark.usefixtures("three_seconds")
@pytest.mark.parametrize("kind", ["batched", "SyncVectorEnv", "DummyVecEnv"])
def test_network_share(kind: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of 25 steps of which the network takes three seconds and all else one."""
    config = EnvsConfig(enhancer="three_seconds", seconds=40)
    env = env_kinds.Watched(env_kinds.make_env(config, kind, 1, "fp32"), config)
    step = env.env.step

    def slow_step(actions: Any) -> Any:
        clock.time += 1
        return step(actions)

    monkeypatch.setattr(env.env, "step", slow_step)
    monkeypatch.setattr("gymnasium.utils.performance.time", Time(clock))
    assert env.steps_per_second() == pytest.approx(1 / 4)
    assert env.shares == [pytest.approx(0.75)]
    assert env.patches == 11, "the first that ends after 40 seconds"
    assert env.steps_per_second() == pytest.approx(1 / 4)
    assert env.shares == [pytest.approx(0.75)] * 2
    env.close()


def test_all_kinds_restore_the_same_faces() -> None:
    """Nothing but the way that they are put side by side is compared."""
    config = EnvsConfig(enhancer="bicubic")
    rewards = {}
    for kind in config.kinds:
        env = env_kinds.make_env(config, kind, 2, "fp32")
        env.reset(seed=3)
        rewards[kind] = [env.step(np.array([5000, 9000]))[1] for _ in range(25)][-1]
        env.close()
    for kind, reward in rewards.items():
        np.testing.assert_allclose(reward, rewards["batched"], atol=1e-7, err_msg=kind)
    assert (rewards["batched"] < -1e-4).all()


def test_single_environments_of_a_process_share_one_network() -> None:
    config = EnvsConfig(enhancer="compact width=8 blocks=1")
    network = make_enhancer(config.enhancer, 4)
    for kind in ("batched", "SyncVectorEnv", "DummyVecEnv"):
        env = env_kinds.make_env(config, kind, 3, "fp32", network)
        cores = env_kinds._cores(env)
        assert len(cores) == (1 if kind == "batched" else 3)
        assert all(core.enhancer is network for core in cores)


def test_processes_are_limited() -> None:
    config = EnvsConfig(processes=8)
    assert config.kinds_at(8) == list(config.kinds)
    assert config.kinds_at(9) == ["batched", "SyncVectorEnv", "DummyVecEnv"]


@pytest.mark.usefixtures("three_seconds")
def test_patches_per_second() -> None:
    config = EnvsConfig(
        enhancers=("three_seconds",), num_envs=(2, 4), precisions=("fp32",), seconds=6
    )
    (row,) = envs.enhancer_rows(config, lambda: None)
    assert row.patches_per_second == pytest.approx(4 / 3)
    assert row.batch == 4
    assert row.ratio == 1


def test_measurements_take_turns() -> None:
    order: list[str] = []
    numbers: Iterator[float] = iter(range(10))

    def measurement(name: str) -> float:
        order.append(name)
        return next(numbers)

    timings = timing.take_turns(
        {"a": lambda: measurement("a"), "b": lambda: measurement("b")}, 3, lambda: None
    )
    assert order == ["a", "b"] * 3
    assert timings == {"a": 2, "b": 3}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "profile envs --enhancer tiny --enhancers tiny bicubic --num-envs 1 2 --no-memory "
        f"--kinds batched SyncVectorEnv DummyVecEnv --seconds 0.02 --repetitions 2 --out {tmp_path}"
    )
    assert main(arguments.split()) == 0
    content = json.loads((tmp_path / "throughput.json").read_text("utf-8"))
    assert content["command"] == f"facehall {arguments}"
    assert isinstance(content["machine"]["cpu_bfloat16"], bool)
    rows = content["vector_env"]
    names = ["network alone", "batched", "SyncVectorEnv", "DummyVecEnv"]
    assert [(row["precision"], row["num_envs"], row["environment"]) for row in rows] == [
        (precision, number, name)
        for precision in ("fp32", "bf16")
        for number in (1, 2)
        for name in names
    ]
    for first in range(0, len(rows), 4):
        batched = rows[first + 1]["steps_per_second"]
        for row in rows[first : first + 4]:
            assert row["ratio"] == pytest.approx(batched / row["steps_per_second"])
            assert row["peak_memory_mib"] is None
        assert rows[first]["network_share"] is None
        assert all(0 < row["network_share"] < 1 for row in rows[first + 1 : first + 4])
    for row in content["enhancers"]:
        assert row["ratio_to"] == "bicubic"
        assert (row["ratio"] == 1) == (row["enhancer"] == "bicubic")
    printed = capsys.readouterr().out
    assert f"{rows[-1]['ratio']:.2f}" in printed
    assert f"{rows[-1]['network_share']:.0%}".replace("%", " %") in printed


def test_stable_baselines_has_to_be_there_only_where_it_is_asked_for(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3.common", None)
    with pytest.raises(MissingExtraError, match=r"facehall-env\[sb3\]"):
        envs.run(EnvsConfig())


@contextmanager
def takes_memory(mib: int, process: bool) -> Iterator[list[int]]:
    # Mapped, since the heap may have as much left over from earlier tests.
    pages = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(pages, dtype=np.uint8)[:] = 1
    program = f"import sys; taken = bytearray(b'1' * ({mib} << 20)); print(); sys.stdin.read()"
    if not process:
        yield []
        return
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield [other.pid]
        assert other.stdin is not None
        other.stdin.close()


@contextmanager
def fails() -> Iterator[list[int]]:
    raise MemoryError
    yield []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
class TestMemory:
    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(Path(__file__).parent))

    @pytest.mark.parametrize(("process", "expected"), [(False, 100), (True, 200)])
    def test_of_the_process_and_of_those_it_started(self, process: bool, expected: int) -> None:
        work = importlib.import_module(Path(__file__).stem).takes_memory
        found = peak_memory("fork", "cpu", work, 100, process)
        assert found == pytest.approx(expected, abs=25)

    def test_work_that_fails_has_none(self) -> None:
        work = importlib.import_module(Path(__file__).stem).fails
        assert peak_memory("fork", "cpu", work) is None

    def test_a_process_that_is_gone_has_none(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        assert private_memory(process.pid) is None


@pytest.mark.parametrize(
    "option", ["--num-envs", "--seconds 0", "--repetitions 0", "--kinds SyncVectorEnv"]
)
def test_bad_settings(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "envs", *option.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
