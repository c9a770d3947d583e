from __future__ import annotations

import pickle
import subprocess
import sys
from importlib import metadata

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import facehall_env
from facehall_env.env import FaceHallucinationEnv
from facehall_env.vector import FaceHallucinationVectorEnv

IDS = ("FaceHallucination-v0", "FaceHallucination-IPFH-v0")


@pytest.mark.parametrize("name", IDS)
def test_both_faces_are_made_from_one_id(name: str) -> None:
    single = gym.make(name, enhancer="bicubic")
    assert isinstance(single.unwrapped, FaceHallucinationEnv)
    many = gym.make_vec(name, num_envs=2, enhancer="bicubic")
    assert isinstance(many, FaceHallucinationVectorEnv)
    assert many.single_observation_space == single.observation_space
    assert many.single_action_space == single.action_space


def test_variants_have_the_settings_of_their_papers() -> None:
    attention, identity = (gym.make(name, enhancer="bicubic").unwrapped.core for name in IDS)
    assert (attention.geometry.patch_size, attention.num_steps) == ((60, 45), 25)
    assert (identity.geometry.patch_size, identity.num_steps) == ((32, 32), 20)


def test_a_namespace_prefix_imports_the_package() -> None:
    code = (
        "import gymnasium as gym\n"
        "env = gym.make('facehall_env:FaceHallucination-v0', enhancer='bicubic')\n"
        "assert env.reset(seed=0)[1]['index'] >= 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, facehall_env\n"
        "heavy = {'torch', 'cv2', 'PIL', 'matplotlib', 'facehall_env.core'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_wrapper_may_truncate() -> None:
    env = gym.make("FaceHallucination-v0", enhancer="bicubic")
    while isinstance(env, gym.Wrapper):
        assert not isinstance(env, gym.wrappers.TimeLimit)
        env = env.env


def test_a_spec_survives_pickle_and_json() -> None:
    env = gym.make(
        "FaceHallucination-v0", enhancer="bicubic", scale=8, num_steps=3, patch_size=(20, 16)
    )
    first, _ = env.reset(seed=4)
    assert env.spec is not None
    copies = (pickle.loads(pickle.dumps(env.spec)), EnvSpec.from_json(env.spec.to_json()))
    for spec in copies:
        again = gym.make(spec)
        assert again.unwrapped.core.geometry == env.unwrapped.core.geometry
        observation, _ = again.reset(seed=4)
        assert (observation["image"] == first["image"]).all()


def test_a_vector_spec_survives_pickle() -> None:
    many = gym.make_vec(
        "FaceHallucination-v0", num_envs=3, enhancer="bicubic", autoreset_mode="SameStep"
    )
    again = gym.make_vec(pickle.loads(pickle.dumps(many.spec)))
    assert again.num_envs == 3
    assert again.metadata["autoreset_mode"] is gym.vector.AutoresetMode.SAME_STEP


def test_the_version_is_the_distributions() -> None:
    assert facehall_env.__version__ == metadata.version("facehall-env")
