"""Training of a policy by REINFORCE: ``facehall train agent``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from facehall_env import enhancers
from facehall_env.agents.reinforce.agent import ReinforceAgent, initial_policy
from facehall_env.agents.reinforce.learner import Reinforce
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.agents.settings import TrainAgentConfig
from facehall_env.agents.training import EpisodeTrainer
from facehall_env.rewards import Reward
from facehall_env.training.distributed import Team
from facehall_env.training.loop import train
from facehall_env.training.run import TrainingRun


class ReinforceTrainer(EpisodeTrainer):
    """Trains a policy, and with ``joint`` the enhancer."""

    config: TrainAgentConfig
    learner: Reinforce
    agent: ReinforceAgent

    def __init__(
        self, config: TrainAgentConfig, team: Team | None = None, reward: Reward | None = None
    ) -> None:
        super().__init__(config, team, reward)
        policy = initial_policy(self.core, config.policy, config.init, config.seed)
        self.learner = self.make_learner(policy)
        self.team.check_shares(batch=config.batch // config.samples_per_face)
        self.agent = ReinforceAgent(self.core, policy, mask_visited=config.mask_visited)

    def make_learner(self, policy: Policy) -> Reinforce:
        """What trains the policy."""
        return Reinforce(self.core, policy, self.config, self.team)

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`."""
        return self.learner.update(self.draw(self.config.batch // self.config.samples_per_face))

    @property
    def updates_enhancer(self) -> bool:
        """See :attr:`EpisodeTrainer.updates_enhancer`."""
        return self.config.joint

    def finish(self, run: TrainingRun, scores: Mapping[str, float]) -> None:
        """See :meth:`Trainer.finish`; also writes an enhancer that was trained."""
        super().finish(run, scores)
        if self.config.joint:
            path = run.directory / "enhancer.safetensors"
            enhancers.save(self.core.enhancer, path, run.provenance())


def train_agent(config: TrainAgentConfig) -> Path:
    """Trains a policy; see :func:`facehall_env.training.loop.train`.

    Returns the path of the weights that did best on held-out faces, ``best.safetensors``.
    """
    return train(ReinforceTrainer, config)
