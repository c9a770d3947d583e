"""Training of the cognition network: SphereFace-20 with A-softmax on faces of known people.

Section III-F of the IPFH paper; where it says nothing, as SphereFace was trained (Liu et al., CVPR
2017): SGD, a learning rate that falls to its tenth three times, a margin that comes slowly. A
recogniser that others have trained on many more people can be kept as it is (``--frozen``): then
only the head learns who is who here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facehall_env import limits, recognition
from facehall_env.data import FaceDataset, Identified
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.progress import progress
from facehall_env.recognition import AngularSoftmax, Cognition, Recogniser
from facehall_env.spec import FacesSpec
from facehall_env.training.augment import Views, draw_views, look
from facehall_env.training.distributed import Team
from facehall_env.training.face_pool import decode
from facehall_env.training.loop import train
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import milestone_rate
from facehall_env.training.settings import TrainCognitionConfig
from facehall_env.training.trainer import Trainer

FEWEST_PEOPLE = 2
FEWEST_NORMALISED = 2
"""Smallest batch whose statistics mean anything."""
DATASET_SETTINGS: Mapping[str, tuple[str, ...]] = {"synthetic": ("images_per_person=10",)}
"""Options that some datasets need to have people, unless others are given."""


class NamedFaces:
    """Faces of people with enough images, in memory, one image of some people held out.

    Args:
        min_images: People with fewer are left out.
        people: Use only so many people; all by default.
        held_out: At most so many people, spread over all of them, have their last image held out.

    Attributes:
        people: Their names, sorted.
        images: (N, 3, H, W) uint8, those of training first.
        label: (N,) int64, who is on each: a place in ``people``.
        num_training: How many of them are drawn.

    Raises:
        DatasetError: If the dataset has no identities, or fewer than two people enough images.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        min_images: int,
        people: int | None = None,
        held_out: int = 100,
        progress: bool = True,
    ) -> None:
        owned = _images_by_person(dataset)
        chosen = sorted(person for person, images in owned.items() if len(images) >= min_images)
        if len(chosen) < FEWEST_PEOPLE:
            most = max(map(len, owned.values()))
            raise DatasetError(
                f"{len(chosen)} of the {len(owned):,} people in {dataset.name!r} have at least "
                f"{min_images} images (the most of anyone: {most}), and two or more are needed: "
                "lower min_images or use another dataset."
            )
        self.people = tuple(chosen[:people])
        step = math.ceil(len(self.people) / held_out)
        validated = set(self.people[::step])
        training, held = [], []
        for number, person in enumerate(self.people):
            images = owned[person]
            if person in validated:
                *images, last = images
                held.append((last, number))
            training += [(index, number) for index in images]
        self.num_training = len(training)
        self.images = decode(dataset, [index for index, _ in training + held], progress)
        self.label = torch.tensor([number for _, number in training + held])

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """(number,) int64, training faces drawn with replacement."""
        return torch.randint(self.num_training, (number,), generator=generator)

    def held_out(self) -> tuple[Tensor, Tensor]:
        """Images (M, 3, H, W) uint8 that are never drawn, and who is on them (M,)."""
        return self.images[self.num_training :], self.label[self.num_training :]


def check_people(dataset: FaceDataset) -> Identified:
    """The dataset itself, if it says who is on its faces; a DatasetError otherwise."""
    if not isinstance(dataset, Identified) or not dataset.people:
        raise DatasetError(
            f"The dataset {dataset.name!r} does not say who is on its faces, which a recogniser is "
            "trained with: use lfw, identities (a folder for each person), celeba with its list "
            "of identities, or synthetic with images_per_person=10."
        )
    return dataset


def _images_by_person(dataset: FaceDataset) -> dict[str, list[int]]:
    known = check_people(dataset)
    owned: dict[str, list[int]] = {person: [] for person in known.people}
    for index in range(len(dataset)):
        owned[known.identity(index)].append(index)
    return owned


class CognitionTrainer(Trainer):
    """Trains a recogniser with its angular head.

    Raises:
        DatasetError: If the dataset has no identities, or too few images of too few people.
    """

    config: TrainCognitionConfig
    criterion = "accuracy/held_out"
    last_file = result_file = "cognition.safetensors"
    advice = "start again with a lower learning_rate, grad_clip or weight_decay"

    def __init__(self, config: TrainCognitionConfig, team: Team | None = None) -> None:
        super().__init__(config, "training to tell people apart", team)
        check_frozen(config)
        self.team.check_shares(batch=config.batch)
        settings = DATASET_SETTINGS.get(config.dataset, ()) + config.dataset_settings
        dataset = FacesSpec(config.dataset, settings).open("train")
        self.faces = NamedFaces(
            dataset, config.min_images, config.people, config.validation_people, self.team.leads
        )
        torch.manual_seed(config.seed)
        recogniser = _make_recogniser(config)
        head = AngularSoftmax(
            recogniser.embedding_size, len(self.faces.people), margin=config.margin
        )
        self.head = head.to(self.device)
        self.cognition = Cognition(recogniser, head, self.faces.people).to(self.device)
        self.learned: Cognition | AngularSoftmax = self.head if config.frozen else self.cognition
        self._embeddings: Tensor | None = None
        self.modules["cognition"] = self.cognition
        optimizer = torch.optim.SGD(
            self.learned.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.add_optimizer("cognition", optimizer)

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`."""
        config = self.config
        share = milestone_rate(1.0, self.step, self.total, config.milestones)
        self.scale_learning_rates(share)
        index = self.faces.draw(config.batch, self.rng)
        views = draw_views(config.batch, config.augment, self.rng)
        own = self.team.own(index)
        self.learned.train()
        label = self.faces.label[own].to(self.device)
        loss = self.head(self._embed(own, Views(*(self.team.own(v) for v in views))), label)
        value, _ = self.descend("cognition", loss, config.grad_clip, index)
        self.head.advance()
        rate = config.learning_rate * share
        return {"loss": value, "learning_rate": rate, "annealing": self.head.annealing}

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """See :meth:`Trainer.evaluate`."""
        return self.keep_best(run, self.validate())

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.save`."""
        largest = max(p.detach().abs().max().item() for p in self.learned.parameters())
        self.check_finite(largest, f"the largest weight for {path.name}")
        faces = {"people": len(self.faces.people), "faces": self.faces.num_training}
        recognition.save_cognition(self.cognition, path, {**provenance, **faces})

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """``accuracy/held_out``: how many of the held-out images are given their person's name."""
        self.cognition.eval()
        images, label = self.faces.held_out()
        parts = (part.to(self.device).float() / 255 for part in images.split(self.config.batch))
        found = torch.cat([self.cognition.classify(part).cpu() for part in parts])
        return {"accuracy/held_out": (found == label).float().mean().item()}

    def _embed(self, index: Tensor, views: Views) -> Tensor:
        """Training faces as the recogniser sees them; one that is frozen has seen them before."""
        if self.config.frozen:
            # Not before a resumed run has its own recogniser back.
            if self._embeddings is None:
                self._embeddings = self._embed_all()
            return self._embeddings[index].to(self.device)
        seen = look(self.faces.images[index].to(self.device), views)
        faces = seen if seen.is_floating_point() else seen.float() / 255
        return self.cognition.recogniser.embed(faces)

    @torch.no_grad()
    def _embed_all(self) -> Tensor:
        """(N, D), what the recogniser makes of every training face."""
        self.cognition.eval()
        images = self.faces.images[: self.faces.num_training].split(self.config.batch)
        shown = progress(images, desc="looking at the faces", disable=not self.team.leads)
        embed = self.cognition.recogniser.embed
        return torch.cat([embed(part.to(self.device).float() / 255).cpu() for part in shown])


def train_cognition(config: TrainCognitionConfig) -> Path:
    """Trains a recogniser with its angular head; see :func:`facehall_env.training.loop.train`.

    Returns the path of the last network, ``cognition.safetensors`` in the run's folder; see
    `facehall_env.recognition.load_cognition`.
    """
    limits.check(config)
    check_frozen(config)
    _check_normalisation(_make_recogniser(config), config)
    return train(CognitionTrainer, config)


def check_frozen(config: TrainCognitionConfig) -> None:
    """Raises a ConfigurationError if a frozen recogniser has no weights or is to vary faces."""
    if config.frozen and config.weights is None:
        raise ConfigurationError(
            "frozen=True keeps a recogniser that has learned already: give its file as weights."
        )
    if config.frozen and config.augment not in ((), TrainCognitionConfig.augment):
        raise ConfigurationError(
            f"augment={config.augment} varies faces, and a frozen recogniser looks at each once: "
            "leave one of the two out."
        )


def _make_recogniser(config: TrainCognitionConfig) -> Recogniser:
    names = ("width", "embedding", "pooling") if config.recogniser == "sphereface" else ()
    settings: dict[str, Any] = {name: getattr(config, name) for name in names}
    if config.channel_order is not None:  # Those that others register may not have it.
        settings["channel_order"] = config.channel_order
    if config.weights is None:
        return recognition.make(config.recogniser, **settings)
    recogniser = recognition.load(config.recogniser, config.weights, **settings)
    return recogniser.requires_grad_(not config.frozen)


def _check_normalisation(recogniser: Recogniser, config: TrainCognitionConfig) -> None:
    """Batch normalisation that learns needs several faces, all in one process."""
    layers = [m for m in recogniser.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if config.frozen or not layers:
        return
    if config.devices * config.num_nodes > 1 or config.batch < FEWEST_NORMALISED:
        raise ConfigurationError(
            f"The recogniser {config.recogniser!r} normalises over its batch: train it on one "
            f"device with a batch of {FEWEST_NORMALISED} or more, or keep it as it is by frozen."
        )
