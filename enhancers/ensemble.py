"""``ensemble``: the mean of what several whole-face networks make of a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from facehall_env.enhancers.base import (
    ENHANCERS,
    PATCH_SIZE,
    Enhancer,
    FromInitial,
    OneShot,
    restore_whole,
)
from facehall_env.enhancers.weights import build, describe
from facehall_env.errors import ConfigurationError


@ENHANCERS.register("ensemble")
class Ensemble(OneShot):
    """Averages the results of several networks, each of them also on the mirrored face.

    Errors that networks do not share cancel out: with members of equal error, the mean's is at
    most theirs. The mirrored copies are the part for faces of what Timofte et al., "Seven ways to
    improve example-based single image super resolution" (CVPR 2016), call enhanced prediction,
    and others self-ensemble; they cost time and no weights.

    Args:
        scale: Factor between the resolutions.
        patch_size: Height and width of the pieces that an environment pastes.
        members: Descriptions of the networks, ``{"name": ..., "config": {...}}``; see :meth:`of`
            for networks that exist already.
        mirror: Whether each one restores the mirrored face, too.

    Attributes:
        members: The networks.

    Raises:
        ConfigurationError: If there are no members, or one does not restore whole faces.

    >>> both = Ensemble(members=[{"name": "bicubic", "config": {}}])
    >>> face = torch.rand(1, 3, 16, 16)
    >>> torch.equal(both.restore(face), face)
    True
    """

    name = "ensemble"

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        members: Sequence[Mapping[str, Any]],
        mirror: bool = True,
    ) -> None:
        described = [{"name": member["name"], "config": member["config"]} for member in members]
        networks = [build({**member, "scale": scale}) for member in described]
        if not networks:
            raise ConfigurationError(
                "An ensemble has no members: give one or more networks that restore whole faces."
            )
        for network in networks:
            network.whole_face()  # Raises a clear error for networks that cannot.
        super().__init__(
            nn.ModuleList(networks), scale, patch_size, members=described, mirror=mirror
        )

    @classmethod
    def of(cls, members: Sequence[Enhancer], mirror: bool = True) -> Ensemble:
        """An ensemble of networks with their weights, which are copied.

        Raises:
            ConfigurationError: If there are none, or they are made for different scales.
        """
        scales = sorted({member.scale for member in members})
        if len(scales) != 1:
            raise ConfigurationError(
                f"An ensemble got members for the scales {scales}, expected one or more for one "
                "and the same scale."
            )
        ensemble = cls(scales[0], members=[describe(member) for member in members], mirror=mirror)
        for own, member in zip(ensemble.members, members, strict=True):
            own.load_state_dict(member.state_dict())
        ensemble.provenance = {"members": [member.provenance for member in members]}
        return ensemble

    @property
    def members(self) -> list[Enhancer]:
        """The networks."""
        return [cast(Enhancer, member) for member in self.network.children()]

    def restore(self, initial: Tensor, lr: Tensor | None = None) -> Tensor:
        """The mean of what all make of the faces; see :meth:`OneShot.restore`."""
        total = self._sum(initial, lr)
        if not self.config["mirror"]:
            return total / len(self.members)
        mirrored = self._sum(initial.flip(3), None if lr is None else lr.flip(3))
        return (total + mirrored.flip(3)) / (2 * len(self.members))

    def whole_face(self) -> nn.Module:
        """A network of up-sampled faces; see :meth:`Enhancer.whole_face`."""
        return FromInitial(self)

    def _sum(self, initial: Tensor, lr: Tensor | None) -> Tensor:
        results = [restore_whole(member, initial, lr) for member in self.members]
        return torch.stack(results).sum(0)
