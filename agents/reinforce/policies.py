"""The networks behind :class:`~facehall_env.agents.reinforce.agent.ReinforceAgent`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.agents.base import AgentState
from facehall_env.agents.fixed.saliency import gradient_magnitude
from facehall_env.errors import ConfigurationError
from facehall_env.patches import PatchGeometry
from facehall_env.registry import unknown_name

Seen = Mapping[str, Tensor]
Judged = tuple[Tensor, Tensor, AgentState]


class Policy(nn.Module, ABC):
    """A policy with a value head, most often recurrent, over the locations of one geometry.

    Args:
        geometry: The locations it chooses among.
        num_steps: Length of the episodes it is trained on.
        hidden: Units of its LSTM, or numbers in whatever its value head sees.
        config: Keywords that build the same network again.
    """

    name = "policy"
    observation_keys: tuple[str, ...] = ("image", "last_action", "step")
    learning_rate = 2e-4
    """Learning rate that suits the architecture, where none is asked for."""

    def __init__(self, geometry: PatchGeometry, num_steps: int, hidden: int, **config: Any) -> None:
        super().__init__()
        self.geometry = geometry
        self.num_steps = num_steps
        self.hidden = hidden
        self.config: dict[str, Any] = {"num_steps": num_steps, "hidden": hidden, **config}
        self.value_head = nn.Sequential(nn.Linear(hidden + 1, 64), nn.ReLU(), nn.Linear(64, 1))

    @abstractmethod
    def forward(self, observation: Seen, memory: AgentState | None = None) -> Judged:
        """One step for N faces.

        Args:
            observation: Batched entries of :attr:`observation_keys`.
            memory: What the previous step returned; None at the start.

        Returns:
            Logits (N, num_locations), the expected return (N,), and the memory for the next step.
        """

    def policy_parameters(self) -> list[nn.Parameter]:
        """All parameters but the value head's."""
        return [p for name, p in self.named_parameters() if not name.startswith("value_head.")]

    def recall(self, observation: Mapping[str, Tensor], memory: AgentState | None) -> AgentState:
        """The LSTM's state before this step, zero in the rows that begin a new episode."""
        step = observation["step"]
        if memory is None:
            zeros = step.new_zeros(len(step), self.hidden)
            return {"hidden": zeros, "cell": zeros}
        goes_on = step.reshape(-1, 1) > 0
        return {key: tensor.where(goes_on, 0.0) for key, tensor in memory.items()}

    def value(self, hidden: Tensor, step: Tensor) -> Tensor:
        """Expected return (N,); nothing flows from it into the rest of the network."""
        expected: Tensor = self.value_head(torch.cat((hidden.detach(), step), dim=1))
        return expected[:, 0]


class FullyConnectedPolicy(Policy):
    """The paper's recurrent policy network (Attention-FH, section 3.1 and Fig. 2).

    The current face goes through one fully-connected layer (256), the last location (y, x) in
    [-1, 1] through another (128); an LSTM (512) takes both; a linear layer gives one logit per
    location. About 23 million parameters for 128x128 faces and every pixel a location.
    """

    name = "fc"

    def __init__(self, geometry: PatchGeometry, num_steps: int = 25, hidden: int = 512) -> None:
        super().__init__(geometry, num_steps, hidden)
        height, width = geometry.image_size
        self.encode_image = nn.Linear(3 * height * width, 256)
        self.encode_action = nn.Linear(2, 128)
        self.lstm = nn.LSTMCell(256 + 128, hidden)
        self.locations = nn.Linear(hidden, geometry.num_locations)

    def forward(self, observation: Seen, memory: AgentState | None = None) -> Judged:
        """See :meth:`Policy.forward`."""
        before = self.recall(observation, memory)
        image = functional.relu(self.encode_image(planes(observation["image"]).flatten(1)))
        action = functional.relu(self.encode_action(observation["last_action"]))
        hidden, cell = self.lstm(
            torch.cat((image, action), dim=1), (before["hidden"], before["cell"])
        )
        value = self.value(hidden, observation["step"])
        return self.locations(hidden), value, {"hidden": hidden, "cell": cell}


class FirstLookPolicy(FullyConnectedPolicy):
    """The ``fc`` policy that sees the face as it was before the first patch ("I_0" of Table 3).

    "Use original LR image as input for policy network instead of image that has been locally
    enhanced at previous steps" (section 4.4). It keeps that face in its memory, so that it plays
    in the same environment as the others. Settings are those of
    :class:`~facehall_env.agents.reinforce.policies.FullyConnectedPolicy`.
    """

    name = "fc-first"

    def forward(self, observation: Seen, memory: AgentState | None = None) -> Judged:
        """See :meth:`Policy.forward`; the memory also holds the first face, (N, H, W, 3)."""
        first = observation["image"]
        rest = None
        if memory is not None:
            goes_on = observation["step"].reshape(-1, 1, 1, 1) > 0
            first = memory["first"].where(goes_on, first)
            rest = {key: tensor for key, tensor in memory.items() if key != "first"}
        logits, value, after = super().forward({**observation, "image": first}, rest)
        return logits, value, {**after, "first": first}


CELL = 8
"""Pixels a side of one cell of the convolutional policy's map."""
SUMMARY = 8 * 4 * 4 + 3
"""Numbers in a summary: 8 channels of 4x4 cells, the last location (y, x) and the step."""


class MapEncoder(nn.Module):
    """Mixin: layers that make of a face a map with one cell per 8x8 pixels, and a summary of it."""

    def _add_encoder(self, image_size: tuple[int, int], width: int) -> None:
        height, width_pixels = image_size
        if height % CELL or width_pixels % CELL:
            raise ConfigurationError(
                f"The conv policy divides the image into cells of {CELL}x{CELL} pixels, got "
                f"{height}x{width_pixels}: use faces whose sides are multiples of {CELL}, or the "
                "fc policy."
            )
        self.stem = nn.Conv2d(6, 24, 4, stride=4)
        self.down = nn.Conv2d(24, width, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(width, height // CELL, width_pixels // CELL))
        self.summarise = nn.Conv2d(width, 8, 1)

    def encode(self, image: Tensor, coverage: Tensor) -> Tensor:
        """The map, not rectified.

        Args:
            image: (N, 3, H, W) in [-0.5, 0.5].
            coverage: (N, 1, H, W), 0.5 where a patch has been, -0.5 elsewhere.

        Returns:
            (N, width, H / 8, W / 8).
        """
        # What a patch can win grows with the blurred edges in it that no patch has covered, which
        # strided convolutions would have to learn to measure from the pixels.
        detail = 10 * gradient_magnitude(image)
        seen = torch.cat((image, coverage, detail, detail * (0.5 - coverage)), dim=1)
        features = functional.relu(self.stem(seen))
        features = functional.relu(self.down(features) + self.position)
        mixed: Tensor = features + self.mix(features)
        return mixed

    def summary(self, cells: Tensor, last_action: Tensor, step: Tensor) -> Tensor:
        """What a memory or a value head needs to know, (N, SUMMARY)."""
        coarse = functional.adaptive_avg_pool2d(self.summarise(functional.relu(cells)), 4)
        return torch.cat((coarse.flatten(1), last_action, step), dim=1)


class LocationJudge(nn.Module):
    """Mixin: layers that judge every location by the map at its centre and below its patch."""

    row_patch: Tensor
    row_centre: Tensor
    column_patch: Tensor
    column_centre: Tensor

    def _add_judge(self, geometry: PatchGeometry, width: int) -> None:
        self.judge_patch = nn.Conv2d(width, width, 1, bias=False)
        self.judge_centre = nn.Conv2d(width, width, 1)
        self.logit = nn.Conv2d(width, 1, 1)
        with torch.no_grad():  # begin close to the uniform policy
            self.logit.weight.mul_(0.1)
            self.logit.bias.zero_()  # type: ignore[union-attr]  # it has one
        for axis, label in enumerate(("row", "column")):
            patch, centre = location_weights(geometry, axis)
            self.register_buffer(f"{label}_patch", patch, persistent=False)
            self.register_buffer(f"{label}_centre", centre, persistent=False)

    def judge(self, cells: Tensor) -> Tensor:
        """Logits (N, num_locations) from the map (N, width, H / 8, W / 8)."""
        # The 1x1 convolutions commute with the weighted means and are cheaper on the map.
        patch = self.row_patch @ self.judge_patch(cells) @ self.column_patch.mT
        centre = self.row_centre @ self.judge_centre(cells) @ self.column_centre.mT
        logits: Tensor = self.logit(functional.relu(patch + centre))
        return logits.flatten(1)


class ConvolutionalPolicy(MapEncoder, LocationJudge, Policy):
    """Spatial logits from a small convolutional encoder, for the same actions.

    The current face, its coverage and its detail become a map with one cell per 8x8 pixels. An
    LSTM reads a coarse summary of it, the last location and the step, and its output is laid back
    over the map. Each location is then judged by the map's mean over exactly the pixels that its
    patch would restore, and by the map at its centre: what is asked is "how much is there to win
    in this rectangle?", so the rectangle is built in, with either border rule and any stride of
    the locations. Some 0.2 M parameters and 7 M multiplications for a 128x128 face at stride 8.

    Args:
        hidden: Units of the LSTM.
        width: Channels of the map.
    """

    name = "conv"
    observation_keys = ("image", "last_action", "step", "coverage")
    learning_rate = 1e-3

    def __init__(
        self, geometry: PatchGeometry, num_steps: int = 25, hidden: int = 128, width: int = 32
    ) -> None:
        super().__init__(geometry, num_steps, hidden, width=width)
        self._add_encoder(geometry.image_size, width)
        self.lstm = nn.LSTMCell(SUMMARY, hidden)
        self.recollection = nn.Linear(hidden, width)
        self._add_judge(geometry, width)

    def forward(self, observation: Seen, memory: AgentState | None = None) -> Judged:
        """See :meth:`Policy.forward`."""
        before = self.recall(observation, memory)
        cells = self.encode(planes(observation["image"]), planes(observation["coverage"]))
        event = self.summary(cells, observation["last_action"], observation["step"])
        hidden, cell = self.lstm(event, (before["hidden"], before["cell"]))
        cells = functional.relu(cells + self.recollection(hidden)[:, :, None, None])
        logits = self.judge(cells)
        value = self.value(hidden, observation["step"])
        return logits, value, {"hidden": hidden, "cell": cell}


def planes(pixels: Tensor) -> Tensor:
    """8-bit pixels (N, H, W, C) as a float image (N, C, H, W) in [-0.5, 0.5]."""
    return pixels.permute(0, 3, 1, 2).float() / 255 - 0.5


def location_weights(geometry: PatchGeometry, axis: int, cell: int = CELL) -> tuple[Tensor, Tensor]:
    """How much each cell of the map counts for each row (or column) of locations.

    A patch is a rectangle, so its mean over the map is a product of one matrix for the rows and
    one for the columns.

    Args:
        geometry: The locations.
        axis: 0 for rows, 1 for columns.
        cell: Pixels a side of one cell of the map.

    Returns:
        Two (locations, cells) matrices: the share of the patch that lies in each cell (what is
        outside the image is missing from the sum), and linear interpolation at its centre.
    """
    count, size = geometry.grid[axis], geometry.patch_size[axis]
    cells = torch.arange(geometry.image_size[axis] // cell)
    actions = torch.arange(count) * (geometry.grid[1] if axis == 0 else 1)
    first = geometry.top_left(actions)[:, axis, None]
    overlap = (first + size).minimum((cells + 1) * cell) - first.maximum(cells * cell)
    patch = overlap.clamp_min(0) / size
    middle = (first + size / 2) / cell - 0.5
    distance = (middle.clamp(0, len(cells) - 1) - cells).abs()
    return patch.float(), (1 - distance).clamp_min(0).float()


POLICIES: dict[str, Callable[..., Policy]] = {
    policy.name: policy for policy in (FullyConnectedPolicy, FirstLookPolicy, ConvolutionalPolicy)
}
"""The networks by name; modules of others add theirs."""
ELSEWHERE = {"ipfh": "facehall_env.agents.ipfh.controller"}
"""Modules that add a network when they are imported, by its name."""


def make_policy(name: str, geometry: PatchGeometry, **config: Any) -> Policy:
    """Builds a policy network by name.

    Args:
        name: ``"fc"``, ``"fc-first"``, ``"conv"`` or ``"ipfh"``.
        geometry: The locations it chooses among.
        **config: Settings of that network.

    Raises:
        UnknownNameError: If there is no such network.
        ConfigurationError: If it does not have one of the settings, or does not fit the images.
    """
    if name not in POLICIES and name in ELSEWHERE:
        import_module(ELSEWHERE[name])
    if name not in POLICIES:
        raise unknown_name("policy", name, {*POLICIES, *ELSEWHERE})
    try:
        return POLICIES[name](geometry, **config)
    except TypeError as error:
        raise ConfigurationError(
            f"The policy {name!r} cannot be built from {config} ({error}): see its docstring for "
            "its settings."
        ) from error
