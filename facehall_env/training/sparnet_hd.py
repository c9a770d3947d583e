"""Training of SPARNetHD: a generator against discriminators, on randomly degraded faces.

Everything that an update draws (faces, mirroring, degradation) follows from the seed and the
number of the update alone. So a checkpoint need not hold the state of a generator, and the faces
of the next update can be made while the device works on this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from facehall_env import enhancers, metrics
from facehall_env.data import Faces, random_degradation
from facehall_env.data.base import FaceDataset
from facehall_env.data.images import ImageArray
from facehall_env.data.random_degradation import Degradation
from facehall_env.enhancers import SPARNetHD
from facehall_env.errors import ConfigurationError
from facehall_env.metrics import perceptual
from facehall_env.registry import parse_settings
from facehall_env.spec import FacesSpec
from facehall_env.training.adversarial import Discriminators, discriminator_loss, generator_loss
from facehall_env.training.distributed import Team
from facehall_env.training.loop import train
from facehall_env.training.run import TrainingRun
from facehall_env.training.settings import TrainSPARNetHDConfig
from facehall_env.training.trainer import Trainer
from facehall_env.training.validation import Validation


class DegradedFaces:
    """Randomly degraded faces of a dataset; the last ones are held out.

    Args:
        dataset: Where the faces come from; read when they are needed, since those of 512 pixels
            do not fit in memory by the ten thousand.
        held_out: Number of faces to hold out.

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
        numbers, pair = range(self.num_training, self.number), self.degradation.pair
        return _faces([pair(self.dataset[n], np.random.default_rng(n)) for n in numbers])


def _faces(pairs: list[tuple[ImageArray, ImageArray]]) -> Faces:
    truth, degraded = (
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        for images in zip(*pairs, strict=True)
    )
    return Faces(truth, degraded, degraded)


class SPARNetHDTrainer(Trainer):
    """Trains a generator against discriminators; an update makes a step of both."""

    config: TrainSPARNetHDConfig
    shown = ("psnr/held_out",)
    advice = "start again with a lower learning_rate or discriminator_learning_rate"

    def __init__(self, config: TrainSPARNetHDConfig, team: Team | None = None) -> None:
        super().__init__(config, "training sparnet_hd", team)
        check_backbone(config)
        self.team.check_shares(batch=config.batch)
        self.generator = _make_generator(config).to(self.device)
        self.generator.recompute(config.recompute)
        self.discriminators = Discriminators(
            config.discriminators, config.discriminator_channels
        ).to(self.device)
        self.backbone = _make_backbone(config, self.device)
        dataset = FacesSpec(config.dataset, config.dataset_settings).open("train")
        degradation = random_degradation.get(config.degradation)
        self.faces = DegradedFaces(
            dataset, degradation, config.seed, config.validation_faces, config.limit
        )
        networks = {"generator": self.generator, "discriminators": self.discriminators}
        rates = (config.learning_rate, config.discriminator_learning_rate)
        for (name, network), rate in zip(networks.items(), rates, strict=True):
            self.modules[name] = network
            adam = torch.optim.Adam(network.parameters(), rate, betas=config.betas)
            self.add_optimizer(name, adam)
        self.add_average("generator", config.ema)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="faces")
        self._ahead: tuple[int, Future[tuple[Tensor, Faces]]] | None = None

    @property
    def result(self) -> SPARNetHD:
        """The generator that is validated and saved: the moving average."""
        return cast(SPARNetHD, self.averaged("generator"))

    def close(self) -> None:
        """Stops the thread that reads faces."""
        self._reader.shutdown(cancel_futures=True)

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`.

        Raises:
            EnhancerError: If a loss or a gradient is not finite; the weights are then those before
                this update, or after the generator's half of it.
        """
        index, faces = self._next_faces()
        faces = faces.to(self.device)
        self.generator.train()
        restored = self.generator.restore(faces.initial)
        # The generator's loss only passes through them.
        self.discriminators.requires_grad_(False)
        loss, parts = generator_loss(
            restored, faces.hr, self.discriminators, self.config.loss, self.backbone
        )
        generator, _ = self.descend("generator", loss, index=index)
        self.discriminators.requires_grad_(True)
        loss = discriminator_loss(restored, faces.hr, self.discriminators)
        discriminator, _ = self.descend("discriminators", loss, index=index)
        means = {f"loss/{name}": self.team.mean(part).item() for name, part in parts.items()}
        return {"loss": generator, "loss/discriminator": discriminator, **means}

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """See :meth:`Trainer.evaluate`; writes a sheet of samples."""
        validation = self.validate()
        validation.write(run.directory, self.step)
        return validation.scores

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.save`."""
        enhancers.save(self.result, path, provenance)

    @torch.no_grad()
    def validate(self) -> Validation:
        """Restores the held-out faces and scores them: RGB, whole faces."""
        self.result.eval()
        held_out = self.faces.held_out()
        parts = [self.result.restore(f[None].to(self.device)).cpu() for f in held_out.initial]
        restored = torch.cat(parts)
        self.check_finite(restored.abs().max().item(), "the largest value of the restored faces")
        restored = restored.clamp(0, 1)
        psnr = metrics.psnr(restored, held_out.hr)
        scores = {
            "psnr/initial": metrics.psnr(held_out.initial, held_out.hr).mean().item(),
            "psnr/held_out": psnr.mean().item(),
            "ssim/held_out": metrics.ssim(restored, held_out.hr).mean().item(),
        }
        return Validation(scores, held_out, restored, psnr)

    def _next_faces(self) -> tuple[Tensor, Faces]:
        """This process's share of the update's batch; the next one's is begun."""
        ahead, self._ahead = self._ahead, None
        current = ahead[1] if ahead is not None and ahead[0] == self.step else self._read(self.step)
        drawn = current.result()
        if self.step + 1 < self.total:
            self._ahead = (self.step + 1, self._read(self.step + 1))
        return drawn

    def _read(self, update: int) -> Future[tuple[Tensor, Faces]]:
        rows = self.team.own(torch.arange(self.config.batch)).tolist()
        return self._reader.submit(self.faces.drawn, update, range(rows[0], rows[-1] + 1))


def check_backbone(config: TrainSPARNetHDConfig) -> None:
    """Raises a ConfigurationError if the loss of VGG19 counts and VGG19 is not given."""
    if config.loss.perceptual_weight != 0 and config.vgg19 is None:
        raise ConfigurationError(
            f"perceptual_weight={config.loss.perceptual_weight:g} needs the weights of VGG19, "
            "which do not come with the project: give --vgg19 (docs/perceptual.md says what to "
            "get), or --perceptual-weight 0 to train without."
        )


def train_sparnet_hd(config: TrainSPARNetHDConfig) -> Path:
    """Trains SPARNetHD; see :func:`facehall_env.training.loop.train`.

    Returns the path of the moving average, ``enhancer.safetensors`` in the run's folder.
    """
    check_backbone(config)
    return train(SPARNetHDTrainer, config)


def _make_generator(config: TrainSPARNetHDConfig) -> SPARNetHD:
    weights = None if config.weights is None else str(config.weights)
    settings = parse_settings(config.enhancer_settings)
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
    if config.loss.perceptual_weight == 0 or config.vgg19 is None:
        return None
    return perceptual.vgg19(config.vgg19).to(device)
