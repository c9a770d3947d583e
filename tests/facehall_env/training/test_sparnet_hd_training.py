"""Training of SPARNetHD on small faces: learning, averaging, exact resumption, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facehall_env import enhancers
from facehall_env.data import random_degradation
from facehall_env.data.base import FaceDataset
from facehall_env.data.catalog import DATASETS
from facehall_env.data.images import ImageArray
from facehall_env.errors import ConfigurationError, EnhancerError, WeightsError
from facehall_env.literals import Split
from facehall_env.nested import build
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import LossWeights, TrainSPARNetHDConfig
from facehall_env.training.sparnet_hd import DegradedFaces, SPARNetHDTrainer, train_sparnet_hd

SIDE = 32


class Blobs(FaceDataset):
    """A bright disc on a coloured ground, another one for each number."""

    name = "blobs"
    image_size = (SIDE, SIDE)

    def __init__(self, split: Split = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> ImageArray:
        y, x = np.mgrid[:SIDE, :SIDE]
        disc = (x - 10 - index) ** 2 + (y - 16) ** 2 < 60
        image = np.stack((x * 4, y * 4, np.full_like(x, 20 * index)), axis=2)
        image[disc] = 230
        return image.astype(np.uint8)

    def key(self, index: int) -> str:
        return str(index)


@pytest.fixture(autouse=True)
def blobs() -> Iterator[None]:
    DATASETS.register("blobs")(Blobs)
    yield
    del DATASETS._factories["blobs"]


def tiny(out: Path, **settings: object) -> TrainSPARNetHDConfig:
    defaults: dict[str, object] = {
        "out": out,
        "dataset": "blobs",
        "dataset_settings": (),
        "enhancer_settings": (
            "width=2",
            "most=4",
            "blocks=1",
            "hourglass_width=2",
            "bottleneck=2",
            "image_size=32",
        ),
        "updates": 4,
        "perceptual_weight": 0.0,
        "discriminators": 2,
        "discriminator_channels": (4, 4),
        "validation_faces": 2,
        "log_every": 1,
        "validate_every": 2,
        "checkpoint_every": 1,
    }
    return build(TrainSPARNetHDConfig, **{**defaults, **settings})


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[SPARNetHDTrainer]:
    trainer = SPARNetHDTrainer(tiny(tmp_path / "run", updates=50))
    yield trainer
    trainer.close()


def test_defaults_are_the_papers() -> None:
    config = TrainSPARNetHDConfig()
    assert (config.batch, config.learning_rate, config.discriminator_learning_rate) == (
        2,
        1e-4,
        4e-4,
    )
    assert config.betas == (0.5, 0.99)
    assert config.ema == 0.999
    assert config.loss == LossWeights(100.0, 1.0, 10.0, 1.0)


def test_faces_follow_from_seed_and_update_alone() -> None:
    def pool(seed: int) -> DegradedFaces:
        return DegradedFaces(Blobs(), random_degradation.get("paper"), seed, held_out=2)

    index, faces = pool(0).drawn(7, range(4))
    again = pool(0)
    again.drawn(3, range(2))
    # Two processes draw what one does.
    parts = [again.drawn(7, rows) for rows in (range(2), range(2, 4))]
    assert torch.equal(torch.cat([part for part, _ in parts]), index)
    assert torch.equal(torch.cat([part.initial for _, part in parts]), faces.initial)
    assert not torch.equal(pool(1).drawn(7, range(4))[1].initial, faces.initial)
    assert not torch.equal(pool(0).drawn(8, range(4))[1].initial, faces.initial)
    drawn = torch.cat([pool(0).drawn(update, range(4))[0] for update in range(30)])
    assert set(drawn.tolist()) == set(range(6))


def test_truths_are_faces_of_the_dataset_and_their_mirror_images() -> None:
    pool = DegradedFaces(Blobs(), random_degradation.get("paper"), 0, held_out=2)
    mirrored = []
    for update in range(8):
        index, faces = pool.drawn(update, range(2))
        for number, truth in zip(index.tolist(), faces.hr, strict=True):
            face = torch.from_numpy(Blobs()[number]).permute(2, 0, 1) / 255
            mirrored.append(torch.equal(truth, face.flip(2)))
            assert mirrored[-1] or torch.equal(truth, face)
    assert 0 < sum(mirrored) < len(mirrored)
    held_out = pool.held_out()
    assert torch.equal(held_out.hr[1], torch.from_numpy(Blobs()[7]).permute(2, 0, 1) / 255)
    assert torch.equal(held_out.initial, pool.held_out().initial)


def test_an_update_moves_both_sides_and_the_average_by_hand(trainer: SPARNetHDTrainer) -> None:
    def snapshot(module: torch.nn.Module) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in module.parameters()]

    trainer.update()
    generator, discriminators = snapshot(trainer.generator), snapshot(trainer.discriminators)
    average = snapshot(trainer.result)
    # The first update copies.
    assert all(torch.equal(a, b) for a, b in zip(average, generator, strict=True))
    losses = trainer.update()
    moved = snapshot(trainer.generator)
    assert not any(torch.equal(a, b) for a, b in zip(moved, generator, strict=True))
    changed = zip(snapshot(trainer.discriminators), discriminators, strict=True)
    assert not any(torch.equal(a, b) for a, b in changed)
    # After one update the decay is still (1 + 1) / (10 + 1).
    for before, now, found in zip(average, moved, snapshot(trainer.result), strict=True):
        torch.testing.assert_close(found, before * 2 / 11 + now * 9 / 11)
    pixel, adversarial, matching = (
        losses[f"loss/{part}"] for part in ("pixel", "adversarial", "matching")
    )
    assert losses["loss"] == pytest.approx(100 * pixel + adversarial + 10 * matching, rel=1e-5)


def test_recomputing_changes_nothing_but_memory(tmp_path: Path) -> None:
    results = []
    for recompute in (False, True):
        trainer = SPARNetHDTrainer(tiny(tmp_path / str(recompute), recompute=recompute))
        losses = [trainer.update() for _ in range(2)]
        trainer.close()
        results.append([loss["loss"] for loss in losses])
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_it_learns_the_pixels(tmp_path: Path) -> None:
    config = tiny(
        tmp_path / "run",
        updates=40,
        learning_rate=5e-3,
        ema=0.5,
        validate_every=40,
        checkpoint_every=100,
        limit=4,
    )
    path = train_sparnet_hd(config)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    pixel = [entry["loss/pixel"] for entry in log if "loss/pixel" in entry]
    assert np.mean(pixel[-8:]) < 0.75 * np.mean(pixel[:4])
    generator = enhancers.load(path)
    assert generator.provenance["settings"]["degradation"] == "paper"
    scores = next(entry for entry in log if "psnr/held_out" in entry)
    held_out = generator.provenance["held_out"]
    assert held_out["psnr/held_out"] == pytest.approx(scores["psnr/held_out"], abs=1e-6)
    sheet = np.asarray(Image.open(tmp_path / "run" / "samples" / "0000040.png"))
    # The truth's bright discs are on it.
    assert (sheet == 230).all(2).sum() > 100


def test_killed_and_resumed_runs_end_with_the_same_weights(
    tmp_path: Path, train_in_parts, log_without_times
) -> None:
    whole = train_sparnet_hd(tiny(tmp_path / "whole"))
    config = tiny(tmp_path / "parts")
    parts = train_in_parts(SPARNetHDTrainer, train_sparnet_hd, config, (2,))
    expected, found = enhancers.load(whole).state_dict(), enhancers.load(parts).state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    logs = [log_without_times(tmp_path / run) for run in ("whole", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("which", ["generator", "discriminators"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    which, tmp_path: Path, monkeypatch
) -> None:
    config = tiny(tmp_path / "run")
    descend = SPARNetHDTrainer.descend

    def broken(trainer, name, loss, index) -> tuple[float, float]:
        if trainer.step == 1 and name == which:
            loss = loss * float("nan")
        return descend(trainer, name, loss, index=index)

    monkeypatch.setattr(SPARNetHDTrainer, "descend", broken)
    with pytest.raises(
        EnhancerError, match=rf"update 1, on the training faces \d, \d, the loss of the {which} is"
    ):
        train_sparnet_hd(config)
    with TrainingRun(config.out, config, resume=True) as run:
        restored = run.restore()
    assert restored is not None
    assert restored[0] == 1
    assert all(torch.isfinite(t).all() for t in restored[1].values() if t.is_floating_point())


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"needs the weights of VGG19.*docs/perceptual"):
        train_sparnet_hd(tiny(tmp_path / "a", perceptual_weight=1.0))
    with pytest.raises(WeightsError, match=r"absent\.pth does not exist"):
        train_sparnet_hd(tiny(tmp_path / "b", perceptual_weight=1.0, vgg19=tmp_path / "absent.pth"))
    with pytest.raises(ConfigurationError, match="8 faces cannot give 8 held-out ones"):
        train_sparnet_hd(tiny(tmp_path / "c", validation_faces=8))
    with pytest.raises(ConfigurationError, match=r"ema=1\.0"):
        train_sparnet_hd(tiny(tmp_path / "d", ema=1.0))
    with pytest.raises(ConfigurationError, match="16x16 pixels and needs 24"):
        train_sparnet_hd(tiny(tmp_path / "e", discriminator_channels=(2, 2, 2, 2)))
