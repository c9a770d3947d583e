"""What a dataset of faces is, and the registry of those known by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor

from facehall_env.data.images import ImageArray
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Split as Split


class FaceDataset(ABC):
    """Faces by number; every one has the same size and is the same each time it is asked for.

    A subclass sets the three attributes and implements ``__len__``, ``__getitem__`` and `key`.

    Attributes:
        name: Its name in the registry.
        split: ``"train"``, ``"test"`` or ``"all"``.
        image_size: Rows and columns of every image.
    """

    name: str
    split: Split
    image_size: tuple[int, int]

    @abstractmethod
    def __len__(self) -> int:
        """How many faces there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> ImageArray:
        """Face number ``index``, uint8 (H, W, 3), RGB.

        Raises:
            IndexError: If there is no such face.
        """

    @abstractmethod
    def key(self, index: int) -> str:
        """A name for face number ``index`` that stays the same across splits and machines."""

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The faces of these numbers, at least one: uint8 (N, 3, H, W) on the CPU."""
        images = np.stack([self[int(index)] for index in indices])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def checked(self, index: int) -> int:
        """``index`` as a number from 0 on; negative ones count from the end.

        Raises:
            IndexError: If there is no such face.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} ({self.split}) has {len(self)} faces, got index {index}")
        return int(index) % len(self)

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<{self.name} {self.split}: {len(self)} faces of {height}x{width}>"


class Identified(ABC):
    """Mixed into a dataset that knows who is on its images.

    Attributes:
        people: Sorted names of all people in the split; empty if the dataset came without them.
    """

    people: tuple[str, ...]

    @abstractmethod
    def identity(self, index: int) -> str:
        """Who is on face number ``index``: one of `people`.

        Raises:
            IndexError: If there is no such face.
            DatasetError: If the dataset came without identities.
        """


class Attributed(ABC):
    """Mixed into a dataset that knows what its faces look like: who smiles, who wears glasses."""

    @property
    @abstractmethod
    def attribute_names(self) -> tuple[str, ...]:
        """The names of the attributes, the same in all splits.

        Raises:
            DatasetError: If the dataset came without them.
        """

    @abstractmethod
    def attributes(self, index: int) -> dict[str, bool]:
        """Which of `attribute_names` face number ``index`` has, in their order.

        Raises:
            IndexError: If there is no such face.
            DatasetError: If the dataset came without attributes.
        """


def check_split(split: str) -> Split:
    """The split itself, if there is one of that name.

    Raises:
        ConfigurationError: Otherwise.
    """
    if split not in get_args(Split):
        known = ", ".join(get_args(Split))
        raise ConfigurationError(f"Unknown split {split!r}: use one of {known}.")
    return cast(Split, split)
