"""The ladder of one-shot networks: costs, registration, places, half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from facehall_env import data, enhancers, metrics
from facehall_env.data import Faces
from facehall_env.enhancers.whole_face.ladder import (
    LadderNetwork,
    LightLadder,
    Place,
    enlarge,
)
from facehall_env.enhancers.whole_face.light import FaceMixer
from facehall_env.errors import ConfigurationError

NAMES = ("light-s", "light-m", "light-l", "light-xl")
BUDGETS = {"light-s": 0.15e9, "light-m": 0.6e9, "light-l": 1.5e9, "light-xl": 6e9}
TINY: dict[str, Any] = {"width": 8, "blocks": 3, "fine_width": 4, "fine_blocks": 1}


def tiny(scale: int = 4, name: str = "light-l", **settings: Any) -> LightLadder:
    """A small network for faces of 32x24 pixels whose layers that start at zero say something."""
    torch.manual_seed(0)
    given = {**TINY, "image_size": (32, 24), **settings}
    enhancer = enhancers.make(name, scale=scale, weights=None, **given)
    assert isinstance(enhancer, LightLadder)
    for parameter in enhancer.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.1)
    return enhancer.eval()


def network_of(enhancer: LightLadder) -> LadderNetwork:
    assert isinstance(enhancer.network, LadderNetwork)
    return enhancer.network


def faces(protocol: str = "bicubic", scale: int = 4, size: tuple[int, int] = (32, 24)) -> Faces:
    """Smooth random faces."""
    small = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    truth = functional.interpolate(small, size=size, mode="bicubic", align_corners=True)
    return data.protocols.get(protocol).degrade(truth.clamp(0, 1), scale)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_each_size_stays_in_its_class(name: str, scale: int) -> None:
    enhancer = enhancers.make(name, scale=scale, weights=None).eval()
    lr = torch.zeros(1, 3, 128 // scale, 128 // scale)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        enhancer.restore(torch.zeros(1, 3, 128, 128), lr)  # type: ignore[operator]
    macs = counter.get_total_flops() / 2
    assert 0.85 * BUDGETS[name] < macs <= BUDGETS[name]


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_untrained_networks_enlarge_as_the_preset_does(scale: int) -> None:
    face = faces(scale=scale)
    enhancer = enhancers.make("light-s", scale=scale, weights=None, **TINY).eval()
    assert isinstance(enhancer, LightLadder)
    with torch.no_grad():
        torch.testing.assert_close(enhancer.restore(face.initial, face.lr), face.initial)


def test_another_enlargement_has_nothing_to_be_undone() -> None:
    """The start of ``afh`` lies off the truth, the network's own enlargement does not."""
    face = faces("afh", size=(128, 128))
    enhancer = enhancers.make("light-s", weights=None).eval()
    assert isinstance(enhancer, LightLadder)
    with torch.no_grad():
        restored = enhancer.restore(face.initial, face.lr)
    assert torch.equal(restored, enlarge(face.lr, 4))
    # A face that grows evenly to the right and below: what is off its place is off its value.
    ramp = torch.linspace(0.2, 0.8, 128).expand(1, 3, 128, 128)
    ramp = data.protocols.get("afh").degrade((ramp + ramp.mT) / 2, 4)
    inside = (..., slice(16, -16), slice(16, -16))
    with torch.no_grad():
        placed = enhancer.restore(ramp.initial, ramp.lr)
    torch.testing.assert_close(placed[inside], ramp.hr[inside], atol=1e-5, rtol=0)
    assert (ramp.initial - ramp.hr)[inside].abs().max() > 2e-3


@pytest.mark.parametrize("scale", [4, 8])
def test_every_parameter_gets_a_gradient(scale: int) -> None:
    enhancer = tiny(scale)
    face = faces(scale=scale)
    enhancer.restore(face.initial, face.lr).square().sum().backward()
    for name, parameter in enhancer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_any_size_of_image_is_restored_without_surprise() -> None:
    enhancer = tiny()
    for height, width in ((1, 1), (5, 9), (8, 6), (40, 7)):
        lr = torch.rand(1, 3, height, width)
        with torch.no_grad():
            restored = enhancer.network(lr)
        assert restored.shape == (1, 3, 4 * height, 4 * width)
        assert torch.isfinite(restored).all()
        assert (restored - enlarge(lr, 4)).abs().max() > 0


def test_trust_in_positions_falls_with_the_difference_in_size() -> None:
    network = network_of(tiny())
    assert network.trust(8, 6) == 1
    assert network.trust(9, 6) == pytest.approx(1 - 0.1699, abs=1e-4)
    assert network.trust(7, 6) == pytest.approx(1 - 0.1926, abs=1e-4)
    assert network.trust(9, 7) < network.trust(9, 6)
    assert network.trust(16, 6) == network.trust(4, 6) == network.trust(32, 24) == 0


def test_places_tell_cells_apart_only_as_far_as_they_are_trusted() -> None:
    place = Place(2, (8, 6))
    torch.testing.assert_close(place(torch.ones(1, 2, 8, 6), 1.0), torch.ones(1, 2, 8, 6))
    nn.init.normal_(place.position)
    flat = torch.ones(1, 2, 8, 6)
    with torch.no_grad():
        known, half, unknown = (place(flat, trust) for trust in (1.0, 0.5, 0.0))
    assert known.std((2, 3)).min() > 0.1
    torch.testing.assert_close(unknown, unknown[..., :1, :1].expand_as(unknown))
    torch.testing.assert_close(half, (known + unknown) / 2)
    torch.testing.assert_close(unknown.mean((2, 3)), known.mean((2, 3)))


def test_a_mixer_tells_one_place_of_another_only_where_it_is_trusted() -> None:
    torch.manual_seed(0)
    mixer = FaceMixer(4)
    features = torch.randn(1, 4, 16, 16)
    torch.testing.assert_close(mixer(features, 1.0), features)
    nn.init.eye_(mixer.mix.weight[:, :, 0, 0])
    for trust, reached in ((1.0, True), (0.0, False)):
        given = features.clone().requires_grad_()
        mixer(given, trust)[0, :, 0, 0].sum().backward()
        assert given.grad is not None
        assert bool(given.grad[..., 15, 15].any()) == reached


def test_faces_of_an_unknown_size_are_restored_the_same_everywhere() -> None:
    """A flat image has no places, so that without trust only the border may differ."""
    enhancer = tiny(blocks=1, fine_blocks=0)
    flat = torch.full((1, 3, 40, 40), 0.3)
    with torch.no_grad():
        inside = enhancer.network(flat)[0, :, 32:-32, 32:-32]
    cell = inside[:, :4, :4].repeat(1, 24, 24)
    torch.testing.assert_close(inside, cell)


def test_mirrored_faces_are_restored_to_mirror_images_where_both_are_asked(tmp_path: Path) -> None:
    enhancer, lr = tiny(), faces().lr
    enhancers.save(enhancer, tmp_path / "weights.safetensors")
    mirrored = enhancers.make("light-l", weights=tmp_path / "weights.safetensors", mirrored=True)
    assert isinstance(mirrored, LightLadder)
    with torch.no_grad():
        once, other_way = enhancer.network(lr), enhancer.network(lr.flip(3)).flip(3)
        assert (once - other_way).abs().max() > 1e-3
        both = mirrored.network(lr)
        torch.testing.assert_close(both, (once + other_way) / 2)
        torch.testing.assert_close(mirrored.network(lr.flip(3)).flip(3), both)


def test_in_some_updates_positions_are_not_known() -> None:
    enhancer = tiny()
    lr = faces().lr
    with torch.no_grad():
        known = enhancer.network(lr)
        enhancer.train()
        torch.manual_seed(0)
        same = [torch.equal(enhancer.network(lr), known) for _ in range(400)]
    assert 10 <= same.count(False) <= 45  # 25 of 400 expected, standard deviation 4.8.


@pytest.mark.parametrize("scale", [4, 8])
def test_half_precision_on_disk_comes_back_in_float32(scale: int, tmp_path: Path) -> None:
    enhancer, face = tiny(scale), faces(scale=scale)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    enhancers.save(enhancer, whole)
    enhancers.save(enhancer, half, {"trained": "not at all"}, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded = enhancers.load(half)
    assert isinstance(loaded, LightLadder)
    assert loaded.config == enhancer.config
    assert loaded.provenance == {"trained": "not at all"}
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        exact = enhancer.restore(face.initial, face.lr)
        near = loaded.restore(face.initial, face.lr)
    torch.testing.assert_close(near, exact, atol=2e-3, rtol=0)
    assert not torch.equal(near, exact)


def test_bfloat16_restores_nearly_the_same_face() -> None:
    enhancer, face = tiny(), faces()
    with torch.no_grad():
        exact = enhancer.restore(face.initial, face.lr)
        near: Tensor = enhancer.bfloat16().restore(face.initial, face.lr)
    assert near.dtype == torch.float32
    assert (near - exact).abs().mean() < 0.02
    assert enlarge(face.lr.bfloat16(), 4).dtype == torch.bfloat16
    torch.testing.assert_close(
        enlarge(face.lr.bfloat16(), 4).float(), enlarge(face.lr, 4), atol=5e-3, rtol=0
    )


def test_weights_for_another_protocol_are_found_and_replaced_by_those_of_bicubic() -> None:
    for scale in (4, 8):
        own = enhancers.shipped("light-l", scale, protocol="afh")
        assert own.name == f"light-l-lfw-afh-x{scale}.safetensors"
        usual = enhancers.shipped("light-l", scale)
        assert usual.name == f"light-l-lfw-x{scale}.safetensors"
        assert enhancers.shipped("light-l", scale, "lfw", "sisn") == usual


@pytest.mark.lfw
@pytest.mark.parametrize(
    ("name", "scale", "protocol", "gain"),
    [
        ("light-l", 4, "bicubic", 3.8),
        ("light-l", 8, "bicubic", 2.9),
        ("light-l", 4, "afh", 6.3),
        ("light-l", 8, "afh", 4.6),
        ("light-s", 4, "bicubic", 2.8),
        ("light-s", 8, "bicubic", 2.4),
    ],
)
def test_the_weights_that_come_with_the_project(
    name: str, scale: int, protocol: str, gain: float
) -> None:
    """On 32 test faces, with what was gained on all of them less half a decibel."""
    faces = data.make("lfw", split="test")
    rules = data.protocols.get(protocol)
    batch = rules.degrade(faces.batch(range(0, len(faces), len(faces) // 31)), scale)
    path = enhancers.shipped(name, scale, "lfw", protocol)
    enhancer = enhancers.load(path)
    assert isinstance(enhancer, LightLadder)
    with torch.inference_mode():
        restored = enhancer.restore(batch.initial, batch.lr).clamp(0, 1)
    psnr = [
        metrics.score(images, batch.hr, rules, scale, ("psnr",))["psnr"].mean()
        for images in (batch.initial, restored)
    ]
    assert psnr[1] - psnr[0] > gain
    assert enhancer.provenance["settings"]["protocol"] == protocol


def test_settings_out_of_their_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="light-s has blocks=0: give at least 1"):
        enhancers.make("light-s", blocks=0)
    with pytest.raises(ConfigurationError, match="fine_blocks=-1: give 0 for none"):
        enhancers.make("light-s", fine_blocks=-1)
    with pytest.raises(ConfigurationError, match=r"scale=3 and fine blocks.*give an even scale"):
        enhancers.make("light-m", scale=3, fine_width=4, fine_blocks=1)
    with pytest.raises(ConfigurationError, match=r"expected faces \(N, 3, H, W\)"):
        tiny().network(torch.zeros(1, 1, 8, 6))
