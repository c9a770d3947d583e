"""Training of networks that restore whole faces: one loss on all pixels, one trainer for all.

What a network's paper or release says of its training is its `Recipe`; every part of it can be
overridden. The exponential moving average of the weights is what is validated and saved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from facehall_env import data, enhancers, metrics
from facehall_env.checkpoints import pack_optimizer, under_prefix, unpack_optimizer, with_prefix
from facehall_env.core import cpu_has_bfloat16
from facehall_env.data import Faces
from facehall_env.enhancers import Enhancer, Recipe
from facehall_env.enhancers.base import Augmentation, Loss, Schedule, restore_whole
from facehall_env.errors import ConfigurationError, EnhancerError
from facehall_env.files import atomic_path
from facehall_env.observations import to_uint8
from facehall_env.registry import parse_settings
from facehall_env.rendering import Panel, Picture, side_by_side
from facehall_env.training.augment import Views, draw_views, look
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team, launch
from facehall_env.training.enhancer import patch_loss
from facehall_env.training.face_pool import FacePool
from facehall_env.training.limits import check_numbers
from facehall_env.training.loop import fit
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import learning_rate, moving_average

Precision = Literal["fp32", "bf16"]
SAMPLES = 6
"""Held-out faces in a sheet of samples."""


@dataclass
class TrainSRConfig:
    """Settings of ``facehall train sr``."""

    model: str
    """Name of the network, such as srcnn, vdsr, sisn or sparnet."""
    out: Path = Path("runs/sr")
    """Folder for the log, the checkpoint, samples/STEP.png, and the weights: enhancer.safetensors,
    the last ones, and best.safetensors, those of the best held-out PSNR."""
    model_settings: tuple[str, ...] = ()
    """Settings of the network, NAME=VALUE with the value as in JSON or a word, such as width=32;
    they are stored with its weights."""
    dataset: str = "synthetic"
    """Where the faces come from; always its official training split."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset, NAME=VALUE, such as size=256."""
    scale: int = 4
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made, and what the held-out PSNR and SSIM look at."""
    updates: int = 20_000
    """Length of the training."""
    minutes: float | None = None
    """Length of the training in wall time instead; the schedule then follows its share."""
    batch: int | None = None
    """Faces in an update; by default as in the network's recipe."""
    learning_rate: float | None = None
    """Highest learning rate of Adam; by default the recipe's."""
    betas: tuple[float, float] | None = None
    """Momenta of Adam; by default the recipe's."""
    loss: Loss | None = None
    """Loss on the pixels; by default the recipe's."""
    schedule: Schedule | None = None
    """The learning rate follows half a cosine, is halved in steps, or is constant; by default as in
    the recipe."""
    step_updates: int | None = None
    """Updates between two steps of the step schedule; by default the recipe's."""
    warm_up: int = 0
    """Updates over which the learning rate first rises."""
    augment: tuple[Augmentation, ...] | None = None
    """How faces are varied: mirrored (flip), enlarged by up to 1.3 and cropped (scale), turned by
    quarters (rotate); by default as in the recipe."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is validated and saved; 0 saves the
    weights themselves."""
    precision: Precision = "fp32"
    """bf16 computes in bfloat16 where that is safe (autocast); weights stay in float32."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    weights: Path | None = None
    """Start from these weights instead of from scratch."""
    limit: int | None = None
    """Use only this many faces of the training split."""
    validation_faces: int = 32
    """Faces of the training split that are held out to watch the progress."""
    log_every: int = 100
    """Updates between entries in the log."""
    validate_every: int = 500
    """Updates between measurements of the held-out PSNR and SSIM, with a sheet of samples."""
    checkpoint_every: int = 250
    """Updates between checkpoints."""
    seed: int = 0
    """Seed of everything that is drawn."""
    device: str = "cpu"
    """Where to train."""
    devices: int = 1
    """Devices, or on the CPU processes, that share each batch; batch normalisation sees the faces
    of its own one."""
    num_nodes: int = 1
    """Machines with as many devices each."""
    resume: bool = False
    """Continue the run in the folder exactly where its checkpoint stands."""

    def recipe(self, default: Recipe) -> Recipe:
        """How to train: what is set here, and the network's own recipe for the rest."""
        names = (field.name for field in dataclasses.fields(Recipe))
        given = {name: getattr(self, name) for name in names}
        return dataclasses.replace(
            default, **{name: value for name, value in given.items() if value is not None}
        )

    def check(self) -> None:
        """Checks what needs neither the network nor the faces.

        Raises:
            ConfigurationError: If a number is out of its range, or bf16 would be emulated.
        """
        check_numbers(vars(self))
        if self.precision not in get_args(Precision):
            raise ConfigurationError(
                f"precision={self.precision!r} is unknown: use one of {get_args(Precision)}."
            )
        emulated = torch.device(self.device).type == "cpu" and not cpu_has_bfloat16()
        if self.precision == "bf16" and emulated:
            raise ConfigurationError(
                "precision='bf16' would be emulated on this processor, which is far slower than "
                "'fp32': use that, or a device with bfloat16 arithmetic."
            )


class Validation(NamedTuple):
    """What became of the held-out faces.

    Attributes:
        scores: ``psnr/initial``, ``psnr/held_out`` in dB and ``ssim/held_out``, means.
        faces: The held-out faces, N of them.
        restored: (N, 3, H, W) in [0, 1].
        psnr: (N,) of each in dB.
    """

    scores: dict[str, float]
    faces: Faces
    restored: Tensor
    psnr: Tensor

    def picture(self, number: int = SAMPLES) -> Picture:
        """The first so many: a row of inputs, one of restored faces, one of the truth."""
        rows = {
            "input": self.faces.initial,
            "restored": self.restored,
            "truth": self.faces.hr,
        }
        sheet = []
        for title, images in rows.items():
            pictures = list(to_uint8(images[:number]).cpu().numpy())
            titles = [title] + [""] * (len(pictures) - 1)
            decibels = self.psnr.tolist() if title == "restored" else []
            footers = [f"{value:.2f} dB" for value in decibels] or [""] * len(pictures)
            panels = zip(pictures, titles, footers[: len(pictures)], strict=True)
            sheet.append(side_by_side([Panel(*panel) for panel in panels]))
        return np.concatenate(sheet)


class SRTrainer:
    """One update at a time; its whole state can be saved and restored.

    Args:
        config: The settings.
        team: The processes that share the batches.

    Raises:
        ConfigurationError: If the settings contradict each other.
    """

    def __init__(self, config: TrainSRConfig, team: Team | None = None) -> None:
        config.check()
        self.config = config
        self.updates = config.updates
        self.team = team or Team()
        self.device = torch.device(config.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)
        enhancer = _make_enhancer(config).to(self.device)
        # Convolutions are faster in this layout, on the CPU by half.
        self.enhancer: Enhancer = enhancer.to(
            memory_format=torch.channels_last  # type: ignore[call-overload]  # torch's stub lacks it
        )
        self.recipe = config.recipe(getattr(type(enhancer), "recipe", Recipe()))
        self.team.check_shares(batch=self.recipe.batch)
        self.pool = FacePool(
            data.make(config.dataset, split="train", **parse_settings(config.dataset_settings)),
            data.protocols.get(config.protocol),
            config.scale,
            held_out=config.validation_faces,
            limit=config.limit,
            progress=self.team.leads,
        )
        groups = self.enhancer.parameter_groups(1.0)
        self.optimizer = torch.optim.Adam(groups, betas=self.recipe.betas)
        self.multipliers = [group["lr"] for group in self.optimizer.param_groups]
        self.average: AveragedModel | None = (
            moving_average(self.enhancer, config.ema) if config.ema > 0 else None
        )
        self.step = 0
        self.best = -math.inf

    @property
    def result(self) -> Enhancer:
        """The network that is validated and saved: the average of the weights, if there is one."""
        if self.average is None:
            return self.enhancer
        return cast(Enhancer, self.average.module)

    @property
    def title(self) -> str:
        """What the progress bar says."""
        return f"training {self.config.model}"

    def plan(self, budget: Budget) -> int:
        """Updates of the whole training, as it looks by now; the schedule follows it."""
        total = budget.total(self.step, self.updates)
        self.config = dataclasses.replace(self.config, updates=total)
        return total

    def update(self) -> float:
        """One update; returns the loss on the faces of all processes."""
        rate = self.learning_rate()
        for group, multiplier in zip(self.optimizer.param_groups, self.multipliers, strict=True):
            group["lr"] = rate * multiplier
        index = self.pool.draw(self.recipe.batch, self.generator)
        views = draw_views(self.recipe.batch, self.recipe.augment, self.generator)
        own = Views(*(self.team.own(setting) for setting in views))
        faces = self._faces(self.team.own(index), own)
        self.enhancer.train()
        restored = self._restore(self.enhancer, faces)
        everywhere = torch.ones_like(restored[:, :1], dtype=torch.bool)
        loss = patch_loss(restored, faces.hr, everywhere, self.recipe.loss)
        value = self._descend(loss, index)
        if self.average is not None:
            self.average.update_parameters(self.enhancer)
        self.step += 1
        return value

    def learning_rate(self) -> float:
        """Of the next update, before what a network multiplies it by for some layers."""
        recipe, config = self.recipe, self.config
        return learning_rate(
            recipe.schedule,
            recipe.learning_rate,
            self.step,
            config.updates,
            step_updates=recipe.step_updates,
            warm_up=config.warm_up,
        )

    def entries(self, loss: float) -> dict[str, float]:
        """What the log says of an update."""
        return {"loss": loss, "learning_rate": self.optimizer.param_groups[0]["lr"]}

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """Scores of the held-out faces; draws some of them and keeps the best weights."""
        validation = self.validate()
        with atomic_path(run.directory / "samples" / f"{self.step:07d}.png") as temporary:
            Image.fromarray(validation.picture()).save(temporary, format="PNG")
        if validation.scores["psnr/held_out"] > self.best:
            self.best = validation.scores["psnr/held_out"]
            _save_weights(run, self, run.directory / "best.safetensors", validation.scores)
        return validation.scores

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The scores as the progress bar shows them."""
        return f"psnr={scores['psnr/held_out']:.2f} dB, ssim={scores['ssim/held_out']:.4f}"

    @torch.no_grad()
    def validate(self) -> Validation:
        """Restores the held-out faces and scores them as the protocol says.

        Raises:
            EnhancerError: If what the network returns is not finite.
        """
        self.result.eval()
        held_out = self.pool.held_out()
        size = self.recipe.batch // self.team.size
        parts = [slice(first, first + size) for first in range(0, len(held_out.hr), size)]
        restored = torch.cat(
            [self._restore(self.result, held_out.rows(p).to(self.device)).cpu() for p in parts]
        )
        if not bool(torch.isfinite(restored).all()):
            raise self._broken("held-out faces are restored to values that are not finite")
        score = self._score(restored, held_out.hr, ("psnr", "ssim"))
        initial = self._score(held_out.initial, held_out.hr, ("psnr",))
        scores = {
            "psnr/initial": initial["psnr"].mean().item(),
            "psnr/held_out": score["psnr"].mean().item(),
            "ssim/held_out": score["ssim"].mean().item(),
        }
        return Validation(scores, held_out, restored.clamp(0, 1), score["psnr"])

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on."""
        optimizer, _ = pack_optimizer(self.optimizer)
        tensors = {
            **with_prefix("enhancer", self.enhancer.state_dict()),
            **with_prefix("optimizer", optimizer),
            "generator": self.generator.get_state(),
            # Of networks that draw themselves, such as those with dropout.
            "torch_generator": torch.get_rng_state(),
        }
        if self.average is not None:
            tensors |= with_prefix("average", self.average.state_dict())
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to the tensors and is none."""
        _, optimizer = pack_optimizer(self.optimizer)
        best = self.best if math.isfinite(self.best) else None
        return {"optimizer": optimizer, "best": best}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.step = step
        self.best = -math.inf if metadata["best"] is None else metadata["best"]
        self.enhancer.load_state_dict(under_prefix("enhancer", tensors))
        if self.average is not None:
            self.average.load_state_dict(under_prefix("average", tensors))
        optimizer = under_prefix("optimizer", tensors)
        unpack_optimizer(self.optimizer, optimizer, metadata["optimizer"])
        self._lay_out_like_weights()
        self.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["torch_generator"])

    def _lay_out_like_weights(self) -> None:
        """Gives the momenta their weights' memory layout again, which files do not keep.

        Without it the arithmetic takes another path, and results differ in the last bit.
        """
        for parameter, state in self.optimizer.state.items():
            for name, value in state.items():
                if value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter).copy_(value)

    def _faces(self, index: Tensor, views: Views) -> Faces:
        images = look(self.pool.images[index].to(self.device), views)
        return self.pool.protocol.degrade(images, self.config.scale)

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

    def _descend(self, loss: Tensor, index: Tensor) -> float:
        on_faces = f", on the training faces {', '.join(map(str, index.tolist()))}"
        value = self.team.mean(loss).item()
        if not math.isfinite(value):
            raise self._broken(f"the loss is {value}", on_faces)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(self.enhancer.parameters())
        largest = self.config.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.enhancer.parameters(), largest)
        # Before it spoils the weights, and with them the next checkpoint.
        if not bool(torch.isfinite(norm)):
            raise self._broken(f"the gradient's norm is {norm.item()}", on_faces)
        self.optimizer.step()
        self._share_statistics()
        return value

    def _share_statistics(self) -> None:
        """Averages what batch normalisation has seen over the processes."""
        buffers = [b for b in self.enhancer.buffers() if b.is_floating_point()]
        if self.team.size == 1 or not buffers:
            return
        together = self.team.mean(torch.cat([buffer.flatten() for buffer in buffers]))
        sizes = [buffer.numel() for buffer in buffers]
        for buffer, averaged in zip(buffers, together.split(sizes), strict=True):
            buffer.copy_(averaged.view_as(buffer))

    def _broken(self, what: str, where: str = "") -> EnhancerError:
        return EnhancerError(
            f"At update {self.step}{where}, {what}: the last checkpoint is intact; start again "
            "with a lower learning_rate, a lower grad_clip or a warm_up."
        )

    def _score(self, restored: Tensor, hr: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        return metrics.score(restored, hr, self.pool.protocol, self.config.scale, names)


def train_sr(config: TrainSRConfig) -> Path:
    """Trains a network of whole faces and writes its weights.

    Returns:
        Path of the last weights, ``enhancer.safetensors`` in the run's folder; the best ones are
        in ``best.safetensors`` beside them.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        EnhancerError: If loss, gradient or output are not finite.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
    """
    return launch(_train, config)


def _train(config: TrainSRConfig, team: Team) -> Path:
    """What each of the processes does; the one that leads writes."""
    with TrainingRun(config.out, config, config.resume, writes=team.leads) as run:
        trainer = SRTrainer(config, team)
        scores = fit(run, trainer, config.minutes)
        path = run.directory / "enhancer.safetensors"
        if team.leads:
            _save_weights(run, trainer, path, scores)
        return path


def _save_weights(
    run: TrainingRun, trainer: SRTrainer, path: Path, scores: Mapping[str, float]
) -> None:
    provenance = {
        **run.provenance(),
        "recipe": dataclasses.asdict(trainer.recipe),
        "updates": trainer.step,
        "held_out": dict(scores),
    }
    enhancers.save(trainer.result, path, provenance)


def _make_enhancer(config: TrainSRConfig) -> Enhancer:
    weights = None if config.weights is None else str(config.weights)
    enhancer = enhancers.make(
        config.model,
        scale=config.scale,
        weights=weights,
        **parse_settings(config.model_settings),
    )
    if not any(parameter.requires_grad for parameter in enhancer.parameters()):
        raise ConfigurationError(
            f"The network {config.model!r} has nothing to train: choose another."
        )
    enhancer.whole_face()  # Raises a clear error for networks that cannot.
    return enhancer
