"""What the environment receives of a dataset: truth, low resolution and starting image."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facehall_env.data.base import FaceDataset, Identified

UNKNOWN = -1
"""In place of the number of a person whom nobody knows."""


class Faces(NamedTuple):
    """A batch of faces as an episode starts with them.

    The first three are images, float32 in [0, 1].

    Attributes:
        hr: The truth, (N, 3, H, W).
        lr: The truth downsampled by the protocol, (N, 3, H / scale, W / scale).
        initial: ``lr`` upsampled again by the protocol, (N, 3, H, W): I_0 of the paper.
        identity: Who is on them, (N,) int64: places in the dataset's `people`, -1 where unknown;
            None if the dataset does not know.

    Example:
        >>> faces = Faces(torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 8, 8))
        >>> faces.rows(torch.tensor([0, 2])).lr.shape
        torch.Size([2, 3, 2, 2])
    """

    hr: Tensor
    lr: Tensor
    initial: Tensor
    identity: Tensor | None = None

    def to(self, device: torch.device | str) -> Faces:
        """The same faces on ``device``."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, index: Tensor | slice) -> Faces:
        """The faces at ``index``: int64 indices, a boolean mask of (N,), or a slice."""
        return self._each(lambda tensor: tensor[index])

    def _each(self, function: Callable[[Tensor], Tensor]) -> Faces:
        hr, lr, initial = (function(image) for image in self[:3])
        return Faces(hr, lr, initial, None if self.identity is None else function(self.identity))


def identity_numbers(dataset: FaceDataset, indices: Sequence[int]) -> Tensor | None:
    """Who is on some faces of any dataset.

    Returns:
        (N,) int64, places in the dataset's sorted `people`; None if it is not `Identified` or came
        without identities.
    """
    if not isinstance(dataset, Identified) or not dataset.people:
        return None
    people = dataset.people
    numbers = [bisect_left(people, dataset.identity(number)) for number in indices]
    return torch.tensor(numbers, dtype=torch.int64)
