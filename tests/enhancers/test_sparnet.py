"""SPARNet: its size, attention by hand, the ablations' settings, fusion, precision, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import enhancers
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import SPARNet, for_inference, fuse_batch_norm, parameter_count
from facehall_env.enhancers.layers.attention import CBAM, ChannelAttention
from facehall_env.enhancers.layers.fusion import UpConvolution
from facehall_env.enhancers.whole_face.sparnet import (
    ConvBlock,
    FaceAttentionUnit,
    HourglassAttention,
    Layers,
    SPARNetwork,
)
from facehall_env.errors import ConfigurationError

LEAKY = Layers("leaky_relu")
UNITS = ["down1", "down2", "down3", *(f"body{n}" for n in range(1, 11)), "up1", "up2", "up3"]


def tiny(**settings: Any) -> SPARNet:
    """A SPARNet of a few channels for faces of 16 pixels and more, with something to say."""
    torch.manual_seed(0)
    defaults = {"width": 4, "blocks": 1, "bottleneck": 16, "patch_size": (6, 4)}
    enhancer = enhancers.make("sparnet", **{**defaults, **settings})
    assert isinstance(enhancer, SPARNet)
    return enhancer


def lively(network: nn.Module) -> nn.Module:
    """Gives all norms statistics, scales and shifts as after training."""
    generator = torch.Generator().manual_seed(7)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, low, high in (
                (norm.running_mean, -0.2, 0.2),
                (norm.running_var, 0.5, 1.5),
                (norm.weight.data, 0.5, 1.5),
                (norm.bias.data, -0.3, 0.3),
            ):
                assert values is not None
                values.uniform_(low, high, generator=generator)
    return network.eval()


def faces(number: int = 2, size: int = 16) -> Tensor:
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_sparnet_has_as_many_parameters_as_the_release() -> None:
    enhancer = enhancers.make("sparnet", scale=8, activation="leaky_relu")
    assert parameter_count(enhancer) == 10_518_867


def test_parametric_slopes_are_all_that_the_papers_activation_adds() -> None:
    """One slope per channel before each convolution of a unit, and after all of an hourglass."""
    enhancer = enhancers.make("sparnet", scale=8)
    before = 32 + 64 + 128 + 10 * 128 + 128 + 128 + 64
    inside = 64 + 128 + 128 + 10 * 128 + 128 + 64 + 32
    levels = (4, 3, 2, *(2,) * 10, 3, 4, 5)
    hourglasses = sum(64 * (3 * depth + 1) for depth in levels)
    assert parameter_count(enhancer) == 10_518_867 + before + inside + hourglasses


@pytest.mark.parametrize(("branches", "first"), [(1, "up3"), (4, "body10"), (16, "down1")])
def test_branches_are_counted_from_the_output(branches: int, first: str) -> None:
    network = tiny(attention_branches=branches, blocks=10).network
    maps = list(network.attention_maps(faces()))
    assert maps == UNITS[-branches:]
    assert maps[0] == first


@pytest.mark.parametrize("settings", [{"attention_branches": 0}, {"attention": "none"}])
def test_the_baseline_has_no_attention(settings: dict[str, Any]) -> None:
    enhancer = tiny(**settings)
    assert not [name for name, _ in enhancer.named_parameters() if "attention" in name]
    assert enhancer.network.attention_maps(faces()) == {}
    whole = tiny()
    attention = sum(
        parameter_count(m) for m in whole.modules() if isinstance(m, HourglassAttention)
    )
    assert parameter_count(whole) - parameter_count(enhancer) == attention > 0


@pytest.mark.parametrize("bottleneck", [2, 4, 8, 16])
def test_hourglasses_all_go_down_to_the_bottleneck(bottleneck: int) -> None:
    network = tiny(bottleneck=bottleneck, width=1, blocks=1).network.eval()
    smallest: dict[str, int] = {}

    def see(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            smallest[name] = min(smallest.get(name, 10**6), output.shape[-1])

        return hook

    for name, unit in network.units.named_children():
        for module in unit.attention.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(see(name))
    with torch.no_grad():
        network(faces(1, 128))
    assert smallest == dict.fromkeys(
        ["down1", "down2", "down3", "body1", "up1", "up2", "up3"], bottleneck
    )


@pytest.mark.parametrize(("resampling", "side"), [("none", 8), ("down", 4), ("up", 16)])
def test_a_unit_adds_weighed_features_to_its_shortcut(resampling: Any, side: int) -> None:
    torch.manual_seed(0)
    attention = HourglassAttention(3, 2, 1, LEAKY)
    unit = FaceAttentionUnit(3, 3, LEAKY, resampling, attention)
    lively(unit)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        features = unit.features(unit.before(x))
        weight = attention(features)
        found = unit(x)
    assert weight.shape == (2, 1, side, side)
    assert ((weight > 0) & (weight < 1)).all()
    assert weight.std() > 0
    shortcut = x
    if resampling != "none":
        convolution = unit.shortcut.convolution
        assert isinstance(convolution, nn.Conv2d)
        grown = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if resampling == "up" else x
        padded = functional.pad(grown, (1, 1, 1, 1), mode="reflect")
        stride = 2 if resampling == "down" else 1
        shortcut = functional.conv2d(padded, convolution.weight, convolution.bias, stride)
    torch.testing.assert_close(found, shortcut + features * weight)


def test_the_features_of_a_unit_by_hand() -> None:
    """Norm, activation, convolution, norm, activation, convolution, norm (section III-B)."""
    torch.manual_seed(0)
    unit = lively(FaceAttentionUnit(2, 2, LEAKY))
    assert isinstance(unit, FaceAttentionUnit)
    norms = [m for m in unit.modules() if isinstance(m, nn.BatchNorm2d)]
    first, second = (m.weight for m in unit.modules() if isinstance(m, nn.Conv2d))

    def normalised(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scaled = (x - norm.running_mean[:, None, None]) / (
            norm.running_var[:, None, None] + norm.eps
        ).sqrt()
        return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]

    def activated(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), weight)

    x = torch.randn(1, 2, 4, 4)
    hidden = convolved(activated(normalised(x, norms[0])), first)
    hidden = convolved(activated(normalised(hidden, norms[1])), second)
    torch.testing.assert_close(unit(x), x + normalised(hidden, norms[2]))


def test_an_hourglass_is_a_skip_beside_the_way_down_and_up() -> None:
    torch.manual_seed(0)
    attention = lively(HourglassAttention(2, 3, 2, LEAKY))
    blocks = [m for m in attention.modules() if isinstance(m, ConvBlock)]
    skip, down, inner_skip, inner_down, lowest, inner_up, up = blocks
    x = torch.randn(1, 2, 8, 8)
    half = down(x)
    quarter = inner_down(half)
    assert quarter.shape[2:] == (2, 2)
    mixed = skip(x) + up(inner_skip(half) + inner_up(lowest(quarter)))
    padded = functional.pad(mixed, (1, 1, 1, 1), mode="reflect")
    last = attention.convolution
    assert isinstance(last, nn.Conv2d)
    judged = functional.conv2d(padded, last.weight, last.bias)
    torch.testing.assert_close(attention(x), 1 / (1 + torch.exp(-judged)))


def test_maps_in_three_dimensions_are_one_for_each_channel() -> None:
    flat, deep = tiny().network, tiny(attention="3d").network
    for network, counts in ((flat, [1] * 7), (deep, [8, 16, 16, 16, 16, 8, 4])):
        seen: list[Tensor] = []
        for unit in network.units:
            unit.attention.register_forward_hook(lambda *of, seen=seen: seen.append(of[2]))
        network(faces())
        assert [map_.shape[1] for map_ in seen] == counts
    assert {len(map_[0]) for map_ in deep.attention_maps(faces()).values()} == {1}


def test_attention_maps_are_what_the_units_multiply_by() -> None:
    network = lively(tiny(attention="3d").network)
    assert isinstance(network, SPARNetwork)
    seen: dict[str, Tensor] = {}
    for name, unit in network.units.named_children():
        unit.attention.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
    maps = network.attention_maps(faces())
    assert list(maps) == list(seen)
    for name, map_ in maps.items():
        torch.testing.assert_close(map_[:, 0], sum(seen[name].unbind(1)) / seen[name].shape[1])
        assert map_.std() > 0
    maps.clear()
    network(faces())
    assert not maps, "nothing is kept of later restorations"


def test_channel_attention_by_hand() -> None:
    """RCAN, eq. 2 to 4: two fully-connected layers on the channels' means."""
    torch.manual_seed(0)
    module = ChannelAttention(4, reduction=2)
    squeeze, _, excite = module.judge
    assert isinstance(squeeze, nn.Conv2d)
    assert isinstance(excite, nn.Conv2d)
    features = torch.randn(3, 4, 5, 6)
    for n, image in enumerate(features):
        means = torch.stack([channel.sum() / 30 for channel in image])
        hidden = (squeeze.weight[:, :, 0, 0] @ means + squeeze.bias).clamp_min(0)
        expected = torch.sigmoid(excite.weight[:, :, 0, 0] @ hidden + excite.bias)
        torch.testing.assert_close(module(features)[n, :, 0, 0], expected)


def test_cbam_by_hand() -> None:
    """CBAM, eq. 1 to 3, pixel by pixel."""
    torch.manual_seed(0)
    module = CBAM(4, reduction=2)
    squeeze, _, excite = module.channel.judge
    assert isinstance(squeeze, nn.Conv2d)
    assert isinstance(excite, nn.Conv2d)
    features = torch.randn(1, 4, 5, 6)

    def judged(pooled: Tensor) -> Tensor:
        hidden = (squeeze.weight[:, :, 0, 0] @ pooled + squeeze.bias).clamp_min(0)
        return excite.weight[:, :, 0, 0] @ hidden + excite.bias

    flat = features[0].flatten(1)
    channel = torch.sigmoid(judged(flat.mean(1)) + judged(flat.max(1).values))
    left = features[0] * channel[:, None, None]
    pooled = torch.stack((left.mean(0), left.max(0).values))
    around = functional.pad(pooled, (3, 3, 3, 3))
    kernel, bias = module.spatial.convolution.weight[0], module.spatial.convolution.bias
    assert bias is not None
    expected = torch.empty(4, 5, 6)
    for y in range(5):
        for x in range(6):
            window = around[:, y : y + 7, x : x + 7]
            expected[:, y, x] = channel * torch.sigmoid((window * kernel).sum() + bias[0])
    torch.testing.assert_close(module(features)[0], expected)


@pytest.mark.parametrize(("attention", "spatial"), [("cbam", 7), ("rcan", 0)])
def test_other_modules_take_the_place_of_the_branch(attention: str, spatial: int) -> None:
    network = tiny(attention=attention).network
    unit = network.units.body1
    assert isinstance(unit, FaceAttentionUnit)
    assert unit.attention is not None
    lively(unit)
    x = torch.randn(1, 16, 4, 4)
    features = unit.features(unit.before(x))
    torch.testing.assert_close(unit(x), x + features * unit.attention(features))
    assert len(network.attention_maps(faces())) == spatial
    assert not any(isinstance(m, HourglassAttention) for m in network.modules())


@pytest.mark.parametrize("attention", ["2d", "3d", "cbam", "rcan"])
def test_every_parameter_gets_a_gradient(attention: str) -> None:
    enhancer = tiny(attention=attention, width=8, bottleneck=8).train()
    enhancer.restore(faces(2, 32)).square().sum().backward()
    for name, parameter in enhancer.named_parameters():
        assert parameter.grad is not None, name
        # The one or two hidden units of channel attention may happen to be silent.
        silent = "judge" in name and not name.endswith("2.bias")
        assert silent or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("settings", [{}, {"attention": "cbam"}, {"activation": "leaky_relu"}])
def test_fused_networks_compute_the_same(settings: dict[str, Any]) -> None:
    network = lively(tiny(**settings).network)
    fused = fuse_batch_norm(network)
    with torch.no_grad():
        expected = network(faces())
        torch.testing.assert_close(fused(faces()), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(network(faces()), expected, atol=0, rtol=0)
    left = [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    units = [m for m in fused.modules() if isinstance(m, FaceAttentionUnit)]
    assert left == [unit.before[0] for unit in units], "only the norms before activations stay"


@pytest.mark.parametrize("settings", [{}, {"attention": "none", "activation": "leaky_relu"}])
def test_networks_made_for_inference_compute_the_same(settings: dict[str, Any]) -> None:
    network = lively(tiny(**settings).network)
    fast = for_inference(network)
    with torch.no_grad():
        torch.testing.assert_close(fast(faces()), network(faces()), atol=1e-5, rtol=0)
    assert not any(isinstance(module, nn.Upsample) for module in fast.modules())


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_doubled_pixels_without_doubling_them(bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", bias=bias)
    image = torch.randn(2, 2, 3, 5)
    doubled = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(UpConvolution(convolution)(image), convolution(doubled))


def test_other_convolutions_after_upsampling_stay_as_they_are() -> None:
    zeros = nn.Conv2d(1, 1, 3, padding=1)
    thrice = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
    network = nn.Sequential(nn.Upsample(scale_factor=2), zeros, nn.Upsample(scale_factor=3), thrice)
    image = torch.randn(1, 1, 4, 4)
    fast = for_inference(network)
    torch.testing.assert_close(fast(image), network(image), atol=0, rtol=0)
    assert not any(isinstance(module, UpConvolution) for module in fast)


def test_fusion_leaves_a_norm_alone_that_does_not_follow_a_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.BatchNorm2d(1))
    assert isinstance(fuse_batch_norm(network)[2], nn.BatchNorm2d)


def test_weights_in_bfloat16_take_faces_in_float32() -> None:
    enhancer = tiny(width=8)
    lively(enhancer)
    with torch.no_grad():
        exact = enhancer.restore(faces())
        rounded = enhancer.bfloat16().restore(faces())
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.02 * (exact - 0.5).abs().max() + 0.004


def test_the_core_pastes_pieces_of_the_restored_face() -> None:
    enhancer = tiny()
    lively(enhancer)
    core = HallucinationCore(
        enhancer, image_size=(16, 16), border="inside", num_steps=1, precision="bf16"
    )
    initial = faces(1)
    state = core.reset(Faces(hr=initial, lr=initial[..., ::4, ::4], initial=initial))
    assert state.restored is not None
    assert state.restored.dtype == torch.float32
    state, _, _ = core.step(state, torch.tensor([0]))
    torch.testing.assert_close(
        state.image[..., :6, :4], state.restored[..., :6, :4].clamp(0, 1), atol=0, rtol=0
    )
    torch.testing.assert_close(state.image[..., 6:, :], initial[..., 6:, :], atol=0, rtol=0)


def test_weights_come_back_with_their_settings(tmp_path: Path) -> None:
    enhancer = tiny(scale=16, attention="3d", attention_branches=3, activation="leaky_relu")
    lively(enhancer)
    path = tmp_path / "sparnet.safetensors"
    enhancers.save(enhancer, path)
    loaded = enhancers.load(path)
    assert loaded.config == enhancer.config
    assert loaded.scale == 16
    assert isinstance(loaded, SPARNet)
    with torch.no_grad():
        expected = enhancer.restore(faces())
        torch.testing.assert_close(loaded.restore(faces()), expected, atol=0, rtol=0)


def test_with_a_global_skip_it_starts_as_the_identity() -> None:
    enhancer = tiny(global_skip=True)
    torch.testing.assert_close(enhancer.restore(faces()), faces(), atol=0, rtol=0)
    enhancer.restore(faces()).sum().backward()
    leave = enhancer.network.leave.weight.grad
    assert leave is not None
    assert leave.abs().sum() > 0


def test_layout_in_memory_does_not_matter() -> None:
    network = tiny().network
    lively(network)
    face = faces()
    with torch.no_grad():
        entered = network.enter(face)
        assert entered.is_contiguous(memory_format=torch.channels_last)
        expected = network(face)
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        found = network(face)
        assert network.enter.weight.is_contiguous()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("bottleneck", "size", "multiple"),
    [(16, (16, 20), 8), (16, (8, 16), 8), (4, (128, 112), 32), (4, (32, 64), 32)],
)
def test_faces_of_a_wrong_size_are_refused(
    bottleneck: int, size: tuple[int, int], multiple: int
) -> None:
    enhancer = tiny(bottleneck=bottleneck)
    with pytest.raises(
        ConfigurationError,
        match=f"{size[0]}x{size[1]} pixels.*multiples of {multiple}, from {2 * multiple} on",
    ):
        enhancer.restore(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("settings", [{"attention": "none"}, {"attention": "rcan"}, {}])
def test_the_smallest_faces_that_are_allowed_are_restored(settings: dict[str, Any]) -> None:
    enhancer = tiny(bottleneck=8, **settings).eval()
    assert isinstance(enhancer, SPARNet)
    multiple = enhancer.network.multiple
    assert multiple == (8 if settings else 16)
    with torch.no_grad():
        face = faces(1, 3 * multiple)[..., : 2 * multiple, :]
        assert enhancer.restore(face).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "4d"}, "attention='4d' is unknown"),
        ({"activation": "relu"}, "activation='relu' is unknown"),
        ({"attention_branches": 8}, "attention_branches=8 .* 7 units: give 0 to 7"),
        ({"attention": "none", "attention_branches": 1}, "give 0 to 0"),
        ({"bottleneck": 3}, r"bottleneck=3 .* use one of \[2, 4, 8, 16\]"),
        ({"bottleneck": 32}, "bottleneck=32"),
        ({"width": 0}, "width=0 and blocks=1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny(**settings)


def test_spectral_instance_layers_for_the_large_network() -> None:
    """The pieces of SPARNetHD: no statistics of the batch, weights of spectral norm 1."""
    torch.manual_seed(0)
    layers = Layers("leaky_relu", "instance", spectral=True)
    network = SPARNetwork((2, 4, 8), 1, 4, bottleneck=4, image_size=16, layers=layers)
    for _ in range(15):
        together = network(faces())
    network.eval()
    torch.testing.assert_close(network(faces()), together, atol=1e-3, rtol=0)
    torch.testing.assert_close(network(faces()[:1]), network(faces())[:1])
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [torch.linalg.matrix_norm(w.flatten(1), 2).item() for w in weights]
    assert norms == pytest.approx([1.0] * len(norms), abs=0.05)
