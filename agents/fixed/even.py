"""The image tiled evenly, in reading order: the schedule any agent has to beat."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.core import HallucinationCore
from facehall_env.patches import PatchGeometry


def coarse_corners(side: int, patch: int) -> list[float]:
    """Ideal first pixels along one side for ``round(side / patch)`` patches on cell centres.

    >>> coarse_corners(128, 60)
    [2.0, 66.0]
    """
    count = max(1, round(side / patch))
    return [(index + 0.5) * side / count - patch / 2 for index in range(count)]


def covering_corners(side: int, patch: int) -> list[float]:
    """First pixels along one side for the fewest patches that cover it, flush with both ends.

    >>> covering_corners(128, 60)
    [0.0, 34.0, 68.0]
    """
    count = math.ceil(side / patch)
    if count == 1:
        return [(side - patch) / 2]
    return [index * (side - patch) / (count - 1) for index in range(count)]


def even_schedule(geometry: PatchGeometry) -> list[int]:
    """Actions of one pass over the coarse lattice and one over the covering lattice.

    The second pass is left out where the coarse lattice has as many patches and so covers the
    image already.
    """
    image, patch = geometry.image_size, geometry.patch_size
    coarse = [coarse_corners(*sides) for sides in zip(image, patch, strict=True)]
    covering = [covering_corners(*sides) for sides in zip(image, patch, strict=True)]
    lattices = [coarse]
    if [len(axis) for axis in covering] != [len(axis) for axis in coarse]:
        lattices.append(covering)
    corners = (corner for rows, columns in lattices for corner in product(rows, columns))
    return [_nearest(geometry, top, left) for top, left in corners]


def _nearest(geometry: PatchGeometry, top: float, left: float) -> int:
    """The action whose patch begins nearest to (top, left)."""
    rows, columns = geometry.grid
    row = _nearest_along(geometry, torch.arange(rows) * columns, 0, top)
    column = _nearest_along(geometry, torch.arange(columns), 1, left)
    return row * columns + column


def _nearest_along(geometry: PatchGeometry, actions: Tensor, axis: int, corner: float) -> int:
    distance = (geometry.top_left(actions)[:, axis].double() - corner).abs()
    # With border="inside" several cells are clamped to one patch: name it by its own centre.
    centre = corner + (geometry.patch_size[axis] - 1) // 2
    off_centre = (geometry.centres(actions)[:, axis].double() - centre).abs()
    return int((distance + 1e-6 * off_centre).argmin())


class EvenAgent(Agent):
    """Tiles the image in reading order, the same for every face.

    The first pass uses the lattice of round(H/h) rows and round(W/w) columns on the centres of
    its cells (2x3 for 60x45 patches in 128x128: the order in which few patches reach most of the
    image); the second the smallest lattice that covers every pixel (3x3); then again from the
    start. Where the border or a coarse grid of locations does not allow the exact position, the
    nearest patch is taken. The schedule does not depend on the length of the episode.
    """

    name = "even"

    def __init__(self, core: HallucinationCore) -> None:
        super().__init__(core)
        self.schedule = torch.tensor(even_schedule(core.geometry), device=self.device)

    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """Looks up the schedule, (N,) locations; keeps no state."""
        return self.schedule[self.steps_taken(observation) % len(self.schedule)], None
