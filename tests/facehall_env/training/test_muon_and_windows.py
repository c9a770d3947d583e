"""What trains the ladder of one-shot networks: Muon, windows of faces, the loss on decibels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facehall_env import data, limits, metrics
from facehall_env.checkpoints import load_tensors
from facehall_env.data import FaceDataset, protocols
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.nested import build, changed
from facehall_env.training.losses import face_loss
from facehall_env.training.muon import Muon, inner_matrices, make_optimizer, orthogonal
from facehall_env.training.settings import TrainSRConfig
from facehall_env.training.sr import SRTrainer, train_sr
from facehall_env.training.windows import WindowPool


class Numbered(FaceDataset):
    """Ten faces whose pixels say which row and column they are of."""

    def __init__(self, split: str = "train", size: int = 20) -> None:
        self.name, self.split, self.image_size = "numbered", split, (size, size)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> np.ndarray:
        side = self.image_size[0]
        rows, columns = np.mgrid[:side, :side]
        plane = np.full_like(rows, self.checked(index))
        return np.stack([rows, columns, plane], axis=2).astype(np.uint8)

    def key(self, index: int) -> str:
        return str(self.checked(index))


@pytest.fixture(autouse=True)
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS._factories, "numbered", Numbered)


def pool(window: int | None = 16, shift: int = 0) -> WindowPool:
    return WindowPool(
        Numbered(),
        protocols.get("bicubic"),
        4,
        held_out=2,
        progress=False,
        window=window,
        shift=shift,
    )


def settings(out: Path, **changes: object) -> TrainSRConfig:
    config = build(
        TrainSRConfig,
        enhancer="light-s",
        enhancer_settings=("width=16", "blocks=1", "image_size=[16,16]"),
        dataset="numbered",
        dataset_settings=("size=20",),
        window=16,
        shift=2,
        out=out,
        updates=8,
        batch=2,
        learning_rate=1e-3,
        late_loss="psnr",
        late_share=0.5,
        ema=0.5,
        validation_faces=2,
        validate_every=4,
        checkpoint_every=4,
        log_every=1,
    )
    return changed(config, **changes)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (30, 30)])
def test_directions_become_equally_long(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    made = left.T @ orthogonal(matrix) @ right.T
    # A square matrix may have directions that are nearly absent, which take longer.
    present = values / values.norm() > 0.02
    singular = made.diagonal()[present]
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    assert (made - made.diagonal().diag()).abs().max() < 0.1


def test_muon_leaves_the_ends_and_what_is_no_matrix_to_adam() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 1)
    )
    assert inner_matrices(network)[0] is network[1].weight
    assert inner_matrices(network)[1] is network[3].weight
    assert len(inner_matrices(network)) == 2
    everything = list(network.parameters())
    groups = [{"params": everything[:4], "lr": 1.0}, {"params": everything[4:], "lr": 0.5}]
    optimizer = Muon(network, groups)
    assert [(g["lr"], g["orthogonal"], len(g["params"])) for g in optimizer.param_groups] == [
        (1.0, True, 1),
        (1.0, False, 3),
        (0.5, True, 1),
        (0.5, False, 5),
    ]


def test_what_is_no_inner_matrix_moves_as_by_adam() -> None:
    weights = {}
    for kind in ("adam", "muon"):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        optimizer = make_optimizer(
            kind,  # type: ignore[arg-type]
            network,
            [{"params": list(network.parameters()), "lr": 0.01}],
            (0.9, 0.99),
        )
        for update in range(5):
            optimizer.zero_grad()
            (network(torch.ones(2, 3) * update) - 1).square().mean().backward()
            optimizer.step()
        weights[kind] = torch.cat([p.detach().flatten() for p in network.parameters()])
    torch.testing.assert_close(weights["muon"], weights["adam"])
    with pytest.raises(ConfigurationError, match="optimizer='sgd' is unknown"):
        make_optimizer("sgd", network, [], (0.9, 0.99))  # type: ignore[arg-type]


def test_steps_of_matrices_are_as_long_as_adams() -> None:
    network = nn.Sequential(nn.Linear(2, 40), nn.Linear(40, 30), nn.Linear(30, 1))
    inner = network[1].weight
    before = inner.detach().clone()
    optimizer = Muon(network, [{"params": list(network.parameters()), "lr": 0.1}])
    inner.grad = 1e-4 * torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    length = (inner.detach() - before).square().mean().sqrt()
    assert 0.7 * 0.02 < length < 1.1 * 0.02


def test_windows_lie_around_the_middle_and_of_held_out_faces_in_it() -> None:
    faces = pool(shift=2)
    corners = faces.draw_corners(500, torch.Generator().manual_seed(0))
    assert corners.amin(0).tolist() == [0, 0]
    assert corners.amax(0).tolist() == [4, 4]
    assert (corners.float().mean(0) - 2).abs().max() < 0.2
    seen = faces.windows(torch.tensor([3, 7]), torch.tensor([[0, 4], [1, 2]]))
    assert seen[:, :, 0, 0].tolist() == [[0, 4, 3], [1, 2, 7]]
    assert seen[:, :, -1, -1].tolist() == [[15, 19, 3], [16, 17, 7]]
    held = (faces.held_out().hr * 255).round()
    assert held[:, :, 0, 0].tolist() == [[2, 2, 8], [2, 2, 9]]


def test_without_a_shift_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert pool(window=None).draw_corners(3, generator).tolist() == [[0, 0]] * 3
    assert pool().draw_corners(3, generator).tolist() == [[2, 2]] * 3
    assert torch.equal(generator.get_state(), before)


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="window=16 moved by up to shift=3 pixels reaches"):
        pool(shift=3)
    with pytest.raises(ConfigurationError, match="window=24 moved by up to shift=0"):
        pool(window=24)
    with pytest.raises(ConfigurationError, match="window=None moved by up to shift=1"):
        pool(window=None, shift=1)


def test_the_loss_on_decibels_is_what_is_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, restored = (torch.rand(3, 3, 16, 16, generator=generator) for _ in range(2))
    loss = face_loss(restored, truth, "psnr")
    torch.testing.assert_close(-10 * loss.double(), metrics.psnr(restored, truth).mean())
    torch.testing.assert_close(
        face_loss(restored, truth, "mse"), (restored - truth).square().mean()
    )


def test_the_late_loss_rules_the_last_updates_only(tmp_path: Path) -> None:
    trainer = SRTrainer(settings(tmp_path))
    truth = torch.rand(1, 3, 16, 16)
    restored = truth + 0.1
    losses = []
    for trainer.step in range(8):
        losses.append(round(float(trainer._loss(restored, truth)), 2))
    assert losses == [0.1] * 4 + [-2.0] * 4
    with pytest.raises(UnknownNameError, match="Unknown late_loss 'ssim'"):
        limits.check(settings(tmp_path, late_loss="ssim"))


def test_a_resumed_run_makes_the_same_weights(tmp_path: Path, monkeypatch) -> None:
    train_sr(settings(tmp_path / "whole"))
    update = SRTrainer.update

    def interrupted(trainer: SRTrainer) -> dict[str, float]:
        if trainer.step == 6:
            raise KeyboardInterrupt
        return update(trainer)

    monkeypatch.setattr(SRTrainer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_sr(settings(tmp_path / "parts"))
    monkeypatch.undo()
    monkeypatch.setitem(data.DATASETS._factories, "numbered", Numbered)
    train_sr(settings(tmp_path / "parts", resume=True))
    for name in ("enhancer.safetensors", "best.safetensors"):
        first, second = (
            load_tensors(tmp_path / run / name, kind="enhancer")[0] for run in ("whole", "parts")
        )
        assert all(torch.equal(first[key], second[key]) for key in first)
