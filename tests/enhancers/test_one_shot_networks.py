"""The networks of Attention-FH's tables, and what all one-shot networks have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import enhancers, patches
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces, protocols
from facehall_env.enhancers import OneShot, parameter_count
from facehall_env.enhancers.layers.luma import OnLuma
from facehall_env.enhancers.patch.attention_fh import CHANNELS, KERNELS
from facehall_env.enhancers.whole_face.spatial_transform import (
    LocatingNetwork,
    SpatialTransformNetwork,
    cut,
    spread,
)
from facehall_env.errors import ConfigurationError

SIZE = (16, 12)
TINY: dict[str, dict[str, Any]] = {
    "srcnn": {"kernels": [3, 1, 3]},
    "srcnn on luma": {"kernels": [3, 1, 3], "channels": 1},
    "vdsr": {"layers": 3, "width": 8},
    "vdsr on luma": {"layers": 3, "width": 8, "channels": 1},
    "cnn16": {"width": 4},
    "gln": {"encoding": 4, "image_size": SIZE},
    "recurrent_whole": {"steps": 2, "image_size": SIZE},
    "spatial_transform": {"steps": 2, "window": (9, 8), "image_size": SIZE},
    "light": {"width": 8, "blocks": 1, "image_size": SIZE},
    "sisn": {"groups": 1, "blocks": 1, "width": 8},
}
RESIDUAL = [name for name in TINY if name != "sisn"]
UPDATES = {
    # Without a shortcut from the face, it has to learn the bicubic face first.
    "sisn": (80, 1e-2),
    # Kernels as large as 7x7 die at higher learning rates.
    "gln": (25, 5e-4),
    "recurrent_whole": (25, 5e-4),
    "spatial_transform": (25, 5e-4),
}
"""Updates and their learning rate after which a network is better than bicubic."""


def tiny(case: str, **settings: Any) -> OneShot:
    torch.manual_seed(0)
    name = case.split()[0]
    enhancer = enhancers.make(name, scale=2, patch_size=(6, 4), **{**TINY[case], **settings})
    assert isinstance(enhancer, OneShot)
    return enhancer


def lively(case: str, **settings: Any) -> OneShot:
    """A tiny network whose layers that start at zero have something to say."""
    enhancer = tiny(case, **settings)
    for parameter in enhancer.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.03)
    return enhancer


def tiny_faces(number: int = 4) -> Faces:
    """Smooth random faces at scale 2."""
    noise = torch.rand(number, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    sharp = functional.interpolate(noise, size=SIZE, mode="nearest")
    return protocols.get("bicubic").degrade(sharp, 2)


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("srcnn", {}, 243 * 64 + 64 + 64 * 25 * 32 + 32 + 32 * 25 * 3 + 3),
        ("srcnn", {"channels": 1}, 57_281),
        ("srcnn", {"channels": 1, "kernels": (9, 1, 5)}, 8_129),
        ("vdsr", {}, 27 * 64 + 64 + 18 * (576 * 64 + 64) + 576 * 3 + 3),
        ("vdsr", {"channels": 1}, 9 * 64 + 64 + 18 * (576 * 64 + 64) + 576 + 1),
        ("cnn16", {}, 27 * 64 + 64 + 14 * (576 * 64 + 64) + 576 * 3 + 3),
    ],
)
def test_sizes_by_arithmetic(name: str, settings: dict[str, Any], count: int) -> None:
    assert parameter_count(enhancers.make(name, **settings)) == count


@pytest.mark.parametrize(("name", "layers"), [("srcnn", 3), ("vdsr", 20), ("cnn16", 16)])
def test_the_networks_are_as_deep_as_their_papers_say(name: str, layers: int) -> None:
    modules = enhancers.make(name).modules()
    assert sum(isinstance(module, nn.Conv2d) for module in modules) == layers


def test_gln_is_attention_fhs_convolutions_and_an_encoding_of_the_small_face() -> None:
    inputs = (4, *CHANNELS[:-1])
    local = sum(k * k * i * o + o for k, i, o in zip(KERNELS, inputs, CHANNELS, strict=True))
    encoding = 3 * 32 * 32 * 256 + 256 + 256 * 128 * 128 + 128 * 128
    assert parameter_count(enhancers.make("gln", scale=4)) == local + encoding == 5_631_251


@pytest.mark.parametrize("case", RESIDUAL)
def test_untrained_networks_are_the_identity(case: str) -> None:
    initial = tiny_faces().initial
    with torch.no_grad():
        torch.testing.assert_close(tiny(case).eval().restore(initial), initial)


@pytest.mark.parametrize("case", TINY)
def test_a_few_updates_beat_bicubic(case: str) -> None:
    faces = tiny_faces()
    enhancer = tiny(case).train()
    updates, rate = UPDATES.get(case, (30, 2e-3))
    optimizer = torch.optim.Adam(enhancer.parameter_groups(rate))
    for _ in range(updates):
        loss = functional.mse_loss(enhancer.restore(faces.initial, faces.lr), faces.hr)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(enhancer.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.95 * functional.mse_loss(faces.initial, faces.hr)


@pytest.mark.parametrize("case", RESIDUAL)
def test_every_parameter_gets_a_gradient(case: str) -> None:
    enhancer = lively(case)
    enhancer.restore(tiny_faces().initial).square().sum().backward()
    for name, parameter in enhancer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("case", TINY)
def test_all_parameters_are_handed_to_the_optimiser_once(case: str) -> None:
    enhancer = tiny(case)
    handed = [id(p) for group in enhancer.parameter_groups(1e-3) for p in group["params"]]
    assert sorted(handed) == sorted(id(p) for p in enhancer.parameters())


@pytest.mark.parametrize("case", TINY)
def test_saved_networks_come_back_with_their_settings(case: str, tmp_path: Path) -> None:
    enhancer, faces = lively(case).eval(), tiny_faces()
    enhancers.save(enhancer, tmp_path / "weights.safetensors")
    loaded = enhancers.load(tmp_path / "weights.safetensors")
    assert isinstance(loaded, OneShot)
    assert loaded.config == enhancer.config
    with torch.no_grad():
        restored = loaded.restore(faces.initial, faces.lr)
        assert torch.equal(restored, enhancer.restore(faces.initial, faces.lr))


@pytest.mark.parametrize("case", TINY)
def test_half_precision_restores_nearly_the_same_face_in_float32(case: str) -> None:
    enhancer, faces = lively(case).eval(), tiny_faces()
    with torch.no_grad():
        exact = enhancer.restore(faces.initial, faces.lr)
        half = enhancer.bfloat16().restore(faces.initial, faces.lr)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("case", TINY)
def test_the_environment_pastes_pieces_of_the_restored_face(case: str) -> None:
    enhancer, faces = lively(case).eval(), tiny_faces(1)
    core = HallucinationCore(enhancer, image_size=SIZE, num_steps=1)
    state, _, _ = core.step(core.reset(faces), torch.tensor([8 * 12 + 6]))
    with torch.no_grad():
        whole = enhancer.restore(faces.initial, faces.lr).clamp(0, 1)
    wanted = faces.initial.clone()
    wanted[..., 6:12, 5:9] = whole[..., 6:12, 5:9]
    torch.testing.assert_close(state.image, wanted, atol=1e-5, rtol=0)


def test_srcnns_layers_are_convolutions_and_rectifiers_by_hand() -> None:
    enhancer = lively("srcnn")
    first, second, third = (m for m in enhancer.modules() if isinstance(m, nn.Conv2d))
    image = torch.rand(1, 3, 7, 9)
    hidden = functional.conv2d(image, first.weight, first.bias, padding=1).clamp_min(0)
    hidden = functional.conv2d(hidden, second.weight, second.bias).clamp_min(0)
    wanted = functional.conv2d(hidden, third.weight, third.bias, padding=1)
    torch.testing.assert_close(enhancer.network(image), wanted)


def test_on_luma_is_full_range_ycbcr_and_back() -> None:
    class Gamma(nn.Module):
        def forward(self, luma: Tensor) -> Tensor:
            return luma**0.7

    image = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    to_ycc = torch.tensor(
        [
            [0.299, 0.587, 0.114],
            [-0.299 / 1.772, -0.587 / 1.772, 0.886 / 1.772],
            [0.701 / 1.402, -0.587 / 1.402, -0.114 / 1.402],
        ],
        dtype=torch.float64,
    )
    converted = torch.einsum("dc,nchw->ndhw", to_ycc, image)
    converted[:, 0] = converted[:, 0] ** 0.7
    wanted = torch.einsum("dc,nchw->ndhw", to_ycc.inverse(), converted)
    torch.testing.assert_close(OnLuma(Gamma())(image), wanted)


def test_recurrent_steps_share_their_weights() -> None:
    once, thrice = lively("recurrent_whole", steps=1), lively("recurrent_whole", steps=3)
    assert parameter_count(once) == parameter_count(thrice)
    thrice.load_state_dict(once.state_dict())
    face = tiny_faces().initial
    with torch.no_grad():
        again = once.network(once.network(once.network(face)))
        assert not torch.allclose(again, once.network(face))
        torch.testing.assert_close(thrice.network(face), again)


@pytest.mark.parametrize("size", [(5, 4), (4, 7), (1, 1)])
def test_windows_at_whole_pixels_are_those_of_patches(size: tuple[int, int]) -> None:
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    centres = torch.tensor([[8, 6], [0, 0], [15, 11], [3, 10]])
    corners = patches.corner_of(centres, size)
    windows = cut(images, centres.float(), size)
    torch.testing.assert_close(windows, patches.crop(images, corners, size), atol=1e-5, rtol=0)

    new = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(1))
    pasted = images + spread(new - windows, centres.float(), SIZE)
    torch.testing.assert_close(pasted, patches.paste(images, new, corners), atol=1e-5, rtol=0)


def test_windows_between_pixels_are_averages() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 16, 12) / 12
    window = cut(ramp, torch.tensor([[5.0, 6.25]]), (3, 3))
    torch.testing.assert_close(window[0, 0], (torch.arange(3) + 5.25).expand(3, 3) / 12)
    dot = spread(torch.ones(1, 1, 1, 1), torch.tensor([[5.0, 6.25]]), SIZE)
    assert dot[0, 0, 5, 6].item() == pytest.approx(0.75, abs=1e-5)
    assert dot[0, 0, 5, 7].item() == pytest.approx(0.25, abs=1e-5)
    assert dot.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_face_tells_the_locating_network_where_its_window_should_move() -> None:
    """A window that brightens has to go where the truth is brighter: here, to the right."""
    network = tiny("spatial_transform", steps=1).network
    assert isinstance(network, SpatialTransformNetwork)
    with torch.no_grad():
        nn.init.constant_(network.enhancer.convolutions[-1].bias, 0.2)  # type: ignore[arg-type]
        for centred in (network.locating.places, *network.locating.head.parameters()):
            centred.zero_()
    image = torch.full((1, 3, *SIZE), 0.3)
    brighter = image.clone()
    brighter[..., 8:] += 0.2
    functional.mse_loss(network(image), brighter).backward()
    for gradient in (network.locating.places.grad, network.locating.head.bias.grad):
        assert gradient is not None
        down, right = gradient.flatten().tolist()
        assert right < -1e-3
        assert abs(down) < 1e-6
    assert network.locating.head.weight.grad[1].abs().sum() > 0


def test_untrained_windows_are_spread_over_the_face() -> None:
    places = LocatingNetwork(SIZE, 25).places.detach().tanh()
    assert places[0].abs().max() < 1e-6
    assert places.abs().max() <= 0.7 + 1e-6
    # At least four of the 25 in each quarter.
    quarters = (places[:, 0] > 0).long() * 2 + (places[:, 1] > 0).long()
    assert quarters.bincount(minlength=4).min() >= 4


@pytest.mark.parametrize("name", ["gln", "recurrent_whole", "spatial_transform"])
def test_faces_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{name} got faces of 32x32.*image_size=\[32, 32"
    ):
        tiny(name).network(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("srcnn", {"kernels": (9, 5)}, r"kernels=\[9, 5\]: give three odd sides"),
        ("srcnn", {"kernels": (9, 4, 5)}, "give three odd sides"),
        ("srcnn", {"channels": 2}, "channels=2 is unknown: use 3 for RGB or 1"),
        ("vdsr", {"layers": 1}, "layers=1: give at least 2"),
        ("cnn16", {"width": 0}, "width=0: give at least 1"),
        ("gln", {"image_size": (30, 32)}, "which 4 does not divide"),
        ("gln", {"convolution": "fast"}, "convolution='fast' is unknown"),
        ("recurrent_whole", {"steps": 0}, "steps=0: give at least 1"),
        ("spatial_transform", {"window": (9, 200)}, "does not fit faces of"),
    ],
)
def test_settings_out_of_range_are_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        enhancers.make(name, **settings)
