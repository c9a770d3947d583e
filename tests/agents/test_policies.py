from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facehall_env.agents.reinforce.policies import location_weights, make_policy
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.patches import PatchGeometry, inside_mask


def observation(number: int, size: tuple[int, int], step: float = 0.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    height, width = size
    return {
        "image": torch.randint(
            0, 256, (number, height, width, 3), generator=generator, dtype=torch.uint8
        ),
        "coverage": torch.zeros(number, height, width, 1, dtype=torch.uint8),
        "last_action": torch.rand(number, 2, generator=generator) * 2 - 1,
        "step": torch.full((number, 1), step),
    }


def test_fc_has_the_papers_sizes() -> None:
    policy = make_policy("fc", PatchGeometry((128, 128), (60, 45)))
    image, action = 3 * 128 * 128 * 256 + 256, 2 * 128 + 128
    lstm = 4 * 512 * (384 + 512 + 2)
    head = 512 * 128 * 128 + 128 * 128
    assert sum(p.numel() for p in policy.policy_parameters()) == image + action + lstm + head


def test_conv_is_small() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    policy = make_policy("conv", PatchGeometry((128, 128), (60, 45), "centre", 8))
    assert 100_000 < sum(p.numel() for p in policy.parameters()) < 300_000
    with FlopCounterMode(display=False) as counter:
        policy(observation(1, (128, 128)))
    assert counter.get_total_flops() / 2 < 10e6


@pytest.mark.parametrize("border", ["centre", "inside"])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_conv_judges_exactly_the_pixels_of_each_patch(border: str, stride: int) -> None:
    geometry = PatchGeometry((32, 48), (13, 10), border, stride)
    rows, _ = location_weights(geometry, 0)
    columns, _ = location_weights(geometry, 1)
    cells = torch.rand(4, 6)
    pixels = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)
    actions = torch.arange(geometry.num_locations)
    corner = geometry.top_left(actions)
    inside = inside_mask(corner, (13, 10), (32, 48))[:, 0]
    y = (corner[:, :1] + torch.arange(13)).clamp(0, 31)
    x = (corner[:, 1:] + torch.arange(10)).clamp(0, 47)
    expected = (pixels[y[:, :, None], x[:, None, :]] * inside).mean((1, 2))
    torch.testing.assert_close((rows @ cells @ columns.T).flatten(), expected)


def test_conv_reads_the_map_at_each_centre() -> None:
    geometry = PatchGeometry((32, 48), (13, 10), "inside", 1)
    _, rows = location_weights(geometry, 0)
    ramp = torch.arange(4) * 8 + 3.5  # the pixel in the middle of each cell
    middle = geometry.top_left(torch.arange(32) * 48)[:, 0] + 6.0
    torch.testing.assert_close(rows @ ramp, middle.clamp(3.5, 27.5))


@pytest.mark.parametrize("name", ["fc", "conv"])
class TestMemory:
    geometry = PatchGeometry((32, 32), (7, 7), "centre", 8)

    def test_rows_at_step_zero_begin_with_nothing_remembered(self, name: str) -> None:
        torch.manual_seed(0)
        policy = make_policy(name, self.geometry, num_steps=4)
        _, _, memory = policy(observation(3, (32, 32)))
        mixed = observation(3, (32, 32), step=0.25)
        mixed["step"][1] = 0.0
        logits, value, after = policy(mixed, memory)
        fresh_logits, fresh_value, fresh = policy(mixed)
        torch.testing.assert_close(logits[1], fresh_logits[1])
        torch.testing.assert_close(value[1], fresh_value[1])
        torch.testing.assert_close(after["cell"][1], fresh["cell"][1])
        for row in (0, 2):
            assert not torch.allclose(logits[row], fresh_logits[row])

    def test_rows_do_not_influence_each_other(self, name: str) -> None:
        torch.manual_seed(0)
        policy = make_policy(name, self.geometry, num_steps=4)
        batch = observation(3, (32, 32), step=0.5)
        together, _, memory = policy(batch)
        alone, _, _ = policy({key: tensor[1:2] for key, tensor in batch.items()})
        torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=1e-5)
        assert memory["hidden"].shape[0] == 3

    def test_value_head_learns_without_moving_the_policy(self, name: str) -> None:
        policy = make_policy(name, self.geometry)
        _, value, _ = policy(observation(2, (32, 32)))
        value.square().sum().backward()
        assert all(parameter.grad is None for parameter in policy.policy_parameters())
        assert all(parameter.grad is not None for parameter in policy.value_head.parameters())


def test_memory_that_is_broken_in_a_finished_row_does_not_spread() -> None:
    policy = make_policy("fc", PatchGeometry((16, 16), (7, 7), "centre", 8))
    memory = {key: torch.full((1, 512), torch.nan) for key in ("hidden", "cell")}
    logits, _, _ = policy(observation(1, (16, 16)), memory)
    assert torch.isfinite(logits).all()


def test_unknown_policy_and_settings_are_named() -> None:
    geometry = PatchGeometry((16, 16), (7, 7), "centre", 8)
    with pytest.raises(UnknownNameError, match="did you mean 'conv'"):
        make_policy("convv", geometry)
    with pytest.raises(ConfigurationError, match="depth"):
        make_policy("conv", geometry, depth=3)
    with pytest.raises(ConfigurationError, match="20x20"):
        make_policy("conv", PatchGeometry((20, 20), (7, 7)))
