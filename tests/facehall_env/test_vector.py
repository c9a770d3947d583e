from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

from facehall_env.enhancers import Enhancer
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import ActionError, ConfigurationError, EpisodeError
from facehall_env.observations import KEYS
from facehall_env.vector import FaceHallucinationVectorEnv

MODES = list(AutoresetMode)
STEPS = 3
GYMNASIUM = tuple(int(part) for part in gym.__version__.split(".")[:2])


def make(num_envs: int = 3, **settings: Any) -> FaceHallucinationVectorEnv:
    settings = {"enhancer": "bicubic", "num_steps": STEPS, **settings}
    envs = gym.make_vec("FaceHallucination-v0", num_envs=num_envs, **settings)
    assert isinstance(envs, FaceHallucinationVectorEnv)
    return envs


def actions(envs: FaceHallucinationVectorEnv, seed: int, count: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(envs.single_action_space.n, size=(count, envs.num_envs))


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal keys, types and values: images within one level, all else within 1e-5."""
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs), where
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(mine, other, f"{where}/{place}")
    elif isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, np.ndarray) and theirs.dtype != object:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        if theirs.dtype == np.uint8:
            assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1, where
        elif theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=where)
        else:
            assert np.array_equal(ours, theirs), where
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == object, where
        for row, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(mine, other, f"{where}/{row}")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_it_behaves_as_gymnasiums_own_vectoriser_over_the_single_env(
    mode: AutoresetMode, num_envs: int, sharpen: Enhancer
) -> None:
    settings: dict[str, Any] = {
        "enhancer": sharpen,
        "num_steps": STEPS,
        "reward": "delta_mse + 0.1*coverage",
        "observation": KEYS,
    }
    ours = make(num_envs, autoreset_mode=mode, **settings)
    single = [lambda: FaceHallucinationEnv(**settings)] * num_envs
    theirs = SyncVectorEnv(single, autoreset_mode=mode)
    assert_same(ours.reset(seed=20), theirs.reset(seed=20))
    faces = set()
    for number, action in enumerate(actions(ours, 0, 3 * STEPS + 4)):
        mine, other = ours.step(action), theirs.step(action)
        assert_same(mine[:4], other[:4], f"step {number}")
        assert_same(mine[4], other[4], f"step {number} info")
        faces |= set(mine[4]["index"].tolist())
        mask = other[2]
        if number == 4 and num_envs > 1:
            # From here on the sub-environments stand at different steps.
            mask = np.arange(num_envs) == 1
        elif mode is not AutoresetMode.DISABLED:
            continue
        if mask.any():
            mine, other = (envs.reset(options={"reset_mask": mask}) for envs in (ours, theirs))
            assert_same(mine, other, f"reset after step {number}")
    assert len(faces) > 2 * num_envs


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_sub_environment_k_seeded_s_is_the_single_one_seeded_s_plus_k(
    mode: AutoresetMode, sharpen: Enhancer
) -> None:
    envs = make(3, enhancer=sharpen, autoreset_mode=mode, reward="delta_mse")
    observation, info = envs.reset(seed=40)
    played = actions(envs, 1, STEPS)
    single = FaceHallucinationEnv(enhancer=sharpen, num_steps=STEPS, reward="delta_mse")
    images, rewards = [observation["image"]], []
    for action in played:
        observation, reward, _, _, info_after = envs.step(action)
        images.append(observation["image"])
        rewards.append(reward)
    if mode is AutoresetMode.SAME_STEP:
        images[-1] = np.stack([final["image"] for final in info_after["final_obs"]])
    for k in range(3):
        observation, single_info = single.reset(seed=40 + k)
        assert (single_info["index"], single_info["key"]) == (info["index"][k], info["key"][k])
        for t in range(STEPS + 1):
            assert_same(images[t][k], observation["image"], f"env {k} step {t}")
            if t < STEPS:
                observation, reward, *_ = single.step(played[t, k])
                assert rewards[t][k] == pytest.approx(reward, abs=1e-5)


class TestFinal:
    def test_it_holds_exactly_what_the_ended_episode_returned_last(self, sharpen: Enhancer) -> None:
        settings: dict[str, Any] = {"enhancer": sharpen, "observation": KEYS}
        same = make(2, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
        stopped = make(2, autoreset_mode=AutoresetMode.DISABLED, **settings)
        same.reset(seed=0)
        stopped.reset(seed=0)
        for action in actions(same, 2, STEPS):
            following, _, terminated, _, info = same.step(action)
            last, _, _, _, last_info = stopped.step(action)
        assert terminated.all()
        assert info["_final_obs"].tolist() == info["_final_info"].tolist() == [True, True]
        for row in range(2):
            for key in KEYS:
                assert np.array_equal(info["final_obs"][row][key], last[key][row])
        assert_same(info["final_info"], last_info)
        assert "episode_summary" in info["final_info"]
        # The observation is the next episode's already.
        assert following["step"].tolist() == [[0.0], [0.0]]
        assert not following["coverage"].any()
        assert "episode_summary" not in info

    def test_it_is_absent_while_nothing_has_ended(self) -> None:
        envs = make(autoreset_mode="SameStep")
        envs.reset(seed=0)
        info = envs.step([0, 0, 0])[4]
        assert {"final_obs", "final_info", "_final_obs"}.isdisjoint(info)


class TestPartialReset:
    @pytest.mark.parametrize("output", ["numpy", "torch"])
    def test_the_others_go_on(self, output: str, sharpen: Enhancer) -> None:
        envs = make(3, enhancer=sharpen, output=output, observation=KEYS)
        envs.reset(seed=0)
        before, *_ = envs.step([5, 5, 5])
        mask = np.array([False, True, False])
        after, info = envs.reset(options={"reset_mask": mask})
        for key in KEYS:
            assert (after[key][[0, 2]] == before[key][[0, 2]]).all()
        assert after["step"].flatten().tolist() == pytest.approx([1 / 3, 0, 1 / 3])
        assert info["_psnr"].tolist() == mask.tolist()
        assert (info["psnr"] > 0).tolist() == mask.tolist()
        assert [key is None for key in info["key"]] == [True, False, True]

    def test_states_handed_out_before_are_not_changed(self) -> None:
        envs = make()
        envs.reset(seed=0)
        envs.step([1, 2, 3])
        state = envs.state
        kept = state.image.clone(), state.hr.clone(), state.actions.clone(), state.step.clone()
        envs.reset(options={"reset_mask": np.array([True, False, False])})
        envs.step([4, 5, 6])
        now = state.image, state.hr, state.actions, state.step
        assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))

    def test_seeds_of_the_others_are_not_touched(self) -> None:
        envs = make()
        envs.reset(seed=0)
        mask = np.array([False, True, False])
        _, info = envs.reset(seed=[7, 8, 9], options={"reset_mask": mask})
        assert envs.np_random_seed == (0, 8, 2)
        assert info["index"][1] == make(1).reset(seed=8)[1]["index"][0]

    def test_options_are_left_as_they_came(self) -> None:
        options = {"reset_mask": np.array([True, True, True])}
        make().reset(options=options)
        assert list(options) == ["reset_mask"]

    @pytest.mark.parametrize(
        ("mask", "error"),
        [
            ([True, False, False], TypeError),
            (np.array([1, 0, 0]), TypeError),
            (np.array([True, False]), ConfigurationError),
            (np.zeros(3, dtype=bool), ConfigurationError),
        ],
    )
    def test_a_wrong_mask_is_refused(self, mask: Any, error: type[Exception]) -> None:
        envs = make()
        envs.reset(seed=0)
        with pytest.raises(error, match=r"options\['reset_mask'\]"):
            envs.reset(options={"reset_mask": mask})

    def test_it_cannot_come_first(self) -> None:
        with pytest.raises(EpisodeError, match="without a reset_mask"):
            make().reset(options={"reset_mask": np.array([True, False, False])})


class TestSeeds:
    def test_a_list_has_one_for_each(self) -> None:
        envs = make()
        _, listed = envs.reset(seed=[12, 3, 3])
        assert envs.np_random_seed == (12, 3, 3)
        assert listed["index"][1] == listed["index"][2]
        assert listed["index"][0] == make(1).reset(seed=12)[1]["index"][0]

    def test_none_goes_on_with_the_generators_there_are(self) -> None:
        envs, again = make(), make()
        envs.reset(seed=1)
        again.reset(seed=1)
        following = envs.reset()[1]["index"]
        assert np.array_equal(again.reset(seed=None)[1]["index"], following)
        again.reset(seed=1)
        again.np_random = envs.np_random
        assert envs.np_random_seed == (1, 2, 3)
        assert again.np_random_seed == (-1, -1, -1)

    def test_without_any_seed_environments_differ(self) -> None:
        indices = [make(8).reset()[1]["index"].tolist() for _ in range(2)]
        assert indices[0] != indices[1]

    def test_a_list_of_another_length_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="2 seeds came for 3 sub-environments"):
            make().reset(seed=[1, 2])


class TestFaces:
    def test_one_for_all_or_one_for_each_can_be_asked_for(self) -> None:
        envs = make()
        assert envs.reset(options={"index": 4})[1]["index"].tolist() == [4, 4, 4]
        options = {"index": [9, 8, 7], "reset_mask": np.array([True, False, True])}
        _, info = envs.reset(options=options)
        assert info["index"].tolist() == [9, 0, 7]
        assert envs.step([0, 0, 0])[4]["index"].tolist() == [9, 4, 7]

    @pytest.mark.parametrize("index", [[1, 2], -1, [0, 1, 10**9]])
    def test_what_is_not_there_is_refused(self, index: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"options\['index'\]"):
            make().reset(options={"index": index})


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_torch_output_holds_the_same_numbers_as_tensors(
    mode: AutoresetMode, sharpen: Enhancer
) -> None:
    settings: dict[str, Any] = {
        "enhancer": sharpen,
        "autoreset_mode": mode,
        "observation": KEYS,
        "reward": "delta_mse + coverage",
    }
    tensors, arrays = make(output="torch", **settings), make(**settings)

    def as_arrays(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(as_arrays, value))
        if isinstance(value, Mapping):
            return {key: as_arrays(item) for key, item in value.items()}
        if isinstance(value, np.ndarray):
            assert value.dtype == object
            converted = value.copy()
            converted[:] = [as_arrays(item) for item in value]
            return converted
        if isinstance(value, torch.Tensor):
            assert value.device == tensors.core.device
            return value.numpy()
        return value

    assert_same(as_arrays(tensors.reset(seed=3)), arrays.reset(seed=3))
    for action in actions(arrays, 3, STEPS + (mode is not AutoresetMode.DISABLED)):
        ours, theirs = tensors.step(torch.from_numpy(action)), arrays.step(action)
        assert ours[1].dtype == torch.float32
        np.testing.assert_allclose(ours[1].numpy(), theirs[1], atol=1e-6)
        assert_same(as_arrays((ours[0], *ours[2:])), (theirs[0], *theirs[2:]))
    assert torch.equal(tensors.action_masks(), torch.from_numpy(arrays.action_masks()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_on_a_gpu_everything_stays_there_and_means_the_same(
    mode: AutoresetMode, sharpen: Enhancer
) -> None:
    settings: dict[str, Any] = {"autoreset_mode": mode, "observation": KEYS}
    on_cpu = make(enhancer=copy.deepcopy(sharpen), **settings)
    on_gpu = make(enhancer=sharpen, device="cuda", output="torch", **settings)
    on_cpu.reset(seed=3)
    on_gpu.reset(seed=3)
    for action in actions(on_cpu, 3, STEPS + (mode is not AutoresetMode.DISABLED)):
        theirs, ours = on_cpu.step(action), on_gpu.step(torch.from_numpy(action).cuda())
        tensors = [*ours[0].values(), *ours[1:4], ours[4]["psnr"], ours[4]["_psnr"]]
        assert all(tensor.is_cuda for tensor in tensors)
        assert_same({key: value.cpu().numpy() for key, value in ours[0].items()}, theirs[0])
        np.testing.assert_allclose(ours[1].cpu().numpy(), theirs[1], atol=1e-5)


class TestWrongUse:
    @pytest.mark.parametrize(
        "wrong",
        [[0, 0], [[0, 0, 0]], 0, [0.0, 0.0, 0.0], [True, True, True], torch.zeros(3), None],
    )
    def test_actions_of_another_shape_or_type_are_refused(self, wrong: Any) -> None:
        envs = make()
        envs.reset(seed=0)
        with pytest.raises(ActionError, match=r"expected \(3,\) integers.* from 0 to 16383 "):
            envs.step(wrong)

    def test_an_action_out_of_range_is_refused_and_nothing_happens(self) -> None:
        envs = make()
        envs.reset(seed=0)
        with pytest.raises(ActionError, match="Action 16384 is outside"):
            envs.step([0, 16384, 0])
        assert envs.state.step.tolist() == [0, 0, 0]
        assert envs.step([0, 0, 0])[0]["step"].flatten().tolist() == pytest.approx([1 / 3] * 3)

    def test_before_the_first_reset(self) -> None:
        envs = make(render_mode="rgb_array")
        for call in (lambda: envs.step([0, 0, 0]), envs.render, envs.action_masks):
            with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
                call()

    def test_disabled_autoreset_names_the_episodes_that_are_over(self) -> None:
        envs = make(autoreset_mode="Disabled", num_steps=2)
        envs.reset(seed=0)
        envs.step([0, 0, 0])
        envs.reset(options={"reset_mask": np.array([False, True, False])})
        envs.step([0, 0, 0])
        with pytest.raises(EpisodeError, match=r"Episode \[0, 2\] ended after 2 steps"):
            envs.step([0, 0, 0])

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"num_envs": 0}, "num_envs=0"),
            ({"autoreset_mode": "Sometimes"}, "autoreset_mode='Sometimes'.*'NextStep'"),
            ({"output": "jax"}, "output='jax'"),
            ({"render_mode": "human"}, "HumanRendering"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            make(**settings)


class TestSettings:
    @pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
    def test_the_mode_stands_in_the_instances_metadata(self, mode: AutoresetMode) -> None:
        for spelling in (mode, mode.value, mode.name):
            envs = make(autoreset_mode=spelling)
            assert envs.autoreset_mode is envs.metadata["autoreset_mode"] is mode
        default = FaceHallucinationVectorEnv.metadata["autoreset_mode"]
        assert default is AutoresetMode.NEXT_STEP

    def test_a_limit_from_make_vec_shortens_the_episode(self) -> None:
        envs = make(max_episode_steps=2)
        envs.reset(seed=0)
        ends = [envs.step([0, 0, 0])[2:4] for _ in range(2)]
        assert [(over.all(), cut.any()) for over, cut in ends] == [(False, False), (True, False)]
        assert make(max_episode_steps=100).core.num_steps == STEPS

    def test_next_step_ignores_the_action_of_the_step_that_resets(self) -> None:
        envs = make(num_steps=1)
        envs.reset(seed=0)
        assert envs.step([0, 0, 0])[2].all()
        _, reward, terminated, _, info = envs.step([10**9, -5, 0])
        assert not reward.any()
        assert not terminated.any()
        assert "reward_terms" not in info
        assert envs.step([0, 0, 0])[2].all()

    def test_returned_data_is_new_at_every_call(self) -> None:
        envs = make(observation=KEYS)
        calls = [envs.reset(seed=0), *(envs.step([1, 2, 3]) for _ in range(2 * STEPS))]
        for earlier, later in itertools.pairwise(calls):
            for key in KEYS:
                assert not np.shares_memory(earlier[0][key], later[0][key])
            for key in ("psnr", "mse", "location", "index", "key"):
                assert not np.shares_memory(earlier[-1][key], later[-1][key])


class TestWrappers:
    @pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
    def test_record_episode_statistics(self, mode: AutoresetMode, sharpen: Enhancer) -> None:
        if mode is AutoresetMode.SAME_STEP and GYMNASIUM < (1, 4):
            pytest.skip("this Gymnasium's wrapper takes every autoreset for next-step")
        inner = make(2, enhancer=sharpen, reward="delta_mse", autoreset_mode=mode)
        envs = wrappers.RecordEpisodeStatistics(inner)
        envs.reset(seed=0)
        ended = 0
        for action in actions(inner, 4, 2 * STEPS + 1):
            _, _, terminated, _, info = envs.step(action)
            if terminated.any():
                ended += 1
                same = mode is AutoresetMode.SAME_STEP
                summary = (info["final_info"] if same else info)["episode_summary"]
                np.testing.assert_allclose(info["episode"]["r"], summary["return"], atol=1e-6)
                assert info["episode"]["l"].tolist() == summary["length"].tolist() == [STEPS] * 2
                if mode is AutoresetMode.DISABLED:
                    envs.reset(options={"reset_mask": terminated})
        assert ended == 2
        assert list(envs.length_queue) == [STEPS] * 4

    def test_a_partial_reset_restarts_the_statistics_of_those_rows_only(self) -> None:
        envs = wrappers.RecordEpisodeStatistics(make())
        envs.reset(seed=0)
        envs.step([0, 0, 0])
        envs.reset(options={"reset_mask": np.array([True, False, False])})
        assert envs.episode_lengths.tolist() == [0, 1, 1]

    def test_dict_info_to_list_gives_the_single_envs_info(self, sharpen: Enhancer) -> None:
        inner = make(2, enhancer=sharpen, num_steps=1, reward="delta_mse + coverage")
        envs = wrappers.DictInfoToList(inner)
        envs.reset(seed=6)
        infos = envs.step([500, 600])[4]
        for k, action in enumerate((500, 600)):
            single = FaceHallucinationEnv(
                enhancer=sharpen, num_steps=1, reward="delta_mse + coverage"
            )
            single.reset(seed=6 + k)
            expected = single.step(action)[4]
            assert infos[k].keys() == expected.keys()
            assert infos[k]["reward_terms"] == pytest.approx(expected["reward_terms"], abs=1e-6)
            assert infos[k]["episode_summary"].keys() == expected["episode_summary"].keys()
            assert infos[k]["key"] == expected["key"]

    @pytest.mark.skipif(GYMNASIUM < (1, 2), reason="this Gymnasium has no vector RecordVideo")
    def test_record_video_gets_a_picture_of_each(
        self, tmp_path: Path, video_frames: Callable[[], list[Any]]
    ) -> None:
        inner = make(2, render_mode="rgb_array")
        envs = wrappers.RecordVideo(inner, str(tmp_path))
        envs.reset(seed=0)
        for _ in range(STEPS):
            envs.step([0, 9000])
        pictures = inner.render()
        envs.close()
        assert len(video_frames()) == STEPS + 1
        last = video_frames()[-1]
        height, width, _ = pictures[0].shape
        assert (last[:height, :width] == pictures[0]).all()
        assert (last[-height:, -width:] == pictures[1]).all()

    def test_pictures_are_those_of_the_single_env(self) -> None:
        envs = make(2, render_mode="rgb_array")
        envs.reset(seed=0)
        envs.step([0, 9000])
        single = FaceHallucinationEnv(enhancer="bicubic", num_steps=STEPS, render_mode="rgb_array")
        single.reset(seed=1)
        single.step(9000)
        assert np.array_equal(envs.render()[1], single.render())

    def test_without_a_mode_render_says_what_to_give(self) -> None:
        envs = make()
        envs.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert envs.render() is None
