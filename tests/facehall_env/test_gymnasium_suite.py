"""What Gymnasium's own test-suite asks of an environment, for both ids.

In the spirit of its ``tests/envs/test_envs.py``, ``tests/envs/test_rendering.py`` and
``tests/vector``, which no package carries. What `test_env.py`, `test_vector.py` and
`test_registration.py` test is not repeated here.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers

from facehall_env.enhancers import Enhancer
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import ActionError, ConfigurationError
from facehall_env.observations import KEYS
from facehall_env.vector import FaceHallucinationVectorEnv

IDS = ("FaceHallucination-v0", "FaceHallucination-IPFH-v0")
MODES = list(AutoresetMode)
STEPS = 3
Step = tuple[Any, ...]


@pytest.fixture(params=IDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(sharpen: Enhancer) -> dict[str, Any]:
    return {
        "enhancer": sharpen,
        "num_steps": STEPS,
        "reward": "delta_mse + 0.1*coverage",
        "observation": KEYS,
    }


def rollout(env: gym.Env[Any, Any], seed: int | None, episodes: int) -> list[Step]:
    """Everything that whole episodes of actions out of the action space's own generator return."""
    env.action_space.seed(5)
    returned: list[Step] = []
    for episode in range(episodes):
        returned.append(env.reset(seed=seed if episode == 0 else None))
        while len(returned[-1]) == 2 or not (returned[-1][2] or returned[-1][3]):
            returned.append(env.step(env.action_space.sample()))
    return returned


def assert_equivalent(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal, but for the enhancer's rounding: floats within 1e-5, images within one level."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_equivalent(ours[key], value, f"{where}/{key}")
    elif isinstance(theirs, np.ndarray) and theirs.dtype != object:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        tolerance = {"f": 1e-5, "u": 1}.get(theirs.dtype.kind, 0)
        assert np.abs(ours.astype(float) - theirs.astype(float)).max() <= tolerance, where
    else:
        assert np.array_equal(ours, theirs), where


class TestRollouts:
    def test_the_same_seed_and_actions_give_exactly_the_same(
        self, name: str, settings: dict[str, Any]
    ) -> None:
        first, second = (rollout(gym.make(name, **settings), 11, 3) for _ in range(2))
        assert len(first) == 3 * (STEPS + 1)
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            assert data_equivalence(one, other, exact=True), f"entry {number}"
        faces = {step[-1]["index"] for step in first}
        assert len(faces) == 3

    def test_another_seed_gives_another_face(self, name: str, settings: dict[str, Any]) -> None:
        env = gym.make(name, **settings)
        images = [env.reset(seed=seed)[0]["image"] for seed in (1, 2, 1)]
        assert (images[0] == images[2]).all()
        assert (images[0] != images[1]).any()

    def test_everything_returned_has_the_documented_type(
        self, name: str, settings: dict[str, Any]
    ) -> None:
        env = gym.make(name, **settings)
        for step in rollout(env, 0, 2):
            assert env.observation_space.contains(step[0])
            for key, space in env.observation_space.spaces.items():
                assert step[0][key].dtype == space.dtype, key
                assert step[0][key].shape == space.shape, key
            assert type(step[-1]) is dict
            if len(step) == 5:
                assert [type(value) for value in step[1:4]] == [float, bool, bool]

    def test_a_generator_goes_on_until_another_seed_comes(
        self, name: str, settings: dict[str, Any]
    ) -> None:
        env = gym.make(name, **settings).unwrapped
        env.reset(seed=3)
        generator = env.np_random
        env.reset()
        env.step(0)
        assert env.np_random is generator
        assert env.np_random_seed == 3
        env.reset(seed=4)
        assert env.np_random is not generator
        assert env.np_random_seed == 4

    def test_the_passive_checker_has_nothing_to_say(
        self, name: str, settings: dict[str, Any]
    ) -> None:
        env = gym.make(name, render_mode="rgb_array", **settings)
        assert "PassiveEnvChecker" in str(env)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rollout(env, 0, 2)
            env.render()
            env.close()

    def test_a_refused_reset_leaves_the_generator_alone(self, settings: dict[str, Any]) -> None:
        single, many = FaceHallucinationEnv(**settings), FaceHallucinationVectorEnv(2, **settings)
        for env, seed in ((single, 3), (many, (3, 4))):
            env.reset(seed=3)
            with pytest.raises(ConfigurationError, match=r"options\['index'\]"):
                env.reset(seed=9, options={"index": -1})
            assert env.np_random_seed == seed


class TestRendering:
    @pytest.mark.filterwarnings("ignore:render_mode='human' needs a display")
    @pytest.mark.parametrize("mode", [None, *FaceHallucinationEnv.metadata["render_modes"]])
    def test_every_mode_can_be_made_and_keeps_to_its_type(
        self, name: str, mode: str | None, settings: dict[str, Any]
    ) -> None:
        env = gym.make(name, render_mode=mode, **settings)
        assert env.render_mode == mode
        frames = []
        for _ in range(2):
            env.reset(seed=0)
            env.step(0)
            if mode is not None:  # which warns
                frames.append(env.render())
        if mode == "rgb_array":
            assert {(frame.shape, frame.dtype.name) for frame in frames} == {
                ((*frames[0].shape[:2], 3), "uint8")
            }
            assert (frames[0] == frames[1]).all()
        elif mode == "human":
            assert frames == [None, None]
        env.close()
        env.close()

    def test_gymnasium_collects_frames(self, name: str, settings: dict[str, Any]) -> None:
        env = gym.make(name, render_mode="rgb_array_list", **settings)
        env.reset(seed=0)
        env.step(0)
        collected = env.render()
        assert len(collected) == 2
        assert (collected[0] != collected[1]).any()

    @pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
    @pytest.mark.parametrize("mode", ["ansi", "depth_array"])
    def test_no_other_mode(self, name: str, mode: str) -> None:
        with pytest.raises(ConfigurationError, match=f"render_mode='{mode}'"):
            gym.make(name, render_mode=mode, enhancer="bicubic", disable_env_checker=True)


class TestSpecs:
    def test_an_environment_is_made_again_from_its_spec(self, name: str) -> None:
        env = gym.make(name, enhancer="bicubic", num_steps=2, action_stride=4)
        again = gym.make(env.spec)
        assert again.spec == env.spec
        assert again.action_space == env.action_space
        many = gym.make_vec(name, num_envs=3, enhancer="bicubic", autoreset_mode="SameStep")
        again = gym.make_vec(many.spec)
        assert again.spec == many.spec
        assert (again.num_envs, again.autoreset_mode) == (3, AutoresetMode.SAME_STEP)

    @pytest.mark.parametrize(
        "copied",
        [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))],
        ids=["copy", "pickle"],
    )
    def test_a_copy_in_mid_episode_goes_on_the_same(
        self, name: str, copied: Any, settings: dict[str, Any]
    ) -> None:
        env = gym.make(name, **settings)
        rollout(env, 2, 1)
        env.reset()
        env.step(7)
        again = copied(env)
        for action in (50, 60):
            assert data_equivalence(env.step(action), again.step(action), exact=True)
        assert data_equivalence(env.reset(), again.reset(), exact=True)

    def test_a_copy_of_many_goes_on_the_same(self, settings: dict[str, Any]) -> None:
        envs = FaceHallucinationVectorEnv(2, **settings)
        envs.reset(seed=0)
        again = pickle.loads(pickle.dumps(envs))
        for _ in range(STEPS + 1):
            assert data_equivalence(envs.step([8, 9]), again.step([8, 9]), exact=True)


class TestVectorisation:
    def test_the_three_ways_to_make_many_agree(self, name: str, settings: dict[str, Any]) -> None:
        ways = ("vector_entry_point", "sync", "async")
        made = [gym.make_vec(name, 2, vectorization_mode=way, **settings) for way in ways]
        assert isinstance(made[0], FaceHallucinationVectorEnv)
        assert len({str(envs.observation_space) for envs in made}) == 1
        made[0].action_space.seed(0)
        actions = [made[0].action_space.sample() for _ in range(STEPS + 2)]
        try:
            for moment in (None, *actions):
                ours, *others = (
                    envs.reset(seed=6) if moment is None else envs.step(moment) for envs in made
                )
                for theirs in others:
                    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                        assert_equivalent(one, other, f"{place}")
        finally:
            for envs in made:
                envs.close()

    def test_it_returns_what_its_spaces_say(self, name: str, settings: dict[str, Any]) -> None:
        envs = gym.make_vec(name, 3, **settings)
        moments = [envs.reset(seed=0), *(envs.step(envs.action_space.sample()) for _ in range(4))]
        for moment in moments:
            assert envs.observation_space.contains(moment[0])
            for key, space in envs.single_observation_space.spaces.items():
                assert moment[0][key].dtype == space.dtype
                assert moment[0][key].shape == (3, *space.shape)
        reward, terminated, truncated = moments[-1][1:4]
        dtypes = [array.dtype for array in (reward, terminated, truncated)]
        assert dtypes == [np.float64, np.bool_, np.bool_]

    def test_what_each_autoreset_mode_returns(self, name: str) -> None:
        steps = {
            AutoresetMode.NEXT_STEP: [0.5, 1.0, 0.0, 0.5, 1.0],
            AutoresetMode.SAME_STEP: [0.5, 0.0, 0.5, 0.0, 0.5],
            AutoresetMode.DISABLED: [0.5, 1.0, 0.5, 1.0, 0.5],
        }
        ends = {
            AutoresetMode.NEXT_STEP: [False, True, False, False, True],
            AutoresetMode.SAME_STEP: [False, True, False, True, False],
            AutoresetMode.DISABLED: [False, True, False, True, False],
        }
        for mode in MODES:
            # A single location, whose second visit covers nothing new.
            envs = gym.make_vec(
                name,
                2,
                autoreset_mode=mode,
                enhancer="bicubic",
                num_steps=2,
                action_stride=128,
                reward="coverage",
            )
            height, width = envs.unwrapped.core.geometry.patch_size
            covered = height * width / 128**2
            envs.reset(seed=0)
            for expected, end in zip(steps[mode], ends[mode], strict=True):
                observation, reward, terminated, truncated, info = envs.step([0, 0])
                assert observation["step"].tolist() == [[expected]] * 2
                assert terminated.tolist() == [end] * 2
                assert not truncated.any()
                first = not end and expected > 0
                assert reward.tolist() == pytest.approx([covered * first] * 2)
                assert ("final_obs" in info) == (end and mode is AutoresetMode.SAME_STEP)
                if "final_obs" in info:
                    assert [last["step"].tolist() for last in info["final_obs"]] == [[1.0]] * 2
                if end and mode is AutoresetMode.DISABLED:
                    envs.reset(options={"reset_mask": terminated})

    def test_the_single_env_with_gymnasiums_autoreset_does_the_same(
        self, name: str, settings: dict[str, Any]
    ) -> None:
        single = gym.wrappers.Autoreset(gym.make(name, **settings))
        many = gym.make_vec(name, 1, **settings)
        single.reset(seed=4)
        many.reset(seed=4)
        for action in range(0, 1000, 100):
            observation, reward, terminated, _, info = single.step(action)
            ours = many.step([action])
            assert ours[4]["index"][0] == info["index"]
            assert (ours[1][0], ours[2][0]) == (pytest.approx(reward, abs=1e-6), terminated)
            assert_equivalent({key: value[0] for key, value in ours[0].items()}, observation)

    def test_a_refused_action_begins_no_episode(self, settings: dict[str, Any]) -> None:
        envs = FaceHallucinationVectorEnv(2, **settings)
        envs.reset(seed=0)
        envs.step([0, 0])
        envs.reset(options={"reset_mask": np.array([True, False])})
        for _ in range(STEPS - 1):
            *_, info = envs.step([0, 0])
        # Row 1 is over and would begin its next episode; row 0 has a step to go.
        assert info["_episode_summary"].tolist() == [False, True]
        state, generators = envs.state, [copy.deepcopy(one) for one in envs.np_random]
        with pytest.raises(ActionError, match="Action 99999 is outside"):
            envs.step([99999, 0])
        assert envs.state is state
        for ours, before in zip(envs.np_random, generators, strict=True):
            assert ours.bit_generator.state == before.bit_generator.state
        observation, _, terminated, *_ = envs.step([0, 99999])
        assert terminated.tolist() == [True, False]
        assert observation["step"].tolist() == [[1.0], [0.0]]

    @pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
    def test_generators_are_kept_through_automatic_resets(
        self, mode: AutoresetMode, settings: dict[str, Any]
    ) -> None:
        envs = FaceHallucinationVectorEnv(2, autoreset_mode=mode, **settings)
        envs.reset(seed=8)
        generators = envs.np_random
        for _ in range(STEPS):
            envs.step([0, 0])
        if mode is AutoresetMode.NEXT_STEP:
            envs.step([0, 0])
        elif mode is AutoresetMode.DISABLED:
            envs.reset()
        assert all(a is b for a, b in zip(envs.np_random, generators, strict=True))
        assert envs.np_random_seed == (8, 9)

    def test_it_closes_once_and_for_all(self, settings: dict[str, Any]) -> None:
        envs = FaceHallucinationVectorEnv(2, **settings)
        assert not envs.closed
        envs.close()
        assert envs.closed
        envs.close()

    def test_gymnasiums_wrappers_go_around_it(self, settings: dict[str, Any]) -> None:
        envs = FaceHallucinationVectorEnv(2, **settings)
        plain = FaceHallucinationVectorEnv(2, **settings)
        wrapped = wrappers.ClipReward(
            wrappers.TransformObservation(envs, lambda seen: {**seen, "step": 1 - seen["step"]}),
            max_reward=0.0,
        )
        wrapped.reset(seed=0)
        plain.reset(seed=0)
        for _ in range(STEPS):
            ours, theirs = wrapped.step([0, 9000]), plain.step([0, 9000])
            assert np.allclose(ours[0]["step"], 1 - theirs[0]["step"])
            assert ours[1].tolist() == np.minimum(theirs[1], 0).tolist()
        assert wrapped.unwrapped is envs
