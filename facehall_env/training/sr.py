"""Training of networks that restore whole faces: one loss on all pixels, one trainer for all.

What a network's paper or release says of its training is its `Recipe`; every part of it can be
overridden. The exponential moving average of the weights is what is validated and saved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from facehall_env import enhancers, metrics
from facehall_env.core import cpu_has_bfloat16
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer, Recipe
from facehall_env.enhancers.base import restore_whole
from facehall_env.errors import ConfigurationError, EnhancerError
from facehall_env.registry import parse_settings
from facehall_env.training.augment import Views, draw_views, look
from facehall_env.training.distributed import Team
from facehall_env.training.loop import train
from facehall_env.training.losses import face_loss
from facehall_env.training.muon import make_optimizer
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import learning_rate
from facehall_env.training.settings import TrainSRConfig
from facehall_env.training.trainer import Trainer
from facehall_env.training.validation import Validation
from facehall_env.training.windows import WindowPool


class SRTrainer(Trainer):
    """Trains a network of whole faces."""

    config: TrainSRConfig
    criterion = "psnr/held_out"
    shown = ("psnr/held_out", "ssim/held_out")
    advice = "start again with a lower learning_rate, a lower grad_clip or a warm_up"

    def __init__(self, config: TrainSRConfig, team: Team | None = None) -> None:
        super().__init__(config, f"training {config.enhancer}", team)
        if config.precision == "bf16" and self.device.type == "cpu" and not cpu_has_bfloat16():
            raise ConfigurationError(
                "precision='bf16' would be emulated on this processor, which is far slower than "
                "'fp32': use that, or a device with bfloat16 arithmetic."
            )
        enhancer = make_trainable(
            config.enhancer, config.faces.scale, config.weights, config.enhancer_settings
        ).to(self.device)
        enhancer.whole_face()  # Raises a clear error for networks that cannot.
        # Convolutions are faster in this layout, on the CPU by half.
        self.enhancer: Enhancer = enhancer.to(
            memory_format=torch.channels_last  # type: ignore[call-overload]  # torch's stub lacks it
        )
        self.recipe = overridden(getattr(type(enhancer), "recipe", Recipe()), config)
        self.team.check_shares(batch=self.recipe.batch)
        self.pool = WindowPool.open(
            config.faces, config, self.team.leads, window=config.window, shift=config.shift
        )
        self.modules["enhancer"] = self.enhancer
        groups = self.enhancer.parameter_groups(1.0)
        recipe = self.recipe
        optimizer = make_optimizer(recipe.optimizer, self.enhancer, groups, recipe.betas)
        self.add_optimizer("enhancer", optimizer)
        self.add_average("enhancer", config.ema)

    @property
    def result(self) -> Enhancer:
        """The network that is validated and saved."""
        return cast(Enhancer, self.averaged("enhancer"))

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`."""
        rate = self.learning_rate()
        self.scale_learning_rates(rate)
        index = self.pool.draw(self.recipe.batch, self.rng)
        views = draw_views(self.recipe.batch, self.recipe.augment, self.rng)
        own = Views(*(self.team.own(setting) for setting in views))
        corners = self.team.own(self.pool.draw_corners(len(index), self.rng))
        faces = self._faces(self.team.own(index), own, corners)
        self.enhancer.train()
        loss = self._loss(self._restore(self.enhancer, faces), faces.hr)
        value, _ = self.descend("enhancer", loss, self.config.grad_clip, index)
        self.team.average_buffers(self.enhancer)
        return {"loss": value, "learning_rate": rate}

    def learning_rate(self) -> float:
        """Learning rate of the next update; a network may multiply it for some layers."""
        recipe = self.recipe
        return learning_rate(
            recipe.schedule,
            recipe.learning_rate,
            self.step,
            self.total,
            step_updates=recipe.step_updates,
            warm_up=self.config.warm_up,
        )

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """See :meth:`Trainer.evaluate`; also writes a sheet of samples."""
        validation = self.validate()
        validation.write(run.directory, self.step)
        return self.keep_best(run, validation.scores)

    @torch.no_grad()
    def validate(self) -> Validation:
        """Restores the held-out faces and scores them as the protocol says."""
        self.result.eval()
        faces = self.pool.held_out()
        size = self.recipe.batch // self.team.size
        parts = [slice(first, first + size) for first in range(0, len(faces.hr), size)]
        restored = torch.cat(
            [self._restore(self.result, faces.rows(p).to(self.device)).cpu() for p in parts]
        )
        self.check_finite(restored.abs().max().item(), "the largest value of the restored faces")
        score = self._score(restored, faces.hr, ("psnr", "ssim"))
        scores = {
            "psnr/initial": self._score(faces.initial, faces.hr, ("psnr",))["psnr"].mean().item(),
            "psnr/held_out": score["psnr"].mean().item(),
            "ssim/held_out": score["ssim"].mean().item(),
        }
        return Validation(scores, faces, restored.clamp(0, 1), score["psnr"])

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.save`."""
        recipe = dataclasses.asdict(self.recipe)
        enhancers.save(self.result, path, {**provenance, "recipe": recipe})

    def _loss(self, restored: Tensor, truth: Tensor) -> Tensor:
        """The loss of the present update, a scalar."""
        late = self.step >= (1 - self.config.late_share) * self.total
        late_loss = self.config.late_loss if late else None
        return face_loss(restored, truth, late_loss or self.recipe.loss)

    def _faces(self, index: Tensor, views: Views, corners: Tensor | None = None) -> Faces:
        images = look(self.pool.windows(index, corners).to(self.device), views)
        return self.pool.protocol.degrade(images, self.config.faces.scale)

    def _restore(self, enhancer: Enhancer, faces: Faces) -> Tensor:
        """Whole restored faces in float32, unclamped."""
        faces = Faces(*(im.contiguous(memory_format=torch.channels_last) for im in faces[:3]))
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            restored = restore_whole(enhancer, faces.initial, faces.lr).float()
        if restored.shape != faces.hr.shape:
            raise EnhancerError(
                f"The network {enhancer.name!r} restores faces of shape {tuple(restored.shape)}, "
                f"expected {tuple(faces.hr.shape)}: check its scale and what it takes."
            )
        return restored

    def _score(self, restored: Tensor, hr: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        return metrics.score(restored, hr, self.pool.protocol, self.config.faces.scale, names)


def overridden(recipe: Recipe, config: TrainSRConfig) -> Recipe:
    """A network's own recipe, with what the settings say instead."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(Recipe)}
    return dataclasses.replace(recipe, **{k: v for k, v in given.items() if v is not None})


def make_trainable(
    name: str, scale: int, weights: str | Path | None, settings: Iterable[str]
) -> Enhancer:
    """A network to train, from ``weights`` or untrained, with settings given as NAME=VALUE.

    Raises:
        ConfigurationError: If it has no parameters to train.
        UnknownNameError: If there is no enhancer of that name.
        WeightsError: If the weights are missing, damaged, or made for something else.
    """
    start = None if weights is None else str(weights)
    enhancer = enhancers.make(name, scale=scale, weights=start, **parse_settings(settings))
    if not any(parameter.requires_grad for parameter in enhancer.parameters()):
        raise ConfigurationError(
            f"The enhancer {name!r} has nothing to train: choose another, such as compact."
        )
    return enhancer


def train_sr(config: TrainSRConfig) -> Path:
    """Trains a network of whole faces; see :func:`facehall_env.training.loop.train`.

    The last weights are ``enhancer.safetensors`` in the run's folder, whose path is returned, the
    best ones ``best.safetensors``.
    """
    return train(SRTrainer, config)
