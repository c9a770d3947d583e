"""The network of the agent ``qmap``, and what it looks at beside the observation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.agents.base import AgentState
from facehall_env.agents.fixed.saliency import gradient_magnitude
from facehall_env.agents.lookahead import errors_by_guess, look_ahead
from facehall_env.agents.reinforce.policies import location_weights, planes
from facehall_env.core import HallucinationCore
from facehall_env.enhancers import Enhancer
from facehall_env.enhancers.layers.starts import start_at_zero
from facehall_env.errors import ConfigurationError
from facehall_env.patches import PatchGeometry

CELL = 4
"""Pixels a side of one cell of the network's map."""
KEYS = ("image", "lr", "action_history", "step")
PLANES, PLANES_AHEAD, PLANES_GUESS = 11, 4, 2
AHEAD = "ahead"
"""Under this name an observation has what the enhancer would change, (N, 3, H, W)."""
BY_GUESS = "by_guess"
"""Under this name, the error of each pixel and the gain there, by the guess, (N, 2, H, W)."""
MOST_VISITS = 4


class GainNetwork(nn.Module):
    """From an observation to the expected gain at every location.

    The face, what has changed of it since the start, its detail and how often each pixel has been
    visited become a map with one cell for 4x4 pixels. One channel of the output is a density: the
    gain that each cell would contribute. A location's gain is the density's sum over exactly the
    pixels of its patch, plus a correction from the features under the patch and at its centre
    (the enhancer sees less at a patch's border than on a whole face). Gains are shares of the
    first error, which the network does not know, so only their order within a face is exact.

    Args:
        future: Whether to predict the rest of the return, too.
        lookahead: Whether to look at what the enhancer would make of the whole face.
        guess: Whether to start from the gains by a guess of the truth; needs ``lookahead``.
    """

    row_patch: Tensor
    row_centre: Tensor
    column_patch: Tensor
    column_centre: Tensor
    scale: Tensor

    def __init__(
        self,
        geometry: PatchGeometry,
        num_steps: int,
        width: int = 32,
        future: bool = False,
        lookahead: bool = False,
        guess: bool = False,
    ) -> None:
        super().__init__()
        if guess and not lookahead:
            raise ConfigurationError(
                "The gains by a guess of the truth are those of what the enhancer would change: "
                "switch lookahead on, too."
            )
        height, width_pixels = geometry.image_size
        if height % (2 * CELL) or width_pixels % (2 * CELL):
            raise ConfigurationError(
                f"The qmap network halves a map of cells of {CELL}x{CELL} pixels, got faces of "
                f"{height}x{width_pixels}: use sides that are multiples of {2 * CELL}."
            )
        self.geometry = geometry
        self.num_steps = num_steps
        self.lookahead = lookahead
        self.guess = guess
        self.config: dict[str, Any] = {
            "num_steps": num_steps,
            "width": width,
            "future": future,
            "lookahead": lookahead,
            "guess": guess,
        }
        planes_seen = PLANES + PLANES_AHEAD * lookahead + PLANES_GUESS * guess
        self.stem = nn.Conv2d(planes_seen, width, CELL, stride=CELL)
        self.position = nn.Parameter(torch.zeros(width, height // CELL, width_pixels // CELL))
        self.step = nn.Embedding(num_steps, width)
        self.fine = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 2, stride=2),
            ResidualBlock(2 * width),
            ResidualBlock(2 * width),
            nn.ConvTranspose2d(2 * width, width, 2, stride=2),
        )
        self.joined = ResidualBlock(width)
        self.density = nn.Conv2d(width, 1, 1)
        self.under_patch = nn.Conv2d(width, width, 1, bias=False)
        self.at_centre = nn.Conv2d(width, width, 1)
        self.correction = nn.Conv2d(width, 1, 1)
        self.rest = nn.Conv2d(width, 1, 1) if future else None
        self.trust = nn.Parameter(torch.ones(())) if guess else None
        # Begin by expecting nothing.
        start_at_zero(self.density, self.correction, *([] if self.rest is None else [self.rest]))
        nn.init.normal_(self.step.weight, std=0.1)
        self.register_buffer("scale", torch.ones(num_steps))
        for axis, label in enumerate(("row", "column")):
            patch, centre = location_weights(geometry, axis, CELL)
            self.register_buffer(f"{label}_patch", patch, persistent=False)
            self.register_buffer(f"{label}_centre", centre, persistent=False)

    def forward(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Judges all locations of N faces.

        Args:
            observation: ``image``, ``lr``, ``action_history`` and ``step``, batched; with lookahead
                also ``ahead``, from :func:`facehall_env.agents.lookahead.look_ahead`, with a guess
                ``by_guess``, from :func:`facehall_env.agents.lookahead.errors_by_guess`.

        Returns:
            Gains, the discounted rest of the return after each, and the gains without the
            correction, all (N, num_locations): shares of the first error, in units of ``scale`` at
            the face's step.
        """
        cells = self.features(observation)
        density = self.density(cells)
        if self.trust is not None:
            density = density + self.trust * self.density_by_guess(observation)
        inside = self.sums(density)
        patch = self.row_patch @ self.under_patch(cells) @ self.column_patch.mT
        centre = self.row_centre @ self.at_centre(cells) @ self.column_centre.mT
        judged = functional.relu(patch + centre)
        gain = inside + self.correction(judged)
        rest = torch.zeros_like(gain) if self.rest is None else self.rest(judged)
        return gain.flatten(1), rest.flatten(1), inside.flatten(1)

    def density_by_guess(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The gain of a patch full of each cell, by the guess, (N, 1, H / 4, W / 4)."""
        gain = observation[BY_GUESS][:, 1:].float()
        share = math.prod(self.geometry.patch_size) / math.prod(self.geometry.image_size)
        unit = self.scale[self.steps_taken(observation)][:, None, None, None]
        return functional.avg_pool2d(gain, CELL) * share / unit

    def sums(self, density: Tensor) -> Tensor:
        """Mean of a map (..., H / 4, W / 4) over each patch; what lies outside counts as zero."""
        sums: Tensor = self.row_patch @ density @ self.column_patch.mT
        return sums

    def features(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The map, (N, width, H / 4, W / 4)."""
        step = self.steps_taken(observation)
        seen = self.stem(self.look(observation)) + self.step(step)[:, :, None, None]
        cells = self.fine(functional.relu(seen + self.position))
        cells = self.joined(cells + self.coarse(cells))
        return functional.relu(cells)

    def look(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The planes that the network sees, (N, PLANES, H, W)."""
        image, low = planes(observation["image"]), planes(observation["lr"])
        first = functional.interpolate(
            low, size=image.shape[-2:], mode="bicubic", align_corners=False
        )
        visits = self.visits(observation["action_history"])
        detail = 10 * gradient_magnitude(image)
        seen = [
            image,
            4 * (image - first),
            detail,
            10 * gradient_magnitude(first),
            detail * (visits == 0),
            (visits == 0).float(),
            visits.clamp_max(MOST_VISITS) / MOST_VISITS,
        ]
        if self.lookahead:
            change = observation[AHEAD].float()
            # The mean of what the truth may be is the best guess of it; an enhancer that gives
            # that mean wins the square of what it changes.
            seen += [10 * change, 10 * change.square().sum(1, keepdim=True).sqrt()]
        if self.guess:
            error, gain = observation[BY_GUESS].float().chunk(2, dim=1)
            unit = self.scale[self.steps_taken(observation)][:, None, None, None]
            seen += [error.clamp_min(0).sqrt(), (gain / (10 * unit)).tanh()]
        return torch.cat(seen, dim=1)

    def visits(self, history: Tensor) -> Tensor:
        """How many patches have covered each pixel, (N, 1, H, W), from actions (N, T), -1 none."""
        number, length = history.shape
        corners = self.geometry.top_left(history.clamp_min(0).reshape(-1))
        masks = []
        for axis, size in enumerate(self.geometry.patch_size):
            pixel = torch.arange(self.geometry.image_size[axis], device=history.device)
            first = corners[:, axis].view(number, length, 1)
            masks.append(((pixel >= first) & (pixel < first + size)).float())
        rows = masks[0] * (history >= 0)[:, :, None]
        return (rows.mT @ masks[1])[:, None]

    def steps_taken(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(N,) int64, the number of patches so far, at most the last step it was trained for."""
        taken = (observation["action_history"] >= 0).sum(1)
        return taken.clamp_max(self.num_steps - 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        start_at_zero(self.second)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        change: Tensor = self.second(functional.relu(self.first(functional.relu(cells))))
        return cells + change


@torch.no_grad()
def remember_guess(
    guess: Enhancer, observation: Mapping[str, Tensor], state: AgentState | None
) -> AgentState:
    """The guess of each face, ``guess`` (N, 3, H, W) in [0, 1], made anew where an episode begins.

    The observation has ``lr`` and ``step`` of N faces; ``state`` is what this function returned at
    the step before, None at first.
    """
    begins = observation["step"].flatten() == 0
    if state is not None and not bool(begins.any()):
        return state
    rows = torch.ones_like(begins) if state is None else begins
    low = _unit_range(observation["lr"][rows])
    size = [side * guess.scale for side in low.shape[-2:]]
    # With antialias=True torch's kernel is that of the protocols, without it another one.
    initial = functional.interpolate(low, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    made: Tensor = guess.whole_face()(initial).clamp(0, 1)
    if state is None:
        return {"guess": made}
    kept = state["guess"].clone()
    kept[rows] = made
    return {"guess": kept}


@torch.no_grad()
def look_closer(
    core: HallucinationCore,
    network: GainNetwork,
    observation: dict[str, Tensor],
    guess: Tensor | None,
) -> None:
    """Adds to an observation what the network looks at besides."""
    if network.lookahead:
        observation[AHEAD] = look_ahead(core, observation["image"])
    if guess is not None:
        image, low = _unit_range(observation["image"]), _unit_range(observation["lr"])
        observation[BY_GUESS] = errors_by_guess(image, observation[AHEAD], low, guess)


def _unit_range(pixels: Tensor) -> Tensor:
    """8-bit pixels (N, H, W, 3) as faces (N, 3, H, W) in [0, 1]."""
    return planes(pixels) + 0.5
