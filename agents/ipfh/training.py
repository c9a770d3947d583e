"""The last stage of IPFH's training: the controller and the restorer learn together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from facehall_env import enhancers, metrics
from facehall_env.agents.base import Agent
from facehall_env.agents.ipfh.two_part import IPFHLearner, RestorerLosses
from facehall_env.agents.play import rollout
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.agents.reinforce.training import ReinforceTrainer
from facehall_env.agents.settings import PAID, TermWeights, TrainIPFHConfig
from facehall_env.agents.training import EpisodeTrainer, chunks, curve_scores
from facehall_env.nested import changed
from facehall_env.recognition import Cognition, load_cognition
from facehall_env.rewards.ipfh import PATCH_TERMS, IPFHReward
from facehall_env.training.distributed import Team
from facehall_env.training.dual_consistency import DualConsistency
from facehall_env.training.run import TrainingRun


class Folder:
    """Where a pipeline leaves its networks and the agent.

    The restorer's weights are ``restorer`` after random patches and ``enhancer`` after the last
    stage.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        files = ("coarse", "cognition", "restorer", "enhancer", "best")
        paths = (root / f"{name}.safetensors" for name in files)
        self.coarse, self.cognition, self.restorer, self.enhancer, self.agent = paths


class IPFHTrainer(ReinforceTrainer):
    """Trains controller and restorer together: the last stage.

    Raises:
        ConfigurationError: If the settings contradict each other, or nobody knows who is on the
            faces and the identity counts.
        WeightsError: If an earlier stage left no weights.
    """

    config: TrainIPFHConfig
    learner: IPFHLearner
    criterion = "held_out/psnr"

    def __init__(self, config: TrainIPFHConfig, team: Team | None = None) -> None:
        folder = Folder(config.out)
        self.cognition = (
            load_cognition(folder.cognition).to(config.device) if config.judged else None
        )
        texture = None if self.cognition is None else self.cognition.recogniser
        consistency = DualConsistency(config.episode.faces.scale, config.down, texture)
        self.consistency = consistency.to(config.device)
        self.paid = ipfh_reward(config.term_weights, self.cognition, self.consistency)
        placed = changed(config, weights=str(folder.restorer), initial=initial_of(config))
        super().__init__(placed, team, self.paid if config.episode.reward == PAID else None)

    def make_learner(self, policy: Policy) -> IPFHLearner:
        """See :meth:`ReinforceTrainer.make_learner`."""
        labels = cast(IPFHReward, self.paid.for_people(self.people)).labels
        weights = self.config.term_weights
        losses = RestorerLosses(weights, self.consistency, self.cognition, labels)
        return IPFHLearner(self.core, policy, self.config, losses, self.team)

    @torch.no_grad()
    def measure(self, agent: Agent) -> dict[str, float]:
        """See :meth:`EpisodeTrainer.measure`; also SSIM, and the cosine of embeddings.

        These are the embeddings of the network that is trained with: they show progress, and do
        not measure how well the restored faces are recognised.
        """
        curves, ssim, cosine = [], [], []
        for faces in chunks(self.pool.held_out()):
            played = rollout(self.core, agent, faces)
            curves.append(played.psnr)
            image, hr = played.state.image, played.state.hr
            ssim.append(metrics.score(image, hr, self.pool.protocol, self.core.scale, ("ssim",)))
            if self.cognition is not None:
                embed = self.cognition.recogniser.embed
                cosine.append(torch.cosine_similarity(embed(image), embed(hr)))
        scores = curve_scores(torch.cat(curves))
        scores["held_out/ssim"] = torch.cat([each["ssim"] for each in ssim]).mean().item()
        if cosine:
            scores["held_out/cosine"] = torch.cat(cosine).mean().item()
        return scores

    def finish(self, run: TrainingRun, scores: Mapping[str, float]) -> None:
        """See :meth:`Trainer.finish`."""
        EpisodeTrainer.finish(self, run, scores)

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """See :meth:`Trainer.save`; also writes the restorer, beside the agent."""
        super().save(path, provenance)
        enhancers.save(self.core.enhancer, restorer_beside(path), provenance)


def initial_of(config: TrainIPFHConfig) -> str:
    """What episodes start from, as other trainings call it."""
    coarse = Folder(config.out).coarse
    return str(coarse) if coarse.is_file() else config.episode.initial


def ipfh_reward(
    weights: TermWeights, cognition: Cognition | None, consistency: DualConsistency
) -> IPFHReward:
    """The rewards of the paper (eqs. 10 and 12), weighted as the losses are.

    Raises:
        ConfigurationError: If nothing is left.
    """
    patch = {term: getattr(weights, loss) for term, loss in PATCH_TERMS.items()}
    face = {
        "ipfh_face_mse": weights.mse_hr,
        "ipfh_face_texture": weights.texture_hr,
        "ipfh_feature": weights.feature,
        "ipfh_identity": weights.identity,
    }
    return IPFHReward(cognition, {**patch, **face}, consistency=consistency)


def restorer_beside(agent: Path) -> Path:
    """Where the restorer lies that an agent was saved with."""
    return agent.with_name(f"{agent.stem}-enhancer.safetensors")
