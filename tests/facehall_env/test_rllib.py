"""RLlib on the batched environment: ``vector_entry_point``, NEXT_STEP, two remote runners."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facehall_env.agents import training
from facehall_env.agents.integrations.rllib_training import (
    FirstFaces,
    algorithm_config,
    train_rllib,
)
from facehall_env.agents.settings import TrainRLlibConfig
from facehall_env.benchmarks.cli.program import main
from facehall_env.data import SyntheticFaces
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import MissingExtraError
from facehall_env.nested import build

T, RUNNERS, ENVS = 25, 2, 2


def test_without_ray_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'facehall-env\[rllib\]'"):
        train_rllib(TrainRLlibConfig(out=tmp_path / "run"))
    command = ["train", "agent", "rllib-ppo", "--num-env-runners", "3"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    assert "pip install 'facehall-env[rllib]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_first_faces_are_the_datasets() -> None:
    everything = SyntheticFaces(split="train")
    first = FirstFaces(everything, 3)
    assert (len(first), first.key(2), first.image_size) == (3, everything.key(2), (128, 128))
    assert (first[-1] == everything[2]).all()
    with pytest.raises(IndexError):
        first[3]


@pytest.fixture(scope="module")
def algorithm() -> Iterator[Any]:
    """PPO with two remote runners, of an enhancer that restores the whole face once."""
    ray = pytest.importorskip("ray", reason="needs RLlib: pip install 'facehall-env[rllib]'")
    config = build(
        TrainRLlibConfig,
        enhancer="compact",
        one_shot=True,
        steps=T,
        reward="delta_mse + 0.01*coverage",
        action_stride=16,
        num_env_runners=RUNNERS,
        envs_per_runner=ENVS,
        batch=RUNNERS * ENVS,
        minibatch=RUNNERS * ENVS,
        epochs=1,
    )
    core = training.build(config).core
    ray.init(num_cpus=RUNNERS + 1, include_dashboard=False, log_to_driver=False)
    settings = algorithm_config(config, core, SyntheticFaces(split="train"))
    algorithm = settings.build_algo()
    yield algorithm, core
    algorithm.stop()
    ray.shutdown()


def test_remote_runners_play_what_the_single_environment_plays(algorithm: Any) -> None:
    ppo, core = algorithm
    both = ppo.env_runner_group.foreach_env_runner(
        lambda runner: runner.sample(num_timesteps=2 * ENVS * T, random_actions=True),
        local_env_runner=False,
    )
    assert len(both) == RUNNERS
    single = FaceHallucinationEnv(
        enhancer=core.enhancer,
        steps=T,
        reward="delta_mse + 0.01*coverage",
        action_stride=16,
        observation=("image", "last_action", "step", "coverage"),
    )
    faces = set()
    for episodes in both:
        # Each sub-environment's second episode begins by NEXT_STEP, whose step is not counted.
        assert [len(episode) for episode in episodes] == [T] * 2 * ENVS
        for episode in episodes:
            infos = episode.get_infos()
            faces.add(infos[0]["index"])
            observation, _ = single.reset(options={"index": infos[0]["index"]})
            rewards = []
            for t, action in enumerate(episode.get_actions()):
                assert_same(episode.get_observations(t), observation)
                observation, reward, *_ = single.step(int(action))
                rewards.append(reward)
            assert_same(episode.get_observations(T), observation)
            assert episode.is_terminated
            assert not episode.is_truncated
            assert episode.get_rewards() == pytest.approx(rewards, abs=1e-6)
            summary = infos[-1]["episode_summary"]
            assert episode.get_return() == pytest.approx(summary["return"], abs=1e-6)
            assert (summary["length"], infos[-1]["index"]) == (T, infos[0]["index"])
    # No two sub-environments draw alike, whichever runner they are in.
    assert len(faces) == 2 * RUNNERS * ENVS


def test_an_update_reports_lengths_and_returns_of_whole_episodes(algorithm: Any) -> None:
    ppo, _ = algorithm
    played = ppo.train()["env_runners"]
    assert played["episode_len_mean"] == played["episode_len_min"] == T
    assert played["num_env_steps_sampled"] % T == 0
    # All of the face is worth 0.01, and one pass of a trained network lowers its MSE.
    assert 0 < played["episode_return_min"] <= played["episode_return_max"] < 0.02


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for key, value in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (value.dtype, value.shape)
        tolerance = 1 if value.dtype == np.uint8 else 1e-6
        assert np.abs(ours[key].astype(float) - value).max() <= tolerance, key


def test_the_documented_example_runs(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs RLlib: pip install 'facehall-env[rllib]'")
    text = (root / "docs" / "ecosystem.md").read_text("utf-8").partition("## RLlib")[2]
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    length, covered = map(float, done.stdout.splitlines()[-1].split())
    assert length == 25
    assert 0.6 < covered < 1
