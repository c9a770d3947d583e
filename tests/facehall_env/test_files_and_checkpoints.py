"""Nothing is half-written; optimisers come back as they were; registries name what is near."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch

from facehall_env.checkpoints import load_tensors, pack_optimizer, save_tensors, unpack_optimizer
from facehall_env.errors import UnknownNameError, WeightsError
from facehall_env.files import atomic_path, cache_dir, sha256, write_text_atomic
from facehall_env.registry import Registry


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    write_text_atomic(file, "old")
    with pytest.raises(RuntimeError, match="interrupted"), atomic_path(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("interrupted")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_one_sentence_and_keeps_the_checkpoint(tmp_path, monkeypatch) -> None:
    file = tmp_path / "state.safetensors"
    save_tensors(file, {"a": torch.ones(2)}, {"step": 1}, kind="training")

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facehall_env.checkpoints.save_file", no_space)
    with pytest.raises(WeightsError, match=r"No space left on device.*previous file.*intact"):
        save_tensors(file, {"a": torch.zeros(2)}, {"step": 2}, kind="training")
    tensors, state = load_tensors(file, kind="training")
    assert tensors["a"].tolist() == [1, 1]
    assert state == {"step": 1}


def test_tensors_of_all_kinds_come_back_bit_by_bit(tmp_path: Path) -> None:
    saved = {
        "scalar": torch.tensor(1.5),
        "half": torch.randn(3).bfloat16(),
        "mask": torch.tensor([[True, False]]),
        "view": torch.arange(6).reshape(2, 3).t(),
        "empty": torch.zeros(0, 4),
    }
    save_tensors(tmp_path / "x.safetensors", saved, {}, kind="training")
    loaded, _ = load_tensors(tmp_path / "x.safetensors", kind="training")
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_restored_optimiser_takes_the_same_next_step(amsgrad: bool) -> None:
    def descend(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (parameter**3).sum().backward()
        optimizer.step()

    first = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.Adam([first], lr=0.1, amsgrad=amsgrad)
    for _ in range(3):
        descend(first, optimizer)
    second = torch.nn.Parameter(first.detach().clone())
    other = torch.optim.Adam([second], lr=9.0, amsgrad=amsgrad)
    unpack_optimizer(other, *pack_optimizer(optimizer))
    descend(first, optimizer)
    descend(second, other)
    assert torch.equal(first, second)


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected


def test_the_cache_can_be_moved(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


def test_registries_list_name_and_load_entry_points(monkeypatch) -> None:
    registry: Registry[float] = Registry("number", "facehall_env.numbers")
    registry.register("one")(lambda: 1.0)
    point = metadata.EntryPoint("pi", "math:sqrt", "facehall_env.numbers")
    monkeypatch.setattr(registry, "_entry_points", lambda: (point,))
    assert registry.available() == ["one", "pi"]
    assert registry.get("pi")(16) == 4.0
    with pytest.raises(UnknownNameError, match=r"Unknown number 'ones': did you mean 'one'\?"):
        registry.get("ones")
