"""The cognition network: a recogniser and the people it was trained to tell apart.

Section III-F of the IPFH paper: how much of a person survives a restoration, as a distance of
features (eq. 13) and as the loss of a classification (eq. 14).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facehall_env.checkpoints import fill, load_tensors, save_tensors, under_prefix, with_prefix
from facehall_env.errors import ConfigurationError
from facehall_env.recognition.angular import AngularSoftmax
from facehall_env.recognition.base import Recogniser
from facehall_env.recognition.weights import COGNITION_KIND, PREFIX, describe, restored

UNKNOWN = -1
"""Class number of a person who was not in the training."""


class Cognition(nn.Module):
    """A recogniser, and the head that tells people apart by its embeddings.

    Args:
        recogniser: Any.
        head: The angular softmax that it was trained with, or None: there is no identity loss then.
        people: Names of the head's classes, in their order.

    Raises:
        ConfigurationError: If recogniser, head and names do not fit each other.
    """

    def __init__(
        self, recogniser: Recogniser, head: AngularSoftmax | None = None, people: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if head is not None and head.embedding_size != recogniser.embedding_size:
            raise ConfigurationError(
                f"The recogniser {recogniser.name!r} has embeddings of {recogniser.embedding_size} "
                f"values, the angular softmax takes {head.embedding_size}: give the two that were "
                "trained together."
            )
        classes = 0 if head is None else head.classes
        if len(people) != classes:
            raise ConfigurationError(
                f"The angular softmax has {classes} classes, but there are {len(people)} names: "
                "give each class one."
            )
        self.recogniser = recogniser
        self.head = head
        self.people = tuple(people)
        self.provenance: dict[str, Any] = {}
        self._number = {person: number for number, person in enumerate(self.people)}

    def labels(self, people: Sequence[str]) -> Tensor:
        """Class numbers of people by their names, (N,) int64; -1 for those it does not know."""
        return torch.tensor([self._number.get(person, UNKNOWN) for person in people])

    def feature_loss(self, face: Tensor, truth: Tensor) -> Tensor:
        """Squared Euclidean distance (N,) between the embeddings of two faces (eq. 13).

        Differentiable in ``face``, (N, 3, H, W) in [0, 1], but not in ``truth`` of the same shape.
        """
        with torch.no_grad():
            wanted = self.recogniser.embed(truth)
        return (self.recogniser.embed(face) - wanted).square().sum(1)

    def identity_loss(self, face: Tensor, label: Tensor) -> Tensor:
        """A-softmax loss (N,) of the person on each face, with the full margin (eq. 14).

        Differentiable in ``face``, (N, 3, H, W) in [0, 1]; ``label``, (N,) int64, is as of
        :meth:`labels`.

        Raises:
            ConfigurationError: If there is no head, or a person whom it does not know.
        """
        return self._trained_head().losses(self.recogniser.embed(face), label)

    def classify(self, face: Tensor) -> Tensor:
        """Class number of the person whom each face (N, 3, H, W) in [0, 1] is closest to, (N,).

        Raises:
            ConfigurationError: If there is no head.
        """
        return self._trained_head().logits(self.recogniser.embed(face)).argmax(1)

    def _trained_head(self) -> AngularSoftmax:
        if self.head is None:
            raise ConfigurationError(
                f"The recogniser {self.recogniser.name!r} comes without the people it was trained "
                "with, which an identity loss needs: give a network of `facehall train cognition`."
            )
        return self.head


def save_cognition(
    cognition: Cognition, path: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None
) -> None:
    """Writes recogniser, head and the people's names into one file, whole or not at all.

    ``provenance``, JSON-serialisable, says how it was trained; by default its own is kept.

    Raises:
        ConfigurationError: If there is no head.
    """
    head = cognition._trained_head()
    tensors = with_prefix(PREFIX, cognition.recogniser.state_dict())
    tensors |= with_prefix("head", head.state_dict())
    metadata = {
        PREFIX: describe(cognition.recogniser),
        "margin": head.margin,
        "people": cognition.people,
        "provenance": dict(cognition.provenance if provenance is None else provenance),
    }
    save_tensors(path, tensors, metadata, kind=COGNITION_KIND)


def load_cognition(path: str | os.PathLike[str]) -> Cognition:
    """What :func:`save_cognition` wrote, frozen: gradients flow through it to the faces.

    Raises:
        WeightsError: If the file is missing, damaged, or holds something else.
    """
    tensors, metadata = load_tensors(Path(path), kind=COGNITION_KIND)
    recogniser = restored(metadata[PREFIX], under_prefix(PREFIX, tensors), path)
    people = metadata["people"]
    head = AngularSoftmax(recogniser.embedding_size, len(people), margin=metadata["margin"])
    fill(head, under_prefix("head", tensors), f"{path} for its angular softmax")
    cognition = Cognition(recogniser, head, people)
    cognition.provenance = metadata["provenance"]
    return cognition.requires_grad_(False).eval()
