"""The MDP: base, errors, partial resets, precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from facehall_env import enhancers, rewards
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.errors import (
    ActionError,
    ConfigurationError,
    EnhancerError,
    EpisodeError,
    UnknownNameError,
)
from facehall_env.state import mean_squared_error

SIZE = (16, 12)


class Wobble(Enhancer):
    """Changes a patch by an amount that depends on where it is, so that order matters."""

    name = "wobble"

    def __init__(self) -> None:
        super().__init__(scale=2, patch_size=(5, 4))

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        shift = (location.sum(1) % 5 - 2).float()[:, None, None, None] / 10
        return patch * 0.9 + shift + 0.1 * image.mean((1, 2, 3), keepdim=True)


class Broken(Wobble):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        return self.output.expand(len(patch), *self.output.shape[1:])


def faces(number: int, seed: int = 0) -> Faces:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.rand(number, 3, *SIZE, generator=generator)
    noise = torch.rand(number, 3, *SIZE, generator=generator)
    return Faces(hr=hr, lr=hr[:, :, ::2, ::2], initial=(0.7 * hr + 0.3 * noise))


def make_core(**settings_) -> HallucinationCore:
    enhancer = settings_.pop("enhancer", None) or Wobble()
    return HallucinationCore(enhancer, image_size=SIZE, **{"num_steps": 4, **settings_})


@given(st.lists(st.integers(0, 16 * 12 - 1), min_size=7, max_size=7), st.booleans())
@settings(deadline=None, max_examples=30)
def test_delta_mse_sums_to_the_drop_of_the_mse_whatever_the_actions(actions, inside) -> None:
    core = make_core(num_steps=7, reward="delta_mse", border="inside" if inside else "centre")
    start = state = core.reset(faces(2))
    total = torch.zeros(2)
    for action in actions:
        state, reward, done = core.step(state, torch.tensor([action, (action * 7) % 192]))
        total += reward
    drop = mean_squared_error(start.image, start.hr) - mean_squared_error(state.image, state.hr)
    assert done.tolist() == [True, True]
    torch.testing.assert_close(total.double(), drop, atol=1e-6, rtol=0)
    torch.testing.assert_close(state.mse, mean_squared_error(state.image, state.hr))


def test_delayed_mse_pays_once_and_delta_psnr_adds_up_to_the_gain_in_db() -> None:
    core = make_core(reward={"delayed_mse": 1.0, "delta_psnr": 0.0})
    state = first = core.reset(faces(3))
    paid, gained = [], torch.zeros(3, dtype=torch.float64)
    for action in (5, 100, 64, 30):
        before = state
        state, reward, done = core.step(state, torch.full((3,), action))
        paid.append(reward)
        gained += core.reward.terms(before, state, done)["delta_psnr"]
    assert torch.stack(paid[:3]).abs().max() == 0
    torch.testing.assert_close(paid[3].double(), -state.mse, atol=1e-7, rtol=1e-6)
    core = make_core(reward="delta_psnr")
    again = core.reset(faces(3))
    total = torch.zeros(3, dtype=torch.float64)
    for action in (5, 100, 64, 30):
        again, reward, _ = core.step(again, torch.full((3,), action))
        total += reward
    torch.testing.assert_close(total, state.psnr - first.psnr, atol=1e-5, rtol=0)


def test_coverage_counts_pixels_covered_for_the_first_time() -> None:
    core = make_core(reward="coverage", border="inside")
    state = core.reset(faces(1))
    state, first, _ = core.step(state, torch.tensor([0]))
    assert first.item() == pytest.approx(20 / 192)
    state, again, _ = core.step(state, torch.tensor([0]))
    assert again.item() == 0
    # One row further down: the patch of 5x4 covers one new row of 4 pixels.
    _, shifted, _ = core.step(state, torch.tensor([3 * 12]))
    assert shifted.item() == pytest.approx(4 / 192)


def test_rewards_compose_and_terms_add_up() -> None:
    core = make_core(reward="delta_mse + 4*coverage")
    state = core.reset(faces(2))
    after, reward, done = core.step(state, torch.tensor([80, 90]))
    terms = core.reward.terms(state, after, done)
    assert list(terms) == ["delta_mse", "coverage"]
    torch.testing.assert_close(terms["coverage"], torch.full((2,), 80 / 192).double())
    torch.testing.assert_close(reward.double(), sum(terms.values()), atol=1e-6, rtol=0)
    double = rewards.make("delta_mse") * 2 + rewards.make("coverage")
    assert str(double) == "2*delta_mse + coverage"


def test_unknown_and_unreadable_rewards_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'delta_mse'"):
        rewards.make("delta_mes")
    with pytest.raises(ConfigurationError, match="cannot be read at 'four"):
        rewards.make("delta_mse + four*coverage")


def test_the_first_patch_by_hand() -> None:
    core = make_core(reward="delta_mse")
    start = core.reset(faces(1))
    y, x = 7, 6
    state, reward, _ = core.step(start, torch.tensor([y * 12 + x]))
    before = start.image[:, :, 5:10, 5:9]
    expected = (before * 0.9 + (13 % 5 - 2) / 10 + 0.1 * start.image.mean()).clamp(0, 1)
    torch.testing.assert_close(state.image[:, :, 5:10, 5:9], expected)
    outside = state.image.clone()
    outside[:, :, 5:10, 5:9] = before
    assert torch.equal(outside, start.image)
    assert state.location.tolist() == [[7, 6]]
    assert state.actions.tolist() == [[90, -1, -1, -1]]
    truth = start.hr[:, :, 5:10, 5:9]
    gain = ((before - truth) ** 2 - (expected - truth) ** 2).sum() / (3 * 192)
    assert reward.item() == pytest.approx(gain.item(), abs=1e-7)


def test_rows_reset_alone_while_the_others_go_on() -> None:
    core = make_core()
    state = core.reset(faces(3))
    state, _, _ = core.step(state, torch.tensor([1, 50, 100]))
    fresh = faces(1, seed=9)
    mixed = core.reset(fresh, state, torch.tensor([1]))
    assert mixed.step.tolist() == [1, 0, 1]
    assert torch.equal(mixed.image[1], fresh.initial[0])
    assert torch.equal(mixed.image[[0, 2]], state.image[[0, 2]])
    assert mixed.actions[1].tolist() == [-1] * 4
    assert not mixed.coverage[1].any()
    alone, _, _ = core.step(core.reset(fresh), torch.tensor([33]))
    together, _, _ = core.step(mixed, torch.tensor([60, 33, 60]))
    torch.testing.assert_close(together.image[1], alone.image[0])
    torch.testing.assert_close(together.mse[1], alone.mse[0])


def test_a_step_leaves_the_old_state_untouched() -> None:
    core = make_core()
    state = core.reset(faces(2))
    copies = {name: value.clone() for name, value in vars(state).items() if value is not None}
    core.step(state, torch.tensor([80, 81]))
    for name, value in copies.items():
        assert torch.equal(getattr(state, name), value), name


def test_one_shot_enhancers_restore_once_and_paste_pieces() -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, image: Tensor) -> Tensor:
            self.calls += 1
            return 1 - image

    network = Counting()
    core = make_core(enhancer=OneShot(network, scale=2, patch_size=(5, 4)))
    start = core.reset(faces(2))
    state, _, _ = core.step(start, torch.tensor([90, 90]))
    state, _, _ = core.step(state, torch.tensor([90, 90]))
    assert network.calls == 1
    torch.testing.assert_close(state.image[:, :, 5:10, 5:9], 1 - start.initial[:, :, 5:10, 5:9])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.full((1, 3, 5, 4), float("nan")), "not finite"),
        (torch.full((1, 3, 5, 4), float("inf")), "not finite"),
        (torch.zeros(1, 3, 4, 5), r"shape \(2, 3, 4, 5\), expected \(2, 3, 5, 4\)"),
    ],
)
def test_broken_enhancers_are_reported(output, message) -> None:
    core = make_core(enhancer=Broken(output))
    state = core.reset(faces(2))
    with pytest.raises(EnhancerError, match=message):
        core.step(state, torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.tensor([0, 192]), "Action 192 is outside the grid of 192"),
        (torch.tensor([-1, 0]), "Action -1 is outside"),
        (torch.tensor([0.0, 1.0]), "type torch.float32"),
        (torch.tensor([0]), r"shape \(1,\)"),
    ],
)
def test_wrong_actions_are_refused(action, message) -> None:
    core = make_core()
    with pytest.raises(ActionError, match=message):
        core.step(core.reset(faces(2)), action)


def test_a_finished_episode_cannot_be_stepped() -> None:
    core = make_core(num_steps=1)
    state, _, done = core.step(core.reset(faces(1)), torch.tensor([0]))
    assert done.item()
    with pytest.raises(EpisodeError, match="over after 1 steps"):
        core.step(state, torch.tensor([0]))


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one step"):
        make_core(num_steps=0)
    with pytest.raises(ConfigurationError, match="precision='fp16'"):
        make_core(precision="fp16")
    with pytest.raises(ConfigurationError, match="Conv2d, expected an instance"):
        HallucinationCore(nn.Conv2d(3, 3, 1))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"faces.hr has shape .* expected \(2, 3, 128"):
        HallucinationCore(enhancers.make("bicubic")).reset(faces(2))


def test_bf16_stays_close_to_fp32() -> None:
    torch.manual_seed(0)
    enhancer = enhancers.make("compact", scale=4, width=8, blocks=1)
    nn.init.normal_(enhancer.network.tail.weight, std=0.02)  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(1)
    hr = torch.rand(2, 3, 64, 64, generator=generator)
    start = Faces(hr=hr, lr=hr[..., ::4, ::4], initial=(hr + 0.1).clamp(0, 1))
    psnr = []
    for precision in ("fp32", "bf16"):
        core = HallucinationCore(
            enhancer, image_size=(64, 64), patch_size=(30, 22), precision=precision, num_steps=9
        )
        state = core.reset(start)
        for action in range(0, 4096, 456):
            state, _, _ = core.step(state, torch.tensor([action, action]))
        psnr.append(state.psnr)
    assert not torch.equal(psnr[0], psnr[1])
    assert (psnr[0] - psnr[1]).abs().max() < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    states = []
    for device in ("cpu", "cuda"):
        core = make_core(device=device)
        state = core.reset(faces(4))
        for action in (5, 100, 64, 30):
            state, reward, _ = core.step(state, torch.full((4,), action, device=device))
            assert reward.device.type == device
        assert state.image.device.type == device
        states.append(state)
    torch.testing.assert_close(states[0].image, states[1].image.cpu(), atol=1e-5, rtol=0)
    torch.testing.assert_close(states[0].mse, states[1].mse.cpu(), atol=1e-7, rtol=0)


class Halfway(nn.Module):
    """Moves each pixel half of the way to 0.5."""

    def forward(self, image: Tensor) -> Tensor:
        return (image + 0.5) / 2


def test_episodes_start_from_what_another_network_restored() -> None:
    given_ = faces(3)
    core = make_core(initial=OneShot(Halfway(), scale=2, patch_size=(5, 4)))

    state = core.reset(given_)

    expected = (given_.initial + 0.5) / 2
    torch.testing.assert_close(state.image, expected)
    torch.testing.assert_close(state.initial, expected)
    torch.testing.assert_close(state.mse, mean_squared_error(expected, given_.hr))
    again = core.reset(faces(1, seed=5), state, torch.tensor([1]))
    torch.testing.assert_close(again.image[1], (faces(1, seed=5).initial[0] + 0.5) / 2)
    assert torch.equal(again.image[[0, 2]], state.image[[0, 2]])


def test_a_one_shot_enhancer_still_restores_the_enlarged_face() -> None:
    """Of faces that start from another network's result it pastes pieces of its own."""
    given_ = faces(2)
    own = OneShot(Halfway(), scale=2, patch_size=(5, 4))
    start = OneShot(nn.Identity(), scale=2, takes="lr")
    start.network = nn.Upsample(scale_factor=2)

    state = make_core(enhancer=own, initial=start).reset(given_)

    torch.testing.assert_close(state.image, nn.Upsample(scale_factor=2)(given_.lr))
    torch.testing.assert_close(state.restored, (given_.initial + 0.5) / 2)


def test_a_one_shot_enhancer_may_go_on_from_the_start() -> None:
    own = OneShot(Halfway(), scale=2, patch_size=(5, 4), takes="start")
    start = OneShot(Halfway(), scale=2)
    given_ = faces(2)

    state = make_core(enhancer=own, initial=start).reset(given_)

    torch.testing.assert_close(state.restored, (state.image + 0.5) / 2)
    torch.testing.assert_close(state.restored, (given_.initial + 1.5) / 4)


def test_initial_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="for scale 4, but the enhancer's is 2"):
        make_core(initial=OneShot(Halfway(), scale=4))
    with pytest.raises(ConfigurationError, match="works on patches of"):
        make_core(initial=Wobble())
