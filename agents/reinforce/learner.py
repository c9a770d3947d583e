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
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env import limits, patches
from facehall_env.agents.lookahead import mse_after_everywhere
from facehall_env.agents.reinforce.agent import SMALLEST_LOGIT, counted, draw
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.agents.settings import ReinforceConfig
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.enhancers import OneShot
from facehall_env.errors import ConfigurationError
from facehall_env.observations import action_mask, observe
from facehall_env.state import CoreState
from facehall_env.training.distributed import Team
from facehall_env.training.losses import patch_loss
from facehall_env.training.trace import span
from facehall_env.training.trainer import Learner, Metadata, Tensors

MOMENTUM = 0.95
"""Share of the running means that is kept in each update: the baseline ema, the returns' scale."""
FORESEEABLE = ("delta_psnr", "delta_mse")
"""Rewards that one look at the whole restored face predicts."""

Advance = Callable[[CoreState, Tensor], tuple[CoreState, Tensor, Tensor]]


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

    ``mask_visited`` never visits a location twice in an episode, ``advance`` is called in place of
    ``core.step``, ``foresee`` predicts the reward of every location, (N, num_locations), and
    ``team`` are the processes that play the other rows of a larger batch.
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

    The episodes of each face, 2 or more ``samples``, lie side by side.

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


class Reinforce(Learner):
    """Plays episodes and follows the gradient.

    Args:
        core: The process; its reward is what is maximised.

    Raises:
        ConfigurationError: If the settings contradict each other or the enhancer.
    """

    advice = (
        "start again with lower learning rates, or with another enhancer if this one returns "
        "values that are not finite"
    )

    def __init__(
        self,
        core: HallucinationCore,
        policy: Policy,
        config: ReinforceConfig,
        team: Team | None = None,
    ) -> None:
        super().__init__(team)
        check_settings(config, core)
        self.core = core
        self.policy = policy
        self.config = config
        self.total = config.updates
        self.generator = torch.Generator(core.device).manual_seed(config.seed)
        self.generators["actions"] = self.generator
        self.modules["policy"] = policy
        rate = config.learning_rate or policy.learning_rate
        groups = [
            {"params": policy.policy_parameters(), "lr": rate},
            {"params": list(policy.value_head.parameters()), "lr": config.value_learning_rate},
        ]
        betas = (config.beta1, 0.999)
        self.add_optimizer("policy", torch.optim.Adam(groups, betas=betas))
        if config.joint:
            self.modules["enhancer"] = core.enhancer
            groups = core.enhancer.parameter_groups(config.enhancer_learning_rate)
            self.add_optimizer("enhancer", torch.optim.Adam(groups, betas=betas))
        self.running_return = torch.zeros(core.num_steps, device=core.device)
        self.return_scale = torch.zeros((), device=core.device)
        self.enhancer_loss = torch.zeros((), device=core.device)

    def update(self, faces: Faces) -> dict[str, float]:
        """Plays one episode of each face and follows the gradient.

        The faces are this process's share of ``batch / samples_per_face``, on the core's device.
        Returned is what is worth logging, of all processes: mean return, PSNR, entropy, losses.

        Raises:
            EnhancerError: If the episodes or the losses are not finite; no weight has changed.
        """
        config = self.config
        self.scale_learning_rates(self._between(1.0, config.final_learning_rate))
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
        self.step += 1
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
        """See :meth:`Learner.state_tensors`."""
        returns = {"running_return": self.running_return, "return_scale": self.return_scale}
        return {**super().state_tensors(), **returns}

    def restore(self, step: int, tensors: Tensors, metadata: Metadata) -> None:
        """See :meth:`Learner.restore`."""
        super().restore(step, tensors, metadata)
        self.running_return = tensors["running_return"].to(self.core.device)
        self.return_scale = tensors["return_scale"].to(self.core.device)

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
            for optimizer in self.optimizers.values():
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                self.team.average_gradients(parameters)
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
            self.check_finite(value, name)
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
        keep = MOMENTUM if self.step else 0.0
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
        done = self.step / self.total
        return start + (end - start) * done


def check_settings(config: ReinforceConfig, core: HallucinationCore) -> None:
    """Raises a ConfigurationError if settings do not fit each other, the enhancer or the reward."""
    limits.check(config)
    if config.batch % config.samples_per_face:
        raise ConfigurationError(
            f"batch={config.batch} is no multiple of samples_per_face={config.samples_per_face}: "
            "give a multiple."
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
    if config.joint and core.precision != "fp32":
        raise ConfigurationError(
            f"joint=True would train an enhancer in {core.precision}: give precision='fp32'."
        )
    trainable = any(parameter.requires_grad for parameter in core.enhancer.parameters())
    if config.joint and (isinstance(core.enhancer, OneShot) or not trainable):
        raise ConfigurationError(
            f"joint=True trains the enhancer patch by patch, which {core.enhancer.name!r} cannot "
            "be: use 'compact' or 'attention_fh', or joint=False."
        )
