"""A batch of episodes as both environments run it: the core, and what is remembered beside it."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facehall_env import rewards
from facehall_env.core import HallucinationCore
from facehall_env.data import FaceDataset
from facehall_env.data.faces import identity_numbers
from facehall_env.errors import ConfigurationError, EpisodeError
from facehall_env.observations import check_keys, observe, to_uint8
from facehall_env.rendering import Picture, draw_frame
from facehall_env.spec import Setup
from facehall_env.state import CoreState

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class EpisodeBatch:
    """N episodes that start one by one and are stepped together.

    How many steps each has taken is also known on the host, so that ends are seen without waiting
    for the device.

    Args:
        setup: Dataset, protocol and core.
        num_envs: Number of episodes N.
        observation: Entries of the observation.

    Attributes:
        index: (N,) number of each face in the dataset; -1 before the first.
        key: (N,) its name there.
        steps: (N,) steps taken.
    """

    def __init__(self, setup: Setup, num_envs: int, observation: Sequence[str]) -> None:
        self.dataset, self.protocol, self.core = setup
        self.num_envs = num_envs
        self.keys = check_keys(observation)
        self.index: IntArray = np.full(num_envs, -1, dtype=np.int64)
        self.key: npt.NDArray[np.object_] = np.full(num_envs, None, dtype=object)
        self.steps: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._state: CoreState | None = None
        # (3, N) float64: PSNR at the beginning, and sums of the PSNR and the reward since.
        self._totals: Tensor
        self._terms: dict[str, Tensor] = {}

    def draw_face(self, generator: np.random.Generator) -> int:
        """Draws the number of a face uniformly, with one call of ``generator``."""
        return int(generator.integers(len(self.dataset)))

    def check_face(self, index: object) -> int:
        """The number of a face that somebody asked for; ConfigurationError if there is none."""
        try:
            number = operator.index(index)  # type: ignore[arg-type]
        except TypeError:
            number = -1
        if isinstance(index, bool) or not 0 <= number < len(self.dataset):
            raise ConfigurationError(
                f"options['index'] is {index!r}, expected the number of a face: choose an integer "
                f"from 0 to {len(self.dataset) - 1}."
            )
        return number

    @property
    def started(self) -> bool:
        """Whether there are episodes at all."""
        return self._state is not None

    @property
    def state(self) -> CoreState:
        """Where the episodes stand; EpisodeError before the first reset."""
        if self._state is None:
            raise EpisodeError("No episode has begun yet: call reset() first.")
        return self._state

    @property
    def over(self) -> BoolArray:
        """(N,) whether each episode has ended."""
        return self.steps >= self.core.num_steps

    def begin(self, index: IntArray, rows: IntArray) -> None:
        """Starts episodes with faces ``index`` (K,) in ``rows`` (K,); at first in all rows."""
        images = self.dataset.batch(index.tolist()).to(self.core.device)
        faces = self.protocol.degrade(images, self.core.scale)
        faces = faces._replace(identity=identity_numbers(self.dataset, index.tolist()))
        if len(rows) == self.num_envs:
            self._state = self.core.reset(faces)
        else:
            self._state = self.core.reset(faces, self.state, torch.from_numpy(rows))
        self.index[rows] = index
        self.key[rows] = [self.dataset.key(number) for number in index.tolist()]
        self.steps[rows] = 0
        fresh = torch.zeros(3, self.num_envs, dtype=torch.float64, device=self.core.device)
        fresh[0] = self.state.psnr
        if len(rows) == self.num_envs:
            self._totals = fresh
        else:
            where = self._on_device(rows)
            self._totals[:, where] = fresh[:, where]

    @torch.no_grad()
    def step(self, action: Tensor, hold: BoolArray | None = None) -> tuple[Tensor, Tensor]:
        """Takes a step in all episodes but those that ``hold``, (N,) bool, tells to stay.

        Returns:
            Reward (N,) float32 and whether the episode is over (N,) bool.

        Raises:
            EpisodeError: Before the first reset, or if an episode is over.
        """
        before = self.state
        hold = np.zeros(self.num_envs, dtype=np.bool_) if hold is None else hold
        self._check_running(~hold)
        # Held rows are computed with the others and put back: a batch whose size changes from
        # step to step would have GPU kernels tuned and networks compiled again and again.
        held = self._on_device(hold) if hold.any() else None
        if held is not None:
            action = action.masked_fill(held, 0)
        after, done = self.core.advance(before, action)
        terms = self.core.reward.terms(before, after, done)
        self._terms = terms if len(terms) > 1 else {}
        reward = rewards.total(terms).float()
        if held is not None:
            _put_back(after, before, self._on_device(np.flatnonzero(hold)))
            reward, done = reward.masked_fill(held, 0.0), done & ~held
        self._state = after
        self.steps[~hold] += 1
        self._totals[1] += after.psnr if held is None else after.psnr.masked_fill(held, 0.0)
        self._totals[2] += reward
        return reward, done

    def observe(self, rows: IntArray | None = None) -> dict[str, Tensor]:
        """The observation of all episodes, or of some rows."""
        state = self.state if rows is None else self.state.rows(self._on_device(rows))
        return observe(self.core, state, self.keys)

    def standing(self) -> dict[str, Any]:
        """What is known of every episode at any time: (N, ...) tensors and host arrays."""
        state, index, key = self.state, self.index.copy(), self.key.copy()
        mse, location = state.mse.clone(), state.location.clone()
        return {"psnr": state.psnr, "mse": mse, "location": location, "index": index, "key": key}

    def reward_terms(self) -> dict[str, Tensor]:
        """The terms of the last reward by name, (N,) float64; empty if there is but one."""
        return {name: term.clone() for name, term in self._terms.items()}

    def summary(self) -> dict[str, Any]:
        """What each episode adds up to at its end, (N, ...) tensors and host arrays."""
        state, (initial, psnr, reward) = self.state, self._totals.clone()
        return {
            "psnr_initial": initial,
            "psnr_final": state.psnr,
            "psnr_gain": state.psnr - initial,
            "psnr_auc": psnr / self.core.num_steps,
            "coverage": state.coverage.flatten(1).double().mean(1),
            "return": reward,
            "length": self.steps.copy(),
            "actions": state.actions.clone(),
        }

    def frames(self) -> list[Picture]:
        """One picture of each episode as it stands; see `rendering.draw_frame`."""
        state, geometry = self.state, self.core.geometry
        faces = [to_uint8(images).cpu().numpy() for images in (state.lr, state.image, state.hr)]
        # Steps not taken yet hold -1, which is no location; they are cut off below.
        actions = state.actions.clamp_min(0).flatten()
        corners = geometry.top_left(actions).unflatten(0, state.actions.shape).tolist()
        frames = []
        for row, psnr in enumerate(state.psnr.tolist()):
            boxes = [(top, left) for top, left in corners[row][: self.steps[row]]]
            lr, current, truth = (images[row] for images in faces)
            size, length = geometry.patch_size, self.core.num_steps
            frames.append(draw_frame(lr, current, truth, boxes, size, num_steps=length, psnr=psnr))
        return frames

    def _check_running(self, stepped: BoolArray) -> None:
        ended = np.flatnonzero(self.over & stepped)
        if ended.size:
            which = "The episode" if self.num_envs == 1 else f"Episode {ended.tolist()}"
            raise EpisodeError(
                f"{which} ended after {self.core.num_steps} steps and cannot take another: "
                "call reset() first."
            )

    def _on_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.core.device)


class HasEpisodes:
    """What both environments say of the episodes that they run."""

    _episodes: EpisodeBatch

    @property
    def core(self) -> HallucinationCore:
        """The batched process that restores the faces."""
        return self._episodes.core

    @property
    def dataset(self) -> FaceDataset:
        """Where the faces come from."""
        return self._episodes.dataset

    @property
    def state(self) -> CoreState:
        """Everything about the episodes as a batch, the truth included.

        Before the first reset it raises an EpisodeError.
        """
        return self._episodes.state


def _put_back(after: CoreState, before: CoreState, rows: Tensor) -> None:
    """Undoes a step in some rows of ``after``, in place where the step made a new tensor."""
    for field in dataclasses.fields(after):
        new, old = getattr(after, field.name), getattr(before, field.name)
        if new is not None and new is not old:
            new[rows] = old[rows]
