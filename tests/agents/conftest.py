from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facehall_env.core import HallucinationCore
from facehall_env.data import Faces
from facehall_env.enhancers import OneShot


class Adds(nn.Module):
    """A whole-face network that adds a fixed map: what there is to win is planted."""

    def __init__(self, change: Tensor) -> None:
        super().__init__()
        self.register_buffer("change", change)

    def forward(self, image: Tensor) -> Tensor:
        return image + self.change


PlantedCore = Callable[..., HallucinationCore]


@pytest.fixture
def planted_core() -> PlantedCore:
    """Builds a core whose enhancer removes the error of `flat_faces(change)` completely.

    Locations are 8 pixels apart and the 7x7 patches around them are disjoint, so the gain of each
    location is known by hand.
    """

    def build(change: Tensor, **settings: object) -> HallucinationCore:
        enhancer = OneShot(Adds(change), scale=4, patch_size=(7, 7))
        size = (change.shape[-2], change.shape[-1])
        keywords = {"reward": "delta_mse", "action_stride": 8, "num_steps": 2, **settings}
        return HallucinationCore(enhancer, image_size=size, **keywords)

    return build


@pytest.fixture
def flat_faces() -> Callable[[Tensor, int], Faces]:
    """Grey faces whose truth is the grey plus ``change`` (1, 1, H, W)."""

    def build(change: Tensor, number: int) -> Faces:
        initial = torch.full((number, 3, *change.shape[-2:]), 0.25)
        hr = initial + change
        return Faces(hr=hr, lr=initial[..., ::4, ::4], initial=initial)

    return build


@pytest.fixture
def plant() -> Callable[[dict[tuple[int, int], float], tuple[int, int]], Tensor]:
    """A map (1, 1, H, W) that is ``amount`` on the 7x7 patch of each cell (row, column)."""

    def build(amounts: dict[tuple[int, int], float], size: tuple[int, int]) -> Tensor:
        change = torch.zeros(1, 1, *size)
        for (row, column), amount in amounts.items():
            y, x = 8 * row + 1, 8 * column + 1
            change[..., y : y + 7, x : x + 7] = amount
        return change

    return build
