"""Training of the cognition network: one update by hand, learning, resumption, bad input."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facehall_env import data, recognition
from facehall_env.benchmarks.cli import program as cli
from facehall_env.data import FaceDataset, Identified
from facehall_env.errors import ConfigurationError, DatasetError, EnhancerError, WeightsError
from facehall_env.nested import build
from facehall_env.recognition import AngularSoftmax
from facehall_env.training.augment import draw_views, look
from facehall_env.training.cognition import CognitionTrainer, NamedFaces, train_cognition
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import milestone_rate
from facehall_env.training.settings import TrainCognitionConfig

COUNTS = {"Ada": 4, "Bo": 1, "Cy": 3, "Di": 6, "Ed": 3}


class Crowd(FaceDataset, Identified):
    """Small noisy pictures, each person of another number of images and another pattern."""

    def __init__(self, split: str = "train") -> None:
        self.name, self.split, self.image_size = "crowd", split, (28, 24)
        # In turns, so that a person's images are not neighbours.
        self.owners = [p for turn in range(6) for p, count in COUNTS.items() if turn < count]
        self.people = tuple(COUNTS)

    def __len__(self) -> int:
        return len(self.owners)

    def __getitem__(self, index: int) -> np.ndarray:
        person = self.people.index(self.identity(index))
        levels = np.random.default_rng(person).integers(0, 256, (4, 3, 3))
        pattern = np.kron(levels, np.ones((7, 8, 1)))
        noise = np.random.default_rng(1000 + index).normal(0, 20, pattern.shape)
        return np.clip(pattern + noise, 0, 255).astype(np.uint8)

    def key(self, index: int) -> str:
        return str(self.checked(index))

    def identity(self, index: int) -> str:
        return self.owners[self.checked(index)]


class Anonymous(FaceDataset):
    def __init__(self, split: str = "train") -> None:
        self.name, self.split, self.image_size = "anonymous", split, (8, 8)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    def key(self, index: int) -> str:
        return str(self.checked(index))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.DATASETS._factories, "crowd", Crowd)
    monkeypatch.setitem(data.DATASETS._factories, "anonymous", Anonymous)


def small(out: Path, **settings: Any) -> TrainCognitionConfig:
    defaults: dict[str, Any] = {
        "out": out,
        "dataset": "crowd",
        "width": 2,
        "embedding": 6,
        "updates": 8,
        "batch": 4,
        "learning_rate": 0.05,
        "log_every": 1,
        "validate_every": 3,
        "checkpoint_every": 2,
    }
    return build(TrainCognitionConfig, **{**defaults, **settings})


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_rates_by_hand() -> None:
    rates = [milestone_rate(0.1, n, 20, (0.5, 0.75, 0.9)) for n in (0, 9, 10, 14, 15, 17, 18, 19)]
    expected = [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]
    assert rates == pytest.approx(expected)


class TestFaces:
    def test_people_with_few_images_are_left_out(self) -> None:
        faces = NamedFaces(Crowd(), min_images=3, progress=False)
        assert faces.people == ("Ada", "Cy", "Di", "Ed")
        images, label = faces.held_out()
        assert label.tolist() == [0, 1, 2, 3]
        drawn = Counter(faces.label[: faces.num_training].tolist())
        assert drawn == {0: 3, 1: 2, 2: 5, 3: 2}
        # The last image of each is held out, the others are drawn.
        crowd = Crowd()
        last = {person: index for index, person in enumerate(crowd.owners)}
        assert torch.equal(images, crowd.batch([last[person] for person in faces.people]))
        index = faces.draw(300, torch.Generator().manual_seed(0))
        assert set(index.tolist()) == set(range(12))

    def test_fewer_people_and_fewer_held_out(self) -> None:
        faces = NamedFaces(Crowd(), min_images=3, people=3, held_out=2, progress=False)
        assert faces.people == ("Ada", "Cy", "Di")
        assert faces.held_out()[1].tolist() == [0, 2]
        assert Counter(faces.label.tolist()) == {0: 4, 1: 3, 2: 6}

    def test_too_few_people(self) -> None:
        message = r"1 of the 5 people in 'crowd' have at least 5 images \(the most of anyone: 6\)"
        with pytest.raises(DatasetError, match=message):
            NamedFaces(Crowd(), min_images=5, progress=False)

    def test_no_identities(self) -> None:
        for dataset in (Anonymous(), data.make("synthetic")):
            with pytest.raises(DatasetError, match="does not say who is on its faces"):
                NamedFaces(dataset, min_images=2, progress=False)


class TestTraining:
    def test_two_updates_by_hand(self, tmp_path: Path) -> None:
        config = small(tmp_path, updates=2, grad_clip=0.0, milestones=(0.5,), margin=2.0)
        trainer = CognitionTrainer(config)
        network = recognition.make("sphereface", width=2, embedding=6)
        network.load_state_dict(trainer.cognition.recogniser.state_dict())
        head = AngularSoftmax(6, 4, margin=2.0)
        head.load_state_dict(trainer.head.state_dict())
        parameters = [*network.parameters(), *head.parameters()]
        momenta: list[Tensor] = []
        generator = torch.Generator().manual_seed(0)
        for rate, annealing in ((0.05, 1500.0), (0.005, 1500 / 1.1)):
            index = trainer.faces.draw(4, generator)
            views = draw_views(4, ("flip",), generator)
            faces = look(trainer.faces.images[index], views).float() / 255
            loss = head.losses(network.embed(faces), trainer.faces.label[index], annealing).mean()
            gradients = torch.autograd.grad(loss, parameters)
            assert trainer.update()["loss"] == pytest.approx(loss.item(), rel=1e-5)
            decayed = [g + 5e-4 * p for g, p in zip(gradients, parameters, strict=True)]
            momenta = [0.9 * m + g for m, g in zip(momenta or [0.0] * 99, decayed)]  # noqa: B905
            for parameter, momentum in zip(parameters, momenta, strict=True):
                parameter.data -= rate * momentum.detach()
        for found, expected in zip(trainer.cognition.parameters(), parameters, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert trainer.head.annealing == pytest.approx(1500 / 1.2)

    def test_it_tells_invented_people_apart(self, tmp_path: Path) -> None:
        config = small(
            tmp_path,
            dataset="synthetic",
            dataset_settings=("images_per_person=8",),
            people=6,
            width=3,
            embedding=8,
            updates=40,
            batch=8,
            learning_rate=0.1,
            validate_every=20,
            seed=1,
        )
        trained = recognition.load_cognition(train_cognition(config))
        faces = data.make("synthetic", images_per_person=8)
        index = [7, 15, 23, 31, 39, 47]
        assert trained.people == tuple(faces.identity(i) for i in index)
        found = trained.classify(faces.batch(index).float() / 255)
        accuracy = (found == torch.arange(6)).float().mean().item()
        # One in six would be found by chance.
        assert accuracy >= 0.5
        assert trained.provenance["held_out"]["accuracy/held_out"] == accuracy
        assert trained.provenance["people"] == 6
        assert trained.provenance["faces"] == 42
        losses = [entry["loss"] for entry in log_of(tmp_path) if "loss" in entry]
        assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
        best = recognition.load_cognition(tmp_path / "best.safetensors")
        scores = [e["accuracy/held_out"] for e in log_of(tmp_path) if "accuracy/held_out" in e]
        assert best.provenance["held_out"]["accuracy/held_out"] == max(scores)

    def test_it_starts_from_weights(self, tmp_path: Path) -> None:
        network = recognition.make("sphereface", width=2, embedding=6)
        recognition.save(network, tmp_path / "r.safetensors")
        trainer = CognitionTrainer(small(tmp_path / "run", weights=tmp_path / "r.safetensors"))
        recogniser = trainer.cognition.recogniser
        for name, value in network.state_dict().items():
            assert torch.equal(recogniser.state_dict()[name], value)
        trainer.update()
        assert not torch.equal(recogniser.state_dict()["fc5.weight"], network.fc5.weight)
        with pytest.raises(WeightsError, match="do not fit"):
            CognitionTrainer(small(tmp_path, width=4, weights=tmp_path / "r.safetensors"))

    def test_a_file_says_in_which_order_it_takes_the_channels(self, tmp_path: Path) -> None:
        network = recognition.make("sphereface", width=2, embedding=6, channel_order="bgr")
        recognition.save(network, tmp_path / "r.safetensors")
        for asked, order in ((None, "bgr"), ("rgb", "rgb")):
            config = small(tmp_path, weights=tmp_path / "r.safetensors", channel_order=asked)
            assert CognitionTrainer(config).cognition.recogniser.channel_order == order
        assert CognitionTrainer(small(tmp_path)).cognition.recogniser.channel_order == "rgb"

    def test_a_recogniser_that_has_no_order_of_channels(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Own(recognition.SphereFace):
            name = "own"

            def __init__(self) -> None:
                super().__init__(width=1, embedding=4)

        factories = dict(recognition.RECOGNISERS._factories)
        monkeypatch.setattr(recognition.RECOGNISERS, "_factories", factories)
        recognition.register("own")(Own)
        trainer = CognitionTrainer(small(tmp_path, recogniser="own"))
        assert isinstance(trainer.cognition.recogniser, Own)

    def test_a_frozen_recogniser(self, tmp_path: Path) -> None:
        network = recognition.make("mobilefacenet")
        recognition.save(network, tmp_path / "r.safetensors")
        config = small(
            tmp_path / "run",
            recogniser="mobilefacenet",
            weights=tmp_path / "r.safetensors",
            frozen=True,
            updates=2,
            grad_clip=0.0,
            momentum=0.0,
            weight_decay=0.0,
            milestones=(0.5,),
        )
        trainer = CognitionTrainer(config)
        before = trainer.head.weight.detach().clone()
        embedded = network.eval().embed(trainer.faces.images.float() / 255).detach()
        index = trainer.faces.draw(4, torch.Generator().manual_seed(0))
        head = AngularSoftmax(128, 4)
        head.load_state_dict(trainer.head.state_dict())
        loss = head.losses(embedded[index], trainer.faces.label[index], 1500.0).mean()
        (slope,) = torch.autograd.grad(loss, [head.weight])
        assert trainer.update()["loss"] == pytest.approx(loss.item(), rel=1e-4)
        torch.testing.assert_close(trainer.head.weight, before - 0.05 * slope, rtol=1e-4, atol=1e-6)
        # Neither its weights nor the statistics of its normalisation move.
        trained = recognition.load_cognition(train_cognition(config))
        for name, value in network.state_dict().items():
            assert torch.equal(trained.recogniser.state_dict()[name], value), name

    def test_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = "train cognition --dataset crowd --width 1 --embedding 4 --updates 2 --batch 2"
        assert cli.main([*words.split(), "--out", str(tmp_path / "run")]) == 0
        assert "cognition.safetensors" in capsys.readouterr().out
        trained = recognition.load_cognition(tmp_path / "run" / "cognition.safetensors")
        assert trained.people == ("Ada", "Cy", "Di", "Ed")
        words = "train cognition --dataset anonymous"
        assert cli.main([*words.split(), "--out", str(tmp_path / "none")]) == 2
        assert "does not say who" in capsys.readouterr().err


class TestResuming:
    def test_killed_and_resumed_runs_end_alike(
        self, tmp_path, train_in_parts, log_without_times
    ) -> None:
        settings = {"augment": ("flip", "scale"), "validation_people": 4}
        train_cognition(small(tmp_path / "whole", **settings))
        config = small(tmp_path / "parts", **settings)
        # Before and after checkpoints and validations.
        train_in_parts(CognitionTrainer, train_cognition, config, (2, 3, 5, 7))
        for name in ("cognition", "best"):
            expected, found = (
                recognition.load_cognition(tmp_path / run / f"{name}.safetensors")
                for run in ("whole", "parts")
            )
            assert expected.provenance["updates"] == found.provenance["updates"]
            for key, value in expected.state_dict().items():
                assert torch.equal(found.state_dict()[key], value), key
        logs = [log_without_times(tmp_path / run) for run in ("whole", "parts")]
        assert logs[0] == logs[1]

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        train_cognition(small(tmp_path, updates=1))
        with pytest.raises(ConfigurationError, match=r"run with margin=1\.5, this command says 2"):
            train_cognition(small(tmp_path, updates=1, margin=2.0, resume=True))


class TestBadInput:
    def test_a_loss_that_is_not_finite(self, tmp_path, monkeypatch) -> None:
        forward = AngularSoftmax.forward
        seen = iter(range(99))

        def broken(self, embedding, label) -> Tensor:
            return forward(self, embedding, label) * (math.nan if next(seen) == 5 else 1)

        monkeypatch.setattr(AngularSoftmax, "forward", broken)
        config = small(tmp_path)
        with pytest.raises(EnhancerError, match=r"At update 5, on the training faces .* is nan"):
            train_cognition(config)
        with TrainingRun(config.out, config, resume=True) as run:
            restored = run.restore()
        assert restored is not None
        assert restored[0] == 4
        assert all(torch.isfinite(t).all() for t in restored[1].values() if t.is_floating_point())

    def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(
        self, tmp_path, monkeypatch
    ) -> None:
        forward = AngularSoftmax.forward

        def steep(self, embedding, label) -> Tensor:
            # Finite itself; the slope of a square root at zero is not.
            return forward(self, embedding, label) + (embedding * 0).sum().sqrt()

        monkeypatch.setattr(AngularSoftmax, "forward", steep)
        trainer = CognitionTrainer(small(tmp_path, grad_clip=0.0))
        before = {name: value.clone() for name, value in trainer.cognition.state_dict().items()}
        with pytest.raises(EnhancerError, match=r"the gradient's norm is (nan|inf)"):
            trainer.update()
        after = trainer.cognition.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())

    def test_settings_out_of_range(self, tmp_path: Path) -> None:
        for settings, message in (
            ({"updates": 0}, "updates=0: give a whole number of 1 or more"),
            ({"min_images": 1}, "min_images=1: give a whole number of 2 or more"),
            ({"people": 1}, "people=1: give a whole number of 2 or more"),
            ({"milestones": (0.5, 1.5)}, r"milestones\[1\]=1.5: give a number above 0 and below 1"),
            ({"margin": 0.5}, "margin=0.5: give a number of 1 or more"),
            ({"width": 0}, "width=0: give a whole number of 1 or more"),
            ({"frozen": True}, "keeps a recogniser that has learned already"),
            (
                {"frozen": True, "weights": tmp_path, "augment": ("scale",)},
                "a frozen recogniser looks at each once",
            ),
            ({"recogniser": "mobilefacenet", "batch": 1}, "normalises over its batch"),
            ({"recogniser": "mobilefacenet", "devices": 2}, "normalises over its batch"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                train_cognition(small(tmp_path / "run", **settings))
