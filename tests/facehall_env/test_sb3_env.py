"""The adapter for Stable-Baselines3, against its own vectoriser over the single environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage, VecVideoRecorder

from facehall_env.enhancers import Enhancer
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import ActionError, ConfigurationError
from facehall_env.observations import KEYS
from facehall_env.sb3 import FaceHallucinationVecEnv

STEPS = 3


def make(num_envs: int, **settings: Any) -> FaceHallucinationVecEnv:
    return FaceHallucinationVecEnv(
        num_envs, **{"enhancer": "bicubic", "num_steps": STEPS, **settings}
    )


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Equal keys, types and shapes; images within one level, other numbers within 1e-6."""
    if isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys(), where
        for key in theirs.keys() - {"t"}:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        tolerance = 1 if theirs.dtype == np.uint8 else 1e-6
        np.testing.assert_allclose(
            ours.astype(np.float64), theirs.astype(np.float64), 0, tolerance, err_msg=where
        )
    elif isinstance(theirs, float):
        assert isinstance(ours, float), where
        # Monitor rounds the return to six places.
        assert ours == pytest.approx(theirs, abs=2e-6), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_it_behaves_as_sb3s_own_vectoriser_over_monitored_single_envs(
    num_envs: int, sharpen: Enhancer
) -> None:
    settings: dict[str, Any] = {
        "enhancer": sharpen,
        "num_steps": STEPS,
        "reward": "delta_psnr + 0.1*coverage",
        "observation": KEYS,
    }
    ours = make(num_envs, **settings)
    theirs = DummyVecEnv([lambda: Monitor(FaceHallucinationEnv(**settings))] * num_envs)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.seed(7) == theirs.seed(7) == [7 + k for k in range(num_envs)]
    generator = np.random.default_rng(0)
    episodes = 0
    for number in range(2 * STEPS + 2):
        if number in (0, 2 * STEPS + 1):  # with the seed, and going on with the generators
            assert_same(ours.reset(), theirs.reset(), f"reset before step {number}")
            assert_same(ours.reset_infos[-1], theirs.reset_infos[-1], "reset_infos")
        action = generator.integers(ours.action_space.n, size=num_envs)  # type: ignore[attr-defined]
        mine, other = ours.step(action), theirs.step(action)
        for place, name in enumerate(("observation", "reward", "done")):
            assert_same(mine[place], other[place], f"step {number} {name}")
        for row in range(num_envs):
            assert_same(mine[3][row], other[3][row], f"step {number} info {row}")
            assert_same(ours.reset_infos[row], theirs.reset_infos[row], f"reset_infos {row}")
        episodes += sum("episode" in info for info in mine[3])
    assert episodes == 2 * num_envs


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_end_of_an_episode_is_exactly_the_single_environments(
    num_envs: int, sharpen: Enhancer
) -> None:
    settings: dict[str, Any] = {"enhancer": sharpen, "num_steps": STEPS, "reward": "delta_psnr"}
    envs = make(num_envs, **settings)
    envs.seed(30)
    envs.reset()
    actions = np.random.default_rng(1).integers(128 * 128, size=(STEPS, num_envs))
    for action in actions:
        observation, _, done, infos = envs.step(action)
    assert done.all()
    single = FaceHallucinationEnv(**settings)
    for k, info in enumerate(infos):
        single.reset(seed=30 + k)
        rewards = []
        for action in actions[:, k]:
            last, reward, _, _, single_info = single.step(action)
            rewards.append(reward)
        assert info["episode"]["r"] == pytest.approx(sum(rewards), abs=1e-9)
        assert info["episode"]["l"] == STEPS
        assert info["TimeLimit.truncated"] is False
        assert_same(info["terminal_observation"], last, f"terminal observation {k}")
        assert info["episode_summary"]["actions"].tolist() == actions[:, k].tolist()
        assert_same(info["episode_summary"], single_info["episode_summary"], f"summary {k}")
    # What is returned is the next episode's beginning.
    assert observation["step"].tolist() == [[0.0]] * num_envs


def test_images_stay_bytes_and_sb3_puts_the_channels_first() -> None:
    envs = make(2, num_steps=1, observation=("image", "coverage"))
    model = PPO("MultiInputPolicy", envs, n_steps=2, batch_size=2, n_epochs=1)
    wrapped = model.get_env()
    assert isinstance(wrapped, VecTransposeImage)
    wrapped.seed(0)
    first = wrapped.reset()
    assert (first["image"].dtype, first["image"].shape) == (np.uint8, (2, 3, 128, 128))
    envs.seed(0)
    assert np.array_equal(envs.reset()["image"].transpose(0, 3, 1, 2), first["image"])
    _, _, _, infos = wrapped.step(np.array([0, 5000]))
    assert infos[1]["terminal_observation"]["image"].shape == (3, 128, 128)
    assert infos[1]["terminal_observation"]["coverage"].dtype == np.uint8
    model.learn(4)
    assert len(model.ep_info_buffer or ()) == 4


def test_masks_come_row_by_row() -> None:
    envs = make(3, action_stride=32)
    envs.reset()
    assert is_masking_supported(envs)
    envs.step(np.array([0, 5, 15]))
    masks = get_action_masks(envs)
    assert [np.flatnonzero(~row).tolist() for row in masks] == [[0], [5], [15]]
    some = envs.env_method("action_masks", indices=[2, 0])
    assert [np.flatnonzero(~row).tolist() for row in some] == [[15], [0]]
    method = envs.get_attr("action_masks", indices=1)[0]
    assert np.flatnonzero(~method()).tolist() == [5]


def test_attributes_are_shared_and_generators_are_not(sharpen: Enhancer) -> None:
    envs = make(3, enhancer=sharpen)
    envs.seed(4)
    envs.reset()
    assert envs.get_attr("np_random_seed") == [4, 5, 6]
    assert envs.get_attr("np_random", 2)[0].bit_generator.seed_seq.entropy == 6
    assert envs.get_attr("core", [0, 2]) == [envs.core] * 2
    assert envs.get_attr("observation_space") == [envs.observation_space] * 3
    envs.set_attr("colour", "blue")
    assert envs.get_attr("colour") == ["blue"] * 3
    with pytest.raises(ConfigurationError, match=r"share 'colour'.*\[1\]"):
        envs.set_attr("colour", "red", indices=1)
    assert not envs.has_attr("flavour")
    with pytest.raises(AttributeError, match="action_masks, render"):
        envs.env_method("reset")


def test_evaluation_needs_no_monitor(recwarn: pytest.WarningsRecorder) -> None:
    class First:
        def predict(self, observation: Any, **_: Any) -> tuple[np.ndarray, None]:
            return np.zeros(len(observation["step"]), np.int64), None

    envs = make(2, reward="coverage")
    returns, lengths = evaluate_policy(
        First(),
        envs,
        n_eval_episodes=3,
        return_episode_rewards=True,  # type: ignore[arg-type]
    )
    # The corner's 60x45 patch shows 31x23 pixels, once.
    assert returns == pytest.approx([31 * 23 / 128**2] * 3)
    assert lengths == [STEPS] * 3
    assert [str(w.message) for w in recwarn if "Monitor" in str(w.message)] == []


def test_asking_for_a_face() -> None:
    envs = make(2)
    envs.set_options([{"index": 4}, {"index": 9}])
    envs.reset()
    assert [info["index"] for info in envs.reset_infos] == [4, 9]
    envs.reset()
    assert [info["index"] for info in envs.reset_infos] != [4, 9]
    envs.set_options([{"index": 4}, {}])
    with pytest.raises(ConfigurationError, match=r"1 of 2 .*'index'"):
        envs.reset()


def test_video_recorder_gets_frames(tmp_path: Path, video_frames: Callable[[], list[Any]]) -> None:
    envs = make(2, render_mode="rgb_array")
    recorder = VecVideoRecorder(
        envs, str(tmp_path), record_video_trigger=lambda step: step == 0, video_length=STEPS
    )
    assert recorder.frames_per_sec == 4
    recorder.reset()
    one = envs.get_images()[0]
    assert one is not None
    for step in range(STEPS + 1):
        recorder.step(np.array([step * 2000, 8000]))
    recorder.close()
    frames = video_frames()
    assert len(frames) == STEPS + 1
    assert frames[0].shape == (2 * one.shape[0], one.shape[1], 3)
    assert np.array_equal(frames[0][: one.shape[0]], one)
    assert not np.array_equal(frames[0], frames[1])


def test_without_a_render_mode_there_are_no_images() -> None:
    envs = make(2)
    envs.reset()
    assert envs.get_images() == [None, None]


@pytest.mark.parametrize("name", ["autoreset_mode", "output"])
def test_what_sb3_decides_cannot_be_chosen(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}='torch'.*leave it out"):
        make(1, **{name: "torch"})


def test_a_step_needs_actions() -> None:
    envs = make(2)
    envs.reset()
    with pytest.raises(ActionError, match="step_async"):
        envs.step_wait()
    with pytest.raises(ActionError, match=r"shape \(3,\)"):
        envs.step(np.array([1, 2, 3]))


@pytest.mark.parametrize(
    "module", ["facehall_env.sb3", "facehall_env.agents.integrations.sb3_agents"]
)
def test_the_missing_extra_is_named(module: str) -> None:
    code = f"import sys; sys.modules['stable_baselines3'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1].endswith("pip install 'facehall-env[sb3]'.")
