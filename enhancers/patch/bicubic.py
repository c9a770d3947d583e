"""The baseline that changes nothing: the up-sampled low-resolution face."""

from __future__ import annotations

from torch import nn

from facehall_env.enhancers.base import PATCH_SIZE, OneShot


class Bicubic(OneShot):
    """Hands back the interpolated face that the episode started from."""

    name = "bicubic"
    weightless = True

    def __init__(self, scale: int = 4, patch_size: tuple[int, int] = PATCH_SIZE) -> None:
        super().__init__(nn.Identity(), scale, patch_size)
