"""Rewards of pixel fidelity and coverage, one function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from facehall_env.rewards.base import OneTerm

if TYPE_CHECKING:
    from facehall_env.state import CoreState

Term = Callable[["CoreState", "CoreState", Tensor], Tensor]


def _reward(function: Term) -> Callable[[], OneTerm]:
    """A factory of the reward that this function computes."""

    def make() -> OneTerm:
        return OneTerm(function.__name__, function)

    make.__doc__ = function.__doc__
    return make


@_reward
def delayed_mse(before: CoreState, after: CoreState, done: Tensor) -> Tensor:
    """Nothing until the end, then -MSE of the final face (Attention-FH, section 3.1)."""
    return -after.mse * done


@_reward
def delta_mse(before: CoreState, after: CoreState, done: Tensor) -> Tensor:
    """By how much this step lowered the MSE; an episode's sum is MSE_0 - MSE_T."""
    return before.mse - after.mse


@_reward
def delta_psnr(before: CoreState, after: CoreState, done: Tensor) -> Tensor:
    """By how many dB this step raised the PSNR; an episode's sum is PSNR_T - PSNR_0."""
    return after.psnr - before.psnr


@_reward
def coverage(before: CoreState, after: CoreState, done: Tensor) -> Tensor:
    """Share of the face that this patch covered first; an episode's sum is the share covered.

    The released Attention-FH code adds four times the share covered to its return.
    """
    newly = after.coverage & ~before.coverage
    return newly.flatten(1).double().mean(1)
