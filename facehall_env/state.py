"""Where a batch of faces stands in its episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facehall_env.data.faces import UNKNOWN

SMALLEST_MSE = 1e-10
"""A face closer to the truth than this counts as 100 dB."""


@dataclass
class CoreState:
    """Where a batch of N faces stands; rows may be at different steps.

    Attributes:
        image: (N, 3, H, W) the current faces I_t, in [0, 1].
        hr: (N, 3, H, W) the truth.
        lr: (N, 3, H / scale, W / scale) the low-resolution faces.
        initial: (N, 3, H, W) the faces I_0 that the episodes started from.
        restored: (N, 3, H, W) what a one-shot enhancer made of ``initial``; else None.
        actions: (N, T) int64, the actions so far; -1 where none was taken yet.
        location: (N, 2) int64, centre (y, x) of the last patch; -1 before the first.
        patch: (N, 3, h, w) the last restored patch; mid-grey before the first.
        coverage: (N, 1, H, W) bool, pixels that some patch has covered.
        step: (N,) int64, patches so far.
        mse: (N,) float64, mean squared error of ``image``, over all channels.
        identity: (N,) int64, who is on the faces, as in :class:`~facehall_env.data.Faces`; or None.
    """

    image: Tensor
    hr: Tensor
    lr: Tensor
    initial: Tensor
    restored: Tensor | None
    actions: Tensor
    location: Tensor
    patch: Tensor
    coverage: Tensor
    step: Tensor
    mse: Tensor
    identity: Tensor | None = None

    @property
    def num_envs(self) -> int:
        """Number of faces N."""
        return len(self.image)

    @property
    def psnr(self) -> Tensor:
        """(N,) float64, PSNR of the current faces in dB, RGB, no shave, no rounding."""
        return -10 * self.mse.clamp_min(SMALLEST_MSE).log10()

    def rows(self, index: Tensor) -> CoreState:
        """The state of some rows, in the order of ``index`` (int64 or a bool mask)."""
        return self._each(lambda _, own: own[index])

    def replace_rows(self, index: Tensor, rows: CoreState) -> CoreState:
        """This state with some rows exchanged for those of another; neither is changed."""
        if self.identity is not None and rows.identity is None:
            rows = dataclasses.replace(rows, identity=torch.full_like(rows.step, UNKNOWN))
        return self._each(lambda name, own: own.index_copy(0, index, getattr(rows, name)))

    def _each(self, function: Callable[[str, Tensor], Tensor]) -> CoreState:
        """A state of what ``function`` makes of each tensor, given its name and value."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            own = getattr(self, field.name)
            changed[field.name] = None if own is None else function(field.name, own)
        return CoreState(**changed)


def mean_squared_error(image: Tensor, hr: Tensor) -> Tensor:
    """(N,) float64, over all channels and pixels."""
    return (image - hr).square().flatten(1).sum(1, dtype=torch.float64) / hr[0].numel()
