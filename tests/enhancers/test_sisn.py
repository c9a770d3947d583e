"""SISN: its size, split attention by hand, the ablations, and what it cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facehall_env import enhancers
from facehall_env.enhancers import parameter_count
from facehall_env.enhancers.whole_face.sisn import AttentionBlock, AttentionGroup, SplitAttention
from facehall_env.errors import ConfigurationError


def tiny(**settings: Any) -> enhancers.Enhancer:
    torch.manual_seed(0)
    return enhancers.make("sisn", **{"groups": 1, "blocks": 1, "width": 8, **settings})


def small_faces(number: int = 2, height: int = 6, width: int = 5) -> Tensor:
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_sisn_has_the_parameters_that_the_release_uses() -> None:
    norm = 2 * 64
    splits = 64 // 4 * 256 * 9 + 2 * 256
    weights = 64 * 64 + 64 + norm + 64 * 256 + 256
    block = 2 * (64 * 64 + norm) + splits + weights
    conv = 64 * 64 * 9 + 64
    head, stages, tail = 48 * 64 * 9 + 64, 2 * (4 * conv), 64 * 3 * 9 + 3
    by_hand = head + 10 * (11 * block + conv) + conv + stages + tail

    def count(**settings: bool) -> int:
        with torch.device("meta"):  # Counted, never filled.
            return parameter_count(enhancers.make("sisn", scale=4, **settings))

    assert count() == by_hand == 8_073_795
    assert count(structure=False) == by_hand - 10 * block
    assert count(detail=False) == by_hand - 100 * (splits + weights)


@pytest.mark.parametrize(("scale", "stages"), [(2, 1), (4, 2), (8, 3)])
def test_sisn_enlarges_by_stages_of_two(scale: int, stages: int) -> None:
    enhancer = tiny(scale=scale).eval()
    lr = small_faces()
    initial = torch.zeros(2, 3, 6 * scale, 5 * scale)
    assert sum(isinstance(module, nn.PixelShuffle) for module in enhancer.modules()) == stages
    assert enhancer.restore(initial, lr).shape == initial.shape  # type: ignore[operator]
    assert torch.equal(enhancer.restore(initial, lr), enhancer.network(lr))  # type: ignore[operator]


def test_split_attention_is_that_of_an_independent_computation() -> None:
    """Equations 6 and 7 in NumPy, with batch norms that have something to do."""
    torch.manual_seed(0)
    attention = SplitAttention(4).eval()
    for norm in attention.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 1.5)
    features = torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        ours = attention(features).numpy()

    def normalised(x: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
        mean, var, gain, shift = (
            t.detach().numpy()[:, None, None]
            for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return (x - mean) / np.sqrt(var + norm.eps) * gain + shift

    def pointwise(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
        return layer.weight.detach().numpy()[:, :, 0, 0] @ x + layer.bias.detach().numpy()

    kernel = attention.splits[0].weight.detach().numpy()
    for face, wanted in zip(features.numpy(), ours, strict=True):
        padded = np.pad(face, ((0, 0), (1, 1), (1, 1)))
        splits = np.zeros((16, 3, 3))
        for out in range(16):
            source = out // 4  # One input channel per group, four outputs of each.
            for y in range(3):
                for x in range(3):
                    window = padded[source, y : y + 3, x : x + 3]
                    splits[out, y, x] = (kernel[out, 0] * window).sum()
        splits = np.maximum(normalised(splits, attention.splits[1]), 0).reshape(4, 4, 3, 3)
        mean = splits.sum(0).mean((1, 2))
        hidden = pointwise(mean, attention.weights[0])[:, None, None]
        hidden = np.maximum(normalised(hidden, attention.weights[1]), 0)[:, 0, 0]
        logits = pointwise(hidden, attention.weights[3]).reshape(4, 4)
        shares = np.exp(logits) / np.exp(logits).sum(0)
        by_hand = (splits * shares[:, :, None, None]).sum(0)
        np.testing.assert_allclose(wanted, by_hand, rtol=1e-4, atol=1e-5)


def test_a_block_whose_last_norm_says_nothing_passes_what_is_positive() -> None:
    block = AttentionBlock(4).eval()
    nn.init.zeros_(block.inner[-1].weight)
    features = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(features), features.clamp_min(0))


def test_a_group_adds_its_two_paths() -> None:
    torch.manual_seed(0)
    group = AttentionGroup(2, 4, structure=True, detail=True).eval()
    features = torch.randn(1, 4, 5, 5)
    detail = group.detail[2](group.detail[1](group.detail[0](features)))
    torch.testing.assert_close(group(features), detail + group.structure(features))
    group.structure = None
    torch.testing.assert_close(group(features), detail)


def test_without_detail_the_structures_attention_stays() -> None:
    def attentions(**settings: bool) -> int:
        enhancer = tiny(groups=2, blocks=3, **settings)
        return sum(isinstance(module, SplitAttention) for module in enhancer.modules())

    assert attentions() == 2 * (3 + 1)
    assert attentions(detail=False) == 2
    assert attentions(structure=False) == 2 * 3


def test_every_parameter_of_sisn_gets_a_gradient() -> None:
    network = tiny(groups=2, blocks=2).network
    network(small_faces()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A shift just before a batch norm is taken away by it.
        if not name.endswith("weights.0.bias"):
            assert parameter.grad.abs().sum() > 0, name


def test_a_single_face_can_be_restored_but_not_learned_from() -> None:
    network = tiny().network
    with pytest.raises(ConfigurationError, match="a batch of 1 face in training"):
        network(small_faces(1))
    assert network.eval()(small_faces(1)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 3}, "cannot enlarge 3 times"),
        ({"scale": 1}, "cannot enlarge 1 times"),
        ({"width": 6}, "width=6: give a multiple of 4"),
        ({"groups": 0}, "groups=0: give at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny(**settings)


def test_grey_images_are_no_faces() -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(1, 1, 8, 8\), expected faces"):
        tiny().network(torch.zeros(1, 1, 8, 8))
