"""Training of whole-face networks: schedules and averages by hand, views, resumption, errors."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from facehall_env import data, enhancers, metrics
from facehall_env.data import FaceDataset
from facehall_env.data.resize import resize
from facehall_env.enhancers import OneShot, Recipe
from facehall_env.errors import ConfigurationError, EnhancerError, FacehallError
from facehall_env.nested import build
from facehall_env.training import sr
from facehall_env.training.augment import Views, draw_views, look
from facehall_env.training.distributed import Team
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import learning_rate, moving_average
from facehall_env.training.settings import TrainSRConfig
from facehall_env.training.sr import SRTrainer, train_sr


class Blocks(FaceDataset):
    """Small pictures with edges, which cost nothing to make."""

    def __init__(self, split: str = "train", size: tuple[int, int] = (16, 16)) -> None:
        self.name, self.split, self.image_size = "blocks", split, size

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(self.checked(index))
        height, width = (side // 2 for side in self.image_size)
        levels = rng.integers(0, 256, (height, width, 3))
        return np.kron(levels, np.ones((2, 2, 1))).astype(np.uint8)

    def key(self, index: int) -> str:
        return str(self.checked(index))


class Small(OneShot):
    """A residual network with normalisation and dropout, which both have to be resumed."""

    name = "small"
    recipe = Recipe(loss="mse", learning_rate=2e-3, batch=4, schedule="constant")

    def __init__(
        self,
        scale: int,
        patch_size: tuple[int, int] = (8, 8),
        width: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(nn.Identity(), scale, patch_size, width=width, dropout=dropout)
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width) if dropout else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def restore(self, initial: Tensor, lr: Tensor | None = None) -> Tensor:
        restored: Tensor = initial + self.network(initial)
        return restored


class FromLow(OneShot):
    """Sees the low resolution only."""

    name = "from_low"

    def __init__(self, scale: int) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 3 * scale**2, 1), nn.PixelShuffle(scale)),
            scale,
            (8, 8),
            takes="lr",
        )


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS._factories, "blocks", Blocks)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "small", Small)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "from_low", FromLow)


def small(out: Path, **settings: Any) -> TrainSRConfig:
    defaults: dict[str, Any] = {
        "enhancer": "small",
        "out": out,
        "dataset": "blocks",
        "protocol": "bicubic",
        "scale": 2,
        "updates": 8,
        "ema": 0.9,
        "validation_faces": 3,
        "log_every": 1,
        "validate_every": 3,
        "checkpoint_every": 2,
    }
    return build(TrainSRConfig, **{**defaults, **settings})


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class TestSchedules:
    def test_cosine_by_hand(self) -> None:
        rates = [learning_rate("cosine", 2.0, update, 4) for update in range(4)]
        falling = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
        assert rates == pytest.approx([2 * (0.01 + 0.99 * share) for share in falling])

    def test_step_by_hand(self) -> None:
        rates = [learning_rate("step", 8e-4, n, 99, step_updates=50) for n in (0, 49, 50, 99)]
        assert rates == pytest.approx([8e-4, 8e-4, 4e-4, 4e-4])
        assert learning_rate("step", 1.0, 150, 200, step_updates=50) == 0.125

    def test_warm_up_multiplies(self) -> None:
        bare = [learning_rate("cosine", 1.0, n, 10) for n in range(5)]
        warm = [learning_rate("cosine", 1.0, n, 10, warm_up=4) for n in range(5)]
        shares = (0.25, 0.5, 0.75, 1, 1)
        assert warm == pytest.approx([s * rate for s, rate in zip(shares, bare, strict=True)])

    def test_unknown(self) -> None:
        with pytest.raises(ConfigurationError, match="schedule='linear' is unknown"):
            learning_rate("linear", 1.0, 0, 1)  # type: ignore[arg-type]

    def test_average_of_three_updates_by_hand(self) -> None:
        network = nn.BatchNorm1d(1)
        average = moving_average(network, 0.15)
        for weight, seen in ((2.0, 5.0), (4.0, 6.0), (-3.0, 7.0)):
            network.weight.data.fill_(weight)
            network.running_mean.fill_(seen)
            average.update_parameters(network)
        # The first copies; then d = min(0.15, 2 / 11) and min(0.15, 3 / 12).
        second = 0.15 * 2 + 0.85 * 4
        assert average.module.weight.item() == pytest.approx(0.15 * second + 0.85 * -3)
        assert average.module.running_mean.item() == 7

    def test_average_of_the_first_updates_forgets_the_start(self) -> None:
        network = nn.Linear(1, 1, bias=False)
        average = moving_average(network, 0.999)
        for weight in (1.0, 0.0):
            network.weight.data.fill_(weight)
            average.update_parameters(network)
        assert average.module.weight.item() == pytest.approx(2 / 11)


def views(number: int, **settings: Any) -> Views:
    """Views that change nothing but what is set."""
    neutral = Views(
        flip=torch.zeros(number, dtype=torch.bool),
        zoom=torch.ones(number),
        place=torch.zeros(number, 2),
        turns=torch.zeros(number, dtype=torch.int64),
    )
    return neutral._replace(**{name: torch.tensor(value) for name, value in settings.items()})


class TestViews:
    def test_the_same_generator_draws_the_same_views(self) -> None:
        first, again = (
            draw_views(50, ("flip", "scale", "rotate"), torch.Generator().manual_seed(3))
            for _ in range(2)
        )
        assert all(a.equal(b) for a, b in zip(first, again, strict=True))
        assert set(first.turns.tolist()) == {0, 1, 2, 3}
        assert 10 < int(first.flip.sum()) < 40
        assert 1 <= first.zoom.min() < 1.1 < 1.2 < first.zoom.max() <= 1.3

    def test_what_is_not_asked_for_is_left_alone_and_drawn_all_the_same(self) -> None:
        generators = [torch.Generator().manual_seed(3) for _ in range(2)]
        every = draw_views(20, ("flip", "scale", "rotate"), generators[0])
        flips = draw_views(20, ("flip",), generators[1])
        assert flips.flip.equal(every.flip)
        assert flips.zoom.unique().tolist() == [1]
        assert flips.turns.unique().tolist() == [0]
        assert generators[0].get_state().equal(generators[1].get_state())

    def test_mirrored_and_turned(self) -> None:
        image = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8).expand(4, 3, 2, 2)
        seen = look(image, views(4, flip=[False, True, False, True], turns=[0, 0, 1, 2]))
        expected = [[0, 1, 2, 3], [1, 0, 3, 2], [1, 3, 0, 2], [2, 3, 0, 1]]
        assert seen.dtype == torch.uint8
        assert seen[:, 0].flatten(1).tolist() == expected

    def test_enlarged_is_a_window_of_the_larger_image(self) -> None:
        # A ramp stays a ramp, of a slope smaller by the zoom, away from the border.
        ramp = torch.arange(26.0).mul(8).to(torch.uint8).expand(1, 3, 26, 26)
        seen = look(ramp, views(1, zoom=[1.3], place=[[0.0, 1.0]]))
        row = seen[0, 0, 10] * 255
        assert row.diff()[4:-4].tolist() == pytest.approx([8 * 20 / 26] * 17, abs=1e-3)
        # The window is the last 20 columns: its centre is column 15.5 of the whole.
        assert row[12:14].mean().item() == pytest.approx(8 * 15.5, abs=1e-3)
        assert seen[0, 0].diff(dim=0).abs().max() < 1e-6

    def test_a_face_that_is_not_square_cannot_be_turned(self) -> None:
        image = torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
        assert look(image, views(1, turns=[2])).shape == image.shape
        with pytest.raises(ConfigurationError, match="4x6 pixels cannot be turned"):
            look(image, views(1, turns=[3]))

    def test_the_truth_is_varied_before_it_is_made_small(self, tmp_path: Path) -> None:
        trainer = SRTrainer(small(tmp_path))
        index = torch.tensor([4, 1])
        seen = views(2, flip=[True, False], zoom=[1.25, 1.0], place=[[0.5, 0.0], [0.0, 0.0]])
        faces = trainer._faces(index, seen)
        truth = torch.stack([torch.from_numpy(Blocks()[i]).permute(2, 0, 1) for i in (4, 1)])
        expected = truth.float() / 255
        window = expected[:1, :, 2:15, 0:13]
        enlarged = resize(window, (16, 16), "bicubic").clamp(0, 1).flip(3)
        assert torch.allclose(faces.hr[:1], enlarged, atol=1e-6)
        assert torch.equal(faces.hr[1], expected[1])
        again = data.protocols.get("bicubic").degrade(faces.hr, 2)
        assert torch.equal(faces.lr, again.lr)
        assert torch.equal(faces.initial, again.initial)


class TestTraining:
    def test_one_update_by_hand(self, tmp_path: Path) -> None:
        config = small(tmp_path, enhancer_settings=("dropout=0",), augment=(), grad_clip=0.0)
        trainer = SRTrainer(config)
        network = Small(2, dropout=0.0)
        network.load_state_dict(trainer.enhancer.state_dict())
        index = trainer.pool.draw(4, torch.Generator().manual_seed(0))
        faces = trainer.pool.faces(index)
        loss = (network.restore(faces.initial) - faces.hr).square().mean()
        loss.backward()
        assert trainer.update()["loss"] == pytest.approx(loss.item(), rel=1e-5)
        found = dict(trainer.enhancer.named_parameters())
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            # Adam's first step is the sign of the gradient, but for its epsilon.
            step = 2e-3 * parameter.grad / (parameter.grad.abs() + 1e-8)
            torch.testing.assert_close(found[name], parameter - step, rtol=1e-3, atol=2e-6)
        # The average was copied from them.
        assert all(a.equal(found[n]) for n, a in trainer.result.named_parameters())

    def test_it_learns_and_keeps_last_and_best(self, tmp_path: Path) -> None:
        settings = ("width=8", "dropout=0")
        config = small(tmp_path, updates=60, validate_every=20, enhancer_settings=settings)
        path = train_sr(config)
        scores = {e["step"]: e for e in log_of(tmp_path) if "psnr/held_out" in e}
        assert set(scores) == {20, 40, 60}
        assert scores[60]["psnr/held_out"] > scores[20]["psnr/held_out"] + 0.1
        best = enhancers.load(tmp_path / "best.safetensors")
        assert best.provenance["held_out"]["psnr/held_out"] == pytest.approx(
            max(e["psnr/held_out"] for e in scores.values())
        )
        last = enhancers.load(path)
        assert last.provenance["updates"] == 60
        assert last.provenance["recipe"]["loss"] == "mse"
        assert last.provenance["recipe"]["batch"] == 4
        # The score can be had from the file again.
        faces = data.protocols.get("bicubic").degrade(Blocks().batch([7, 8, 9]), 2)
        assert isinstance(last, OneShot)
        with torch.no_grad():
            restored = last.restore(faces.initial)
        psnr = metrics.psnr(restored.clamp(0, 1), faces.hr).mean().item()
        assert psnr == pytest.approx(scores[60]["psnr/held_out"], abs=1e-4)
        assert scores[60]["psnr/initial"] == pytest.approx(
            metrics.psnr(faces.initial, faces.hr).mean().item()
        )

    def test_the_sheet_shows_input_restored_and_truth(self, tmp_path: Path) -> None:
        train_sr(small(tmp_path, updates=3))
        sheet = np.asarray(Image.open(tmp_path / "samples" / "0000003.png").convert("RGB"))
        truth, initial = (
            getattr(data.protocols.get("bicubic").degrade(Blocks().batch([7]), 2), name)
            for name in ("hr", "initial")
        )
        rows = np.split(sheet, [30 + 16 + 6], axis=0)
        assert np.array_equal(rows[0][30:46, 12:28], to_bytes(initial))
        assert np.array_equal(sheet[-22:-6, 12:28], to_bytes(truth))

    def test_a_network_of_the_low_resolution_gets_it(self, tmp_path: Path) -> None:
        trainer = SRTrainer(small(tmp_path, enhancer="from_low"))
        assert trainer.recipe == Recipe()
        faces = trainer.pool.held_out()
        expected = trainer.enhancer.network(faces.lr)  # type: ignore[operator,union-attr]
        torch.testing.assert_close(trainer._restore(trainer.enhancer, faces), expected)
        before = expected.detach().clone()
        trainer.update()
        assert not trainer._restore(trainer.enhancer, faces).equal(before)

    def test_options_override_the_recipe(self, tmp_path: Path) -> None:
        config = small(tmp_path, loss="l1", betas=(0.5, 0.9), batch=2, augment=("rotate",))
        trainer = SRTrainer(config)
        assert trainer.recipe == Recipe(
            loss="l1",
            learning_rate=2e-3,
            betas=(0.5, 0.9),
            batch=2,
            schedule="constant",
            augment=("rotate",),
        )
        assert trainer.optimizers["enhancer"].param_groups[0]["betas"] == (0.5, 0.9)

    def test_bf16_is_close_and_keeps_the_weights_in_float32(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sr, "cpu_has_bfloat16", lambda: True)
        settings = ("dropout=0", "width=8")
        exact = SRTrainer(small(tmp_path, enhancer_settings=settings))
        rounded = SRTrainer(small(tmp_path, enhancer_settings=settings, precision="bf16"))
        losses = [(exact.update()["loss"], rounded.update()["loss"]) for _ in range(3)]
        for one, other in losses:
            assert one != other
            assert one == pytest.approx(other, rel=0.02)
        assert {p.dtype for p in rounded.enhancer.parameters()} == {torch.float32}

    def test_gradients_are_clipped(self, tmp_path: Path) -> None:
        trainer = SRTrainer(small(tmp_path, grad_clip=1e-3))
        trainer.update()
        norms = [p.grad.norm() for p in trainer.enhancer.parameters() if p.grad is not None]
        assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


def to_bytes(images: Tensor) -> np.ndarray:
    return (images[0].permute(1, 2, 0) * 255 + 0.5).floor().numpy().astype(np.uint8)


class TestResuming:
    @pytest.mark.parametrize("ema", [0.0, 0.9])
    def test_killed_and_resumed_runs_end_alike(
        self, ema, tmp_path, train_in_parts, log_without_times
    ) -> None:
        settings = {"ema": ema, "augment": ("flip", "scale", "rotate"), "schedule": "cosine"}
        whole = train_sr(small(tmp_path / "whole", **settings))
        config = small(tmp_path / "parts", **settings)
        # Before and after checkpoints and validations.
        train_in_parts(SRTrainer, train_sr, config, (2, 3, 5, 7))
        for name in ("enhancer", "best"):
            expected, found = (
                enhancers.load(tmp_path / run / f"{name}.safetensors") for run in ("whole", "parts")
            )
            assert expected.provenance["updates"] == found.provenance["updates"]
            for key, value in expected.state_dict().items():
                assert torch.equal(found.state_dict()[key], value), key
        logs = [log_without_times(tmp_path / run) for run in ("whole", "parts")]
        assert logs[0] == logs[1]
        assert whole.is_file()

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        train_sr(small(tmp_path, updates=1))
        with pytest.raises(ConfigurationError, match=r"run with ema=0\.9, this command says 0\.5"):
            train_sr(small(tmp_path, updates=1, ema=0.5, resume=True))


class TestBadInput:
    def stops(self, config: TrainSRConfig, message: str, checkpoint: int) -> None:
        with pytest.raises(EnhancerError, match=message):
            train_sr(config)
        with TrainingRun(config.out, config, resume=True) as run:
            restored = run.restore()
        assert restored is not None
        assert restored[0] == checkpoint
        assert all(torch.isfinite(t).all() for t in restored[1].values() if t.is_floating_point())

    def test_a_loss_that_is_not_finite(self, tmp_path, monkeypatch) -> None:
        face_loss = sr.face_loss
        seen = iter(range(99))
        monkeypatch.setattr(
            sr, "face_loss", lambda *a: face_loss(*a) * (math.nan if next(seen) == 5 else 1)
        )
        faces = torch.Generator().manual_seed(0)
        trainer = SRTrainer(small(tmp_path / "drawn"))
        for _ in range(6):
            index = trainer.pool.draw(4, faces)
            draw_views(4, (), faces)
        listed = ", ".join(map(str, index.tolist()))
        message = f"At update 5, on the training faces {listed}, the loss is nan: the last"
        self.stops(small(tmp_path / "run"), message, checkpoint=4)

    def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(
        self, tmp_path, monkeypatch
    ) -> None:
        face_loss = sr.face_loss
        seen = iter(range(99))

        def steep(restored: Tensor, *rest: Any) -> Tensor:
            loss = face_loss(restored, *rest)
            # Finite itself; the slope of a square root at zero is not.
            return loss + (restored * 0).sum().sqrt() if next(seen) == 3 else loss

        monkeypatch.setattr(sr, "face_loss", steep)
        config = small(tmp_path, checkpoint_every=1, grad_clip=0.0)
        self.stops(config, "At update 3, on .* the gradient's norm is nan", checkpoint=3)

    def test_settings_out_of_range(self, tmp_path: Path) -> None:
        for settings, message in (
            ({"updates": 0}, "updates=0: give a whole number of 1 or more"),
            ({"batch": 0}, "batch=0: give a whole number of 1 or more"),
            ({"ema": 1.0}, "ema=1.0: give a number from 0 to below 1"),
            ({"precision": "fp8"}, "Unknown precision 'fp8'"),
            ({"enhancer": "bicubic"}, "'bicubic' has nothing to train"),
            ({"enhancer": "attention_fh"}, "'attention_fh' works on patches"),
            ({"validation_faces": 6}, "10 faces cannot give 6 held-out"),
        ):
            with pytest.raises(FacehallError, match=message):
                train_sr(small(tmp_path / "run", **settings))  # type: ignore[arg-type]

    def test_emulated_bfloat16(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(sr, "cpu_has_bfloat16", lambda: False)
        with pytest.raises(ConfigurationError, match="would be emulated"):
            train_sr(small(tmp_path, precision="bf16"))

    def test_a_network_of_another_size(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(Small, "restore", lambda self, initial, lr=None: initial[..., 1:])
        with pytest.raises(EnhancerError, match=r"shape \(4, 3, 16, 15\), expected \(4, 3, 16, 16"):
            train_sr(small(tmp_path))


class PairTeam(Team):
    """One of two threads in the place of processes."""

    size = 2

    def __init__(self, rank: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self._slots, self._barrier = rank, slots, barrier

    def sum(self, tensor: Tensor) -> Tensor:
        self._slots[self.rank] = tensor.detach().clone()
        self._barrier.wait(60)
        total: Tensor = self._slots[0] + self._slots[1]
        self._barrier.wait(60)
        return total


def trained_by_two(config: TrainSRConfig, updates: int) -> list[SRTrainer]:
    slots: list[Any] = [None, None]
    barrier = threading.Barrier(2)
    pair = [SRTrainer(config, PairTeam(rank, slots, barrier)) for rank in range(2)]

    def train(trainer: SRTrainer) -> None:
        for _ in range(updates):
            trainer.update()

    threads = [threading.Thread(target=train, args=(trainer,)) for trainer in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return pair


class TestSharing:
    def test_two_make_the_updates_of_one(self, tmp_path: Path) -> None:
        config = small(tmp_path, enhancer_settings=("dropout=0",), augment=("flip", "scale"))
        alone = SRTrainer(config)
        for _ in range(3):
            alone.update()
        for trainer in trained_by_two(config, 3):
            found = trainer.state_tensors()
            for name, value in alone.state_tensors().items():
                torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)

    def test_both_have_seen_all_faces(self, tmp_path: Path) -> None:
        config = small(tmp_path)
        alone = SRTrainer(config)
        alone.update()
        expected = alone.enhancer.get_buffer("network.1.running_mean")
        for trainer in trained_by_two(config, 1):
            found = trainer.enhancer.get_buffer("network.1.running_mean")
            torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_two_processes_make_the_updates_of_one(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    # Spawned processes know of no networks and datasets of tests.
    settings = {
        "enhancer": "compact",
        "enhancer_settings": ("width=4", "blocks=1"),
        "dataset": "synthetic",
        "scale": 8,
        "batch": 2,
        "updates": 2,
        "limit": 6,
        "validation_faces": 2,
        "augment": ("flip", "scale"),
    }
    config = small(tmp_path / "1", **settings)
    expected = enhancers.load(train_sr(config)).state_dict()
    path = train_sr(dataclasses.replace(config, out=tmp_path / "2", devices=2))
    found = enhancers.load(path).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    logs = [log_of(tmp_path / size) for size in "12"]
    for entry, other in zip(*logs, strict=True):
        del entry["seconds"], other["seconds"]
        assert other == pytest.approx(entry, rel=1e-3)
    with pytest.raises(ConfigurationError, match="batch gives 3 faces, which 2 processes"):
        train_sr(dataclasses.replace(config, batch=3, devices=2, out=tmp_path / "3"))
