"""How ``qmap`` learns: from its own episodes, whose steps a replay memory keeps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env import limits
from facehall_env.agents.base import AgentState
from facehall_env.agents.lookahead import (
    check_lookahead,
    gain_map,
    mse_after_each,
    restores_whole_faces,
)
from facehall_env.agents.qmap.network import (
    AHEAD,
    CELL,
    KEYS,
    GainNetwork,
    look_closer,
    remember_guess,
)
from facehall_env.agents.settings import QMapConfig
from facehall_env.checkpoints import under_prefix, with_prefix
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.enhancers import Enhancer
from facehall_env.enhancers.weights import load as load_enhancer
from facehall_env.errors import ConfigurationError
from facehall_env.observations import observe
from facehall_env.state import CoreState, mean_squared_error
from facehall_env.training.schedules import learning_rate
from facehall_env.training.trainer import Learner, Metadata, Tensors

GOOD_TEMPERATURE = 0.3
"""Temperature at which good locations to try are drawn, in units of the typical gain."""
SMALLEST_SCALE = 1e-4
"""Gains below this share of the first error are treated as noise."""


def untrained_network(core: HallucinationCore, config: QMapConfig) -> GainNetwork:
    """A network for the core's locations, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = GainNetwork(
            core.geometry,
            core.num_steps,
            width=config.width,
            future=config.gamma > 0,
            lookahead=config.lookahead,
            guess=bool(config.guess),
        )
    return network.to(core.device)


def load_guess(path: str, core: HallucinationCore) -> Enhancer | None:
    """The enhancer whose restored faces are the guess; None for no path.

    Raises:
        ConfigurationError: If it is made for another scale, or works on patches only.
    """
    if not path:
        return None
    guess = load_enhancer(path)
    if guess.scale != core.scale:
        raise ConfigurationError(
            f"{path} is made for scale {guess.scale}, the environment's is {core.scale}: give the "
            "weights of an enhancer of that scale."
        )
    guess.whole_face()  # Raises a clear error for networks that cannot.
    return guess.to(core.device).eval()


class ReplayMemory:
    """The last steps of all environments; a state's successor lies in the next slot."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.written = 0
        self.rows: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Steps that it holds now."""
        return min(self.written, self.slots)

    def add(self, step: Mapping[str, Tensor]) -> None:
        """Writes one step of all environments over the oldest one; tensors (N, ...)."""
        if not self.rows:
            self.rows = {k: value.new_empty(self.slots, *value.shape) for k, value in step.items()}
        for key, value in step.items():
            self.rows[key][self.written % self.slots] = value
        self.written += 1

    def sample(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """States drawn with replacement, and their successors; needs two steps at least.

        A successor of a state whose ``done`` is set is another episode's first.
        """
        device = self.rows["step"].device
        envs = self.rows["step"].shape[1]
        # The newest step has no successor yet.
        age = torch.randint(1, len(self), (number,), generator=generator, device=device)
        env = torch.randint(envs, (number,), generator=generator, device=device)
        slot = (self.written - 1 - age) % self.slots
        after = (slot + 1) % self.slots
        return self._at(slot, env), self._at(after, env)

    def _at(self, slot: Tensor, env: Tensor) -> dict[str, Tensor]:
        return {key: rows[slot, env] for key, rows in self.rows.items()}


class QMapLearner(Learner):
    """Plays, measures and learns.

    Args:
        core: The process. Its reward does not matter: the gain is that of the squared error.
        draw: Gives so many new faces; called whenever episodes end.
        guess: Restores whole faces, for networks that start from a guess of the truth.
    """

    def __init__(
        self,
        core: HallucinationCore,
        network: GainNetwork,
        config: QMapConfig,
        draw: Callable[[int], Faces],
        guess: Enhancer | None = None,
    ) -> None:
        super().__init__()
        limits.check(config)
        self.core = core
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.config = config
        self.draw = draw
        self.guess = guess
        self.generator = torch.Generator(core.device).manual_seed(config.seed)
        self.generators["learner"] = self.generator
        self.modules |= {"network": network, "averaged": self.averaged}
        adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.add_optimizer("network", adam)
        self.memory = ReplayMemory(config.memory)
        self.total = config.updates
        self.has_density = restores_whole_faces(core)
        if network.lookahead:
            check_lookahead(core)
        self._state: CoreState | None = None
        self._guessed: AgentState | None = None

    def update(self) -> dict[str, float]:
        """One step in every environment, and some batches from the memory.

        Returned is what is worth logging: losses, and the PSNR of the faces whose episodes ended.
        """
        scores = self._play()
        warm_up = min(20, self.total)
        rate = learning_rate("cosine", 1.0, self.step, self.total, warm_up=warm_up, lowest=0.0)
        self.scale_learning_rates(rate)
        if len(self.memory) > 1:
            losses = [self._learn() for _ in range(self.config.gradient_steps)]
            scores["train/loss"] = sum(losses) / len(losses)
        self.step += 1
        return scores

    def state_tensors(self) -> dict[str, Tensor]:
        """See :meth:`Learner.state_tensors`."""
        tensors = {**super().state_tensors(), **with_prefix("memory", self.memory.rows)}
        if self._state is not None:
            state = vars(self._state)
            present = {name: value for name, value in state.items() if value is not None}
            tensors |= with_prefix("state", present)
        if self._guessed is not None:
            tensors |= with_prefix("guessed", self._guessed)
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """See :meth:`Learner.state_metadata`."""
        return {**super().state_metadata(), "written": self.memory.written}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """See :meth:`Learner.restore`."""
        super().restore(step, tensors, metadata)
        device = self.core.device
        memory = under_prefix("memory", tensors)
        self.memory.rows = {key: value.to(device) for key, value in memory.items()}
        self.memory.written = metadata["written"]
        state: dict[str, Any] = {"restored": None}
        state |= {key: value.to(device) for key, value in under_prefix("state", tensors).items()}
        self._state = CoreState(**state) if len(state) > 1 else None
        guessed = under_prefix("guessed", tensors)
        self._guessed = {key: value.to(device) for key, value in guessed.items()} or None

    @torch.no_grad()
    def _play(self) -> dict[str, float]:
        """One step of all episodes, with what there is to learn from it written to the memory."""
        core = self.core
        state = self._spread_episodes() if self._state is None else self._state
        observation = observe(core, state, KEYS)
        if self.guess is not None:
            self._guessed = remember_guess(self.guess, observation, self._guessed)
        guess = None if self._guessed is None else self._guessed["guess"]
        look_closer(core, self.network, observation, guess)
        tried = self._tries(observation)
        first_error = mean_squared_error(state.initial, state.hr)
        gains = (state.mse[:, None] - mse_after_each(core, state, tried)) / first_error[:, None]
        self._follow(state.step, gains)
        chance = torch.rand(len(tried), generator=self.generator, device=core.device)
        explore = chance < self.config.exploration * (1 - 0.8 * self.step / self.total)
        choice = self._integers(tried.shape[1], len(tried)).where(explore, 0)[:, None]
        action = tried.gather(1, choice)[:, 0]
        after, _, done = core.step(state, action)
        played = {"tried": tried, "gains": gains.float(), "choice": choice[:, 0], "done": done}
        step = {**observation, **played}
        if self.has_density:
            step["density"] = self._density(state, first_error, observation.get(AHEAD))
        self.memory.add(step)
        scores = {"train/gain": gains.gather(1, choice).mean().item()}
        if bool(done.any()):
            scores["train/psnr"] = after.psnr[done].mean().item()
            rows = done.nonzero()[:, 0]
            after = core.reset(self.draw(len(rows)), after, rows)
        self._state = after
        return scores

    def _learn(self) -> float:
        """Follows the gradient on one batch from the memory; returns the loss."""
        batch, successors = self.memory.sample(self.config.learn_batch, self.generator)
        gain, rest, uncorrected = self.network(batch)
        unit = self.network.scale[self.network.steps_taken(batch)][:, None]
        tried = batch["tried"]
        loss = _error(gain.gather(1, tried), batch["gains"] / unit)
        if self.has_density:
            wanted = self.network.sums(batch["density"][:, None]).flatten(1) / unit
            loss = loss + self.config.density_weight * _error(uncorrected, wanted)
        if self.config.gamma > 0:
            taken = tried.gather(1, batch["choice"][:, None])
            wanted = self._rest(batch, successors)[:, None] / unit
            loss = loss + _error(rest.gather(1, taken), wanted)
        value, _ = self.descend("network", loss, self.config.grad_clip)
        self._average()
        return value

    @torch.no_grad()
    def _average(self) -> None:
        """Follows the network; at first quickly, so that where it began is soon forgotten."""
        batches = self.step * self.config.gradient_steps + 1
        share = max(self.config.averaging, 1 / batches)
        for mean, value in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, share)
        self.averaged.scale.copy_(self.network.scale)

    @torch.no_grad()
    def _rest(self, batch: Mapping[str, Tensor], successors: Mapping[str, Tensor]) -> Tensor:
        """Discounted value of the next state (N,): the one network chooses, the other values."""
        gain, rest, _ = self.network(successors)
        best = (gain + rest).argmax(1, keepdim=True)
        gain, rest, _ = self.averaged(successors)
        unit = self.averaged.scale[self.averaged.steps_taken(successors)]
        value: Tensor = (gain + rest).gather(1, best)[:, 0] * unit
        return self.config.gamma * value.masked_fill(batch["done"], 0.0)

    def _tries(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Locations to measure, (N, tries): the best, some that seem good, and any."""
        gain, rest, _ = self.network(observation)
        value = gain + rest
        number, locations = value.shape
        good = max(0, self.config.tries // 2 - 1)
        chances = (value / GOOD_TEMPERATURE).softmax(1)
        tries = [value.argmax(1, keepdim=True)]
        if good:
            tries.append(torch.multinomial(chances, good, generator=self.generator))
        tries.append(self._integers(locations, number, self.config.tries - 1 - good))
        return torch.cat(tries, dim=1)

    def _density(self, state: CoreState, first_error: Tensor, change: Tensor | None) -> Tensor:
        """The gain of a patch that is full of each cell, as a share of the first error."""
        restored = None if change is None else state.image + change
        gain = functional.avg_pool2d(gain_map(self.core, state, restored)[:, None], CELL)[:, 0]
        patch = math.prod(self.core.geometry.patch_size)
        share = gain * patch / (first_error[:, None, None] * state.hr[0].numel())
        return share.float()

    def _follow(self, step: Tensor, gains: Tensor) -> None:
        """Keeps the typical size of the gains after so many patches, in which they are learned."""
        size = gains.square().mean(1).sqrt().to(self.network.scale.dtype)
        for taken in step.unique().tolist():
            seen = size[step == taken].mean().clamp_min(SMALLEST_SCALE)
            before = self.network.scale[taken]
            self.network.scale[taken] = seen if before == 1 else 0.95 * before + 0.05 * seen

    def _spread_episodes(self) -> CoreState:
        """Episodes at different steps, by random actions, so that a batch is of all ages."""
        core, envs = self.core, self.config.envs
        state = core.reset(self.draw(envs))
        for step in range(1, core.num_steps):
            action = self._integers(core.geometry.num_locations, envs)
            state, _, _ = core.step(state, action)
            rows = torch.arange(step - 1, envs, core.num_steps - 1)
            if len(rows):
                state = core.reset(self.draw(len(rows)), state, rows)
        return state

    def _integers(self, high: int, *size: int) -> Tensor:
        """Random numbers from 0 on, below ``high``."""
        return torch.randint(high, size, generator=self.generator, device=self.core.device)


def _error(predicted: Tensor, measured: Tensor) -> Tensor:
    """Squared up to a few typical gains, linear beyond: late gains have heavy tails."""
    return functional.huber_loss(predicted, measured, delta=3.0)
