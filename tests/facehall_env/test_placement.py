"""Each step works out once where its patches lie, and gives what it gave when it did so six times.

The numbers were recorded before there was a `Placement`, with the weights that come with the
project.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.patches import PatchGeometry, Placement

SETTINGS: dict[str, Any] = {
    "enhancer": "compact",
    "num_steps": 3,
    "reward": "delta_psnr + coverage",
    "observation": ("image", "coverage", "last_patch"),
}
ACTIONS = (5 * 128 + 120, 64 * 128 + 64, 70 * 128 + 60)
# Reward, mean squared error, sum of the image's levels, pixels covered.
SINGLE = (
    (0.0779249370098114, 0.0027044971676199337, 4393748, 1080),
    (0.4611532390117645, 0.002526100935693493, 4393675, 3780),
    (0.10052264481782913, 0.002485219450946278, 4394502, 4266),
)
VECTOR_INSIDE = (
    (0.310746431350708, 0.002622358571242902, 4393546, 2700),
    (0.45641666650772095, 0.0024486096123129035, 4393505, 5300),
    (0.10286596417427063, 0.00240768275609154, 4394344, 5786),
)


def same(
    recorded: tuple[float, float, int, int],
    reward: float,
    mse: float,
    observation: dict[str, np.ndarray],
) -> None:
    assert reward == pytest.approx(recorded[0], rel=1e-4)
    assert mse == pytest.approx(recorded[1], rel=1e-5)
    # Another processor rounds a value in a thousand to the level beside it.
    assert int(observation["image"].sum()) == pytest.approx(recorded[2], abs=50)
    assert int((observation["coverage"] == 255).sum()) == recorded[3]


def test_the_single_environment_goes_where_it_went() -> None:
    env = gym.make("FaceHallucination-v0", **SETTINGS)
    env.reset(options={"index": 3})
    for action, recorded in zip(ACTIONS, SINGLE, strict=True):
        observation, reward, _, _, info = env.step(action)
        same(recorded, float(reward), info["mse"], observation)


def test_the_vector_environment_goes_where_it_went() -> None:
    envs = gym.make_vec("FaceHallucination-v0", num_envs=2, border="inside", **SETTINGS)
    envs.reset(options={"index": [8, 3]})
    for action, recorded in zip(ACTIONS, VECTOR_INSIDE, strict=True):
        observation, reward, _, _, info = envs.step(np.array([17, action]))
        row = {name: values[1] for name, values in observation.items()}
        same(recorded, reward[1], info["mse"][1], row)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often corners were computed and patches cut out."""
    counted: Counter[str] = Counter()
    crop, top_left = Placement.crop, PatchGeometry.top_left

    def counted_crop(self: Placement, images: Tensor, *args: Any) -> Tensor:
        counted["crop"] += 1
        return crop(self, images, *args)

    def counted_top_left(self: PatchGeometry, action: Tensor) -> Tensor:
        counted["corners"] += 1
        return top_left(self, action)

    monkeypatch.setattr(Placement, "crop", counted_crop)
    monkeypatch.setattr(PatchGeometry, "top_left", counted_top_left)
    return counted


def faces(number: int) -> Faces:
    hr = torch.rand(number, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    return Faces(hr=hr, lr=hr[..., ::4, ::4], initial=hr.flip(-1))


class Halve(torch.nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image / 2


@pytest.mark.parametrize("one_shot", [False, True])
@pytest.mark.parametrize("number", [1, 3])
def test_a_step_computes_corners_once_and_cuts_each_image_once(
    number: int, one_shot: bool, sharpen: Enhancer, calls: Counter[str]
) -> None:
    enhancer = OneShot(Halve(), 4, (24, 20)) if one_shot else sharpen
    core = HallucinationCore(enhancer, image_size=(64, 48), num_steps=2)
    state = core.reset(faces(number))
    calls.clear()
    core.step(state, torch.arange(number))
    # The current face and the truth, and what a one-shot network made of the whole face.
    assert calls == {"corners": 1, "crop": 3 if one_shot else 2}


def test_a_step_is_its_parts(sharpen: Enhancer) -> None:
    core = HallucinationCore(sharpen, image_size=(64, 48), border="inside", reward="delta_mse")
    state = core.reset(faces(3))
    action = torch.tensor([0, 31 * 48 + 17, 64 * 48 - 1])
    after, reward, _ = core.step(state, action)
    restored = core.enhance(state, action)
    parts = core.write(state, action, restored)
    for name, value in vars(parts).items():
        assert value is getattr(after, name) is None or torch.equal(value, getattr(after, name))
    gain = core.gain(state, action, restored)
    assert torch.equal(state.mse - gain, after.mse)
    assert reward.tolist() == pytest.approx(gain.tolist(), rel=1e-6)
