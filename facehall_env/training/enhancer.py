"""Training of patch enhancers: fresh faces first, then staggered rollouts.

An enhancer that has only seen untouched faces falls apart when it is applied again to its own
output (to 10 dB after 25 patches); one that is trained from the start on rollouts of the same few
faces learns nothing, because its updates are correlated and its early noise comes back as input.
So the first stage learns from fresh faces (networks that restore whole faces see some patches of
them already restored), and the second from environments that stand at different steps of their
episodes, restored so far by the enhancer itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from facehall_env import data, enhancers, patches
from facehall_env.checkpoints import pack_optimizer, under_prefix, unpack_optimizer, with_prefix
from facehall_env.core import HallucinationCore
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.enhancers.base import restore_current
from facehall_env.errors import ConfigurationError, EnhancerError
from facehall_env.patches import Border
from facehall_env.registry import parse_settings
from facehall_env.spec import BICUBIC, load_initial
from facehall_env.state import CoreState
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team, launch
from facehall_env.training.face_pool import FacePool
from facehall_env.training.loop import fit
from facehall_env.training.run import TrainingRun

Loss = Literal["mse", "l1", "charbonnier"]
CHARBONNIER_EPSILON = 1e-3


@dataclass
class TrainEnhancerConfig:
    """Settings of ``facehall train enhancer``."""

    out: Path = Path("runs/enhancer")
    """Folder for the log, the checkpoint and the weights (enhancer.safetensors)."""
    enhancer: str = "compact"
    """Name of the network: compact or attention_fh."""
    enhancer_settings: tuple[str, ...] = ()
    """Settings of the network, NAME=VALUE with the value as in JSON or a word, such as
    convolution=fourier; they are stored with its weights."""
    dataset: str = "synthetic"
    """Where the faces come from; always its official training split."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset, NAME=VALUE, such as size=256."""
    scale: int = 4
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made."""
    initial: str = BICUBIC
    """What the faces start from: bicubic, or the result of a network that restores whole faces, by
    its name or the file of its weights."""
    minutes: float | None = None
    """Length of the training in wall time instead of updates; the updates of the two stages then
    say which shares of it they have, and the learning rates follow the time."""
    fresh_steps: int = 4000
    """Updates of the first stage, on untouched faces."""
    fresh_batch: int = 8
    """Faces in an update of the first stage."""
    fresh_on: Literal["faces", "patches"] = "faces"
    """Learn from whole faces (networks that can) or from one random patch of each."""
    fresh_own_patches: int = 8
    """Up to so many patches of a whole face are exchanged, before the network learns from it, for
    the network's own restoration: it so learns early to tell restored cells from others."""
    fresh_learning_rate: float = 1e-3
    """Highest learning rate of the first stage; it follows a cosine down to a fiftieth."""
    rollout_steps: int = 2000
    """Updates of the second stage, on staggered rollouts."""
    rollout_envs: int = 32
    """Faces that are being restored at a time in the second stage."""
    rollout_learning_rate: float = 4e-4
    """Highest learning rate of the second stage; it follows a cosine down to a fiftieth."""
    num_steps: int = 25
    """Patches after which a face of the second stage is exchanged for a new one."""
    border: Border = "centre"
    """Patches centred anywhere, or kept inside the image."""
    action_stride: int = 1
    """Spacing in pixels of the locations of random patches. With that of the agents that will
    choose, an enhancer sees what it will see: cells of a `compact` network that are restored as a
    whole or not at all."""
    action_offset: int | None = None
    """On which row and column of its cell a patch is centred; the middle by default."""
    loss: Loss = "charbonnier"
    """Loss on the pixels of the patch that lie in the image."""
    beta1: float = 0.9
    """First momentum of Adam; the paper has 0.5."""
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
    """Updates between measurements of the held-out PSNR."""
    checkpoint_every: int = 250
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


def patch_loss(restored: Tensor, truth: Tensor, inside: Tensor, kind: Loss = "mse") -> Tensor:
    """Mean loss over the pixels that lie in the image (Attention-FH, section 3.3).

    Args:
        restored: (N, 3, h, w), an enhancer's output, not clamped.
        truth: (N, 3, h, w).
        inside: (N, 1, h, w) bool; other pixels are left out.
        kind: ``"mse"``, ``"l1"``, or ``"charbonnier"``, an l1 that is smooth at zero.

    Returns:
        A scalar.
    """
    if kind not in get_args(Loss):
        raise ConfigurationError(f"loss={kind!r} is unknown: use one of {get_args(Loss)}.")
    error = restored - truth
    if kind == "mse":
        error = error.square()
    elif kind == "l1":
        error = error.abs()
    else:
        error = (error.square() + CHARBONNIER_EPSILON**2).sqrt()
    inside = inside.expand_as(error)
    return (error * inside).sum() / inside.sum()


class EnhancerTrainer:
    """Both stages, one update at a time; its whole state can be saved and restored.

    Args:
        config: The settings.
        team: The processes that share the batches.

    Raises:
        ConfigurationError: If the settings contradict each other.
    """

    def __init__(self, config: TrainEnhancerConfig, team: Team | None = None) -> None:
        self.given = self.config = config
        self.team = team or Team()
        self.team.check_shares(fresh_batch=config.fresh_batch, rollout_envs=config.rollout_envs)
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)
        self.enhancer = self._make_enhancer()
        self.pool = FacePool(
            data.make(config.dataset, split="train", **parse_settings(config.dataset_settings)),
            data.protocols.get(config.protocol),
            config.scale,
            held_out=config.validation_faces,
            limit=config.limit,
            progress=self.team.leads,
        )
        height, width = self.pool.images.shape[2:]
        self.core = HallucinationCore(
            self.enhancer,
            image_size=(height, width),
            num_steps=config.num_steps,
            border=config.border,
            action_stride=config.action_stride,
            action_offset=config.action_offset,
            reward="delta_mse",
            device=config.device,
            initial=load_initial(config.initial, config.scale, config.dataset),
        )
        self.optimizer = torch.optim.Adam(
            self.enhancer.parameter_groups(1.0), betas=(config.beta1, 0.999)
        )
        self.multipliers = [group["lr"] for group in self.optimizer.param_groups]
        self.step = 0
        # Of the faces of all processes, so that each knows what the others draw.
        self.index = torch.zeros(0, dtype=torch.int64)
        self.flip = torch.zeros(0, dtype=torch.bool)
        self.taken = torch.zeros(0, dtype=torch.int64)
        self.state: CoreState | None = None

    @property
    def total_steps(self) -> int:
        """Updates of both stages."""
        return self.config.fresh_steps + self.config.rollout_steps

    @property
    def title(self) -> str:
        """What the progress bar says."""
        return f"training {self.config.enhancer}"

    def plan(self, budget: Budget) -> int:
        """Updates of both stages as it looks by now.

        Where the time is limited, each stage has its share of it, that of its updates.
        """
        if budget.minutes is None:
            return self.total_steps
        given, config = self.given, self.config
        if self.total_steps < 1:
            raise ConfigurationError(
                f"fresh_steps={given.fresh_steps} and rollout_steps={given.rollout_steps}: give 1 "
                "or more of either; minutes are shared as they are."
            )
        switch = given.fresh_steps / (given.fresh_steps + given.rollout_steps)
        # Until the second stage has begun, the end of the first may still move.
        if given.fresh_steps > 0 and self.state is None:
            fresh = budget.total(self.step, given.fresh_steps, 0.0, switch)
            self.config = config = replace(config, fresh_steps=fresh)
        if self.step >= config.fresh_steps and switch < 1:
            done = self.step - config.fresh_steps
            rollout = budget.total(done, given.rollout_steps, switch, 1.0)
            self.config = replace(config, rollout_steps=rollout)
        return self.total_steps

    def update(self) -> float:
        """One update of whichever stage the run is in; returns the loss on all faces."""
        self._set_learning_rate()
        fresh = self.step < self.config.fresh_steps
        loss = self._fresh_update() if fresh else self._rollout_update()
        self.step += 1
        return loss

    def entries(self, loss: float) -> dict[str, float]:
        """What the log says of an update."""
        return {"loss": loss}

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """Scores of the held-out faces."""
        return self.validate()

    def postfix(self, scores: Mapping[str, float]) -> str:
        """The scores as the progress bar shows them."""
        return ", ".join(f"{k.partition('/')[2]}={v:.2f} dB" for k, v in scores.items())

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR in dB of the held-out faces after T random patches, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        state = self.core.reset(self.pool.held_out())
        scores = {"psnr/initial": state.psnr.mean().item()}
        for _ in range(self.config.num_steps):
            action = torch.randint(
                self.core.geometry.num_locations, (state.num_envs,), generator=generator
            )
            state, _, _ = self.core.step(state, action.to(self.core.device))
        scores["psnr/random_patches"] = state.psnr.mean().item()
        if self.config.fresh_on == "faces":
            whole = self.enhancer.whole_face()(state.initial).clamp(0, 1)
            mse = (whole - state.hr).square().flatten(1).mean(1)
            scores["psnr/whole_face"] = (-10 * mse.log10()).mean().item()
        return scores

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on; all processes have to ask for it."""
        optimizer, _ = pack_optimizer(self.optimizer)
        tensors = {
            **with_prefix("enhancer", self.enhancer.state_dict()),
            **with_prefix("optimizer", optimizer),
            "generator": self.generator.get_state(),
        }
        if self.state is not None:
            tensors["rollout/image"] = self.team.joined(self.state.image)
            tensors["rollout/step"] = self.taken
            tensors["rollout/index"] = self.index
            tensors["rollout/flip"] = self.flip
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to the tensors and is none."""
        _, optimizer = pack_optimizer(self.optimizer)
        return {"optimizer": optimizer, "fresh_steps": self.config.fresh_steps}

    def restore(self, step: int, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.step = step
        fresh_steps = metadata.get("fresh_steps", self.config.fresh_steps)
        self.config = replace(self.config, fresh_steps=fresh_steps)
        self.enhancer.load_state_dict(under_prefix("enhancer", tensors))
        unpack_optimizer(self.optimizer, under_prefix("optimizer", tensors), metadata["optimizer"])
        self.generator.set_state(tensors["generator"])
        rollout = under_prefix("rollout", tensors)
        if rollout:
            self.index, self.flip = rollout["index"], rollout["flip"]
            self.taken = rollout["step"]
            self.state = self._staggered(rollout["image"])

    def _make_enhancer(self) -> Enhancer:
        config = self.config
        weights = None if config.weights is None else str(config.weights)
        enhancer = enhancers.make(
            config.enhancer,
            scale=config.scale,
            weights=weights,
            **parse_settings(config.enhancer_settings),
        )
        if not any(parameter.requires_grad for parameter in enhancer.parameters()):
            raise ConfigurationError(
                f"The enhancer {config.enhancer!r} has nothing to train: choose another."
            )
        if config.fresh_on == "faces":
            enhancer.whole_face()  # Raises a clear error for networks that cannot.
        on_patches = config.fresh_on == "patches" and config.fresh_steps > 0
        if isinstance(enhancer, OneShot) and (on_patches or config.rollout_steps > 0):
            raise ConfigurationError(
                f"The enhancer {config.enhancer!r} restores whole faces at once and learns nothing "
                f"from patches: train it by `facehall train sr --model {config.enhancer}`, or use "
                "one for patches, such as compact."
            )
        return enhancer

    def _set_learning_rate(self) -> None:
        config = self.config
        if self.step < config.fresh_steps:
            done, highest = self.step / config.fresh_steps, config.fresh_learning_rate
        else:
            done = (self.step - config.fresh_steps) / config.rollout_steps
            highest = config.rollout_learning_rate
        warm_up = min(1.0, (self.step + 1) / max(1, min(100, self.total_steps // 20)))
        rate = highest * warm_up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group, multiplier in zip(self.optimizer.param_groups, self.multipliers, strict=True):
            group["lr"] = rate * multiplier

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Faces for all processes, and which of them to mirror."""
        index = self.pool.draw(number, self.generator)
        flip = torch.rand(number, generator=self.generator) < 0.5
        return index, flip

    def _draw_actions(self, number: int) -> Tensor:
        """This process's share of so many locations."""
        action = torch.randint(
            self.core.geometry.num_locations, (number,), generator=self.generator
        )
        return self.team.own(action).to(self.core.device)

    def _fresh_update(self) -> float:
        config = self.config
        index, flip = (self.team.own(drawn) for drawn in self._draw(config.fresh_batch))
        faces = self.pool.faces(index, flip).to(self.core.device)
        if config.fresh_on == "faces":
            initial = self.core.begin(faces).initial
            image = self._partly_restored(initial)
            restored = restore_current(self.enhancer, image, initial)
            everywhere = torch.ones_like(restored[:, :1], dtype=torch.bool)
            return self._descend(self._mean_loss(restored, faces.hr, everywhere))
        state = self.core.reset(faces)
        action = self._draw_actions(config.fresh_batch)
        return self._descend(self._loss_at(state, action, self.core.propose(state, action)))

    @torch.no_grad()
    def _partly_restored(self, initial: Tensor) -> Tensor:
        """Faces with some patches, for each another number of them, already restored."""
        most, size = self.config.fresh_own_patches, self.core.geometry.patch_size
        if most == 0:
            return initial
        batch = self.config.fresh_batch
        number = self.team.own(torch.randint(most + 1, (batch,), generator=self.generator))
        restored = self.enhancer.whole_face()(initial).clamp(0, 1)
        image = initial
        for patch in range(most):
            top_left = self.core.geometry.top_left(self._draw_actions(batch))
            pasted = patches.paste(image, patches.crop(restored, top_left, size), top_left)
            wanted = (patch < number).to(image.device)
            image = pasted.where(wanted[:, None, None, None], image)
        return image

    def _rollout_update(self) -> float:
        if self.state is None:
            self.index, self.flip = self._draw(self.config.rollout_envs)
            self.taken = torch.arange(self.config.rollout_envs) % self.config.num_steps
            self.state = self._staggered(None)
        state, action = self.state, self._draw_actions(self.config.rollout_envs)
        restored = self.core.propose(state, action)
        loss = self._descend(self._loss_at(state, action, restored))
        state = self.core.write(state, action, restored.detach().clamp(0, 1))
        self.state = self._exchange(state)
        return loss

    def _exchange(self, state: CoreState) -> CoreState:
        """The state with new faces in place of those that have had all their patches."""
        own = self.team.own
        self.taken = self.taken + 1
        over = self.taken >= self.config.num_steps
        if not over.any():
            return state
        self.index[over], self.flip[over] = self._draw(int(over.sum()))
        self.taken[over] = 0
        rows = own(over).nonzero()[:, 0]
        if not len(rows):
            return state
        faces = self.pool.faces(own(self.index)[rows], own(self.flip)[rows])
        return self.core.reset(faces, state, rows)

    def _staggered(self, image: Tensor | None) -> CoreState:
        """The state of this process's faces, with these images of all."""
        own = self.team.own
        state = self.core.reset(self.pool.faces(own(self.index), own(self.flip)))
        state.step = own(self.taken).to(self.core.device)
        if image is not None:
            state.image = own(image).to(self.core.device)
        return state

    def _loss_at(self, state: CoreState, action: Tensor, restored: Tensor) -> Tensor:
        geometry = self.core.geometry
        top_left = geometry.top_left(action)
        truth = patches.crop(state.hr, top_left, geometry.patch_size)
        inside = patches.inside_mask(top_left, geometry.patch_size, geometry.image_size)
        return self._mean_loss(restored, truth, inside)

    def _mean_loss(self, restored: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
        """The loss whose mean over the processes is that of all pixels of all of them."""
        loss = patch_loss(restored, truth, inside, self.config.loss)
        return self.team.balanced(loss, inside.sum())

    def _descend(self, loss: Tensor) -> float:
        value = self.team.mean(loss).item()
        if not math.isfinite(value):
            raise EnhancerError(
                f"The loss is {value} at update {self.step}: the last checkpoint is intact; "
                "start again with a lower learning rate."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(self.enhancer.parameters())
        if self.config.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.enhancer.parameters(), self.config.grad_clip)
        self.optimizer.step()
        return value


def train_enhancer(config: TrainEnhancerConfig) -> Path:
    """Trains an enhancer and writes its weights to ``enhancer.safetensors`` in the run's folder.

    Returns:
        Path of the weights.

    Raises:
        ConfigurationError: If the settings contradict each other or the folder's run.
        EnhancerError: If the loss is not finite.
        MissingExtraError: If several devices are asked for without Lightning Fabric.
    """
    return launch(_train, config)


def _train(config: TrainEnhancerConfig, team: Team) -> Path:
    """What each of the processes does; the one that leads writes."""
    with TrainingRun(config.out, config, config.resume, writes=team.leads) as run:
        trainer = EnhancerTrainer(config, team)
        scores = fit(run, trainer, config.minutes)
        path = run.directory / "enhancer.safetensors"
        if team.leads:
            provenance = {**run.provenance(), "updates": trainer.step, "held_out": scores}
            enhancers.save(trainer.enhancer, path, provenance)
        return path
