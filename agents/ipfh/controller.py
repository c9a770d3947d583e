"""The policy controller of IPFH (section III-B2 and Fig. 3): where to look, from what was done."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.agents.base import AgentState
from facehall_env.agents.reinforce.policies import POLICIES, Judged, Policy, Seen, planes
from facehall_env.patches import PatchGeometry

CELLS = 4
"""Cells a side of the maps that become vectors; the paper's encoders go down to 4x4, too."""


class StridedBlock(nn.Module):
    """A residual block that halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h / 2, w / 2), rounded up."""
        hidden = functional.relu(self.first(features))
        # Means instead of every other pixel: nothing is lost, and the backward pass of a narrow
        # 1x1 convolution with a stride crashes in torch 2.13 on some processors.
        halved = functional.avg_pool2d(features, 2, ceil_mode=True)
        return functional.relu(self.shortcut(halved) + self.second(hidden))


class OneHotLinear(nn.Module):
    """A linear layer on a one-hot vector: one row of its matrix, gathered.

    The paper's action vector has as many entries as there are locations, one of them 1.
    """

    def __init__(self, locations: int, outputs: int) -> None:
        super().__init__()
        # One row is all that is ever seen: with a linear layer's weights, which are the smaller
        # the longer the vector is, it would vanish.
        self.weight = nn.Parameter(torch.randn(locations, outputs) / outputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, index: Tensor) -> Tensor:
        """(N,) int64 to (N, outputs); -1 stands for a vector of zeros."""
        row = functional.embedding(index.clamp_min(0), self.weight)
        return row.where(index[:, None] >= 0, 0.0) + self.bias


class Controller(Policy):
    """The policy controller of IPFH (section III-B2 and Fig. 3), for the same actions.

    The current face goes through residual blocks to the holistic feature (512). The patch that
    was restored last goes through convolutions, its location as a one-hot vector through a linear
    layer; side by side they are the context feature (256). Both features together go through one
    fully-connected layer to one logit per location. It remembers nothing but what the state
    s_t = {image, (patch, action)} holds, so the memory is handed back as it came.

    The paper leaves the widths open. Here the blocks take a 128x128 face down to 4x4 cells, as
    its coarse hallucinator does, and these are not averaged: where something is decides.

    Args:
        hidden: Numbers in both features together: the context's are a third.
        width: Channels of the first layer; the last has four times as many.
    """

    name = "ipfh"
    observation_keys = ("image", "last_patch", "action_history", "step")
    learning_rate = 5e-4

    def __init__(
        self, geometry: PatchGeometry, num_steps: int = 20, hidden: int = 768, width: int = 32
    ) -> None:
        super().__init__(geometry, num_steps, hidden, width=width)
        context = hidden // 3
        self.encode_image = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=4, padding=3),
            nn.ReLU(),
            StridedBlock(width, 2 * width),
            StridedBlock(2 * width, 4 * width),
            StridedBlock(4 * width, 4 * width),
            _vector(4 * width, hidden - context),
        )
        self.encode_patch = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            _vector(2 * width, context - context // 2),
        )
        self.encode_action = OneHotLinear(geometry.num_locations, context // 2)
        self.locations = nn.Linear(hidden, geometry.num_locations)
        with torch.no_grad():  # begin close to the uniform policy
            self.locations.weight.mul_(0.1)
            self.locations.bias.zero_()

    def forward(self, observation: Seen, memory: AgentState | None = None) -> Judged:
        """See :meth:`Policy.forward`."""
        holistic = self.encode_image(planes(observation["image"]))
        patch = self.encode_patch(planes(observation["last_patch"]))
        action = self.encode_action(last_action(observation["action_history"]))
        features = functional.relu(torch.cat((holistic, patch, action), dim=1))
        value = self.value(features, observation["step"])
        return self.locations(features), value, dict(memory or {})


def last_action(history: Tensor) -> Tensor:
    """The last of the actions so far, (N, T) with -1 for those to come, to (N,) int64.

    >>> last_action(torch.tensor([[5, 3, -1], [-1, -1, -1], [1, 2, 0]])).tolist()
    [3, -1, 0]
    """
    history = history.long()
    taken = (history >= 0).sum(1, keepdim=True)
    last: Tensor = history.gather(1, (taken - 1).clamp_min(0))[:, 0]
    return last  # of none taken, the first entry is -1


def _vector(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(CELLS), nn.Flatten(), nn.Linear(channels * CELLS**2, outputs)
    )


POLICIES[Controller.name] = Controller
