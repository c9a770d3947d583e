from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3
from stable_baselines3.common.monitor import Monitor

from facehall_env import data
from facehall_env.data import FaceDataset, Faces, Protocol
from facehall_env.enhancers import Bicubic, Enhancer
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import (
    ActionError,
    ConfigurationError,
    DatasetError,
    EpisodeError,
    UnknownNameError,
    WeightsError,
)
from facehall_env.metrics import psnr
from facehall_env.observations import KEYS

MIDDLE = 64 * 128 + 64


def make(**settings: Any) -> FaceHallucinationEnv:
    settings = {"enhancer": "bicubic", "num_steps": 3, **settings}
    env = gym.make("FaceHallucination-v0", **settings).unwrapped
    assert isinstance(env, FaceHallucinationEnv)
    return env


@pytest.mark.filterwarnings("ignore:render_mode='human' needs a display")
@pytest.mark.parametrize("keys", [("image", "last_action", "step"), KEYS])
@pytest.mark.parametrize("name", ["FaceHallucination-v0", "FaceHallucination-IPFH-v0"])
def test_checkers_of_gymnasium_and_sb3_pass(name: str, keys: tuple[str, ...]) -> None:
    env = gym.make(name, enhancer="compact", weights=None, num_steps=3, observation=keys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="render_mode='human' needs a display")
        # SB3 warns of images too small for its default convolutions: patch and LR image are.
        warnings.filterwarnings("ignore", message="The minimal resolution for an image is 36x36")
        check_env(env.unwrapped)
        check_env_of_sb3(env.unwrapped, skip_render_check=False)


class TestEpisode:
    def test_it_terminates_at_the_last_step_and_is_never_truncated(self) -> None:
        env = make()
        env.reset(seed=0)
        ends = [env.step(MIDDLE)[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (True, False)]

    def test_observation_is_the_current_image_within_half_a_level(self, sharpen: Enhancer) -> None:
        env = make(enhancer=sharpen)
        env.reset(seed=0)
        observation, *_ = env.step(MIDDLE)
        exact = env.state.image[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(observation["image"] - exact).max() <= 0.5 + 1e-4

    def test_info_describes_the_face_and_where_it_stands(self, sharpen: Enhancer) -> None:
        env = make(enhancer=sharpen)
        _, info = env.reset(options={"index": 7})
        faces = env.dataset
        assert (info["index"], info["key"]) == (7, faces.key(7))
        assert info["location"].tolist() == [-1, -1]
        _, _, _, _, info = env.step(30 * 128 + 90)
        assert info["location"].tolist() == [30, 90]
        truth = faces.batch([7]).float() / 255
        assert info["psnr"] == pytest.approx(psnr(env.state.image, truth).item(), abs=1e-4)
        mse = (env.state.image - truth).square().mean().item()
        assert info["mse"] == pytest.approx(mse, rel=1e-5)
        assert {"reward_terms", "episode_summary", "episode"}.isdisjoint(info)

    def test_the_summary_adds_the_episode_up(self, sharpen: Enhancer) -> None:
        env = make(enhancer=sharpen, reward="delta_psnr")
        _, info = env.reset(seed=3)
        curve, rewards, actions = [info["psnr"]], [], [0, MIDDLE, 100]
        for action in actions:
            _, reward, terminated, _, info = env.step(action)
            curve.append(info["psnr"])
            rewards.append(reward)
        assert terminated
        summary = info["episode_summary"]
        assert summary["psnr_initial"] == pytest.approx(curve[0])
        assert summary["psnr_final"] == pytest.approx(curve[-1])
        assert summary["psnr_gain"] == pytest.approx(curve[-1] - curve[0])
        assert summary["psnr_auc"] == pytest.approx(np.mean(curve[1:]))
        assert summary["return"] == pytest.approx(sum(rewards), abs=1e-6)
        assert summary["return"] == pytest.approx(summary["psnr_gain"], abs=1e-5)
        assert summary["length"] == 3
        assert summary["actions"].tolist() == actions
        # Patches of 24 x 20: around (0, 0) 13 x 11 pixels are inside, around (64, 64) all, around
        # (0, 100) the lower 13 rows.
        assert summary["coverage"] == pytest.approx((13 * 11 + 24 * 20 + 13 * 20) / 128**2)

    def test_terms_of_a_sum_are_reported_and_add_up(self, sharpen: Enhancer) -> None:
        env = make(enhancer=sharpen, reward="delta_mse + 0.1*coverage")
        env.reset(seed=0)
        _, reward, _, _, info = env.step(MIDDLE)
        terms = info["reward_terms"]
        assert terms["coverage"] == pytest.approx(0.1 * 24 * 20 / 128**2)
        assert reward == pytest.approx(terms["delta_mse"] + terms["coverage"], abs=1e-7)

    def test_masks_exclude_visited_locations(self) -> None:
        env = make(action_stride=32)
        env.reset(seed=0)
        env.step(5)
        env.step(2)
        assert np.flatnonzero(~env.action_masks()).tolist() == [2, 5]


class TestFaces:
    def test_a_seed_fixes_all_faces_that_follow(self) -> None:
        sequences = []
        for env in (make(), make()):
            first = env.reset(seed=11)[1]["index"]
            sequences.append([first, *(env.reset()[1]["index"] for _ in range(5))])
        assert sequences[0] == sequences[1]
        assert len(set(sequences[0])) > 1

    def test_faces_are_drawn_uniformly_with_the_environments_generator(self) -> None:
        env = make()
        env.reset(seed=5)
        drawn = [env.reset()[1]["index"] for _ in range(3)]
        generator = np.random.default_rng(5)
        size = len(env.dataset)
        assert drawn == [int(generator.integers(size)) for _ in range(4)][1:]

    def test_asking_for_a_face_draws_nothing(self) -> None:
        env = make()
        env.reset(seed=5)
        following = env.reset()[1]["index"]
        env.reset(seed=5)
        assert env.reset(options={"index": 3})[1]["index"] == 3
        assert env.reset()[1]["index"] == following

    @pytest.mark.parametrize("index", [-1, 10**9, True, 1.0, "0", None])
    def test_a_face_that_is_not_there_is_refused(self, index: object) -> None:
        env = make()
        with pytest.raises(ConfigurationError, match=r"options\['index'\] is .* from 0 to \d+\."):
            env.reset(options={"index": index})

    def test_a_dataset_and_a_protocol_of_ones_own_are_used_as_they_are(self) -> None:
        test = data.make("synthetic", split="test")

        class Grey(Protocol):
            def degrade(self, hr: torch.Tensor, scale: int) -> Faces:
                faces = super().degrade(hr, scale)
                return Faces(faces.hr, faces.lr, torch.full_like(faces.hr, 0.5))

        env = make(dataset=test, protocol=Grey("grey", "bicubic", "bicubic"))
        observation, info = env.reset(seed=0)
        assert env.dataset is test
        assert info["key"] == test.key(info["index"])
        assert (observation["image"] == 128).all()


class TestSettings:
    def test_an_enhancer_object_is_used_as_it_is(self, sharpen: Enhancer) -> None:
        core = make(enhancer=sharpen).core
        assert core.enhancer is sharpen
        assert core.geometry.patch_size == (24, 20)

    def test_keywords_reach_the_core(self) -> None:
        env = make(scale=8, num_steps=7, patch_size=(16, 32), border="inside", action_stride=4)
        core = env.core
        assert (core.scale, core.num_steps) == (8, 7)
        assert (core.geometry.patch_size, core.geometry.border) == ((16, 32), "inside")
        assert env.action_space.n == 32 * 32
        env = make(action_stride=8, action_offset=7)
        env.reset(seed=0)
        assert env.step(17)[4]["location"].tolist() == [15, 15]

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"dataset": "synthetik"}, UnknownNameError, "did you mean 'synthetic'"),
            ({"enhancer": "bicubik"}, UnknownNameError, "did you mean 'bicubic'"),
            ({"protocol": "none"}, UnknownNameError, "bicubic"),
            ({"reward": "delta_mze"}, UnknownNameError, "did you mean 'delta_mse'"),
            ({"observation": ["imag"]}, UnknownNameError, "did you mean 'image'"),
            ({"enhancer": Bicubic}, ConfigurationError, "neither a name nor an enhancer object"),
            ({"enhancer": torch.nn.Identity()}, ConfigurationError, "an instance of"),
            ({"enhancer": Bicubic(8)}, ConfigurationError, "for scale 8, but scale=4"),
            ({"enhancer": Bicubic(), "weights": "w.st"}, ConfigurationError, "weights='w.st'"),
            ({"enhancer": "compact", "weights": "no.such"}, WeightsError, "no.such"),
            ({"dataset": ["lfw"]}, ConfigurationError, "neither a name nor a FaceDataset"),
            ({"scale": 3}, ConfigurationError, "scale=3 does not divide"),
            ({"scale": 0}, ConfigurationError, "scale=0 does not divide"),
            ({"num_steps": 0}, ConfigurationError, "num_steps=0"),
            ({"action_stride": 3}, ConfigurationError, "action_stride=3"),
            ({"patch_size": (500, 4)}, ConfigurationError, r"\(500, 4\) does not fit"),
            ({"border": "mirror"}, ConfigurationError, "border='mirror'"),
            ({"precision": "fp8"}, ConfigurationError, "precision='fp8'"),
            ({"device": "abacus"}, ConfigurationError, "device='abacus' cannot be used here"),
        ],
    )
    def test_wrong_ones_are_explained_in_one_sentence(
        self, settings: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message) as raised:
            make(**settings)
        assert "\n" not in str(raised.value)

    def test_an_unknown_render_mode_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="render_mode='ansi' is unknown"):
            FaceHallucinationEnv(enhancer="bicubic", render_mode="ansi")

    def test_a_dataset_without_faces_is_refused(self) -> None:
        class Empty(FaceDataset):
            name, split, image_size = "empty", "test", (128, 128)

            def __len__(self) -> int:
                return 0

            def __getitem__(self, index: int) -> Any:
                raise IndexError

            def key(self, index: int) -> str:
                raise IndexError

        with pytest.raises(DatasetError, match=r"'empty' has no faces in its split 'test'"):
            make(dataset=Empty())


class TestWrongUse:
    @pytest.mark.parametrize(
        "action",
        [
            True,
            np.True_,
            torch.tensor(True),
            1.0,
            np.float32(1),
            np.array([1]),
            torch.tensor([1]),
            [1],
            "1",
            None,
        ],
    )
    def test_an_action_of_another_type_is_refused(self, action: Any) -> None:
        env = make()
        env.reset(seed=0)
        with pytest.raises(ActionError, match=r"expected a single integer.* from 0 to 16383\."):
            env.step(action)

    @pytest.mark.parametrize("action", [-1, 16384])
    def test_an_action_out_of_range_is_refused_and_nothing_happens(self, action: int) -> None:
        env = make()
        env.reset(seed=0)
        with pytest.raises(ActionError, match=rf"Action {action} is outside"):
            env.step(action)
        assert env.state.step.item() == 0

    @pytest.mark.parametrize("action", [7, np.int64(7), np.uint8(7), np.array(7), torch.tensor(7)])
    def test_integers_of_every_kind_are_accepted(self, action: Any) -> None:
        env = make()
        env.reset(seed=0)
        assert env.step(action)[4]["location"].tolist() == [0, 7]

    def test_before_the_first_reset(self) -> None:
        env = make(render_mode="rgb_array")
        for call in (lambda: env.step(0), env.render, env.action_masks, lambda: env.state):
            with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
                call()

    def test_after_the_end(self) -> None:
        env = make(num_steps=1)
        env.reset(seed=0)
        env.step(0)
        with pytest.raises(EpisodeError, match=r"The episode ended after 1 steps"):
            env.step(0)
        env.reset()
        assert env.step(0)[2] is True


class TestRendering:
    def test_the_frame_shows_the_patch_in_red_and_changes_with_every_step(self) -> None:
        env = make(render_mode="rgb_array")
        env.reset(seed=0)
        frames = [env.render()]
        for action in (MIDDLE, 20 * 128 + 20):
            env.step(action)
            frames.append(env.render())
        red = [int((np.abs(f.astype(int) - (226, 28, 36)).sum(-1) < 10).sum()) for f in frames]
        assert red[0] == 0
        assert min(red[1:]) > 100
        assert frames[0].shape == frames[2].shape
        assert (frames[1] != frames[2]).any()

    def test_human_mode_shows_each_moment_in_a_window(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown: list[Any] = []
        closed: list[bool] = []
        monkeypatch.setattr("facehall_env.env.Window.show", lambda self, frame: shown.append(frame))
        monkeypatch.setattr("facehall_env.env.Window.close", lambda self: closed.append(True))
        env = make(render_mode="human")
        env.reset(seed=0)
        env.step(MIDDLE)
        assert env.render() is None
        picture = make(render_mode="rgb_array")
        picture.reset(seed=0)
        assert (shown[0] == picture.render()).all()
        picture.step(MIDDLE)
        assert (shown[1] == picture.render()).all()
        assert len(shown) == 2
        env.close()
        env.close()
        assert closed == [True]

    def test_without_a_mode_it_says_what_to_give(self) -> None:
        env = make()
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert env.render() is None


class TestWrappers:
    def test_record_episode_statistics_adds_its_own_beside_the_summary(
        self, sharpen: Enhancer
    ) -> None:
        env = gym.wrappers.RecordEpisodeStatistics(make(enhancer=sharpen))
        env.reset(seed=0)
        for _ in range(3):
            *_, info = env.step(MIDDLE)
        assert info["episode"]["r"] == pytest.approx(info["episode_summary"]["return"])
        assert info["episode"]["l"] == info["episode_summary"]["length"] == 3

    def test_monitor_of_sb3_adds_its_own_beside_the_summary(self, sharpen: Enhancer) -> None:
        env = Monitor(make(enhancer=sharpen), info_keywords=("psnr", "index"))
        env.reset(seed=0)
        for _ in range(3):
            *_, info = env.step(MIDDLE)
        assert info["episode"]["r"] == pytest.approx(info["episode_summary"]["return"], abs=1e-6)
        assert info["episode"]["psnr"] == info["episode_summary"]["psnr_final"]

    def test_record_video_gets_a_frame_of_every_moment(
        self, tmp_path: Path, video_frames: Callable[[], list[Any]]
    ) -> None:
        env = gym.wrappers.RecordVideo(make(render_mode="rgb_array"), str(tmp_path))
        env.reset(seed=0)
        for _ in range(3):
            env.step(MIDDLE)
        last = env.render()
        env.close()
        assert len(video_frames()) == 4
        assert (video_frames()[-1] == last).all()
