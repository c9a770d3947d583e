from __future__ import annotations

import numpy as np
import pytest
import torch

from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.observations import KEYS, action_mask, observation_space, observe, to_uint8
from facehall_env.state import CoreState


def make_core(enhancer: Enhancer, **settings: object) -> tuple[HallucinationCore, CoreState]:
    """Two random faces of 32 x 48 pixels at scale 4."""
    core = HallucinationCore(enhancer, image_size=(32, 48), num_steps=4, **settings)
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, 32, 48, generator=generator)
    lr = torch.rand(2, 3, 8, 12, generator=generator)
    initial = torch.rand(2, 3, 32, 48, generator=generator)
    return core, core.reset(Faces(hr=hr, lr=lr, initial=initial))


def test_levels_are_rounded_to_the_nearest_and_channels_come_last() -> None:
    levels = torch.arange(256, dtype=torch.float32) / 255
    images = (levels + 0.4 / 255).clamp_max(1).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    pixels = to_uint8(images)
    assert pixels.is_contiguous()
    assert torch.equal(pixels[0, :, :, 1].flatten(), torch.arange(256, dtype=torch.uint8))


def test_values_before_the_first_step(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen)
    seen = observe(core, state, KEYS)
    assert torch.equal(seen["last_action"], torch.zeros(2, 2))
    assert torch.equal(seen["step"], torch.zeros(2, 1))
    assert not seen["coverage"].any()
    assert torch.equal(seen["action_history"], torch.full((2, 4), -1))
    expected = (state.lr.permute(0, 2, 3, 1) * 255).round()
    assert (seen["lr"].float() - expected).abs().max() <= 0


def test_values_after_two_steps_are_those_computed_by_hand(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen)
    state, _, _ = core.step(state, torch.tensor([0, 5 * 48 + 7]))
    state, _, _ = core.step(state, torch.tensor([31 * 48 + 47, 10 * 48 + 20]))
    seen = observe(core, state, KEYS)
    expected = torch.tensor([[1.0, 1.0], [10 / 31 * 2 - 1, 20 / 47 * 2 - 1]])
    torch.testing.assert_close(seen["last_action"], expected)
    assert seen["step"].flatten().tolist() == [0.5, 0.5]
    assert seen["action_history"].tolist() == [[0, 1535, -1, -1], [247, 500, -1, -1]]
    # A 24 x 20 patch at centre (10, 20) covers rows -1 ... 22 and columns 11 ... 30; the one at
    # (5, 7) rows -6 ... 17 and columns -2 ... 17.
    covered = np.zeros((32, 48, 1), dtype=np.uint8)
    covered[0:23, 11:31] = 255
    covered[0:18, 0:18] = 255
    assert np.array_equal(seen["coverage"][1].numpy(), covered)
    inside = seen["image"][1, 0:23, 11:31]
    assert torch.equal(inside, seen["last_patch"][1, 1:])


def test_last_action_is_the_centre_of_the_cell_of_a_coarse_grid(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen, action_stride=8)
    state, _, _ = core.step(state, torch.tensor([0, 6 + 2]))
    expected = torch.tensor([[4, 4], [12, 20]]) / torch.tensor([31, 47]) * 2 - 1
    torch.testing.assert_close(observe(core, state, ["last_action"])["last_action"], expected)


def test_every_entry_lies_in_its_space(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen)
    space = observation_space(core, KEYS)
    for action in (0, 700, 1535, 1535):
        for row in range(2):
            one = {key: value[row].numpy() for key, value in observe(core, state, KEYS).items()}
            assert space.contains(one)
        state, _, _ = core.step(state, torch.full((2,), action))


def test_the_core_state_is_handed_over_as_it_is(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen)
    assert observe(core, state, ["core_state"])["core_state"] is state


def test_observations_share_no_memory_with_the_state(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen)
    before = {key: value.clone() for key, value in observe(core, state, KEYS).items()}
    for value in observe(core, state, KEYS).values():
        value.zero_()
    after = observe(core, state, KEYS)
    assert all(torch.equal(after[key], before[key]) for key in KEYS)


def test_the_mask_excludes_what_was_visited_until_nothing_is_left(sharpen: Enhancer) -> None:
    core, state = make_core(sharpen, action_stride=16)
    assert action_mask(core, state).all()
    state, _, _ = core.step(state, torch.tensor([3, 5]))
    state, _, _ = core.step(state, torch.tensor([3, 0]))
    free = [[True, True, True, False, True, True], [False, True, True, True, True, False]]
    assert action_mask(core, state).tolist() == free

    # One location: visited at the first step, and all are allowed again.
    square = HallucinationCore(sharpen, image_size=(32, 32), num_steps=2, action_stride=32)
    faces = Faces(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32))
    only, _, _ = square.step(square.reset(faces), torch.tensor([0]))
    assert action_mask(square, only).tolist() == [[True]]


def test_wrong_entries_are_named(sharpen: Enhancer) -> None:
    core, _ = make_core(sharpen)
    with pytest.raises(UnknownNameError, match=r"Unknown observation key 'imag'.*'image'"):
        observation_space(core, ["imag"])
    with pytest.raises(UnknownNameError, match="core_state"):
        observation_space(core, ["core_state"])
    for keys in ([], ["image", "image"]):
        with pytest.raises(ConfigurationError, match="each entry once and at least one"):
            observation_space(core, keys)
