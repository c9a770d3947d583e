"""The upper bound: tries every location against the truth and takes the best."""

from __future__ import annotations

import torch
from torch import Tensor

from facehall_env.agents.base import Agent, AgentState, Observation
from facehall_env.agents.lookahead import mse_after_each
from facehall_env.core import HallucinationCore
from facehall_env.errors import ConfigurationError
from facehall_env.observations import STATE_KEY
from facehall_env.patches import PatchGeometry
from facehall_env.state import CoreState


def location_grid(geometry: PatchGeometry, stride: int) -> Tensor:
    """Actions nearest to the middles of cells of ``stride`` pixels, one for each patch, (K,) int64.

    >>> len(location_grid(PatchGeometry((128, 128), (60, 45)), 16))
    64
    """
    height, width = geometry.image_size
    if not 1 <= stride <= min(height, width):
        raise ConfigurationError(
            f"stride={stride} does not fit an image of {height}x{width} pixels: give one between "
            f"1 and {min(height, width)}."
        )
    actions = [
        geometry.nearest_action(y, x)
        for y in range(stride // 2, height, stride)
        for x in range(stride // 2, width, stride)
    ]
    corners = geometry.top_left(torch.tensor(actions)).tolist()
    distinct: dict[tuple[int, ...], int] = {}
    for action, corner in zip(actions, corners, strict=True):
        distinct.setdefault(tuple(corner), action)
    return torch.tensor(list(distinct.values()))


class GreedyOracle(Agent):
    """Takes for each face the location that lowers its error most, by trying them all.

    It sees the truth, so it cannot be used in practice: it shows what others could reach. It is
    greedy: it looks one step ahead, so a schedule that plans further could be better.

    Args:
        stride: Spacing of the locations that it tries, in pixels; 16 makes 64 in 128x128.
        refine: How often to try, in addition, the eight neighbours of the best location so far, at
            half the spacing each time. A stride of 32 refined twice tries 32 locations instead of
            64 and finds better ones.
        chunk: Most patches to restore at once.
    """

    name = "oracle"

    def __init__(
        self, core: HallucinationCore, stride: int = 16, refine: int = 0, chunk: int = 256
    ) -> None:
        super().__init__(core, (STATE_KEY,))
        self.core = core
        self.chunk = chunk
        self.spacings = [max(1, stride // 2**level) for level in range(1, refine + 1)]
        self.locations = location_grid(core.geometry, stride).to(self.device)

    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """Tries all locations of the grid on (N,) faces; keeps no state.

        Raises:
            ConfigurationError: If the observation lacks the truth, as every environment's does.
        """
        core_state = observation.get(STATE_KEY)
        if not isinstance(core_state, CoreState):
            raise ConfigurationError(
                f"The oracle needs the truth as observation[{STATE_KEY!r}], got "
                f"{sorted(observation)}: play it with facehall_env.agents.rollout."
            )
        tried = self.locations.expand(core_state.num_envs, -1)
        best, error = self._best(core_state, tried)
        for spacing in self.spacings:
            near, near_error = self._best(core_state, self._neighbours(best, spacing))
            best = near.where(near_error < error, best)
            error = near_error.minimum(error)
        return best, None

    def _best(self, core_state: CoreState, tried: Tensor) -> tuple[Tensor, Tensor]:
        """The location with the least remaining error out of (N, K), and that error, each (N,)."""
        error, index = mse_after_each(self.core, core_state, tried, self.chunk).min(dim=1)
        return tried.gather(1, index[:, None])[:, 0], error

    def _neighbours(self, action: Tensor, spacing: int) -> Tensor:
        """The eight locations around each, ``spacing`` pixels away, kept on the grid: (N, 8)."""
        rows, columns = self.geometry.grid
        step = max(1, spacing // self.geometry.stride)
        shifts = torch.tensor(
            [(y, x) for y in (-step, 0, step) for x in (-step, 0, step) if (y, x) != (0, 0)],
            device=action.device,
        )
        row = (action[:, None] // columns + shifts[:, 0]).clamp(0, rows - 1)
        column = (action[:, None] % columns + shifts[:, 1]).clamp(0, columns - 1)
        return row * columns + column
