"""Rewards of pixel fidelity and coverage."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from facehall_env.rewards.base import Reward

if TYPE_CHECKING:
    from facehall_env.state import CoreState


class OneTerm(Reward):
    """A reward of one term."""

    name: ClassVar[str]

    @abstractmethod
    def value(self, before: CoreState, after: CoreState, done: Tensor) -> Tensor:
        """The term, (N,) float64."""

    def terms(self, before: CoreState, after: CoreState, done: Tensor) -> dict[str, Tensor]:
        """The one term by its name."""
        return {self.name: self.value(before, after, done)}

    def __str__(self) -> str:
        return self.name


class DelayedMSE(OneTerm):
    """Nothing until the end, then -MSE of the final face (Attention-FH, section 3.1)."""

    name = "delayed_mse"

    def value(self, before: CoreState, after: CoreState, done: Tensor) -> Tensor:
        """0, or -MSE where the episode is over."""
        return -after.mse * done


class DeltaMSE(OneTerm):
    """By how much this step lowered the MSE; an episode's sum is MSE_0 - MSE_T."""

    name = "delta_mse"

    def value(self, before: CoreState, after: CoreState, done: Tensor) -> Tensor:
        """MSE before minus MSE after."""
        return before.mse - after.mse


class DeltaPSNR(OneTerm):
    """By how many dB this step raised the PSNR; an episode's sum is PSNR_T - PSNR_0."""

    name = "delta_psnr"

    def value(self, before: CoreState, after: CoreState, done: Tensor) -> Tensor:
        """PSNR after minus PSNR before."""
        return after.psnr - before.psnr


class Coverage(OneTerm):
    """Share of the face that this patch covered first; an episode's sum is the share covered.

    The released Attention-FH code adds four times the share covered to its return.
    """

    name = "coverage"

    def value(self, before: CoreState, after: CoreState, done: Tensor) -> Tensor:
        """Pixels covered for the first time, over all pixels."""
        newly = after.coverage & ~before.coverage
        return newly.flatten(1).double().mean(1)
