"""``ensemble``: the mean of what several whole-face networks make of a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from facehall_env.enhancers.base import PATCH_SIZE, Enhancer, OneShot, restore_whole
from facehall_env.enhancers.weights import build, describe
from facehall_env.errors import ConfigurationError


class MeanNetwork(nn.Module):
    """The mean of what networks make of a face, and of its mirror image."""

    def __init__(self, members: Sequence[Enhancer], mirror: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mirror = mirror

    def forward(self, initial: Tensor, lr: Tensor | None = None) -> Tensor:
        """Up-sampled faces (N, 3, H, W) in [0, 1] to restored ones, not clamped."""
        total = self._sum(initial, lr)
        if not self.mirror:
            return total / len(self.members)
        mirrored = self._sum(initial.flip(3), None if lr is None else lr.flip(3))
        return (total + mirrored.flip(3)) / (2 * len(self.members))

    def _sum(self, initial: Tensor, lr: Tensor | None) -> Tensor:
        first, *others = (cast(Enhancer, member) for member in self.members)
        total = restore_whole(first, initial, lr)
        for member in others:
            total = total + restore_whole(member, initial, lr)
        return total


class Ensemble(OneShot):
    """Averages the results of several networks, each of them also on the mirrored face.

    Errors that networks do not share cancel out: with members of equal error, the mean's is at
    most theirs. The mirrored copies are the part for faces of the self-ensemble (test-time
    augmentation) of Timofte et al., "Seven ways to improve example-based single image super
    resolution" (CVPR 2016); they cost time and no weights.

    Args:
        members: Descriptions of the networks, ``{"name": ..., "config": {...}}``; see :meth:`of`
            for networks that exist already.
        mirror: Whether each one restores the mirrored face, too.

    Raises:
        ConfigurationError: If there are no members, or one does not restore whole faces.

    >>> import torch
    >>> both = Ensemble(members=[{"name": "bicubic"}])
    >>> face = torch.rand(1, 3, 16, 16)
    >>> torch.equal(both.restore(face), face)
    True
    """

    name = "ensemble"
    trained_by: ClassVar[str] = "ensemble --members FILE FILE"
    network: MeanNetwork

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        members: Sequence[Mapping[str, Any]],
        mirror: bool = True,
    ) -> None:
        described = [_description(member) for member in members]
        networks = [build({**each, "scale": scale}) for each in described]
        if not networks:
            raise ConfigurationError(
                "An ensemble has no members: give one or more networks that restore whole faces."
            )
        for member in networks:
            member.whole_face()  # Raises a clear error for networks that cannot.
        network = MeanNetwork(networks, mirror)
        super().__init__(network, scale, patch_size, members=described, mirror=mirror)

    @classmethod
    def of(cls, members: Sequence[Enhancer], mirror: bool = True) -> Ensemble:
        """An ensemble of networks with their weights, which are copied, ready to restore faces.

        Returns:
            In evaluation mode, with the patches of the members.

        Raises:
            ConfigurationError: If there are none, or they have different scales or patches.
        """
        for what in ("scale", "patch_size"):
            found = sorted({getattr(member, what) for member in members})
            if len(found) != 1:
                raise ConfigurationError(
                    f"An ensemble got members with {what} {', '.join(map(str, found)) or 'none'}: "
                    "give one or more with one and the same."
                )
        described = [describe(member) for member in members]
        ensemble = cls(members[0].scale, members[0].patch_size, members=described, mirror=mirror)
        for own, member in zip(ensemble.members, members, strict=True):
            own.load_state_dict(member.state_dict())
        ensemble.provenance = {"members": [member.provenance for member in members]}
        return ensemble.eval()

    @property
    def members(self) -> list[Enhancer]:
        """The networks."""
        return [cast(Enhancer, member) for member in self.network.members]

    def restore(self, initial: Tensor, lr: Tensor | None = None) -> Tensor:
        """The mean of what all make of the faces; see :meth:`OneShot.restore`."""
        restored: Tensor = self.network(initial, lr)
        return restored


def _description(member: Mapping[str, Any]) -> dict[str, Any]:
    if "name" not in member:
        raise ConfigurationError(
            f"The member {dict(member)} of an ensemble has no name: give "
            '{"name": ..., "config": {...}} for each.'
        )
    return {"name": member["name"], "config": dict(member.get("config", {}))}
