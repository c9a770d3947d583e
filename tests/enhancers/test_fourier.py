from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import enhancers
from facehall_env.enhancers.layers.fourier import FourierConv2d
from facehall_env.errors import ConfigurationError


def pair(in_channels: int, out_channels: int, kernel: int) -> tuple[nn.Conv2d, FourierConv2d]:
    """The same convolution in both ways, in double precision."""
    torch.manual_seed(kernel)
    direct = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2).double()
    fourier = FourierConv2d(in_channels, out_channels, kernel).double()
    fourier.load_state_dict(direct.state_dict())
    return direct, fourier


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 3, 5, 7, 9]),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.sampled_from([1, 2, 33]),
)
def test_results_and_gradients_are_those_of_the_direct_convolution(
    in_channels: int, out_channels: int, kernel: int, size: tuple[int, int], number: int
) -> None:
    direct, fourier = pair(in_channels, out_channels, kernel)
    image = torch.randn(number, in_channels, *size, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(number, out_channels, *size, dtype=torch.float64)

    torch.testing.assert_close(fourier(image), direct(image), rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(
        torch.autograd.grad(fourier(image), [image, *fourier.parameters()], upstream),
        torch.autograd.grad(direct(image), [image, *direct.parameters()], upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-8)


def test_gradients_agree_with_finite_differences() -> None:
    _, fourier = pair(2, 2, 3)
    image = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)

    def convolve(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(
            fourier, {"weight": weight, "bias": bias}, (image,)
        )
        return result

    assert torch.autograd.gradcheck(convolve, (image, *fourier.parameters()))


def test_a_changed_kernel_is_seen_at_once() -> None:
    direct, fourier = pair(1, 1, 7)
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    fourier(image)
    with torch.no_grad():
        for module in (direct, fourier):
            module.weight.mul_(2)
            module.weight[0, 0, 0, 0] += 1

    torch.testing.assert_close(fourier(image), direct(image))

    twin = copy.deepcopy(fourier)
    twin.load_state_dict({name: -value for name, value in fourier.state_dict().items()})
    torch.testing.assert_close(twin(image), -direct(image))
    torch.testing.assert_close(fourier(image), direct(image))


def test_bfloat16_is_convolved_directly() -> None:
    _, fourier = pair(1, 2, 7)
    fourier.bfloat16()
    image = torch.randn(1, 1, 8, 8, dtype=torch.bfloat16)

    wanted = functional.conv2d(image, fourier.weight, fourier.bias, padding=3)

    assert torch.equal(fourier(image), wanted)


def test_attention_fh_is_the_same_network_in_both_ways() -> None:
    torch.manual_seed(0)
    direct = enhancers.make("attention_fh")
    for parameter in direct.parameters():
        nn.init.normal_(parameter, std=0.02)
    fourier = enhancers.make("attention_fh", convolution="fourier")
    fourier.load_state_dict(direct.state_dict())
    patch, image = torch.rand(2, 3, 60, 45), torch.rand(2, 3, 128, 128)
    location = torch.zeros(2, 2, dtype=torch.int64)

    one, other = direct(patch, image, location), fourier(patch, image, location)

    assert (one - patch).abs().max() > 0.01
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert sum(isinstance(module, FourierConv2d) for module in fourier.modules()) == 5


def test_the_way_is_kept_with_the_weights_and_can_be_changed(tmp_path: object) -> None:
    path = f"{tmp_path}/weights.safetensors"
    enhancers.save(enhancers.make("attention_fh", convolution="fourier"), path)

    assert enhancers.load(path).config["convolution"] == "fourier"
    direct = enhancers.make("attention_fh", weights=path, convolution="direct")
    assert not any(isinstance(module, FourierConv2d) for module in direct.modules())


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="convolution='fast' is unknown: use one of"):
        enhancers.make("attention_fh", convolution="fast")
