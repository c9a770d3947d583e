"""One learned sequence of locations for all faces: is the paper's path really personal?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from facehall_env.agents.base import AgentState, Observation
from facehall_env.agents.lookahead import mse_after_each
from facehall_env.agents.oracle import location_grid
from facehall_env.agents.storage import LearnedAgent, check_geometry, load_agent, shipped
from facehall_env.core import HallucinationCore
from facehall_env.data.faces import Faces
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress as progress_bar
from facehall_env.state import SMALLEST_MSE, CoreState


class StaticAgent(LearnedAgent):
    """Plays one fixed sequence of locations, whatever the face.

    The sequence comes from :meth:`fit`, from ``weights``, or is given. It is kept as pixels, so
    it can be played on another grid of locations. After its end it begins again.

    Args:
        centres: (T, 2) int64, (y, x) of the patch centres in order.
        weights: Instead of ``centres``, a file written by :meth:`save`, or ``"auto"`` for the
            sequence that comes with the project for the core's enhancer and scale.
        dataset: What ``"auto"`` should be fitted on.

    Raises:
        ConfigurationError: If neither or both of ``centres`` and ``weights`` are given, or
            ``centres`` is not such a list.
        WeightsError: If the file is missing, damaged, or made for other images or patches.
    """

    name = "static"

    def __init__(
        self,
        core: HallucinationCore,
        centres: Tensor | None = None,
        weights: str | os.PathLike[str] | None = None,
        dataset: str | None = None,
    ) -> None:
        super().__init__(core)
        if (centres is None) == (weights is None):
            raise ConfigurationError(
                "The static agent takes either centres or weights: give its sequence, the path of "
                "a fitted one, or weights='auto'; StaticAgent.fit makes one."
            )
        self.provenance: dict[str, Any] = {}
        if weights is not None:
            path = shipped("static", core, dataset) if weights == "auto" else weights
            tensors, metadata = load_agent(path, "static")
            check_geometry(path, metadata["geometry"], core.geometry, ("image_size", "patch_size"))
            centres, self.provenance = tensors["centres"], metadata["provenance"]
        self.centres = torch.as_tensor(centres, dtype=torch.int64)
        if self.centres.ndim != 2 or self.centres.shape[1] != 2 or len(self.centres) == 0:
            raise ConfigurationError(
                f"centres has the shape {tuple(self.centres.shape)}, expected (T, 2): give one "
                "(y, x) per step."
            )
        self.schedule = torch.tensor(
            [self.geometry.nearest_action(y, x) for y, x in self.centres.tolist()],
            device=self.device,
        )

    def act(
        self, observation: Observation, state: AgentState | None = None, deterministic: bool = True
    ) -> tuple[Tensor, AgentState | None]:
        """Looks up the sequence, (N,) locations; keeps no state."""
        return self.schedule[self.steps_taken(observation) % len(self.schedule)], None

    @classmethod
    def fit(
        cls,
        core: HallucinationCore,
        batches: Iterable[Faces],
        num_steps: int | None = None,
        stride: int = 16,
        chunk: int = 256,
        progress: bool = False,
    ) -> StaticAgent:
        """Chooses the sequence greedily on training faces.

        At each step all locations of a grid are tried on all faces, and the one with the largest
        mean gain in PSNR is played on all of them. The faces stay in memory.

        Args:
            core: The process to fit it for.
            batches: The training faces.
            num_steps: Length of the sequence, at most the core's episode; that by default.
            stride: Spacing of the locations that are tried, in pixels.
            chunk: Most patches to restore at once.
            progress: Whether to show a progress bar.

        Raises:
            ConfigurationError: If there are no faces or ``num_steps`` is out of range.
        """
        length = core.num_steps if num_steps is None else num_steps
        if not 1 <= length <= core.num_steps:
            raise ConfigurationError(
                f"num_steps={length} is out of range: an episode of this core has "
                f"{core.num_steps} steps."
            )
        states = [core.reset(faces) for faces in batches]
        if not states:
            raise ConfigurationError("There are no faces to fit on: give at least one batch.")
        locations = location_grid(core.geometry, stride).to(core.device)
        chosen = []
        for _ in (bar := progress_bar(range(length), desc="static", disable=not progress)):
            best = locations[mean_psnr_after(core, states, locations, chunk).argmax()]
            states = [core.step(state, best.expand(state.num_envs))[0] for state in states]
            chosen.append(core.geometry.centres(best[None])[0].cpu())
            psnr = torch.cat([state.psnr for state in states]).mean()
            bar.set_postfix(psnr=f"{psnr:.3f}")
        return cls(core, torch.stack(chosen))

    def stored(self) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """See :meth:`LearnedAgent.stored`."""
        return {"centres": self.centres}, {}


def mean_psnr_after(
    core: HallucinationCore, states: list[CoreState], locations: Tensor, chunk: int
) -> Tensor:
    """Mean PSNR over all faces after restoring each location, (K,) float64 in dB."""
    total = torch.zeros(len(locations), dtype=torch.float64, device=locations.device)
    for state in states:
        error = mse_after_each(core, state, locations, chunk).clamp_min(SMALLEST_MSE)
        total += (-10 * error.log10()).sum(dim=0)
    return total / sum(state.num_envs for state in states)
