"""What the environment receives of a dataset: truth, low resolution and starting image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Faces(NamedTuple):
    """A batch of faces as an episode starts with them.

    All three are float32 in [0, 1].

    Attributes:
        hr: The truth, (N, 3, H, W).
        lr: The truth made small by the protocol, (N, 3, H / scale, W / scale).
        initial: ``lr`` made large again by the protocol, (N, 3, H, W): I_0 of the paper.

    Example:
        >>> faces = Faces(torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 8, 8))
        >>> faces.rows(torch.tensor([0, 2])).lr.shape
        torch.Size([2, 3, 2, 2])
    """

    hr: Tensor
    lr: Tensor
    initial: Tensor

    def to(self, device: torch.device | str) -> Faces:
        """The same faces on ``device``."""
        return Faces(*(tensor.to(device) for tensor in self))

    def rows(self, index: Tensor | slice) -> Faces:
        """The faces at ``index``: int64 indices, a boolean mask of (N,), or a slice."""
        return Faces(*(tensor[index] for tensor in self))
