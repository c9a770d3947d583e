"""Invented faces: endless, free to use, and there without any download."""

from __future__ import annotations

import numpy as np

from facehall_env.data import portrait
from facehall_env.data.base import DATASETS, FaceDataset, check_split
from facehall_env.data.images import ImageArray

_LENGTHS = {"train": 100_000, "test": 10_000}
_STREAMS = {"train": 0, "test": 1}


@DATASETS.register("synthetic")
class SyntheticFaces(FaceDataset):
    """Faces drawn by the computer, 128x128 RGB, varied in pose, light, skin, hair and expression.

    Each face depends on the seed, the split and its number alone: it is the same on every call,
    in every process and whatever was drawn before. No two splits or seeds share a face.

    Args:
        split: ``"train"`` (100,000 faces), ``"test"`` (10,000) or ``"all"`` (both, train first).
        seed: Another seed gives another population.

    Example:
        >>> faces = SyntheticFaces("test")
        >>> len(faces), faces.key(3)
        (10000, 'test/00003')
    """

    def __init__(self, split: str = "train", seed: int = 0) -> None:
        self.name = "synthetic"
        self.split = check_split(split)
        self.image_size = (portrait.SIZE, portrait.SIZE)
        self.seed = seed

    def __len__(self) -> int:
        if self.split == "all":
            return sum(_LENGTHS.values())
        return _LENGTHS[self.split]

    def __getitem__(self, index: int) -> ImageArray:
        split, number = self._place(index)
        return portrait.draw(np.random.default_rng([self.seed, _STREAMS[split], number]))

    def key(self, index: int) -> str:
        """Split and number in it, as ``test/00003``."""
        split, number = self._place(index)
        return f"{split}/{number:05d}"

    def _place(self, index: int) -> tuple[str, int]:
        index = self.checked(index)
        if self.split != "all":
            return self.split, index
        if index < _LENGTHS["train"]:
            return "train", index
        return "test", index - _LENGTHS["train"]
