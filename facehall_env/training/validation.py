"""Held-out faces as a network of whole faces restores them: scores and a sheet of samples."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from facehall_env.data import Faces
from facehall_env.files import atomic_path
from facehall_env.observations import to_uint8
from facehall_env.rendering import Panel, Picture, side_by_side

SAMPLES = 6
"""Number of held-out faces in a sheet."""


class Validation(NamedTuple):
    """Restored held-out faces.

    Attributes:
        scores: Means: ``psnr/initial`` and ``psnr/held_out`` in dB, ``ssim/held_out``.
        faces: The held-out faces, N of them.
        restored: (N, 3, H, W) in [0, 1].
        psnr: (N,), the PSNR of each restored face in dB.
    """

    scores: dict[str, float]
    faces: Faces
    restored: Tensor
    psnr: Tensor

    def picture(self, number: int = SAMPLES) -> Picture:
        """A sheet of the first ``number`` faces: rows of inputs, restored faces and truths."""
        rows = {"input": self.faces.initial, "restored": self.restored, "truth": self.faces.hr}
        sheet = []
        for title, images in rows.items():
            pictures = list(to_uint8(images[:number]).cpu().numpy())
            titles = [title] + [""] * (len(pictures) - 1)
            decibels = self.psnr.tolist() if title == "restored" else []
            footers = [f"{value:.2f} dB" for value in decibels] or [""] * len(pictures)
            panels = zip(pictures, titles, footers[: len(pictures)], strict=True)
            sheet.append(side_by_side([Panel(*panel) for panel in panels]))
        return np.concatenate(sheet)

    def write(self, directory: Path, step: int) -> None:
        """Writes the sheet to ``samples/STEP.png`` in the folder of a run."""
        with atomic_path(directory / "samples" / f"{step:07d}.png") as temporary:
            Image.fromarray(self.picture()).save(temporary, format="PNG")
