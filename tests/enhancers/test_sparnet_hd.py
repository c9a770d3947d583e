"""SPARNetHD's generator: its size, its spectral norms, gradient checkpointing, files."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from facehall_env import enhancers
from facehall_env.enhancers.whole_face.sparnet_hd import SPARNetHD
from facehall_env.errors import ConfigurationError

TINY = {
    "width": 4,
    "most": 8,
    "blocks": 1,
    "hourglass_width": 4,
    "bottleneck": 2,
    "image_size": 32,
}


@pytest.fixture
def tiny() -> SPARNetHD:
    """A network of a few thousand parameters, for faces of 32 pixels and more."""
    torch.manual_seed(0)
    return SPARNetHD(**TINY)  # type: ignore[arg-type]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> SPARNetHD:
    """The network of the paper, without memory for its weights."""
    # Estimating the norms of nothing takes long and does not change the parameters.
    monkeypatch.setattr(parametrizations, "spectral_norm", lambda layer: layer)
    with torch.device("meta"):
        enhancer = enhancers.make("sparnet_hd")
    assert isinstance(enhancer, SPARNetHD)
    return enhancer


def test_it_has_the_parameters_that_its_documentation_says(full: SPARNetHD) -> None:
    slopes = sum(m.weight.numel() for m in full.modules() if isinstance(m, nn.PReLU))
    counts = enhancers.parameter_count(full), enhancers.parameter_count(full) - slopes
    assert counts == (85_815_776, 85_793_412)
    assert all(f"{count:,}" in (SPARNetHD.__doc__ or "") for count in counts)


def test_channels_double_up_to_the_most(full: SPARNetHD) -> None:
    widths = [unit.features[0].convolution.out_channels for unit in full.network.units]
    assert widths == [204, 408, 512, 512, *[512] * 9, 512, 408, 204, 102]


def test_every_convolution_has_a_largest_singular_value_of_one(tiny: SPARNetHD) -> None:
    layers = {name: m for name, m in tiny.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(layers) > 30
    for name, layer in list(layers.items())[::6]:
        with torch.no_grad():
            for _ in range(40):  # Each look at it in training improves the estimate.
                weight = layer.weight
        largest = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
        # An estimate is never too large; two values of nearly the same size take it long.
        assert 1 - 1e-4 <= largest.item() <= 1.1, name


def test_recomputing_gives_the_same_gradients(tiny: SPARNetHD) -> None:
    twin = copy.deepcopy(tiny)
    twin.recompute()
    face = torch.rand(2, 3, 32, 32)
    units, again = (_count_forwards(network) for network in (tiny, twin))
    for network in (tiny, twin):
        # Two passes: the second finds other estimates of the spectral norms than the first.
        for _ in range(2):
            network.zero_grad()
            network.restore(face).square().mean().backward()
    for (name, parameter), other in zip(tiny.named_parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-5, atol=1e-7)
    for (name, buffer), other in zip(tiny.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(buffer, other), name
    assert again == [2 * count for count in units]


def test_nothing_is_recomputed_without_gradients(tiny: SPARNetHD) -> None:
    tiny.recompute()
    counts = _count_forwards(tiny)
    with torch.no_grad():
        tiny.restore(torch.rand(1, 3, 32, 32))
    assert set(counts) == {1}


def test_weights_go_to_a_file_and_back(tiny: SPARNetHD, tmp_path: Path) -> None:
    tiny.recompute()
    tiny.eval()
    enhancers.save(tiny, tmp_path / "hd.safetensors")
    loaded = enhancers.load(tmp_path / "hd.safetensors")
    face = torch.rand(1, 3, 48, 32)
    assert isinstance(loaded, SPARNetHD)
    assert torch.equal(loaded.restore(face), tiny.restore(face))


def test_faces_are_restored_one_by_one(tiny: SPARNetHD) -> None:
    """Instance normalisation: no face depends on the others of its batch, not even in training."""
    faces = torch.rand(2, 3, 32, 32)
    tiny.eval()
    together = tiny.restore(faces)
    alone = tiny.restore(faces[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_wrong_sizes_and_settings_are_refused(tiny: SPARNetHD) -> None:
    with pytest.raises(ConfigurationError, match="40x40 pixels"):
        tiny.restore(torch.rand(1, 3, 40, 40))
    with pytest.raises(ConfigurationError, match="sparnet_hd has blocks=0"):
        SPARNetHD(blocks=0)
    with pytest.raises(ConfigurationError, match="bottleneck=5"):
        SPARNetHD(**{**TINY, "bottleneck": 5})  # type: ignore[arg-type]


def _count_forwards(enhancer: SPARNetHD) -> list[int]:
    """How often each unit is computed; filled while it is."""
    units = list(enhancer.network.units)
    counts = [0] * len(units)

    def count(place: int) -> None:
        counts[place] += 1

    for place, unit in enumerate(units):
        unit.register_forward_pre_hook(lambda *_, place=place: count(place))
    return counts
