"""Faces for training: decoded once, drawn in an order that a checkpoint can restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from facehall_env.data import Faces, Protocol
from facehall_env.data.base import FaceDataset
from facehall_env.data.faces import identity_numbers
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress as progress_bar
from facehall_env.spec import FacesSpec
from facehall_env.training.settings import HeldOutConfig

Pool = TypeVar("Pool", bound="FacePool")
CHUNK = 64


class FacePool:
    """A training set in memory, its last faces held out to watch the progress.

    The held-out faces come from the same split, so that the test split is never looked at. Faces
    say who is on them, where the dataset knows.

    Args:
        held_out: Number of faces to hold out; spread over the last tenth of the pool.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        protocol: Protocol,
        scale: int,
        held_out: int,
        limit: int | None = None,
        progress: bool = True,
    ) -> None:
        number = min(len(dataset), limit or len(dataset))
        if held_out < 1 or number < 2 * held_out:
            raise ConfigurationError(
                f"{number} faces cannot give {held_out} held-out ones and as many to train on: "
                "lower validation_faces or use a larger dataset."
            )
        self.protocol = protocol
        self.scale = scale
        self.images = decode(dataset, range(number), progress)
        self.identity = identity_numbers(dataset, range(number))
        self.num_training = number - held_out

    @classmethod
    def open(
        cls: type[Pool],
        faces: FacesSpec,
        config: HeldOutConfig,
        progress: bool = True,
        dataset: FaceDataset | None = None,
        **options: Any,
    ) -> Pool:
        """The training split of the faces that settings name; ``options`` go to the class."""
        source, held_out = dataset or faces.open("train"), config.validation_faces
        degradation, limit = faces.degradation, config.limit
        return cls(source, degradation, faces.scale, held_out, limit, progress, **options)

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """(number,) int64, training faces drawn with replacement."""
        return torch.randint(self.num_training, (number,), generator=generator)

    def faces(self, index: Tensor, flip: Tensor | None = None) -> Faces:
        """The faces at ``index``, degraded; mirrored where ``flip`` (N,) bool says so."""
        hr = self.images[index]
        if flip is not None:
            hr = torch.where(flip[:, None, None, None], hr.flip(3), hr)
        return self._degraded(hr, index)

    def held_out(self) -> Faces:
        """The faces that are never drawn."""
        last = slice(self.num_training, None)
        return self._degraded(self.images[last], last)

    def _degraded(self, hr: Tensor, index: Tensor | slice) -> Faces:
        faces = self.protocol.degrade(hr, self.scale)
        return faces if self.identity is None else faces._replace(identity=self.identity[index])


def decode(dataset: FaceDataset, indices: Sequence[int], progress: bool = True) -> Tensor:
    """Faces read into memory, as uint8 (N, 3, H, W) on the CPU."""
    starts, title = range(0, len(indices), CHUNK), f"reading {dataset.name}"
    bar = progress_bar(starts, desc=title, unit_scale=CHUNK, leave=False, disable=not progress)
    height, width = dataset.image_size
    images = torch.empty(len(indices), 3, height, width, dtype=torch.uint8)
    for first in bar:
        chunk = indices[first : first + CHUNK]
        images[first : first + len(chunk)] = dataset.batch(chunk)
    return images
