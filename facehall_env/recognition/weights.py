"""Recognisers on disk: ours with the configuration inside, and state dictionaries of others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from facehall_env import checkpoints
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.recognition.base import Recogniser
from facehall_env.recognition.catalog import RECOGNISERS

KIND, COGNITION_KIND = "recogniser", "cognition"
"""What our files hold: a recogniser alone, or with the angular head it was trained with."""
PREFIX = "recogniser"
"""Prefix of the network's tensors in a file that also holds a head."""


def make(name: str, **config: Any) -> Recogniser:
    """An untrained recogniser by name, with its settings.

    Raises:
        UnknownNameError: If nothing is registered under ``name``.
        ConfigurationError: If the recogniser does not have one of the settings.

    >>> make("sphereface", width=4, pooling="gap").embedding_size
    32
    """
    try:
        return RECOGNISERS.get(name)(**config)
    except TypeError as error:
        raise ConfigurationError(
            f"The recogniser {name!r} cannot be built from {config} ({error}): see its docstring "
            "for its settings."
        ) from error


def load(name: str, weights: str | os.PathLike[str], **config: Any) -> Recogniser:
    """A trained recogniser, frozen: gradients flow through it to the faces, not to its weights.

    Args:
        name: One of :func:`facehall_env.recognition.available`.
        weights: A file of :func:`save`, of a cognition network, or the state dictionary of
            others, ``.safetensors`` or ``.pth``, with just the names and shapes of this network.
        **config: Settings of the recogniser; those stored in a file of ours are the default.

    Raises:
        UnknownNameError: If nothing is registered under ``name``.
        ConfigurationError: If the recogniser does not have one of the settings.
        WeightsError: If the file is missing, damaged, or made for another network.
    """
    path = Path(weights)
    kind = checkpoints.kind_of(path)
    if kind is None:
        recogniser = make(name, **config)
        tensors = checkpoints.load_state(path, f"the weights of the recogniser {name!r}")
        tensors = {k: t for k, t in tensors.items() if not k.startswith(recogniser.classifier)}
        return _filled(recogniser, tensors, path)
    if kind == COGNITION_KIND:
        tensors, metadata = checkpoints.load_tensors(path, kind)
        tensors, metadata = checkpoints.under_prefix(PREFIX, tensors), metadata[PREFIX]
    else:
        tensors, metadata = checkpoints.load_tensors(path, KIND)
    if metadata["name"] != name:
        raise WeightsError(
            f"{path} holds the recogniser {metadata['name']!r}, expected {name!r}: give the "
            "weights of that one, or ask for what the file holds."
        )
    return restored({**metadata, "config": {**metadata["config"], **config}}, tensors, path)


def save(
    recogniser: Recogniser,
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes a registered recogniser's weights, whole or not at all, with all that builds it again.

    ``provenance``, JSON-serialisable, says how it was trained; by default its own is kept.
    """
    described = describe(recogniser)
    if provenance is not None:
        described["provenance"] = dict(provenance)
    checkpoints.save_tensors(path, recogniser.state_dict(), described, kind=KIND)


def describe(recogniser: Recogniser) -> dict[str, Any]:
    """What builds a recogniser again, JSON-serialisable; see :func:`restored`."""
    return {name: getattr(recogniser, name) for name in ("name", "config", "provenance")}


def restored(
    description: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> Recogniser:
    """The recogniser that :func:`describe` describes, with its weights from a file, frozen."""
    recogniser = make(description["name"], **description["config"])
    recogniser.provenance = dict(description["provenance"])
    return _filled(recogniser, tensors, path)


def _filled(
    recogniser: Recogniser, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> Recogniser:
    checkpoints.fill(recogniser, tensors, f"{path} for the recogniser {recogniser.name!r}")
    return recogniser.requires_grad_(False).eval()
