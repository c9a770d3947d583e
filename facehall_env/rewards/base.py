"""What a step is worth: rewards by name, and their weighted sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.rewards.catalog import REWARDS

if TYPE_CHECKING:
    from facehall_env.state import CoreState


class Reward(ABC):
    """A reward for every environment of a batch; rewards add up and take weights.

    >>> reward = make("delta_mse") + 0.5 * make("coverage")
    >>> str(reward)
    'delta_mse + 0.5*coverage'
    """

    @abstractmethod
    def terms(self, before: CoreState, after: CoreState, done: Tensor) -> dict[str, Tensor]:
        """Each term by name, weighted: (N,) float64 tensors that add up to the reward.

        Args:
            before: State in which the action was chosen.
            after: State that it led to.
            done: (N,) bool, whether the episode is over with it.
        """

    def __call__(self, before: CoreState, after: CoreState, done: Tensor) -> Tensor:
        """The reward, (N,) float64."""
        return total(self.terms(before, after, done))

    def for_people(self, people: Sequence[str] | None) -> Reward:
        """The reward for faces of a dataset, which `facehall_env.spec.EpisodeSpec` asks for.

        Args:
            people: The dataset's `people`, to whom the states' ``identity`` refers; None if it
                does not know who is on its faces.

        Raises:
            ConfigurationError: If the reward depends on who that is, and cannot know it.
        """
        return self

    def __add__(self, other: Reward) -> Reward:
        """Both rewards together."""
        return _Sum([*_parts(self), *_parts(other)])

    def __mul__(self, weight: float) -> Reward:
        """The reward, times a number."""
        return _Sum([(weight * own, term) for own, term in _parts(self)])

    __rmul__ = __mul__


class _Sum(Reward):
    def __init__(self, parts: list[tuple[float, Reward]]) -> None:
        self.parts = parts

    def terms(self, before: CoreState, after: CoreState, done: Tensor) -> dict[str, Tensor]:
        added: dict[str, Tensor] = {}
        for weight, reward in self.parts:
            for name, value in reward.terms(before, after, done).items():
                added[name] = added.get(name, 0) + weight * value
        return added

    def for_people(self, people: Sequence[str] | None) -> Reward:
        return _Sum([(weight, reward.for_people(people)) for weight, reward in self.parts])

    def __str__(self) -> str:
        return " + ".join(
            str(reward) if weight == 1 else f"{weight:g}*{reward}" for weight, reward in self.parts
        )


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of all terms, (N,) float64."""
    return torch.stack(list(terms.values())).sum(0)


def _parts(reward: Reward) -> list[tuple[float, Reward]]:
    return reward.parts if isinstance(reward, _Sum) else [(1.0, reward)]


def make(reward: str | Reward | Mapping[str, float]) -> Reward:
    """Builds a reward.

    Args:
        reward: A name, a weighted sum of names (``"delayed_mse + 4*coverage"``), a mapping from
            names to weights, or a reward, which is returned as it is.

    Raises:
        UnknownNameError: If no reward has one of the names.
        ConfigurationError: If the expression cannot be read.
    """
    if isinstance(reward, Reward):
        return reward
    parts = list(reward.items()) if isinstance(reward, Mapping) else _parse(reward)
    if not parts:
        raise ConfigurationError("An empty reward was given: name at least one term.")
    terms = [(float(weight), REWARDS.get(name)()) for name, weight in parts]
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else _Sum(terms)


def _parse(expression: str) -> list[tuple[str, float]]:
    parts = []
    for term in expression.split("+"):
        weight, star, name = term.rpartition("*")
        try:
            parts.append((name.strip(), float(weight) if star else 1.0))
        except ValueError:
            raise ConfigurationError(
                f"reward={expression!r} cannot be read at {term.strip()!r}: write names or "
                "weight*name, joined by '+', as in 'delta_mse + 0.1*coverage'."
            ) from None
    return parts
