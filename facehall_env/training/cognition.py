"""Training of the cognition network: SphereFace-20 with A-softmax on faces of known people.

Section III-F of the IPFH paper; where it says nothing, as SphereFace was trained (Liu et al., CVPR
2017): SGD, a learning rate that falls to its tenth three times, a margin that comes slowly. A
recogniser that others have trained on many more people can be kept as it is (``--frozen``): then
only the head learns who is who here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from facehall_env import data, recognition
from facehall_env.checkpoints import pack_optimizer, under_prefix, unpack_optimizer, with_prefix
from facehall_env.data import FaceDataset, Identified
from facehall_env.enhancers.base import Augmentation
from facehall_env.errors import ConfigurationError, DatasetError, EnhancerError
from facehall_env.recognition import AngularSoftmax, ChannelOrder, Cognition, Recogniser
from facehall_env.recognition.angular import MARGIN
from facehall_env.recognition.sphereface import Pooling
from facehall_env.registry import parse_settings
from facehall_env.training.augment import Views, draw_views, look
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team, launch
from facehall_env.training.face_pool import decode
from facehall_env.training.limits import check_numbers
from facehall_env.training.loop import fit
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import milestone_rate

FEWEST_PEOPLE = 2
FEWEST_IMAGES = 2
"""Of a person: one to learn from, one to be held out."""
FEWEST_NORMALISED = 2
"""Faces of a batch whose statistics say anything."""
AUGMENT: tuple[Augmentation, ...] = ("flip",)
DATASET_SETTINGS: Mapping[str, Mapping[str, Any]] = {"synthetic": {"images_per_person": 10}}
"""What some datasets need to have people, unless it is set otherwise."""


@dataclass
class TrainCognitionConfig:
    """Settings of ``facehall train cognition``.

    The paper's network is ``--width 64 --embedding 512 --batch 256 --people None``; the defaults
    are what a processor can train.
    """

    out: Path = Path("runs/cognition")
    """Folder for the log, the checkpoint, and the networks: cognition.safetensors, the last one,
    and best.safetensors, that of the best held-out accuracy."""
    dataset: str = "synthetic"
    """Where the faces come from, a dataset with identities; always its official training split."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset, NAME=VALUE; of the synthetic faces images_per_person=10 unless it is
    given."""
    min_images: int = 3
    """People with fewer images are left out."""
    people: int | None = 1000
    """Use at most so many of the people who have enough images, since all their faces are held in
    memory; None for all of them."""
    recogniser: str = "sphereface"
    """sphereface, mobilefacenet, or one that was registered."""
    width: int = 16
    """Of sphereface: channels of its first stage; they double from stage to stage."""
    embedding: int = 128
    """Of sphereface: values of an embedding, with --pooling fc."""
    pooling: Pooling = "fc"
    """Of sphereface: how features become an embedding: by a fully-connected layer (fc) or their
    means (gap)."""
    channel_order: ChannelOrder | None = None
    """In which order the network takes the channels, rgb or bgr; SphereFace's published weights
    expect bgr. By default as the file of --weights says, or else as the recogniser has it: rgb."""
    weights: Path | None = None
    """Start from these weights of the recogniser, ours or published ones; its people may be
    others."""
    frozen: bool = False
    """Leave the recogniser of --weights as it is: it looks at every face once, as it is and not
    varied (--augment), and then only the head learns, from what it saw."""
    margin: float = MARGIN
    """m of A-softmax."""
    updates: int = 2000
    """Length of the training."""
    minutes: float | None = None
    """Length of the training in wall time instead; the learning rate then follows its share."""
    batch: int = 64
    """Faces in an update."""
    learning_rate: float = 0.1
    """Of SGD, at the start."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 5e-4
    """Of SGD, on all weights."""
    milestones: tuple[float, ...] = (0.5, 0.75, 0.9)
    """Shares of the training after which the learning rate falls to its tenth: 10, 15 and 18 of
    20 epochs."""
    augment: tuple[Augmentation, ...] = AUGMENT
    """How faces are varied: mirrored (flip), enlarged by up to 1.3 and cropped (scale), turned by
    quarters (rotate)."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off. Without it a network that has no
    normalisation leaps at this learning rate."""
    validation_people: int = 100
    """At most so many people have one image each held out, to watch the accuracy."""
    log_every: int = 50
    """Updates between entries in the log."""
    validate_every: int = 200
    """Updates between measurements of the accuracy on the held-out images."""
    checkpoint_every: int = 200
    """Updates between checkpoints."""
    seed: int = 0
    """Seed of everything that is drawn."""
    device: str = "cpu"
    """Where to train."""
    devices: int = 1
    """Devices, or on the CPU processes, that share each batch."""
    num_nodes: int = 1
    """Machines with as many devices each."""
    resume: bool = False
    """Continue the run in the folder exactly where its checkpoint stands."""

    def check(self) -> None:
        """Checks what needs neither the network nor the faces.

        Raises:
            ConfigurationError: If a number is out of its range.
        """
        check_numbers(vars(self))
        for name, fewest in (("min_images", FEWEST_IMAGES), ("people", FEWEST_PEOPLE)):
            value = getattr(self, name)
            if value is not None and value < fewest:
                raise ConfigurationError(f"{name}={value}: give {fewest} or more.")
        if self.frozen and self.weights is None:
            raise ConfigurationError(
                "frozen=True keeps a recogniser that has learned already: give its file as weights."
            )
        if self.frozen and self.augment not in ((), AUGMENT):
            raise ConfigurationError(
                f"augment={self.augment} varies faces, and a frozen recogniser looks at each once: "
                "leave one of the two out."
            )
        if not all(0 < share < 1 for share in self.milestones):
            raise ConfigurationError(
                f"milestones={self.milestones}: give shares of the training between 0 and 1, such "
                "as 0.5 0.75 0.9."
            )


class NamedFaces:
    """Faces of people with enough images, in memory, one image of some people held out.

    Args:
        dataset: Where the faces come from.
        min_images: People with fewer are left out.
        people: Use only so many people; all by default.
        held_out: At most so many people, spread over all of them, have their last image held out.
        progress: Whether to show a progress bar while the faces are read.

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
        training = [
            (index, number)
            for number, person in enumerate(self.people)
            for index in (owned[person][:-1] if person in validated else owned[person])
        ]
        held = [
            (owned[person][-1], number)
            for number, person in enumerate(self.people)
            if person in validated
        ]
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
    """The dataset itself, if it says who is on its faces.

    Raises:
        DatasetError: Otherwise.
    """
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


class CognitionTrainer:
    """One update at a time; its whole state can be saved and restored.

    Args:
        config: The settings.
        team: The processes that share the batches.

    Raises:
        ConfigurationError: If the settings contradict each other.
        DatasetError: If the dataset has no identities, or too few images of too few people.
        WeightsError: If the weights to start from cannot be used.
    """

    def __init__(self, config: TrainCognitionConfig, team: Team | None = None) -> None:
        config.check()
        self.config = config
        self.updates = config.updates
        self.team = team or Team()
        self.team.check_shares(batch=config.batch)
        self.device = torch.device(config.device)
        self.faces = NamedFaces(
            _make_dataset(config),
            config.min_images,
            config.people,
            config.validation_people,
            progress=self.team.leads,
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)
        recogniser = _make_recogniser(config)
        head = AngularSoftmax(
            recogniser.embedding_size, len(self.faces.people), margin=config.margin
        )
        self.head = head.to(self.device)
        self.cognition = Cognition(recogniser, head, self.faces.people).to(self.device)
        self.learned: Cognition | AngularSoftmax = self.head if config.frozen else self.cognition
        self._embeddings: Tensor | None = None
        self.optimizer = torch.optim.SGD(
            self.learned.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.step = 0
        self.best = -math.inf

    @property
    def title(self) -> str:
        """What the progress bar says."""
        return f"training to tell {len(self.faces.people)} people apart"

    def plan(self, budget: Budget) -> int:
        """Updates of the whole training, as it looks by now; the learning rate follows it."""
        total = budget.total(self.step, self.updates)
        self.config = replace(self.config, updates=total)
        return total

    def update(self) -> float:
        """One update; returns the loss on the faces of all processes.

        Raises:
            EnhancerError: If the loss or its gradient is not finite; the weights stay as they were.
        """
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        index = self.faces.draw(config.batch, self.generator)
        views = draw_views(config.batch, config.augment, self.generator)
        own = self.team.own(index)
        self.learned.train()
        label = self.faces.label[own].to(self.device)
        loss = self.head(self._embed(own, Views(*(self.team.own(v) for v in views))), label)
        value = self._descend(loss, index)
        self.head.advance()
        self.step += 1
        return value

    def learning_rate(self) -> float:
        """Of the next update."""
        config = self.config
        return milestone_rate(config.learning_rate, self.step, config.updates, config.milestones)

    def entries(self, loss: float) -> dict[str, float]:
        """What the log says of an update."""
        rate = self.optimizer.param_groups[0]["lr"]
        return {"loss": loss, "learning_rate": rate, "annealing": self.head.annealing}

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """The accuracy on the held-out images; keeps the best network."""
        scores = self.validate()
        if scores["accuracy/held_out"] > self.best:
            self.best = scores["accuracy/held_out"]
            _save_network(run, self, run.directory / "best.safetensors", scores)
        return scores

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The accuracy as the progress bar shows it."""
        return f"accuracy={scores['accuracy/held_out']:.1%}"

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """``accuracy/held_out``: how many of the held-out images are given their person's name."""
        self.cognition.eval()
        images, label = self.faces.held_out()
        found = torch.cat(
            [
                self.cognition.classify(part.to(self.device).float() / 255).cpu()
                for part in images.split(self.config.batch)
            ]
        )
        return {"accuracy/held_out": (found == label).float().mean().item()}

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on."""
        optimizer, _ = pack_optimizer(self.optimizer)
        return {
            **with_prefix("cognition", self.cognition.state_dict()),
            **with_prefix("optimizer", optimizer),
            "generator": self.generator.get_state(),
        }

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to the tensors and is none."""
        _, optimizer = pack_optimizer(self.optimizer)
        best = self.best if math.isfinite(self.best) else None
        return {"optimizer": optimizer, "best": best}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.step = step
        self.best = -math.inf if metadata["best"] is None else metadata["best"]
        self.cognition.load_state_dict(under_prefix("cognition", tensors))
        optimizer = under_prefix("optimizer", tensors)
        unpack_optimizer(self.optimizer, optimizer, metadata["optimizer"])
        self.generator.set_state(tensors["generator"])

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
        shown = tqdm(images, desc="looking at the faces", disable=not self.team.leads)
        embed = self.cognition.recogniser.embed
        return torch.cat([embed(part.to(self.device).float() / 255).cpu() for part in shown])

    def _descend(self, loss: Tensor, index: Tensor) -> float:
        value = self.team.mean(loss).item()
        if not math.isfinite(value):
            raise self._broken(f"the loss is {value}", index.tolist())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(self.learned.parameters())
        largest = self.config.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.learned.parameters(), largest)
        # Before it spoils the weights, and with them the next checkpoint.
        if not bool(torch.isfinite(norm)):
            raise self._broken(f"the gradient's norm is {norm.item()}", index.tolist())
        self.optimizer.step()
        return value

    def _broken(self, what: str, index: Sequence[int]) -> EnhancerError:
        return EnhancerError(
            f"At update {self.step}, on the training faces {', '.join(map(str, index))}, {what}: "
            "the last checkpoint is intact; start again with a lower learning_rate or grad_clip."
        )


def train_cognition(config: TrainCognitionConfig) -> Path:
    """Trains a recogniser with its angular head and writes both.

    Returns:
        Path of the last network, ``cognition.safetensors`` in the run's folder; see
        `facehall_env.recognition.load_cognition`.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        DatasetError: If the dataset has no identities, or too few images of too few people.
        EnhancerError: If loss or gradient are not finite.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
        WeightsError: If the weights to start from cannot be used.
    """
    config.check()
    _check_normalisation(_make_recogniser(config), config)
    return launch(_train, config)


def _train(config: TrainCognitionConfig, team: Team) -> Path:
    """What each of the processes does; the one that leads writes."""
    with TrainingRun(config.out, config, config.resume, writes=team.leads) as run:
        trainer = CognitionTrainer(config, team)
        scores = fit(run, trainer, config.minutes)
        path = run.directory / "cognition.safetensors"
        if team.leads:
            _save_network(run, trainer, path, scores)
        return path


def _save_network(
    run: TrainingRun, trainer: CognitionTrainer, path: Path, scores: Mapping[str, float]
) -> None:
    if not all(bool(p.isfinite().all()) for p in trainer.learned.parameters()):
        raise EnhancerError(
            f"After update {trainer.step} the weights are not all finite, and {path.name} is not "
            "written: start again with a lower learning_rate or weight_decay."
        )
    provenance = {
        **run.provenance(),
        "people": len(trainer.faces.people),
        "faces": trainer.faces.num_training,
        "updates": trainer.step,
        "held_out": dict(scores),
    }
    recognition.save_cognition(trainer.cognition, path, provenance)


def _make_dataset(config: TrainCognitionConfig) -> FaceDataset:
    settings = {
        **DATASET_SETTINGS.get(config.dataset, {}),
        **parse_settings(config.dataset_settings),
    }
    return data.make(config.dataset, split="train", **settings)


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
