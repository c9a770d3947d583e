"""Windows of training faces: cut out near the middle of images that show more than the face."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facehall_env.data import Faces
from facehall_env.errors import ConfigurationError
from facehall_env.training.face_pool import FacePool


class WindowPool(FacePool):
    """A training set whose faces are seen through windows.

    Without a window, faces are seen whole.

    Args:
        *args: As for `FacePool`.
        window: Side of the square windows in pixels; None for whole faces.
        shift: By how many pixels up, down, left or right of the middle they lie at most. Those of
            held-out faces lie in the middle; of an odd remainder the larger part is dropped below
            and at the right.
        **settings: As for `FacePool`.

    Raises:
        ConfigurationError: If a window may reach over the edge, or there is a shift without one.
    """

    def __init__(
        self, *args: Any, window: int | None = None, shift: int = 0, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        height, width = self.images.shape[-2:]
        self.size = (height, width) if window is None else (window, window)
        self.shift = shift
        self.middle = ((height - self.size[0]) // 2, (width - self.size[1]) // 2)
        if min(self.middle) < shift:
            raise ConfigurationError(
                f"window={window} moved by up to shift={shift} pixels reaches over faces of "
                f"{height}x{width}: make the dataset's faces larger (dataset_settings size=...) or "
                "one of the two smaller."
            )

    def draw_corners(self, number: int, generator: torch.Generator) -> Tensor:
        """First pixels (y, x) of so many windows, (number, 2) int64.

        The generator is left alone where there is nothing to draw.
        """
        corners = torch.tensor(self.middle).expand(number, 2)
        if not self.shift:
            return corners
        moved = torch.randint(-self.shift, self.shift + 1, (number, 2), generator=generator)
        return corners + moved

    def windows(self, index: Tensor, corners: Tensor | None = None) -> Tensor:
        """What is seen of the faces at ``index``.

        Args:
            index: (N,) int64.
            corners: (N, 2) int64, first pixels of the windows; in the middle by default.

        Returns:
            uint8 (N, 3, h, w) on the CPU.
        """
        if corners is None:
            corners = torch.tensor(self.middle).expand(len(index), 2)
        rows, columns = self.size
        return torch.stack(
            [
                self.images[number, :, y : y + rows, x : x + columns]
                for number, (y, x) in zip(index.tolist(), corners.tolist(), strict=True)
            ]
        )

    def held_out(self) -> Faces:
        """The faces that are never drawn."""
        index = torch.arange(self.num_training, len(self.images))
        return self._degraded(self.windows(index), index)
