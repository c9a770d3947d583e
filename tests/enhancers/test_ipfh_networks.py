"""IPFH's coarse hallucinator and local restorer: sizes, what they see, and that they learn."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import enhancers
from facehall_env.data import Faces, protocols
from facehall_env.enhancers import Enhancer, OneShot, parameter_count
from facehall_env.enhancers.whole_face.coarse import Coarse, ResidualHourglass
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.spec import build_from_keywords, load_initial

TINY: dict[str, dict[str, Any]] = {
    "coarse": {"width": 16, "patch_size": (8, 8)},
    "ipfh": {"width": 16, "patch_size": (8, 8)},
}


def tiny(name: str, **settings: Any) -> Enhancer:
    torch.manual_seed(0)
    return enhancers.make(name, scale=8, **{**TINY[name], **settings})


def lively(name: str, **settings: Any) -> Enhancer:
    """A tiny network whose last layers, which start at zero, have something to say."""
    enhancer = tiny(name, **settings)
    for parameter in enhancer.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.03)
    return enhancer


def blocks(number: int = 4) -> Faces:
    """Faces of 32x32 pixels with edges, at scale 8."""
    noise = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return protocols.get("bicubic").degrade(functional.interpolate(noise, scale_factor=4), 8)


def restored(enhancer: Enhancer, faces: Faces) -> tuple[Tensor, Tensor]:
    """What it makes of whole faces, or of the patch in their middle, and the truth."""
    if isinstance(enhancer, OneShot):
        return enhancer.restore(faces.initial, faces.lr), faces.hr
    centre = torch.full((len(faces.hr), 2), 15)
    middle = (..., slice(12, 20), slice(12, 20))
    return enhancer(faces.initial[middle], faces.initial, centre), faces.hr[middle]


def convolution(inputs: int, outputs: int) -> int:
    """Weights and biases of a 3x3 one."""
    return 9 * inputs * outputs + outputs


class TestSizes:
    def test_coarse_by_arithmetic(self) -> None:
        def unit(inputs: int, outputs: int) -> int:
            # Norm and slopes before, two convolutions without bias, one on the shortcut.
            norms = 2 * inputs + 2 * outputs + 2 * outputs
            weights = 9 * inputs * outputs + 9 * outputs * outputs
            return norms + inputs + outputs + weights + convolution(inputs, outputs)

        widths = (16, 32, 64, 128, 128, 128)
        hourglass = sum(unit(a, b) + unit(b, a) for a, b in pairwise(widths))
        leave = 2 * 16 + 16 + convolution(16, 3)
        for stacks in (1, 2, 3):
            expected = stacks * (convolution(3, 16) + hourglass + leave)
            with torch.device("meta"):  # Counted, never filled.
                assert parameter_count(enhancers.make("coarse", stacks=stacks)) == expected
        assert 2 * (convolution(3, 16) + hourglass + leave) == parameter_count(Coarse())

    @pytest.mark.parametrize("width", [256, 64])
    def test_ipfh_by_arithmetic(self, width: int) -> None:
        half, quarter = width // 2, width // 4
        branch = convolution(3, quarter) + convolution(quarter, half) + 2 * convolution(half, half)
        fuse = convolution(width, half) + 2 * convolution(half, half) + convolution(half, 3)
        assert parameter_count(enhancers.make("ipfh", width=width)) == 2 * branch + fuse

    def test_the_papers_depths(self) -> None:
        """Table VI: 10 layers, residual blocks here, in an hourglass, and 8 in the restorer."""
        sizes: list[tuple[int, int]] = []
        network = enhancers.make("coarse").network  # type: ignore[union-attr]
        hourglass = network.hourglasses[0]  # type: ignore[union-attr,index]
        units = 0
        while isinstance(hourglass, ResidualHourglass):
            units += 2
            hourglass.down.register_forward_hook(
                lambda module, given, out: sizes.append((out.shape[1], out.shape[2]))
            )
            hourglass = hourglass.inner
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, 128, 128))  # type: ignore[union-attr,operator]
        assert units == 10
        assert sizes == [(32, 64), (64, 32), (128, 16), (128, 8), (128, 4)]
        restorer = enhancers.make("ipfh")
        fused: list[tuple[int, ...]] = []
        restorer.fuse.register_forward_pre_hook(  # type: ignore[union-attr]
            lambda module, given: fused.append(tuple(given[0].shape[1:]))
        )
        with torch.no_grad():
            restorer(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 128, 128), torch.zeros(1, 2))
        assert fused == [(256, 32, 32)]
        parts = (restorer.patch_branch, restorer.fuse)
        assert sum(isinstance(m, nn.Conv2d) for part in parts for m in part.modules()) + 1 == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("name", TINY)
class TestBoth:
    def test_untrained_it_is_the_identity(self, name: str) -> None:
        faces = blocks()
        with torch.no_grad():
            found, _ = restored(tiny(name).eval(), faces)
            expected, _ = restored(enhancers.OneShot(nn.Identity(), 8, (8, 8)), faces)
        if name == "ipfh":
            expected = faces.initial[..., 12:20, 12:20]
        assert torch.equal(found, expected)

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        enhancer = lively(name)
        found, truth = restored(enhancer, blocks())
        functional.mse_loss(found, truth).backward()
        for part, parameter in enhancer.named_parameters():
            assert parameter.grad is not None, part
            assert parameter.grad.abs().sum() > 0, part

    def test_it_learns_in_a_few_updates(self, name: str) -> None:
        """A truth that is paler than what the low resolution was made of."""
        faces, enhancer = blocks(), tiny(name).train()
        faces = faces._replace(hr=0.6 * faces.hr + 0.3)
        optimizer = torch.optim.Adam(enhancer.parameter_groups(5e-3))
        losses = []
        for _ in range(10):
            loss = functional.mse_loss(*restored(enhancer, faces))
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.8 * losses[0]

    def test_saved_it_comes_back(self, name: str, tmp_path: Path) -> None:
        enhancer, faces = lively(name).eval(), blocks()
        enhancers.save(enhancer, tmp_path / "weights.safetensors")
        again = enhancers.load(tmp_path / "weights.safetensors")
        assert again.config == enhancer.config
        with torch.no_grad():
            found, expected = restored(again, faces)[0], restored(enhancer, faces)[0]
        assert torch.equal(found, expected)

    def test_an_episode_with_it(self, name: str) -> None:
        setup = build_from_keywords(enhancer=lively(name), scale=8, num_steps=2, reward="delta_mse")
        images = setup.dataset.batch([0, 1])
        state = setup.core.reset(setup.protocol.degrade(images, 8))
        after, reward, _ = setup.core.step(state, torch.tensor([2_000, 70]))
        changed = (after.image != state.image).any(1).flatten(1).sum(1)
        # 8x8 pixels; of the second, around (0, 70), those from row -3 to 4: five of them inside.
        assert (changed <= torch.tensor([64, 5 * 8])).all()
        assert (changed > 0).all()
        assert (reward != 0).all()


class TestCoarse:
    def test_the_second_hourglass_sees_what_the_first_made(self) -> None:
        """And adds to it: with its last layer at zero nothing changes."""
        enhancer = lively("coarse").eval()
        network, initial = enhancer.network, blocks().initial  # type: ignore[union-attr]
        seen = []
        network.again[0].register_forward_pre_hook(  # type: ignore[union-attr,index]
            lambda module, given: seen.append(given[0])
        )
        with torch.no_grad():
            for parameter in network.leave[1][2].parameters():  # type: ignore[union-attr,index]
                parameter.zero_()
            first = enhancer.restore(initial)  # type: ignore[operator]
        torch.testing.assert_close((seen[0] + 1) / 2, first)
        assert (first - initial).abs().max() > 1e-3

    def test_all_scales_are_combined(self) -> None:
        """One pixel moves every other: the bottleneck sees the face, the skips keep its place."""
        enhancer = lively("coarse", stacks=1).eval()
        initial = blocks(1).initial.requires_grad_()
        enhancer.restore(initial)[0, :, 3, 3].sum().backward()  # type: ignore[operator]
        assert initial.grad is not None
        strength = initial.grad.abs().sum(1)[0]
        assert (strength > 0).all()
        near, far = strength[2:5, 2:5].mean(), strength[20:, 20:].mean()
        assert near > 3 * far

    def test_bad_settings_and_sizes_are_named(self) -> None:
        with pytest.raises(ConfigurationError, match="width=20, which 8 does not divide"):
            enhancers.make("coarse", width=20)
        with pytest.raises(ConfigurationError, match="stacks=0"):
            enhancers.make("coarse", stacks=0)
        with pytest.raises(ConfigurationError, match="48x32 pixels, expected multiples of 32"):
            tiny("coarse").restore(torch.zeros(1, 3, 48, 32))  # type: ignore[operator]

    def test_episodes_start_from_its_faces(self, tmp_path: Path) -> None:
        enhancer = lively("coarse").eval()
        enhancers.save(enhancer, tmp_path / "coarse.safetensors")
        setup = build_from_keywords(
            enhancer="bicubic", scale=8, initial=tmp_path / "coarse.safetensors", num_steps=1
        )
        faces = setup.protocol.degrade(setup.dataset.batch([3]), 8)
        with torch.no_grad():
            expected = enhancer.restore(faces.initial).clamp(0, 1)  # type: ignore[operator]
        torch.testing.assert_close(setup.core.reset(faces).image, expected, atol=1e-5, rtol=0)

    def test_by_name_it_takes_the_weights_that_come_with_the_project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(enhancers.weights, "SHIPPED", tmp_path)
        with pytest.raises(WeightsError, match="facehall train sr --enhancer coarse --scale 8"):
            load_initial("coarse", 8)
        enhancer = lively("coarse").eval()
        enhancers.save(enhancer, tmp_path / "coarse-lfw-x8.safetensors")
        loaded = load_initial("coarse", 8, "lfw")
        assert isinstance(loaded, Coarse)
        face = blocks(1).initial
        with torch.no_grad():
            assert torch.equal(loaded.restore(face), enhancer.restore(face))  # type: ignore[operator]


class TestRestorer:
    def test_it_sees_the_whole_face_and_the_patch(self) -> None:
        enhancer, faces = lively("ipfh"), blocks(2)
        patch = faces.initial[..., 12:20, 12:20].clone().requires_grad_()
        image = faces.initial.clone().requires_grad_()
        residual = enhancer(patch, image, torch.full((2, 2), 15)) - patch
        residual[0].square().sum().backward()
        assert patch.grad is not None
        assert image.grad is not None
        assert (image.grad[0].abs().sum(0) > 0).all()
        assert (patch.grad[0].abs().sum(0) > 0).all()
        assert patch.grad[1].abs().sum() == image.grad[1].abs().sum() == 0

    def test_patches_of_any_size(self) -> None:
        enhancer = lively("ipfh", patch_size=(11, 7)).eval()
        patch, image = torch.rand(2, 3, 11, 7), torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            found = enhancer(patch, image, torch.full((2, 2), 15))
            enhancer.leave.weight.zero_(), enhancer.leave.bias.zero_()  # type: ignore[union-attr,operator]
            assert torch.equal(enhancer(patch, image, torch.full((2, 2), 15)), patch)
        assert found.shape == patch.shape
        assert (found != patch).all()

    def test_bad_widths_and_whole_faces_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="width=18"):
            enhancers.make("ipfh", width=18)
        with pytest.raises(ConfigurationError, match="works on patches"):
            tiny("ipfh").whole_face()
