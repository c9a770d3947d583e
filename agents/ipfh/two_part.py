"""The two-part training of IPFH's visual-semantic hallucinator (section III-B2, Fig. 5).

The controller learns by REINFORCE from the base. The restorer learns from the same episodes,
by descent: from the loss of each patch (eq. 16, the short-term part), and after T patches from the
loss of the whole face (eq. 17, the long-term part). Images are cut off between steps, so the
face's loss reaches the restorer through the pixels it wrote last: the final face is a mosaic of
restored patches, and each is differentiated with the image that it was made from held fixed.

An episode is played without gradients first and its steps are then restored once more, one at a
time, now that the gradient of the final face is known. That is the gradient of the mosaic itself,
while one step's activations are all that memory has to hold, not those of T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from facehall_env import patches, rewards
from facehall_env.agents.reinforce.learner import Episode, Reinforce
from facehall_env.agents.reinforce.policies import Policy
from facehall_env.agents.settings import PARTS, ReinforceConfig, TermWeights
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError
from facehall_env.recognition import Cognition
from facehall_env.state import CoreState
from facehall_env.training.distributed import Team
from facehall_env.training.dual_consistency import DualConsistency
from facehall_env.training.trace import span

DOWN_LEARNING_RATE = 1e-3
"""Learning rate of the convolutions that downsample, where these are learned."""


class RestorerLosses:
    """L_p and L_im, eqs. 16 and 17, as weighted terms by name.

    Args:
        weights: How much each term counts; those of weight 0 are not computed.
        cognition: Judges features and identity, where these count.
        labels: The cognition network's class of each face of a state, (N,) int64, -1 for
            strangers.

    Raises:
        ConfigurationError: If a term needs a cognition network, and there is none.
    """

    def __init__(
        self,
        weights: TermWeights,
        consistency: DualConsistency,
        cognition: Cognition | None,
        labels: Callable[[CoreState], Tensor],
    ) -> None:
        self.weights = {name: getattr(weights, name) for name in weights.nonzero()}
        self.consistency = consistency
        self.labels = labels
        self._cognition = cognition
        needs = [name for name in ("feature", "identity") if name in self.weights]
        if needs and cognition is None:
            raise ConfigurationError(
                f"The loss of {' and '.join(needs)} needs a cognition network: give one, or leave "
                "these terms out."
            )

    def patch(self, restored: Tensor, truth: Tensor, inside: Tensor) -> dict[str, Tensor]:
        """L_p, eq. 16, as weighted terms (N,).

        Restored patches, not clamped, and true ones are (N, 3, h, w); the pixels ``inside``, (N, 1,
        h, w) bool, count.
        """
        losses = self.consistency.terms(restored, truth, inside=inside, names=self._dual)
        return self._weighted("patch_", losses)

    def face(self, face: Tensor, state: CoreState) -> dict[str, Tensor]:
        """L_im, eq. 17, as weighted terms (N,); the identity's is zero for strangers.

        The state says what the final faces (N, 3, H, W) should be, and whose they are.
        """
        losses = self.consistency.terms(face, state.hr, state.lr, names=self._dual)
        terms = self._weighted("face_", losses)
        if "feature" in self.weights:
            losses = {"feature": self.cognition.feature_loss(face, state.hr)}
            terms |= self._weighted("", losses)
        if "identity" in self.weights:
            label = self.labels(state)
            loss = self.cognition.identity_loss(face, label.clamp_min(0))
            terms |= self._weighted("", {"identity": loss.where(label >= 0, 0.0)})
        return terms

    @property
    def cognition(self) -> Cognition:
        """The cognition network, which is there where a term needs it."""
        return cast(Cognition, self._cognition)

    @property
    def _dual(self) -> list[str]:
        return [name for name in PARTS["dual"] if name in self.weights]

    def _weighted(self, prefix: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{prefix}{name}": self.weights[name] * loss for name, loss in losses.items()}


class IPFHLearner(Reinforce):
    """REINFORCE for the controller, and both losses for the restorer."""

    def __init__(
        self,
        core: HallucinationCore,
        policy: Policy,
        config: ReinforceConfig,
        losses: RestorerLosses,
        team: Team | None = None,
    ) -> None:
        super().__init__(core, policy, config, team)
        self.restorer_losses = losses
        learned = list(losses.consistency.parameters())
        self.modules["consistency"] = losses.consistency
        if config.joint and learned:
            adam = torch.optim.Adam(learned, DOWN_LEARNING_RATE, betas=(config.beta1, 0.999))
            self.add_optimizer("down", adam)
        self._played: list[tuple[CoreState, Tensor]] = []
        self._logged: dict[str, Tensor] = {}

    def learn_from(self, played: Sequence[tuple[CoreState, Tensor]], final: CoreState) -> None:
        """Adds the gradient of an episode's losses to the restorer's.

        The loss is the mean over the faces of L_p, averaged over the steps, plus L_im. ``played``
        are the states before each step and the actions that were taken in them.
        """
        geometry, size = self.core.geometry, self.core.geometry.patch_size
        wanted = self._face_gradient(final)
        if "down" in self.optimizers:
            self.restorer_losses.consistency.down_loss(final.hr, final.lr).mean().backward()
        # From the last patch back: what no later patch has covered is as this one wrote it.
        covered = torch.zeros_like(final.coverage)
        for state, action in reversed(played):
            corner = geometry.top_left(action)
            inside = patches.inside_mask(corner, size, geometry.image_size)
            truth = patches.crop(state.hr, corner, size)
            restored = self.core.propose(state, action)
            terms = self.restorer_losses.patch(restored, truth, inside)
            loss = self._note(terms, len(played))
            upstream = patches.crop(wanted.where(~covered, 0.0), corner, size, fill=0.0)
            covered = patches.cover(covered, corner, size)
            with span("enhancer/backward"):
                (loss + (restored.clamp(0, 1) * upstream).sum()).backward()

    def _enhance_and_learn(
        self, state: CoreState, action: Tensor
    ) -> tuple[CoreState, Tensor, Tensor]:
        """``core.step`` that keeps its reward's terms; after the last, :meth:`learn_from`."""
        after, done = self.core.advance(state, action)
        with torch.no_grad():
            terms = self.core.reward.terms(state, after, done)
        for name, term in terms.items():
            self._log(f"reward/{name}", term.mean())
        self._played.append((state, action))
        if len(self._played) == self.core.num_steps:
            played, self._played = self._played, []
            self.learn_from(played, after)
        return after, rewards.total(terms).float(), done

    def _face_gradient(self, final: CoreState) -> Tensor:
        """Gradient of the mean L_im of the final faces, (N, 3, H, W)."""
        face = final.image.detach().requires_grad_()
        terms = self.restorer_losses.face(face, final)
        if not terms:
            return torch.zeros_like(face)
        (gradient,) = torch.autograd.grad(self._note(terms, 1), face)
        return gradient

    def _note(self, terms: Mapping[str, Tensor], times: int) -> Tensor:
        """The terms' sum, a mean over the faces and so many ``times``; each term is logged."""
        means = {name: term.mean() / times for name, term in terms.items()}
        for name, mean in means.items():
            self._log(f"loss/{name}", mean.detach())
        loss = torch.stack(list(means.values())).sum() if means else self.enhancer_loss * 0
        self.enhancer_loss = self.enhancer_loss + loss.detach()
        return loss

    def _log(self, name: str, value: Tensor) -> None:
        self._logged[name] = self._logged.get(name, 0) + value

    def _scores(self, episode: Episode, value_loss: Tensor, norm: Tensor) -> dict[str, float]:
        """See :meth:`Reinforce._scores`; with each term of losses and rewards by its name."""
        logged, self._logged = self._logged, {}
        scores = super()._scores(episode, value_loss, norm)
        if not logged:
            return scores
        means = self.team.mean(torch.stack([value.double() for value in logged.values()]))
        return {**scores, **dict(zip(logged, means.tolist(), strict=True))}
