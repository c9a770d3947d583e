"""REINFORCE on a policy (Attention-FH, section 3.3), alone or with the enhancer.

An update plays one episode of a batch of faces, all at once on the core's device, and follows

    sum over t of (G_t - b_t) * grad log pi(a_t | s_t),    G_t = sum over k >= t of gamma^(k-t) r_k

where b_t is a baseline that depends on nothing later than s_t. The gradient flows through the
log-probabilities only: the sampled location is an integer, faces are cut off between steps, and
the baseline is a number to the policy.

Everything between the first face and the last gradient stays on the core's device; the numbers for
the log are copied to the host once an update. On several devices each process plays its share of
the episodes, but baselines, scales and deviations are those of all of them
(:mod:`facehall_env.training.distributed`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env import patches
from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.agents.lookahead import mse_after_everywhere
from facehall_env.agents.reinforce.policies import Policy, make_policy
from facehall_env.agents.storage import check_geometry, load_agent, save_agent, shipped
from facehall_env.checkpoints import (
    fill,
    pack_optimizer,
    under_prefix,
    unpack_optimizer,
    with_prefix,
)
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.enhancers import OneShot
from facehall_env.errors import ConfigurationError, EnhancerError
from facehall_env.observations import action_mask, observe
from facehall_env.state import CoreState
from facehall_env.training.distributed import Team
from facehall_env.training.enhancer import Loss, patch_loss
from facehall_env.training.trace import span

SMALLEST_LOGIT = -1e9
MOMENTUM = 0.95
"""Of the running means over updates: the EMA baseline and the scale of the returns."""
FORESEEABLE = ("delta_psnr", "delta_mse")
"""Rewards that one look at the whole restored face predicts."""

Advance = Callable[[CoreState, Tensor], tuple[CoreState, Tensor, Tensor]]


@dataclass
class ReinforceConfig:
    """Settings of the algorithm."""

    updates: int = 500
    """Updates in all; each plays one episode of a batch."""
    batch: int = 32
    """Episodes in an update."""
    samples_per_face: int = 1
    """Episodes of the same face in an update; must divide the batch."""
    learning_rate: float | None = None
    """Of the policy; by default what suits it: 2e-4 for fc (the paper's), 1e-3 for conv, 5e-4 for
    ipfh."""
    value_learning_rate: float = 1e-3
    """Of the value head."""
    final_learning_rate: float = 0.1
    """Share of the learning rates that is left at the end; they fall linearly."""
    beta1: float = 0.5
    """First momentum of Adam; the paper's."""
    gamma: float = 0.9
    """Discount of later rewards; the paper has 1, which is noisier."""
    baseline: Literal["value", "ema", "group", "none"] = "value"
    """A value head on the hidden state, a running mean for each step, the mean of the other
    episodes of the same face, or nothing."""
    normalise: Literal["step", "batch", "none"] = "step"
    """Bring the advantages to mean 0 and deviation 1: for each step, over all steps, or not."""
    entropy: float = 0.01
    """Weight of the policy's entropy at the start."""
    final_entropy: float = 0.0
    """Weight of the entropy at the end; it changes linearly."""
    grad_clip: float = 5.0
    """Largest norm of the policy's gradient; 0 switches clipping off."""
    foresight: bool = False
    """Predict the next reward of every location by restoring the whole face, and leave only the
    rest of the return to sampling: on average the same gradient, with far less noise. Costs a
    restoration of the whole face in each step, or nothing with a one-shot enhancer."""
    mask_visited: bool = False
    """Never visit a location twice in an episode."""
    joint: bool = False
    """Train the enhancer on the same episodes, as the paper does."""
    enhancer_learning_rate: float = 2e-4
    """Of the enhancer, when it is trained too; falls with the policy's."""
    enhancer_loss: Loss = "mse"
    """Loss on each restored patch, on its pixels inside the image."""
    seed: int = 0
    """Seed of everything that is drawn."""


class ReinforceAgent(Agent):
    """Plays a policy network.

    Args:
        core: The environment's core.
        policy: The network, or the name of one: ``"conv"``, ``"fc"`` or ``"ipfh"``.
        weights: A file written by :meth:`save`, ``"auto"`` for the agent that comes with the
            project for the core's enhancer and scale, or None for an untrained network.
        dataset: What ``"auto"`` should be trained on.
        mask_visited: Never visit a location twice in an episode; as trained by default.
        seed: Of the sampled actions (``deterministic=False``) and of an untrained network.

    Raises:
        UnknownNameError: If there is no such policy.
        ConfigurationError: If a network and weights are both given.
        WeightsError: If the file is missing, damaged, or made for other images or locations.
    """

    name = "rl"

    def __init__(
        self,
        core: HallucinationCore,
        policy: str | Policy = "conv",
        weights: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
        mask_visited: bool | None = None,
        seed: int = 0,
    ) -> None:
        self.provenance: dict[str, Any] = {}
        if isinstance(policy, str):
            policy, trained_with_mask = self._make_policy(core, policy, weights, dataset, seed)
        elif weights is not None:
            raise ConfigurationError(
                "The rl agent was given a network and weights: give the network's name with "
                "weights, or load them into the network before."
            )
        else:
            trained_with_mask = False
        super().__init__(core, policy.observation_keys)
        self.policy = policy.to(core.device)
        self.mask_visited = trained_with_mask if mask_visited is None else mask_visited
        self._generator = torch.Generator(core.device).manual_seed(seed)

    @torch.no_grad()
    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState]:
        """The most likely locations, or sampled ones, (N,); remembers the LSTM's state."""
        seen = {key: self.read(observation, key) for key in self.observation_keys}
        logits, _, memory = self.policy(counted(seen, self.num_steps, self.policy), state)
        if self.mask_visited:
            visited = self._visited(observation, state, logits)
            everything = visited.all(dim=1, keepdim=True)
            logits = logits.masked_fill(visited & ~everything, SMALLEST_LOGIT)
        action = logits.argmax(1) if deterministic else draw(logits, self._generator)
        if self.mask_visited:
            memory["visited"] = visited.scatter(1, action[:, None], True)
        return action, memory

    def save(
        self, path: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Writes the policy with what it was trained for.

        Args:
            path: File to write, whole or not at all.
            provenance: How it was trained. JSON-serialisable.
        """
        config = {
            "policy": self.policy.name,
            "mask_visited": self.mask_visited,
            **self.policy.config,
        }
        save_agent(
            path,
            self.name,
            self.policy.state_dict(),
            self.geometry,
            config,
            self.provenance if provenance is None else provenance,
        )

    def _make_policy(
        self,
        core: HallucinationCore,
        name: str,
        weights: str | os.PathLike[str] | None,
        dataset: str | None,
        seed: int,
    ) -> tuple[Policy, bool]:
        """The network, and whether it was trained never to visit a location twice."""
        if weights is None:
            return untrained_policy(name, core, seed), False
        path = shipped(f"rl-{name}", core, dataset) if weights == "auto" else weights
        tensors, metadata = load_agent(path, self.name)
        check_geometry(path, metadata["geometry"], core.geometry)
        config = dict(metadata["config"])
        policy = make_policy(config.pop("policy"), core.geometry, **_without_mask(config))
        fill(policy, tensors, f"{path} for the {policy.name!r} policy")
        self.provenance = metadata["provenance"]
        return policy, bool(metadata["config"]["mask_visited"])

    def _visited(
        self, observation: Observation, state: AgentState | None, logits: Tensor
    ) -> Tensor:
        """Which locations this episode has visited, (N, num_locations) bool."""
        if state is None:
            return torch.zeros_like(logits, dtype=torch.bool)
        goes_on = self.steps_taken(observation) > 0
        return state["visited"] & goes_on[:, None]


def untrained_policy(name: str, core: HallucinationCore, seed: int) -> Policy:
    """A policy network for the core's locations, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = make_policy(name, core.geometry, num_steps=core.num_steps)
    return policy.to(core.device)


def counted(observation: Mapping[str, Tensor], num_steps: int, policy: Policy) -> dict[str, Tensor]:
    """The observation with ``step`` in units of the episodes that the policy was made for.

    So after t patches a policy sees the same whatever the length of the present episodes.
    """
    return {**observation, "step": observation["step"] * (num_steps / policy.num_steps)}


def draw(logits: Tensor, generator: torch.Generator, team: Team | None = None) -> Tensor:
    """Samples one action per row, (N, A) to (N,) int64; nothing flows through it.

    The actions are those of `torch.multinomial`, which would look at the probabilities on the
    host; on several devices, those that one would draw for the rows of all.
    """
    team = team or Team()
    number, actions = logits.shape
    race = logits.new_empty(team.size * number, actions).exponential_(generator=generator)
    return (logits.detach().softmax(1) / team.own(race)).argmax(1)


@dataclass(frozen=True)
class Episode:
    """One episode of each of N faces, T steps.

    Attributes:
        log_prob: (T, N), of the sampled actions; the gradient flows through these.
        entropy: (T, N), of the policy at each step.
        value: (T, N), the value head's guess of the return (of what was not foreseen of it), in
            units of the returns' scale.
        reward: (T, N).
        predicted: (T, N), the reward foreseen for the sampled actions; zero without foresight.
        expected: (T, N), its mean under the policy, through which the gradient flows; likewise.
        psnr: (T + 1, N) in dB.
    """

    log_prob: Tensor
    entropy: Tensor
    value: Tensor
    reward: Tensor
    predicted: Tensor
    expected: Tensor
    psnr: Tensor


def play_episode(
    core: HallucinationCore,
    policy: Policy,
    faces: Faces,
    generator: torch.Generator,
    mask_visited: bool = False,
    advance: Advance | None = None,
    foresee: Callable[[CoreState], Tensor] | None = None,
    team: Team | None = None,
) -> Episode:
    """Plays sampled actions and keeps what the gradient needs.

    Args:
        core: The process.
        policy: Chooses the locations.
        faces: N faces.
        generator: Draws the actions.
        mask_visited: Never visit a location twice in an episode.
        advance: Called in place of ``core.step``.
        foresee: Predicts the reward of every location, (N, num_locations).
        team: The processes that play the other rows of a larger batch.
    """
    advance = advance or core.step
    with span("env/reset"):
        state, memory = core.reset(faces), None
    steps, psnr = [], [state.psnr]
    for _ in range(core.num_steps):
        with span("env/observe"):
            observation = observe(core, state, policy.observation_keys)
        with span("policy/forward"):
            logits, value, memory = policy(counted(observation, core.num_steps, policy), memory)
            if mask_visited:
                logits = logits.masked_fill(~action_mask(core, state), SMALLEST_LOGIT)
        with span("policy/choose"):
            action = draw(logits, generator, team)
            log_probs = functional.log_softmax(logits, dim=1)
            log_prob = log_probs.gather(1, action[:, None])[:, 0]
            entropy = -(log_probs.exp() * log_probs).sum(1)
        predicted = expected = torch.zeros_like(entropy)
        if foresee is not None:
            with span("env/foresee"):
                foreseen = foresee(state).to(logits.dtype)
            predicted = foreseen.gather(1, action[:, None])[:, 0]
            expected = (log_probs.exp() * foreseen).sum(1)
        with span("env/step"):
            state, reward, _ = advance(state, action)
        steps.append((log_prob, entropy, value, reward, predicted, expected))
        psnr.append(state.psnr)
    return Episode(*(torch.stack(list(rows)) for rows in (*zip(*steps, strict=True), psnr)))


def reward_to_go(reward: Tensor, gamma: float) -> Tensor:
    """Discounted sum of this and all later rewards, (T, N) to the same.

    >>> reward_to_go(torch.tensor([[1.0], [2.0], [4.0]]), 0.5)[:, 0].tolist()
    [3.0, 4.0, 4.0]
    """
    returns = reward.clone()
    for step in reversed(range(len(reward) - 1)):
        returns[step] += gamma * returns[step + 1]
    return returns


def others_mean(returns: Tensor, samples: int) -> Tensor:
    """Mean return of the other episodes of the same face, (T, N) to the same.

    Args:
        returns: Episodes of one face lie side by side.
        samples: Episodes of each face, at least 2.

    >>> others_mean(torch.tensor([[1.0, 2.0, 6.0]]), 3).tolist()
    [[4.0, 3.5, 1.5]]
    """
    grouped: Tensor = returns.unflatten(1, (-1, samples))
    return ((grouped.sum(2, keepdim=True) - grouped) / (samples - 1)).flatten(1)


def moments(advantage: Tensor, over: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of advantages (T, N) over each ``"step"``, the ``"batch"`` or ``"none"``.

    >>> moments(torch.tensor([[1.0, 3.0], [10.0, 30.0]]), "step")[1].tolist()
    [[1.0], [10.0]]
    """
    if over == "none":
        return advantage.new_zeros(()), advantage.new_ones(())
    dim = 1 if over == "step" else (0, 1)
    mean = advantage.mean(dim, keepdim=True)
    deviation = (advantage - mean).square().mean(dim, keepdim=True).sqrt()
    # Where all episodes do equally well (or there is one only) there is nothing to learn.
    return mean, deviation.clamp_min(1e-12)


class Reinforce:
    """The learner: its whole state can be saved and restored between updates.

    Args:
        core: The process; its reward is what is maximised.
        policy: The network to train.
        config: Settings of the algorithm.
        team: The processes that share an update's episodes.

    Raises:
        ConfigurationError: If the settings contradict each other or the enhancer.
    """

    def __init__(
        self,
        core: HallucinationCore,
        policy: Policy,
        config: ReinforceConfig,
        team: Team | None = None,
    ) -> None:
        check_settings(config, core)
        self.team = team or Team()
        self.core = core
        self.policy = policy
        self.config = config
        self.generator = torch.Generator(core.device).manual_seed(config.seed)
        rate = config.learning_rate or policy.learning_rate
        groups = [
            {"params": policy.policy_parameters(), "lr": rate},
            {"params": list(policy.value_head.parameters()), "lr": config.value_learning_rate},
        ]
        self.optimizers = {"policy": adam(groups, config.beta1)}
        if config.joint:
            groups = core.enhancer.parameter_groups(config.enhancer_learning_rate)
            self.optimizers["enhancer"] = adam(groups, config.beta1)
        self.updates = 0
        self.running_return = torch.zeros(core.num_steps, device=core.device)
        self.return_scale = torch.zeros((), device=core.device)
        self.enhancer_loss = torch.zeros((), device=core.device)

    def update(self, faces: Faces) -> dict[str, float]:
        """Plays one episode of each face and follows the gradient.

        Args:
            faces: This process's share of ``batch / samples_per_face`` faces, on the core's
                device.

        Returns:
            What is worth logging: mean return, PSNR, entropy, losses, of all processes.

        Raises:
            EnhancerError: If the episodes or the losses are not finite; no weight has changed.
        """
        config = self.config
        self._schedule()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        self.enhancer_loss = torch.zeros_like(self.enhancer_loss)
        copies = torch.arange(len(faces.hr), device=self.core.device)
        episode = play_episode(
            self.core,
            self.policy,
            faces.rows(copies.repeat_interleave(config.samples_per_face)),
            self.generator,
            config.mask_visited,
            self._enhance_and_learn if config.joint else None,
            self._foresee if config.foresight else None,
            self.team,
        )
        with span("other/losses"):
            policy_loss, value_loss = self.losses(episode)
        with span("policy/backward"):
            (policy_loss + value_loss).backward()
        norm = self._finish_gradients()
        scores = self._scores(episode, value_loss, norm)
        for name, optimizer in self.optimizers.items():
            with span(f"{name}/optimise"):
                optimizer.step()
        self.updates += 1
        return scores

    def losses(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The policy's and the value head's loss, two scalars with separate gradients."""
        config = self.config
        # What was foreseen needs no sample: its mean under the policy is known, gradient and all.
        # Sampling has to estimate the rest of the return only, and the baseline to guess that.
        rest = reward_to_go(episode.reward, config.gamma) - episode.predicted
        # Scales, baselines and deviations are those of the episodes of all processes.
        own = torch.stack((rest, episode.value, episode.predicted, episode.expected)).detach()
        rests, values, predicted, expected = self.team.joined(own.movedim(2, 0)).movedim(0, 2)
        self._track(rests)
        surprises = rests - self._baseline(rests, values)
        _, size = moments(surprises + predicted - expected, config.normalise)
        surprises = surprises - moments(surprises, config.normalise)[0]
        surprise = self.team.own(surprises.mT).mT
        weight = self._between(config.entropy, config.final_entropy)
        objective = (surprise * episode.log_prob + episode.expected) / size
        objective = objective + weight * episode.entropy
        value_loss = (episode.value - rest / self.return_scale).square().mean()
        return -objective.sum(0).mean(), value_loss

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, but the faces."""
        tensors = {
            **with_prefix("policy", self.policy.state_dict()),
            "generator": self.generator.get_state(),
            "running_return": self.running_return,
            "return_scale": self.return_scale,
        }
        if self.config.joint:
            tensors |= with_prefix("enhancer", self.core.enhancer.state_dict())
        for name, optimizer in self.optimizers.items():
            tensors |= with_prefix(f"{name}_optimizer", pack_optimizer(optimizer)[0])
        return tensors

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to :meth:`state_tensors` and is no tensor; JSON-serialisable."""
        return {name: pack_optimizer(optimizer)[1] for name, optimizer in self.optimizers.items()}

    def restore(
        self, updates: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.updates = updates
        self.policy.load_state_dict(under_prefix("policy", tensors))
        self.generator.set_state(tensors["generator"])
        self.running_return = tensors["running_return"].to(self.core.device)
        self.return_scale = tensors["return_scale"].to(self.core.device)
        if self.config.joint:
            self.core.enhancer.load_state_dict(under_prefix("enhancer", tensors))
        for name, optimizer in self.optimizers.items():
            packed = under_prefix(f"{name}_optimizer", tensors)
            unpack_optimizer(optimizer, packed, metadata[name])

    def _enhance_and_learn(
        self, state: CoreState, action: Tensor
    ) -> tuple[CoreState, Tensor, Tensor]:
        """``core.step``, adding the gradient of the patch loss to the enhancer's (section 3.3)."""
        core = self.core
        restored = core.propose(state, action)
        corner, size = core.geometry.top_left(action), core.geometry.patch_size
        truth = patches.crop(state.hr, corner, size)
        inside = patches.inside_mask(corner, size, core.geometry.image_size)
        loss = patch_loss(restored, truth, inside, self.config.enhancer_loss)
        loss = self.team.balanced(loss, inside.sum()) / core.num_steps
        # Each step's graph is let go at once: the next face is made of detached patches.
        with span("enhancer/backward"):
            loss.backward()
        self.enhancer_loss += loss.detach()
        after = core.write(state, action, restored.detach().clamp(0, 1))
        done = after.step >= core.num_steps
        return after, core.reward(state, after, done).float(), done

    def _finish_gradients(self) -> Tensor:
        """Brings the processes' gradients together and limits the policy's; returns its norm."""
        with span("other/exchange"):
            self.team.average_gradients(self.policy.parameters())
            if self.config.joint:
                self.team.average_gradients(self.core.enhancer.parameters())
        with span("policy/optimise"):
            return torch.nn.utils.clip_grad_norm_(
                self.policy.policy_parameters(), self.config.grad_clip or math.inf
            )

    def _scores(self, episode: Episode, value_loss: Tensor, norm: Tensor) -> dict[str, float]:
        """What is worth logging, checked: the only numbers of an update that the host sees."""
        scores = {
            "train/psnr": episode.psnr[-1].mean(),
            "train/psnr_auc": episode.psnr[1:].mean(),
            "train/return": episode.reward.sum(0).mean(),
            "train/entropy": episode.entropy.mean(),
            "train/value_loss": value_loss,
            "train/grad_norm": norm,
        }
        if self.config.joint:
            scores["train/enhancer_loss"] = self.enhancer_loss
        with span("other/log"):
            together = torch.stack([score.detach().double() for score in scores.values()])
            values = dict(zip(scores, self.team.mean(together).tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise EnhancerError(
                    f"{name} is {value} at update {self.updates}: the last checkpoint is intact; "
                    "start again with lower learning rates, or with another enhancer if this one "
                    "returns values that are not finite."
                )
        return values

    def _foresee(self, state: CoreState) -> Tensor:
        """About the reward of restoring the patch at every location, (N, num_locations)."""
        after = replace(state, mse=mse_after_everywhere(self.core, state))
        before = replace(state, mse=state.mse[:, None])
        # These rewards depend on the error alone, so an axis of locations broadcasts.
        return self.core.reward(before, after, torch.zeros_like(before.mse, dtype=torch.bool))

    def _track(self, returns: Tensor) -> None:
        """Follows the returns' mean for each step and their overall size."""
        mean, size = returns.mean(1), returns.square().mean().sqrt().clamp_min(1e-12)
        keep = MOMENTUM if self.updates else 0.0
        self.running_return = keep * self.running_return + (1 - keep) * mean
        self.return_scale = keep * self.return_scale + (1 - keep) * size

    def _baseline(self, returns: Tensor, value: Tensor) -> Tensor:
        if self.config.baseline == "value":
            return value * self.return_scale
        if self.config.baseline == "ema":
            return self.running_return[:, None]
        if self.config.baseline == "group":
            return others_mean(returns, self.config.samples_per_face)
        return torch.zeros_like(returns)

    def _between(self, start: float, end: float) -> float:
        done = self.updates / self.config.updates
        return start + (end - start) * done

    def _schedule(self) -> None:
        share = self._between(1.0, self.config.final_learning_rate)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * share


def adam(groups: list[dict[str, Any]], beta1: float) -> torch.optim.Adam:
    """An optimiser whose groups remember the learning rates that they begin with."""
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, betas=(beta1, 0.999))


def _without_mask(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "mask_visited"}


def check_settings(config: ReinforceConfig, core: HallucinationCore) -> None:
    """Checks settings against each other and against what is to be played.

    Raises:
        ConfigurationError: If they do not fit, or the enhancer or reward does not.
    """
    if config.updates < 1 or config.batch < 1 or config.batch % config.samples_per_face:
        raise ConfigurationError(
            f"updates={config.updates}, batch={config.batch} and samples_per_face="
            f"{config.samples_per_face} do not fit: all are at least 1 and samples_per_face "
            "divides batch."
        )
    if config.baseline == "group" and config.samples_per_face < 2:
        raise ConfigurationError(
            "baseline='group' compares episodes of the same face, but samples_per_face is 1: "
            "play at least 2."
        )
    if config.foresight:
        if not isinstance(core.enhancer, OneShot):
            core.enhancer.whole_face()  # raises a clear error for networks that cannot
        if str(core.reward) not in FORESEEABLE:
            raise ConfigurationError(
                f"foresight=True needs a reward that follows from the next error alone, got "
                f"{core.reward}: use one of {', '.join(FORESEEABLE)}."
            )
    trainable = any(parameter.requires_grad for parameter in core.enhancer.parameters())
    if config.joint and (isinstance(core.enhancer, OneShot) or not trainable):
        raise ConfigurationError(
            f"joint=True trains the enhancer patch by patch, which {core.enhancer.name!r} cannot "
            "be: use 'compact' or 'attention_fh', or joint=False."
        )
