"""DAgger: a warm start for any policy, by imitation of the greedy oracle (Ross et al., 2011).

The oracle tries the locations against the truth, which is there while an agent is trained. Told on
the faces of the oracle's own episodes what the oracle did, a policy would not know what to do after
its first mistake; so it plays more and more of the steps itself and is told what would have been
best there. Labels are soft, as neighbouring locations are nearly as good as the best one:

    loss = sum over t of CE(softmax(gain(s_t, .) / (tau * max gain)), pi(. | s_t))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env.agents.base import AgentState
from facehall_env.agents.lookahead import mse_after_each, mse_after_everywhere, restores_whole_faces
from facehall_env.agents.oracle import location_grid
from facehall_env.agents.reinforce.learner import SMALLEST_LOGIT, counted, draw
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.checkpoints import pack_optimizer, under_prefix, unpack_optimizer, with_prefix
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.errors import ConfigurationError
from facehall_env.observations import observe
from facehall_env.state import CoreState

SMALLEST_GAIN = 1e-7
"""Where no location lowers the squared error by more, all of them are as good."""


@dataclass
class ImitationConfig:
    """Settings of the imitation."""

    updates: int = 100
    """Updates in all; each plays one episode of a batch."""
    batch: int = 32
    """Episodes in an update."""
    learning_rate: float | None = None
    """Of the policy; by default what suits it: 2e-4 for fc, 1e-3 for conv. Falls to a tenth."""
    temperature: float = 0.1
    """Of the labels, as a share of the best gain; smaller ones come closer to the best alone."""
    oracle_steps: float = 0.5
    """Share of the updates in which the oracle still takes some steps; from all of them at first
    to none."""
    stride: int = 16
    """Spacing in pixels of the locations that the oracle tries, with enhancers that work on patches
    only; with others one look at the whole restored face judges all."""
    grad_clip: float = 5.0
    """Largest norm of the gradient; 0 switches clipping off."""
    seed: int = 0
    """Seed of everything that is drawn."""


class Imitation:
    """The learner: its whole state can be saved and restored between updates.

    Args:
        core: The process.
        policy: The network to train.
        config: Settings of the algorithm.

    Raises:
        ConfigurationError: If the settings are out of range.
    """

    def __init__(self, core: HallucinationCore, policy: Policy, config: ImitationConfig) -> None:
        if config.updates < 1 or config.batch < 1 or config.temperature <= 0:
            raise ConfigurationError(
                f"updates={config.updates}, batch={config.batch}, temperature="
                f"{config.temperature}: the first two are at least 1, the last is above 0."
            )
        self.core = core
        self.policy = policy
        self.config = config
        self.generator = torch.Generator(core.device).manual_seed(config.seed)
        self.rate = config.learning_rate or policy.learning_rate
        self.optimizer = torch.optim.Adam(policy.policy_parameters(), lr=self.rate)
        self.updates = 0
        self.everywhere = restores_whole_faces(core)
        self.locations = location_grid(core.geometry, config.stride).to(core.device)

    def update(self, faces: Faces) -> dict[str, float]:
        """Plays one episode of each face and follows the gradient.

        Args:
            faces: ``batch`` of them, on the core's device.

        Returns:
            What is worth logging: the loss, how often the policy's best location was the oracle's,
            PSNR.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 - 0.9 * self.updates / self.config.updates)
        loss, scores = self.play(faces)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.policy.policy_parameters(), self.config.grad_clip or float("inf")
        )
        self.optimizer.step()
        self.updates += 1
        return {**scores, "train/loss": loss.item(), "train/grad_norm": norm.item()}

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
        return max(0.0, 1 - self.updates / (self.config.oracle_steps * self.config.updates))

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

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, but the faces."""
        return {
            **with_prefix("policy", self.policy.state_dict()),
            **with_prefix("optimizer", pack_optimizer(self.optimizer)[0]),
            "generator": self.generator.get_state(),
        }

    def state_metadata(self) -> dict[str, Any]:
        """What belongs to :meth:`state_tensors` and is no tensor; JSON-serialisable."""
        return pack_optimizer(self.optimizer)[1]

    def restore(
        self, updates: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> None:
        """Puts back what :meth:`state_tensors` and :meth:`state_metadata` gave."""
        self.updates = updates
        self.policy.load_state_dict(under_prefix("policy", tensors))
        unpack_optimizer(self.optimizer, under_prefix("optimizer", tensors), metadata)
        self.generator.set_state(tensors["generator"])

    def _judge(self, state: CoreState, memory: AgentState | None) -> tuple[Tensor, AgentState]:
        observation = observe(self.core, state, self.policy.observation_keys)
        seen = counted(observation, self.core.num_steps, self.policy)
        logits, _, memory = self.policy(seen, memory)
        return logits, memory
