"""Training of SPARNetHD: a generator against discriminators, on faces degraded by chance.

Everything that an update draws (faces, mirroring, degradation) follows from the seed and the
number of the update alone. So a checkpoint need not hold the state of a generator, and the faces
of the next update can be made while the device works on this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from facehall_env import data, enhancers, metrics
from facehall_env.checkpoints import pack_optimizer, under_prefix, unpack_optimizer, with_prefix
from facehall_env.data import Faces, random_degradation
from facehall_env.data.base import FaceDataset
from facehall_env.data.images import ImageArray
from facehall_env.data.random_degradation import Degradation
from facehall_env.enhancers import SPARNetHD
from facehall_env.errors import ConfigurationError, EnhancerError
from facehall_env.files import atomic_path
from facehall_env.metrics import perceptual
from facehall_env.registry import parse_settings
from facehall_env.training.adversarial import (
    CHANNELS,
    Discriminators,
    LossWeights,
    discriminator_loss,
    generator_loss,
)
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team, launch
from facehall_env.training.loop import fit
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import moving_average
from facehall_env.training.sr import Validation


@dataclass
class TrainSPARNetHDConfig:
    """Settings of ``facehall train sparnet-hd``; the defaults are the paper's."""

    out: Path = Path("runs/sparnet-hd")
    """Folder for the log, the checkpoint, samples/STEP.png and the weights
    (enhancer.safetensors)."""
    dataset: str = "ffhq"
    """Where the faces come from; always its official training split."""
    dataset_settings: tuple[str, ...] = ("size=512",)
    """Settings of the dataset, NAME=VALUE with the value as in JSON or a word."""
    model_settings: tuple[str, ...] = ()
    """Settings of the generator, NAME=VALUE, such as width=64; they are stored with its weights."""
    degradation: str = "paper"
    """How faces are made bad: the ranges of the paper (paper), or each part by chance and with grey
    faces (released)."""
    updates: int = 100_000
    """Length of the training."""
    batch: int = 2
    """Faces in an update."""
    learning_rate: float = 1e-4
    """Of the generator's Adam."""
    discriminator_learning_rate: float = 4e-4
    """Of the discriminators' Adam."""
    betas: tuple[float, float] = (0.5, 0.99)
    """Momenta of both."""
    ema: float = 0.999
    """Decay of the moving average of the generator's weights, which is what is validated and
    saved."""
    pixel_weight: float = 100.0
    """Weight of the L1 loss on the pixels."""
    adversarial_weight: float = 1.0
    """Weight of the generator's hinge loss."""
    matching_weight: float = 10.0
    """Weight of the discriminators' feature matching."""
    perceptual_weight: float = 1.0
    """Weight of the features of VGG19; 0 does without it."""
    vgg19: Path | None = None
    """Weights of VGG19 on ImageNet, .safetensors or .pth; see docs/perceptual.md."""
    discriminators: int = 3
    """How many there are, each on faces half as large as the one before."""
    discriminator_channels: tuple[int, ...] = CHANNELS
    """Channels of the layers of each."""
    recompute: bool = False
    """Gradient checkpointing: much less memory for more time, with the same gradients."""
    weights: Path | None = None
    """Start from these weights of a generator instead of from scratch."""
    limit: int | None = None
    """Use only this many faces of the training split."""
    validation_faces: int = 8
    """Faces of the training split that are held out to watch the progress."""
    log_every: int = 100
    """Updates between entries in the log."""
    validate_every: int = 1000
    """Updates between measurements of the held-out PSNR and SSIM, with a sheet of samples."""
    checkpoint_every: int = 1000
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

    @property
    def loss_weights(self) -> LossWeights:
        """The weights of the parts of the generator's loss."""
        return LossWeights(
            self.pixel_weight, self.adversarial_weight, self.matching_weight, self.perceptual_weight
        )

    def check(self) -> None:
        """Checks what needs neither the networks nor the faces.

        Raises:
            ConfigurationError: If a number is out of its range, or VGG19 is needed and not given.
        """
        for name in ("updates", "batch", "log_every", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)}: give 1 or more.")
        if not 0 < self.ema < 1:
            raise ConfigurationError(
                f"ema={self.ema}: give a decay between 0 and 1, such as 0.999."
            )
        if self.perceptual_weight != 0 and self.vgg19 is None:
            raise ConfigurationError(
                f"perceptual_weight={self.perceptual_weight:g} needs the weights of VGG19, which "
                "do not come with the project: give --vgg19 (docs/perceptual.md says what to get), "
                "or --perceptual-weight 0 to train without."
            )


class DegradedFaces:
    """Faces of a dataset and what chance makes of them; the last ones are held out.

    Args:
        dataset: Where the faces come from; read when they are needed, since those of 512 pixels
            do not fit in memory by the ten thousand.
        degradation: Makes them bad.
        seed: Of everything drawn.
        held_out: Number of faces to hold out.
        limit: Use only this many faces; all by default.

    Raises:
        ConfigurationError: If there are too few faces.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        degradation: Degradation,
        seed: int,
        held_out: int,
        limit: int | None = None,
    ) -> None:
        number = min(len(dataset), limit or len(dataset))
        if held_out < 1 or number <= held_out:
            raise ConfigurationError(
                f"{number} faces cannot give {held_out} held-out ones and others to train on: "
                "lower validation_faces (1 at least) or use a larger dataset."
            )
        self.dataset = dataset
        self.degradation = degradation
        self.seed = seed
        self.num_training = number - held_out
        self.number = number

    def drawn(self, update: int, rows: range) -> tuple[Tensor, Faces]:
        """Some rows of the batch of an update, the same whenever they are asked for.

        Returns:
            Numbers of the faces (n,) int64, and the faces; ``lr`` is their degraded self, too,
            since their low resolutions are of different sizes.
        """
        index, pairs = [], []
        for row in rows:
            generator = np.random.default_rng((self.seed, update, row))
            index.append(int(generator.integers(self.num_training)))
            image = self.dataset[index[-1]]
            if generator.random() < 0.5:
                image = np.ascontiguousarray(image[:, ::-1])
            pairs.append(self.degradation.pair(image, generator))
        return torch.tensor(index), _faces(pairs)

    def held_out(self) -> Faces:
        """The faces that are never drawn, always degraded in the same way."""
        numbers = range(self.num_training, self.number)
        pairs = [
            self.degradation.pair(self.dataset[number], np.random.default_rng(number))
            for number in numbers
        ]
        return _faces(pairs)


def _faces(pairs: list[tuple[ImageArray, ImageArray]]) -> Faces:
    truth, degraded = (
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        for images in zip(*pairs, strict=True)
    )
    return Faces(truth, degraded, degraded)


class Losses(NamedTuple):
    """What an update saw.

    Attributes:
        generator: The generator's loss (eq. 12).
        discriminator: The discriminators' (eq. 13).
        parts: Of the generator's, before their weights.
    """

    generator: float
    discriminator: float
    parts: dict[str, float]

    def entries(self) -> dict[str, float]:
        """All of it for a log."""
        parts = {f"loss/{name}": value for name, value in self.parts.items()}
        return {"loss": self.generator, "loss/discriminator": self.discriminator, **parts}


class SPARNetHDTrainer:
    """One update of the generator and one of the discriminators at a time.

    Args:
        config: The settings.
        team: The processes that share the batches.

    Raises:
        ConfigurationError: If the settings contradict each other.
        WeightsError: If the weights of VGG19 or of the generator cannot be used.
    """

    def __init__(self, config: TrainSPARNetHDConfig, team: Team | None = None) -> None:
        config.check()
        self.config = config
        self.team = team or Team()
        self.team.check_shares(batch=config.batch)
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.generator = _make_generator(config).to(self.device)
        self.generator.recompute(config.recompute)
        self.discriminators = Discriminators(
            config.discriminators, config.discriminator_channels
        ).to(self.device)
        self.backbone = _make_backbone(config, self.device)
        settings = parse_settings(config.dataset_settings)
        self.faces = DegradedFaces(
            data.make(config.dataset, split="train", **settings),
            random_degradation.get(config.degradation),
            config.seed,
            config.validation_faces,
            config.limit,
        )
        self.average = moving_average(self.generator, config.ema)
        self.optimizers = {
            "generator": torch.optim.Adam(
                self.generator.parameters(), config.learning_rate, betas=config.betas
            ),
            "discriminators": torch.optim.Adam(
                self.discriminators.parameters(),
                config.discriminator_learning_rate,
                betas=config.betas,
            ),
        }
        self.step = 0
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="faces")
        self._ahead: tuple[int, Future[tuple[Tensor, Faces]]] | None = None

    @property
    def result(self) -> SPARNetHD:
        """The generator that is validated and saved: the moving average."""
        return cast(SPARNetHD, self.average.module)

    def close(self) -> None:
        """Stops the thread that reads faces."""
        self._reader.shutdown(cancel_futures=True)

    @property
    def title(self) -> str:
        """What the progress bar says."""
        return "training sparnet_hd"

    def plan(self, budget: Budget) -> int:
        """Updates of the whole training."""
        return budget.total(self.step, self.config.updates)

    def update(self) -> Losses:
        """One update of all networks.

        Raises:
            EnhancerError: If a loss or a gradient is not finite; the weights are then those of
                before, or of the generator's half of this update.
        """
        index, faces = self._next_faces()
        faces = faces.to(self.device)
        self.generator.train()
        restored = self.generator.restore(faces.initial)
        # The generator's loss only passes through them.
        self.discriminators.requires_grad_(False)
        loss, parts = generator_loss(
            restored, faces.hr, self.discriminators, self.config.loss_weights, self.backbone
        )
        generator = self._descend("generator", self.generator, loss, index)
        self.discriminators.requires_grad_(True)
        loss = discriminator_loss(restored, faces.hr, self.discriminators)
        discriminator = self._descend("discriminators", self.discriminators, loss, index)
        self.average.update_parameters(self.generator)
        self.step += 1
        means = {name: self.team.mean(part).item() for name, part in parts.items()}
        return Losses(generator, discriminator, means)

    def entries(self, losses: Losses) -> dict[str, float]:
        """What the log says of an update."""
        return losses.entries()

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """Scores of the held-out faces; draws some of them."""
        validation = self.validate()
        with atomic_path(run.directory / "samples" / f"{self.step:07d}.png") as temporary:
            Image.fromarray(validation.picture()).save(temporary, format="PNG")
        return validation.scores

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The scores as the progress bar shows them."""
        return f"psnr={scores['psnr/held_out']:.2f} dB"

    @torch.no_grad()
    def validate(self) -> Validation:
        """Restores the held-out faces and scores them: RGB, whole faces.

        Raises:
            EnhancerError: If what the generator returns is not finite.
        """
        self.result.eval()
        held_out = self.faces.held_out()
        parts = [self.result.restore(f[None].to(self.device)).cpu() for f in held_out.initial]
        restored = torch.cat(parts)
        if not bool(torch.isfinite(restored).all()):
            raise self._broken("held-out faces are restored to values that are not finite")
        restored = restored.clamp(0, 1)
        psnr = metrics.psnr(restored, held_out.hr)
        scores = {
            "psnr/initial": metrics.psnr(held_out.initial, held_out.hr).mean().item(),
            "psnr/held_out": psnr.mean().item(),
            "ssim/held_out": metrics.ssim(restored, held_out.hr).mean().item(),
        }
        return Validation(scores, held_out, restored, psnr)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on."""
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules().items():
            tensors |= with_prefix(name, module.state_dict())
        for name, optimizer in self.optimizers.items():
            tensors |= with_prefix(f"adam_{name}", pack_optimizer(optimizer)[0])
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to the tensors and is none."""
        return {name: pack_optimizer(optimizer)[1] for name, optimizer in self.optimizers.items()}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.step = step
        for name, module in self._modules().items():
            module.load_state_dict(under_prefix(name, tensors))
        for name, optimizer in self.optimizers.items():
            unpack_optimizer(optimizer, under_prefix(f"adam_{name}", tensors), metadata[name])

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "discriminators": self.discriminators,
            "average": self.average,
        }

    def _next_faces(self) -> tuple[Tensor, Faces]:
        """This process's share of the update's batch; the next one's is begun."""
        ahead, self._ahead = self._ahead, None
        current = ahead[1] if ahead is not None and ahead[0] == self.step else self._read(self.step)
        drawn = current.result()
        if self.step + 1 < self.config.updates:
            self._ahead = (self.step + 1, self._read(self.step + 1))
        return drawn

    def _read(self, update: int) -> Future[tuple[Tensor, Faces]]:
        rows = self.team.own(torch.arange(self.config.batch)).tolist()
        return self._reader.submit(self.faces.drawn, update, range(rows[0], rows[-1] + 1))

    def _descend(self, name: str, network: nn.Module, loss: Tensor, index: Tensor) -> float:
        where = f", on the training faces {', '.join(map(str, index.tolist()))}"
        value = self.team.mean(loss).item()
        if not math.isfinite(value):
            raise self._broken(f"the loss of the {name} is {value}", where)
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        # Before it spoils the weights, and with them the next checkpoint.
        if not bool(torch.isfinite(norm)):
            raise self._broken(f"the norm of the gradient of the {name} is {norm.item()}", where)
        optimizer.step()
        return value

    def _broken(self, what: str, where: str = "") -> EnhancerError:
        return EnhancerError(
            f"At update {self.step}{where}, {what}: the last checkpoint is intact; start again "
            "with a lower learning_rate or discriminator_learning_rate."
        )


def train_sparnet_hd(config: TrainSPARNetHDConfig) -> Path:
    """Trains SPARNetHD and writes its weights to ``enhancer.safetensors`` in the run's folder.

    Returns:
        Path of the weights, which are the moving average.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        EnhancerError: If a loss, a gradient or the output are not finite.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
        WeightsError: If the weights of VGG19 or of the generator cannot be used.
    """
    return launch(_train, config)


def _train(config: TrainSPARNetHDConfig, team: Team) -> Path:
    """What each of the processes does; the one that leads writes."""
    with TrainingRun(config.out, config, config.resume, writes=team.leads) as run:
        trainer = SPARNetHDTrainer(config, team)
        try:
            scores = fit(run, trainer)
        finally:
            trainer.close()
        path = run.directory / "enhancer.safetensors"
        if team.leads:
            enhancers.save(trainer.result, path, {**run.provenance(), "held_out": scores})
        return path


def _make_generator(config: TrainSPARNetHDConfig) -> SPARNetHD:
    weights = None if config.weights is None else str(config.weights)
    settings = parse_settings(config.model_settings)
    generator = enhancers.make("sparnet_hd", weights=weights, **settings)
    if not isinstance(generator, SPARNetHD):
        raise ConfigurationError(
            f"The enhancer registered as 'sparnet_hd' is a {type(generator).__name__}: this "
            "trainer needs the one that comes with the project."
        )
    return generator


def _make_backbone(
    config: TrainSPARNetHDConfig, device: torch.device
) -> perceptual.Features | None:
    if config.perceptual_weight == 0 or config.vgg19 is None:
        return None
    return perceptual.vgg19(config.vgg19).to(device)
