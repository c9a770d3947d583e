"""The mean of several networks, with and without their mirrored selves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from facehall_env import enhancers
from facehall_env.benchmarks.cli import program as cli
from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer, Ensemble
from facehall_env.errors import ConfigurationError, WeightsError


def trained(name: str, seed: int, **config: object) -> Enhancer:
    """A network whose weights are noise, so that no two do the same."""
    torch.manual_seed(seed)
    enhancer = enhancers.make(name, **config)
    for parameter in enhancer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return enhancer.eval()


@pytest.fixture
def members() -> list[Enhancer]:
    return [
        trained("light", 0, width=8, blocks=1),
        trained("compact", 1, width=8, blocks=1),
        trained("sisn", 2, width=4, groups=1, blocks=1),
    ]


@pytest.fixture
def faces() -> Faces:
    hr = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    lr = torch.nn.functional.avg_pool2d(hr, 4)
    return Faces(hr, lr, torch.nn.functional.interpolate(lr, scale_factor=4))


def one_by_one(members: list[Enhancer], faces: Faces) -> list[Tensor]:
    light, compact, sisn = members
    with torch.no_grad():
        return [
            light.restore(faces.initial),
            compact.whole_face()(faces.initial),
            # Takes the small faces themselves.
            sisn.network(faces.lr),
        ]


def mirrored(faces: Faces) -> Faces:
    return Faces(*(image.flip(3) for image in faces[:3]))


@torch.no_grad()
def test_the_mean_of_all(members, faces) -> None:
    ensemble = Ensemble.of(members, mirror=False)
    expected = sum(one_by_one(members, faces)) / 3
    torch.testing.assert_close(ensemble.restore(faces.initial, faces.lr), expected)


@torch.no_grad()
def test_the_mean_with_mirrored_faces(members, faces) -> None:
    ensemble = Ensemble.of(members)
    restored = ensemble.restore(faces.initial, faces.lr)
    plain = one_by_one(members, faces)
    turned = [image.flip(3) for image in one_by_one(members, mirrored(faces))]
    torch.testing.assert_close(restored, sum(plain + turned) / 6)
    other = mirrored(faces)
    torch.testing.assert_close(ensemble.restore(other.initial, other.lr), restored.flip(3))


@torch.no_grad()
def test_faces_of_which_only_the_enlarged_ones_are_at_hand(members, faces) -> None:
    ensemble = Ensemble.of(members[2:], mirror=False)
    small = enhancers.base.shrink(faces.initial, 4)
    torch.testing.assert_close(ensemble.whole_face()(faces.initial), members[2].network(small))


@torch.no_grad()
def test_an_environment_pastes_its_pieces(members, faces) -> None:
    core = HallucinationCore(
        Ensemble.of(members), image_size=(32, 32), patch_size=(32, 32), initial=members[0]
    )
    state = core.reset(faces)
    torch.testing.assert_close(state.image, members[0].restore(faces.initial).clamp(0, 1))
    # A patch as large as the face, around its centre.
    state, _, _ = core.step(state, torch.tensor([15 * 32 + 15] * 2))
    expected = core.enhancer.restore(faces.initial, faces.lr).clamp(0, 1)
    torch.testing.assert_close(state.image, expected)


def test_saved_and_loaded(members, faces, tmp_path: Path) -> None:
    ensemble = Ensemble.of(members)
    enhancers.save(ensemble, tmp_path / "all.safetensors")
    loaded = enhancers.load(tmp_path / "all.safetensors")
    with torch.no_grad():
        expected = ensemble.restore(faces.initial, faces.lr)
        assert loaded.restore(faces.initial, faces.lr).equal(expected)
    assert [member.name for member in loaded.members] == ["light", "compact", "sisn"]


def test_gradients_reach_all_members(members, faces) -> None:
    ensemble = Ensemble.of(members)
    (ensemble.restore(faces.initial, faces.lr) - faces.hr).square().mean().backward()
    for member in ensemble.members:
        assert sum(p.grad.abs().sum() for p in member.parameters() if p.grad is not None) > 0


def test_the_command(members, faces, tmp_path: Path, capsys) -> None:
    enhancers.save(members[0], tmp_path / "light.safetensors", {"updates": 7})
    words = ["train", "ensemble", "--no-mirror", "--members", str(tmp_path / "light.safetensors")]
    out = tmp_path / "ensemble.safetensors"
    assert cli.main([*words, "bicubic", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    loaded = enhancers.load(out)
    with torch.no_grad():
        expected = (members[0].restore(faces.initial) + faces.initial) / 2
        torch.testing.assert_close(loaded.restore(faces.initial), expected)
    assert loaded.provenance["members"][0] == {"updates": 7}


class TestBadInput:
    def test_no_members(self) -> None:
        with pytest.raises(ConfigurationError, match="has no members"):
            Ensemble(members=[])
        with pytest.raises(ConfigurationError, match="members with scale none"):
            Ensemble.of([])

    def test_different_scales(self, members) -> None:
        other = enhancers.make("light", scale=8, width=8, blocks=1)
        with pytest.raises(ConfigurationError, match="members with scale 4, 8"):
            Ensemble.of([members[0], other])

    def test_different_patches(self, members) -> None:
        other = enhancers.make("light", patch_size=(16, 8), width=8, blocks=1)
        assert Ensemble.of([other]).patch_size == (16, 8)
        with pytest.raises(ConfigurationError, match=r"patch_size \(16, 8\), \(60, 45\)"):
            Ensemble.of([members[0], other])

    def test_a_member_without_a_name(self) -> None:
        with pytest.raises(ConfigurationError, match="has no name"):
            Ensemble(members=[{"config": {}}])

    def test_a_file_for_another_scale(self, tmp_path: Path, capsys) -> None:
        path = tmp_path / "light.safetensors"
        enhancers.save(enhancers.make("light", scale=8, width=8, blocks=1), path)
        assert cli.main(["train", "ensemble", "--members", str(path)]) == 2
        assert "is made for scale 8, but --scale is 4" in capsys.readouterr().err

    def test_a_member_of_patches_only(self) -> None:
        with pytest.raises(ConfigurationError, match="'ipfh' works on patches"):
            Ensemble(members=[{"name": "ipfh", "config": {}}])

    def test_weights_that_are_missing(self, tmp_path: Path, capsys) -> None:
        missing = tmp_path / "none.safetensors"
        assert cli.main(["train", "ensemble", "--members", str(missing)]) == 2
        assert str(missing) in capsys.readouterr().err
        with pytest.raises(WeightsError, match="facehall train ensemble --members"):
            enhancers.make("ensemble", members=[], weights="auto")
