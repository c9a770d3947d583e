"""LPIPS, FID and MPS against hand-computed values, on small random networks."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.metrics import inception, perceptual, ssim
from facehall_env.metrics.inception import InceptionV3
from facehall_env.metrics.mps import mps
from facehall_env.metrics.perceptual import (
    FID,
    LPIPS,
    LPIPS_TAPS,
    PERCEPTUAL_TAPS,
    PLANS,
    Features,
    Gaussian,
    frechet_distance,
    load_state,
)


def statistics(values: Tensor) -> Gaussian:
    gaussian = Gaussian(values.shape[1])
    gaussian.update(values)
    return gaussian


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A VGG19 of few channels, as the loaders will build it, and its weights with a classifier."""
    plan = [layer if isinstance(layer, str) else 2 for layer in PLANS["vgg19"]]
    monkeypatch.setitem(perceptual.PLANS, "vgg19", plan)  # type: ignore[arg-type]
    torch.manual_seed(0)
    whole = Features(plan, taps=(15,))  # type: ignore[arg-type]
    return {**whole.state_dict(), "classifier.0.weight": torch.zeros(3, 3)}


def test_networks_have_the_sizes_that_their_papers_say() -> None:
    """Convolutional parts: VGG16 14,714,688, VGG19 20,024,384, AlexNet 2,469,696."""
    counts = {"vgg16": 14_714_688, "vgg19": 20_024_384, "alexnet": 2_469_696}
    for name, plan in PLANS.items():
        last = sum(not isinstance(layer, str) for layer in plan) - 1
        with torch.device("meta"):
            network = Features(plan, (last,))
        assert sum(p.numel() for p in network.parameters()) == counts[name]


def test_taps_are_where_the_papers_have_them() -> None:
    """torchvision's numbers of the ReLUs, and the channels there."""
    with torch.device("meta"):
        vgg19 = Features(PLANS["vgg19"], PERCEPTUAL_TAPS)
        vgg16 = Features(PLANS["vgg16"], LPIPS_TAPS["vgg16"])
        alexnet = Features(PLANS["alexnet"], LPIPS_TAPS["alexnet"])
    assert vgg19.ends == [1, 6, 11, 20, 29]
    assert vgg16.ends == [3, 8, 15, 22, 29]
    assert alexnet.ends == [1, 4, 7, 9, 11]
    assert vgg19.channels == vgg16.channels == [64, 128, 256, 512, 512]
    assert alexnet.channels == [64, 192, 384, 256, 256]


def test_features_are_those_of_a_plain_chain() -> None:
    torch.manual_seed(0)
    network = Features((2, "M", 3), taps=(0, 1))
    images = torch.rand(2, 3, 6, 6)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    one, two = (m for m in network.features if isinstance(m, nn.Conv2d))
    first = one((images - mean) / std).relu()
    second = two(nn.functional.max_pool2d(first, 2)).relu()
    for found, expected in zip(network(images), (first, second), strict=True):
        torch.testing.assert_close(found, expected)


def test_lpips_by_hand() -> None:
    """One layer that hands the normalised colours on; one pixel each."""
    network = Features(((3, 1, 1, 0),), taps=(0,))
    with torch.no_grad():
        layer = network.features[0]
        assert isinstance(layer, nn.Conv2d)
        layer.weight.copy_(torch.eye(3)[:, :, None, None])
        layer.bias.zero_()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    a, b = np.array([0.9, 0.6, 0.5]), np.array([0.6, 0.9, 0.7])
    units = [(c - mean) / std for c in (a, b)]
    units = [u / np.linalg.norm(u) for u in units]
    weights = np.array([0.5, 1.0, 2.0])
    expected = (weights * (units[0] - units[1]) ** 2).sum()
    x = torch.tensor(a).float().view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    y = x.clone()
    y[..., 0, 0] = torch.tensor(b).float()  # One pixel of four differs.
    lpips = LPIPS(network, [torch.tensor(weights)])
    assert lpips(x, y).item() == pytest.approx(expected / 4, rel=1e-5)
    assert lpips(torch.cat((x, x)), torch.cat((y, x))).tolist() == pytest.approx([expected / 4, 0])


def test_lpips_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ((2, 3, 1, 1), "P", 3, 3, 3, 3)
    monkeypatch.setitem(perceptual.PLANS, "alexnet", plan)  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = Features(plan, LPIPS_TAPS["alexnet"])
    weights = [torch.rand(channels) for channels in (2, 3, 3, 3, 3)]
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    linear = {f"lin{n}.model.1.weight": w.view(1, -1, 1, 1) for n, w in enumerate(weights)}
    torch.save(linear, tmp_path / "lin.pth")
    loaded = LPIPS.load(tmp_path / "alexnet.pth", tmp_path / "lin.pth")
    x, y = torch.rand(2, 2, 3, 16, 16)
    torch.testing.assert_close(loaded(x, y), LPIPS(network, weights)(x, y))
    del linear["lin2.model.1.weight"]
    save_file(linear, tmp_path / "lin.safetensors")
    with pytest.raises(WeightsError, match=r"weigh \[2, 3, 3, 3\] channels"):
        LPIPS.load(tmp_path / "alexnet.pth", tmp_path / "lin.safetensors")


def test_mps_is_the_mean_of_ssim_and_one_minus_lpips() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(2, 2, 3, 16, 16)
    lpips = LPIPS(Features((2,), (0,)), [torch.ones(2)])
    expected = 0.5 * (ssim(x, y) + (1 - lpips(x, y)))
    torch.testing.assert_close(mps(x, y, lpips), expected)
    assert mps(x, x, lpips).tolist() == pytest.approx([1, 1])


def test_statistics_of_batches_are_those_of_everything() -> None:
    values = torch.randn(23, 3, generator=torch.Generator().manual_seed(0)) + 1000
    gaussian = Gaussian(3)
    for part in values.split(7):
        gaussian.update(part)
    everything = values.double().numpy()
    np.testing.assert_allclose(gaussian.mean.numpy(), everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        gaussian.covariance.numpy(), np.cov(everything, rowvar=False), rtol=1e-9
    )


def test_the_distance_of_two_gaussians_on_a_line() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2."""
    one = statistics(torch.tensor([[0.0], [2.0], [4.0]]))  # Mean 2, variance 4.
    two = statistics(torch.tensor([[4.0], [5.0], [6.0]]))  # Mean 5, variance 1.
    assert frechet_distance(one, two) == pytest.approx(9 + 1)


def test_the_distance_of_gaussians_that_do_not_commute() -> None:
    """Against the root of the product's eigenvalues, of two covariances chosen by hand."""
    # The points (+-2, 0), (0, +-1) and the same, turned by 45 degrees and moved by (3, 4).
    cross = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).double() / 2**0.5
    one, two = statistics(cross), statistics(cross @ turn + torch.tensor([3.0, 4.0]))
    # Covariances diag(8, 2) / 3 and [[5, 3], [3, 5]] / 3: their product has trace 50 / 9 and
    # determinant (16 / 9)^2, so the trace of its root is sqrt(50 / 9 + 2 * 16 / 9).
    expected = 25 + 2 * 10 / 3 - 2 * (82 / 9) ** 0.5
    assert frechet_distance(one, two) == pytest.approx(expected)
    assert frechet_distance(two, one) == pytest.approx(expected)


def test_fewer_images_than_features_do_not_break_the_distance() -> None:
    values = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    # The root of rounding errors of 1e-16 is 1e-8.
    assert frechet_distance(statistics(values), statistics(values)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ConfigurationError, match="1 images have no covariance"):
        frechet_distance(statistics(values), statistics(values[:1]))


def test_fid_over_any_features() -> None:
    fid = FID(lambda images: images.mean((2, 3))[:, :1] * 10, channels=1)
    for level in (0.0, 0.2, 0.4):
        fid.update(torch.full((1, 3, 4, 4), level), real=True)
    for level in (0.4, 0.5, 0.6):
        fid.update(torch.full((1, 3, 4, 4), level), real=False)
    assert fid.compute() == pytest.approx(9 + 1, rel=1e-5)


def test_vgg19_is_read_from_either_kind_of_file(small, tmp_path: Path) -> None:
    images = torch.rand(1, 3, 32, 32)
    expected = Features(perceptual.PLANS["vgg19"], PERCEPTUAL_TAPS)
    expected.load_state_dict({k: v for k, v in small.items() if k in expected.state_dict()})
    torch.save(small, tmp_path / "vgg19.pth")
    save_file(small, tmp_path / "vgg19.safetensors")
    for name in ("vgg19.pth", "vgg19.safetensors"):
        network = perceptual.vgg19(tmp_path / name)
        for found, wanted in zip(network(images), expected(images), strict=True):
            assert torch.equal(found, wanted)
        assert not any(p.requires_grad for p in network.parameters())


def test_missing_and_wrong_files_say_what_to_get(small, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"LPIPS needs the ImageNet weights of vgg16.*docs/perc"):
        LPIPS.load(None, None, "vgg16")
    with pytest.raises(WeightsError, match=r"FID needs the weights of InceptionV3.*docs/perc"):
        inception.load(None)
    with pytest.raises(WeightsError, match="should hold the weights of vgg19: check the path"):
        perceptual.vgg19(tmp_path / "absent.pth")
    del small["features.5.weight"]
    save_file(small, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"features\.5\.weight is absent in the file"):
        perceptual.vgg19(tmp_path / "part.safetensors")
    (tmp_path / "text.pth").write_text("no weights at all")
    with pytest.raises(WeightsError, match=r"text\.pth cannot be read"):
        perceptual.vgg19(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    with pytest.raises(WeightsError, match="cannot be read"):
        perceptual.vgg19(tmp_path / "text.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds a list that is no state dictionary"):
        perceptual.vgg19(tmp_path / "list.pth")


class Payload:
    """What a hostile file would run."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[type, str, bool]]:
        return setattr, (Payload, "ran", True)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_files_cannot_run_code(way, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pth"
    if way == "torch":
        torch.save({"features.0.weight": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps({"features.0.weight": Payload()}, protocol=2))
    with pytest.raises(WeightsError, match="cannot be read"):
        load_state(path, "weights")
    assert not Payload.ran


def test_inception_has_the_layers_of_the_paper() -> None:
    """Without its classifier, 21,785,568 parameters; and the names that its files have."""
    with torch.device("meta"):
        network = InceptionV3()
        features = network(torch.empty(2, 3, 64, 64))
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    assert features.shape == (2, 2048)
    names = network.state_dict().keys()
    assert len({name.rsplit(".", 2)[0] for name in names}) == 94
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_2.bn.running_var",
        "Mixed_6c.branch7x7dbl_5.conv.weight",
        "Mixed_7c.branch3x3dbl_3b.bn.weight",
    } <= names
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["Mixed_6b.branch7x7_2.conv.weight"] == (128, 128, 1, 7)
    assert shapes["Mixed_7c.branch_pool.conv.weight"] == (192, 2048, 1, 1)


def test_inceptions_grids_are_those_of_the_paper() -> None:
    """35x35 cells of 288 channels, 17x17 of 768, 8x8 of 2048 (its Table 1)."""
    seen = {}
    with torch.device("meta"):
        network = InceptionV3()
        for name in ("Mixed_5d", "Mixed_6e", "Mixed_7c"):
            network.get_submodule(name).register_forward_hook(
                lambda module, _, out, name=name: seen.update({name: tuple(out.shape[1:])})
            )
        network(torch.empty(1, 3, 512, 512))
    assert seen == {
        "Mixed_5d": (288, 35, 35),
        "Mixed_6e": (768, 17, 17),
        "Mixed_7c": (2048, 8, 8),
    }


def test_the_two_kinds_of_inception_pool_differently() -> None:
    corner = torch.ones(1, 1, 4, 4)
    counted = inception._pool(corner, "average", count_padding=True)
    left_out = inception._pool(corner, "average", count_padding=False)
    assert counted[0, 0, 0, 0].item() == pytest.approx(4 / 9)
    assert left_out[0, 0, 0, 0].item() == pytest.approx(1)


@pytest.mark.parametrize(("classes", "published"), [(1008, True), (1000, False), (None, True)])
def test_inceptions_kind_is_seen_from_its_classifier(
    classes, published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(nn.Linear):
        def __init__(self, published: bool) -> None:
            super().__init__(2, 2)
            self.published = published

    monkeypatch.setattr(inception, "InceptionV3", Small)
    torch.manual_seed(0)
    state = {"weight": torch.rand(2, 2), "bias": torch.rand(2)}
    if classes is not None:
        state["fc.weight"] = torch.zeros(classes, 3)
    save_file(state, tmp_path / "inception.safetensors")
    network = inception.load(tmp_path / "inception.safetensors")
    assert network.published is published
    assert torch.equal(network.get_parameter("weight"), state["weight"])
