"""Enhancers on disk: round trips, foreign and damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from facehall_env import enhancers
from facehall_env.checkpoints import save_tensors
from facehall_env.errors import WeightsError


@pytest.fixture
def compact() -> enhancers.Enhancer:
    torch.manual_seed(0)
    enhancer = enhancers.make("compact", scale=4, width=8, blocks=1, patch_size=(20, 12))
    nn.init.normal_(enhancer.network.tail.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    return enhancer.eval()


@pytest.fixture
def path(compact: enhancers.Enhancer, tmp_path: Path) -> Path:
    file = tmp_path / "compact.safetensors"
    enhancers.save(compact, file, {"command": "facehall train enhancer"})
    return file


def output(enhancer: enhancers.Enhancer) -> torch.Tensor:
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return enhancer(faces[:, :, :20, :12], faces, torch.tensor([[9, 5], [9, 5]]))


def test_a_loaded_enhancer_is_the_saved_one(compact, path) -> None:
    loaded = enhancers.load(path)
    assert loaded.provenance == {"command": "facehall train enhancer"}
    assert loaded.config == compact.config
    assert torch.equal(output(loaded), output(compact))
    by_name = enhancers.make("compact", scale=4, weights=path)
    assert torch.equal(output(by_name), output(compact))


def test_the_base_of_compact_is_stored_with_its_weights(tmp_path) -> None:
    torch.manual_seed(0)
    saved = enhancers.make("compact", scale=4, width=8, blocks=1, base="start")
    nn.init.normal_(saved.network.tail.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    enhancers.save(saved.eval(), tmp_path / "start.safetensors", {})
    loaded = enhancers.load(tmp_path / "start.safetensors")
    faces = torch.rand(3, 2, 3, 60, 45, generator=torch.Generator().manual_seed(1))
    location = torch.tensor([[29, 22], [29, 22]])
    given = faces[0], faces[1], location, faces[2]
    with torch.no_grad():
        assert torch.equal(loaded(*given), saved(*given))
    assert loaded.sees_start


def test_settings_that_need_no_weights_may_differ_from_the_file(path) -> None:
    assert enhancers.make("compact", weights=path, patch_size=(10, 10)).patch_size == (10, 10)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"name": "attention_fh"}, "name 'compact', expected 'attention_fh'"),
        ({"name": "compact", "scale": 8}, "scale 4, expected 8"),
        ({"name": "compact", "width": 16}, "body.0.first.bias is 8 in the file and 16"),
    ],
)
def test_weights_of_something_else_are_refused(path, wanted, message) -> None:
    with pytest.raises(WeightsError, match=message):
        enhancers.make(**wanted, weights=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"No enhancer file at .*absent"):
        enhancers.load(tmp_path / "absent.safetensors")


def test_a_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        enhancers.load(path)


def test_a_single_flipped_bit_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="fails its checksum"):
        enhancers.load(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="without our header, expected enhancer"):
        enhancers.load(tmp_path / "foreign.safetensors")
    save_tensors(tmp_path / "agent.safetensors", {}, {}, kind="agent")
    with pytest.raises(WeightsError, match="holds agent, expected enhancer"):
        enhancers.load(tmp_path / "agent.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04K*.")
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        enhancers.load(tmp_path / "pickle.pt")


def test_weights_that_do_not_come_with_the_project_are_named() -> None:
    with pytest.raises(WeightsError, match=r"No weights for 'attention_fh' at 3x .*train"):
        enhancers.make("attention_fh", scale=3, weights="auto")


def test_bicubic_needs_no_weights() -> None:
    assert enhancers.make("bicubic", scale=3, weights="auto").scale == 3
