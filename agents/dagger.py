"""DAgger: a warm start for any policy, by imitation of the greedy oracle (Ross et al., 2011).

The oracle tries the locations against the truth, which is there while an agent is trained. Told on
the faces of the oracle's own episodes what the oracle did, a policy would not know what to do after
its first mistake; so it plays more and more of the steps itself and is told what would have been
best there. Labels are soft, as neighbouring locations are nearly as good as the best one:

    loss = sum over t of CE(softmax(gain(s_t, .) / (tau * max gain)), pi(. | s_t))
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env import limits
from facehall_env.agents.base import AgentState
from facehall_env.agents.lookahead import mse_after_each, mse_after_everywhere, restores_whole_faces
from facehall_env.agents.oracle import location_grid
from facehall_env.agents.reinforce.agent import (
    SMALLEST_LOGIT,
    ReinforceAgent,
    counted,
    draw,
    initial_policy,
)
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.agents.settings import ImitationConfig, TrainDaggerConfig
from facehall_env.agents.training import EpisodeTrainer
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.observations import observe
from facehall_env.state import CoreState
from facehall_env.training.distributed import Team
from facehall_env.training.loop import train
from facehall_env.training.trainer import Learner

SMALLEST_GAIN = 1e-7
"""Where no location lowers the squared error by more, all of them are as good."""


class Imitation(Learner):
    """Plays episodes and imitates the oracle in them."""

    def __init__(self, core: HallucinationCore, policy: Policy, config: ImitationConfig) -> None:
        super().__init__()
        limits.check(config)
        self.core = core
        self.policy = policy
        self.config = config
        self.total = config.updates
        self.generator = torch.Generator(core.device).manual_seed(config.seed)
        self.generators["actions"] = self.generator
        self.modules["policy"] = policy
        rate = config.learning_rate or policy.learning_rate
        self.add_optimizer("policy", torch.optim.Adam(policy.policy_parameters(), lr=rate))
        self.everywhere = restores_whole_faces(core)
        self.locations = location_grid(core.geometry, config.stride).to(core.device)

    def update(self, faces: Faces) -> dict[str, float]:
        """Plays one episode of each of ``batch`` faces and follows the gradient.

        Returns:
            What is worth logging: the loss, how often the policy's best location was the oracle's,
            PSNR.
        """
        self.scale_learning_rates(1 - 0.9 * self.step / self.total)
        loss, scores = self.play(faces)
        value, norm = self.descend("policy", loss, self.config.grad_clip)
        self.step += 1
        return {**scores, "train/loss": value, "train/grad_norm": norm}

    def play(self, faces: Faces) -> tuple[Tensor, dict[str, float]]:
        """One episode of each face: the mean loss over its steps, and what is worth logging."""
        core = self.core
        state, memory = core.reset(faces), None
        curve, losses, agreed = [], [], []
        for _ in range(core.num_steps):
            logits, memory = self._judge(state, memory)
            label = self.label(state)
            losses.append(functional.cross_entropy(logits, label.exp()))
            best = label.argmax(1)
            agreed.append((logits.argmax(1) == best).float().mean())
            own = draw(logits, self.generator)
            chance = torch.rand(len(own), generator=self.generator, device=core.device)
            state, _, _ = core.step(state, best.where(chance < self.oracle_share, own))
            curve.append(state.psnr.mean())
        scores = {
            "train/psnr": curve[-1].item(),
            "train/psnr_auc": torch.stack(curve).mean().item(),
            "train/agreement": torch.stack(agreed).mean().item(),
        }
        return torch.stack(losses).mean(), scores

    @property
    def oracle_share(self) -> float:
        """Share of the steps that the oracle takes now."""
        if self.config.oracle_steps <= 0:
            return 0.0
        return max(0.0, 1 - self.step / (self.config.oracle_steps * self.total))

    @torch.no_grad()
    def label(self, state: CoreState) -> Tensor:
        """Log-probabilities with which a policy should choose, (N, num_locations)."""
        core = self.core
        if self.everywhere:
            gain = state.mse[:, None] - mse_after_everywhere(core, state)
            tried = torch.arange(core.geometry.num_locations, device=core.device)
        else:
            tried = self.locations
            gain = state.mse[:, None] - mse_after_each(core, state, tried)
        unit = gain.amax(1, keepdim=True).clamp_min(SMALLEST_GAIN) * self.config.temperature
        label = gain.new_full((state.num_envs, core.geometry.num_locations), SMALLEST_LOGIT)
        label[:, tried] = (gain / unit).log_softmax(1)
        return label.float()

    def _judge(self, state: CoreState, memory: AgentState | None) -> tuple[Tensor, AgentState]:
        observation = observe(self.core, state, self.policy.observation_keys)
        seen = counted(observation, self.core.num_steps, self.policy)
        logits, _, memory = self.policy(seen, memory)
        return logits, memory


class DaggerTrainer(EpisodeTrainer):
    """Trains a policy to imitate the greedy oracle."""

    config: TrainDaggerConfig
    learner: Imitation
    agent: ReinforceAgent

    def __init__(self, config: TrainDaggerConfig, team: Team | None = None) -> None:
        super().__init__(config, team)
        policy = initial_policy(self.core, config.policy, config.init, config.seed)
        self.learner = Imitation(self.core, policy, config)
        self.agent = ReinforceAgent(self.core, policy)

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`."""
        return self.learner.update(self.draw(self.config.batch))


def train_dagger(config: TrainDaggerConfig) -> Path:
    """Trains a policy to imitate the greedy oracle; see :func:`facehall_env.training.loop.train`.

    Returns the path of the weights that did best on held-out faces, ``best.safetensors``.
    """
    return train(DaggerTrainer, config)
