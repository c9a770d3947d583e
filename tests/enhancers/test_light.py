"""The light network: its budget, what it knows of the whole face, and other sizes of faces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from facehall_env import enhancers
from facehall_env.enhancers import Light, parameter_count
from facehall_env.enhancers.whole_face.light import FaceMixer
from facehall_env.errors import ConfigurationError


def tiny(scale: int = 2, blocks: int = 1) -> Light:
    """A light network with something to say, for faces of 24x20 pixels."""
    torch.manual_seed(0)
    enhancer = enhancers.make("light", scale=scale, width=8, blocks=blocks, image_size=(24, 20))
    assert isinstance(enhancer, Light)
    for parameter in enhancer.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.1)
    return enhancer.eval()


def faces(number: int = 2, size: tuple[int, int] = (24, 20)) -> Tensor:
    return torch.rand(number, 3, *size, generator=torch.Generator().manual_seed(1))


def test_light_keeps_to_its_budget() -> None:
    enhancer = enhancers.make("light", scale=4)
    conv = 64 * 64 * 9 + 64
    mixer = 2 * (64 * 64 + 64) + (64 * 64 + 64) + (64 * 32 + 32) + (32 * 64 + 64)
    head, tail = 48 * 64 * 9 + 64, 64 * 48 * 9 + 48
    by_hand = head + 64 * 32 * 32 + 16 * 2 * conv + 4 * mixer + tail
    assert parameter_count(enhancer) == by_hand == 1_369_328
    assert 4 * by_hand < 9_500_000

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        enhancer.network(torch.zeros(1, 3, 128, 128))  # type: ignore[operator]
    assert counter.get_total_flops() / 2 <= 1.3e9


def test_an_untrained_mixer_changes_nothing() -> None:
    features = torch.randn(2, 8, 12, 10)
    torch.testing.assert_close(FaceMixer(8)(features), features)


def test_a_mixer_carries_what_it_sees_to_the_other_end_of_the_face() -> None:
    torch.manual_seed(0)
    mixer = FaceMixer(4)
    nn.init.eye_(mixer.mix.weight[:, :, 0, 0])
    features = torch.randn(1, 4, 16, 16, requires_grad=True)
    mixer(features)[0, :, 0, 0].sum().backward()
    assert features.grad is not None
    assert features.grad[..., 15, 15].abs().sum() > 0


def test_light_knows_where_on_the_face_it_is() -> None:
    network = tiny().network
    with torch.no_grad():
        nn.init.zeros_(network.position)
        # Without the embedding only borders and mixers tell parts of a flat face apart, and four
        # convolutions see four cells.
        network.body = nn.Sequential(network.body[0])
        flat = torch.full((1, 3, 24, 20), 0.3)
        middle = network(flat)[0, :, 10:14, 8:12]
        torch.testing.assert_close(middle[:, ::2, ::2], middle[:, :1, :1].expand(3, 2, 2))
        nn.init.normal_(network.position)
        restored = network(flat)[0, 0, 10]
        assert abs(restored[8] - restored[10]) > 1e-3


def test_faces_of_other_sizes_have_their_positions_stretched() -> None:
    network = tiny().network
    assert torch.equal(network._position(torch.Size((12, 10))), network.position)
    with torch.no_grad():
        rows = torch.arange(12.0)[:, None].expand(12, 10)
        network.position.copy_(rows.expand_as(network.position))
        stretched = network._position(torch.Size((24, 30)))
    # Twice as many rows of the same span: inside, half a step apart from 0.25 on.
    torch.testing.assert_close(stretched[0, 0, 1:-1, 7], 0.25 + torch.arange(22.0) / 2)
    assert network(faces(size=(48, 60))).shape == (2, 3, 48, 60)


def test_every_parameter_of_light_gets_a_gradient() -> None:
    network = tiny(blocks=5).network.train()
    network(faces()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert sum(isinstance(module, FaceMixer) for module in network.modules()) == 2


def test_faces_that_are_no_whole_cells_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="light got faces of 24x18 pixels, expected multi"):
        tiny(scale=4).network(faces(size=(24, 18)))
    with pytest.raises(ConfigurationError, match="blocks=0: give at least 1"):
        enhancers.make("light", blocks=0)
