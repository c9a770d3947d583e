"""Training of the agent ``qmap``: ``facehall train agent qmap``."""

from __future__ import annotations

from pathlib import Path

from facehall_env.agents.qmap.agent import QMapAgent
from facehall_env.agents.qmap.learner import QMapLearner, load_guess, untrained_network
from facehall_env.agents.settings import TrainQMapConfig
from facehall_env.agents.training import EpisodeTrainer
from facehall_env.training.distributed import Team
from facehall_env.training.loop import train


class QMapTrainer(EpisodeTrainer):
    """Learns the gains of all locations."""

    config: TrainQMapConfig
    learner: QMapLearner
    agent: QMapAgent

    def __init__(self, config: TrainQMapConfig, team: Team | None = None) -> None:
        super().__init__(config, team)
        network, guess = untrained_network(self.core, config), load_guess(config.guess, self.core)
        if config.init is not None:
            before = QMapAgent(self.core, weights=config.init)
            network, guess = before.network, guess or before.guess
        self.learner = QMapLearner(self.core, network, config, self.draw, guess)
        self.agent = QMapAgent(self.core, self.learner.averaged, guess=guess)

    def learn(self) -> dict[str, float]:
        """See :meth:`Trainer.learn`."""
        return self.learner.update()


def train_qmap(config: TrainQMapConfig) -> Path:
    """Trains a qmap agent; see :func:`facehall_env.training.loop.train`.

    Returns the path of the weights that did best on held-out faces, ``best.safetensors``.
    """
    return train(QMapTrainer, config)
