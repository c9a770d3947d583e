"""Training of patch enhancers: fresh faces first, then staggered rollouts.

An enhancer that has only seen untouched faces falls apart when it is applied again to its own
output (to 10 dB after 25 patches); one that is trained from the start on rollouts of the same few
faces learns nothing, because its updates are correlated and its early noise comes back as input.
So the first stage learns from fresh faces (networks that restore whole faces see some patches of
them already restored), and the second from environments that stand at different steps of their
episodes, restored so far by the enhancer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facehall_env import enhancers, patches
from facehall_env.checkpoints import under_prefix
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.enhancers.base import restore_current
from facehall_env.errors import ConfigurationError
from facehall_env.state import CoreState
from facehall_env.training.budget import Budget
from facehall_env.training.distributed import Team
from facehall_env.training.face_pool import FacePool
from facehall_env.training.loop import train
from facehall_env.training.losses import patch_loss
from facehall_env.training.run import TrainingRun
from facehall_env.training.schedules import learning_rate
from facehall_env.training.settings import TrainEnhancerConfig
from facehall_env.training.sr import make_trainable
from facehall_env.training.trainer import Metadata, Tensors, Trainer

LOWEST = 0.02
"""Share of the highest learning rate that is left at the end of each stage."""


class EnhancerTrainer(Trainer):
    """Trains an enhancer in two stages.

    ``fresh_updates`` and ``rollout_updates`` are their updates, as estimated now.
    """

    config: TrainEnhancerConfig

    def __init__(self, config: TrainEnhancerConfig, team: Team | None = None) -> None:
        super().__init__(config, f"training {config.episode.enhancer}", team)
        self.team.check_shares(fresh_batch=config.fresh_batch, rollout_envs=config.rollout_envs)
        self.fresh_updates, self.rollout_updates = config.fresh_updates, config.rollout_updates
        self.enhancer = make_enhancer(config)
        faces = config.episode.faces
        dataset = faces.open("train")
        self.pool = FacePool.open(faces, config, self.team.leads, dataset)
        self.core = config.episode.build(dataset=dataset, enhancer=self.enhancer).core
        self.modules["enhancer"] = self.enhancer
        groups = self.enhancer.parameter_groups(1.0)
        self.add_optimizer("enhancer", torch.optim.Adam(groups, betas=(config.beta1, 0.999)))
        # The rollouts of all processes, so that each knows what the others draw.
        self.index = torch.zeros(0, dtype=torch.int64)
        self.flip = torch.zeros(0, dtype=torch.bool)
        self.taken = torch.zeros(0, dtype=torch.int64)
        self.state: CoreState | None = None

    def plan(self, budget: Budget) -> int:
        """See :meth:`Trainer.plan`; each stage gets its updates' share of a limited time.

        Raises:
            ConfigurationError: If the time is limited and both stages have no updates.
        """
        fresh, rollout = self.config.fresh_updates, self.config.rollout_updates
        if budget.minutes is not None:
            if fresh + rollout < 1:
                raise ConfigurationError(
                    f"fresh_updates={fresh} and rollout_updates={rollout}: give 1 or more of "
                    "either; they say how the stages share the minutes."
                )
            switch = fresh / (fresh + rollout)
            # Until the second stage has begun, the end of the first may still move.
            if fresh > 0 and self.state is None:
                self.fresh_updates = budget.total(self.step, fresh, 0.0, switch)
            if self.step >= self.fresh_updates and switch < 1:
                done = self.step - self.fresh_updates
                self.rollout_updates = budget.total(done, rollout, switch, 1.0)
        self.total = self.fresh_updates + self.rollout_updates
        return self.total

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`."""
        rate = self.learning_rate()
        self.scale_learning_rates(rate)
        fresh = self.step < self.fresh_updates
        return {"loss": self._fresh_update() if fresh else self._rollout_update()}

    def evaluate(self, run: TrainingRun) -> dict[str, float]:
        """See :meth:`Trainer.evaluate`."""
        return self.validate()

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.save`."""
        enhancers.save(self.enhancer, path, provenance)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR in dB of the held-out faces after T random patches, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        state = self.core.reset(self.pool.held_out())
        scores = {"psnr/initial": state.psnr.mean().item()}
        locations = self.core.geometry.num_locations
        for _ in range(self.core.num_steps):
            action = torch.randint(locations, (state.num_envs,), generator=generator)
            state, _, _ = self.core.step(state, action.to(self.core.device))
        scores["psnr/random_patches"] = state.psnr.mean().item()
        if self.config.fresh_on == "faces":
            whole = self.enhancer.whole_face()(state.initial).clamp(0, 1)
            mse = (whole - state.hr).square().flatten(1).mean(1)
            scores["psnr/whole_face"] = (-10 * mse.log10()).mean().item()
        return scores

    def state_tensors(self) -> dict[str, Tensor]:
        """See :meth:`Learner.state_tensors`."""
        tensors = super().state_tensors()
        if self.state is not None:
            tensors["rollout/image"] = self.team.joined(self.state.image)
            tensors["rollout/step"] = self.taken
            tensors["rollout/index"] = self.index
            tensors["rollout/flip"] = self.flip
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """See :meth:`Learner.state_metadata`."""
        return {**super().state_metadata(), "fresh_updates": self.fresh_updates}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """See :meth:`Learner.restore`."""
        super().restore(step, tensors, metadata)
        self.fresh_updates = metadata["fresh_updates"]
        rollout = under_prefix("rollout", tensors)
        if rollout:
            self.index, self.flip = rollout["index"], rollout["flip"]
            self.taken = rollout["step"]
            self.state = self._staggered(rollout["image"])

    def learning_rate(self) -> float:
        """Learning rate of the next update; a network may multiply it for some layers."""
        config, done, total = self.config, self.step, self.fresh_updates
        highest = config.fresh_learning_rate
        if done >= total:
            done, total = done - total, self.rollout_updates
            highest = config.rollout_learning_rate
        total_updates = self.fresh_updates + self.rollout_updates
        warm_up = min(1.0, (self.step + 1) / max(1, min(100, total_updates // 20)))
        return warm_up * learning_rate("cosine", highest, done, total, lowest=LOWEST)

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Faces for all processes, and which of them to mirror."""
        index = self.pool.draw(number, self.rng)
        flip = torch.rand(number, generator=self.rng) < 0.5
        return index, flip

    def _draw_actions(self, number: int) -> Tensor:
        """This process's share of so many locations."""
        action = torch.randint(self.core.geometry.num_locations, (number,), generator=self.rng)
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
        number = self.team.own(torch.randint(most + 1, (batch,), generator=self.rng))
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
            self.taken = torch.arange(self.config.rollout_envs) % self.core.num_steps
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
        over = self.taken >= self.core.num_steps
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

    def _descend(self, loss: Tensor) -> float:
        return self.descend("enhancer", loss, self.config.grad_clip)[0]

    def _mean_loss(self, restored: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
        """The loss whose mean over the processes is that of all pixels of all of them."""
        loss = patch_loss(restored, truth, inside, self.config.loss)
        return self.team.balanced(loss, inside.sum())


def make_enhancer(config: TrainEnhancerConfig) -> Enhancer:
    """The network to train.

    Raises:
        ConfigurationError: If it cannot learn what the settings ask for.
        WeightsError: If the weights to start from cannot be used.
    """
    episode, settings = config.episode, config.enhancer_settings
    if episode.precision != "fp32":
        raise ConfigurationError(
            f"precision={episode.precision!r} would train rounded weights: give 'fp32'."
        )
    if episode.patch_size is not None:
        settings = (*settings, f"patch_size={list(episode.patch_size)}")
    enhancer = make_trainable(episode.enhancer, episode.faces.scale, episode.weights, settings)
    if config.fresh_on == "faces":
        enhancer.whole_face()  # Raises a clear error for networks that cannot.
    on_patches = config.fresh_on == "patches" and config.fresh_updates > 0
    if isinstance(enhancer, OneShot) and (on_patches or config.rollout_updates > 0):
        raise ConfigurationError(
            f"The enhancer {episode.enhancer!r} restores whole faces at once and learns nothing "
            f"from patches: train it by `facehall train sr --enhancer {episode.enhancer}`, or use "
            "one for patches, such as compact."
        )
    return enhancer


def train_enhancer(config: TrainEnhancerConfig) -> Path:
    """Trains an enhancer; see :func:`facehall_env.training.loop.train`.

    Returns the path of the weights, ``enhancer.safetensors`` in the run's folder.
    """
    return train(EnhancerTrainer, config)
