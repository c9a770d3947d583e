"""Enhancers on disk: safetensors with the configuration and provenance inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facehall_env.checkpoints import fill, load_tensors, save_tensors
from facehall_env.enhancers.base import Enhancer
from facehall_env.enhancers.catalog import ENHANCERS
from facehall_env.errors import ConfigurationError, FacehallError, WeightsError

SHIPPED = Path(__file__).parent / "weights"


def make(
    name: str,
    scale: int = 4,
    weights: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    **config: Any,
) -> Enhancer:
    """Builds an enhancer by name, as ``gym.make`` builds an environment.

    Args:
        name: One of :func:`facehall_env.enhancers.available`.
        scale: Factor between low and high resolution.
        weights: A file written by :func:`save`, ``"auto"`` for those that come with the project
            for ``dataset`` and ``scale``, or None for an untrained network.
        dataset: What ``"auto"`` should be trained on; photographs (``"lfw"``) if there are none
            for this one.
        **config: Settings of that enhancer; those stored in the weights are the default.

    Raises:
        UnknownNameError: If nothing is registered under ``name``.
        ConfigurationError: If the enhancer does not have one of the settings.
        WeightsError: If the weights are missing, damaged, or made for something else.

    >>> make("bicubic", scale=8).patch_size
    (60, 45)
    """
    factory = ENHANCERS.get(name)
    if weights is None or getattr(factory, "weightless", False):
        return _build(name, scale, config)
    path = shipped(name, scale, dataset) if weights == "auto" else Path(weights)
    return _load(path, name, scale, config)


def save(
    enhancer: Enhancer,
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Writes an enhancer's weights with all that is needed to build it again.

    Args:
        enhancer: Any registered enhancer.
        path: File to write, whole or not at all.
        provenance: How it was trained: command, dataset, protocol, versions. JSON-serialisable.
        half: Write 16 bits of each weight, which loading makes 32 again.
    """
    metadata = {
        **describe(enhancer),
        "provenance": dict(provenance if provenance is not None else enhancer.provenance),
    }
    tensors = enhancer.state_dict()
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    save_tensors(path, tensors, metadata, kind="enhancer")


def describe(enhancer: Enhancer) -> dict[str, Any]:
    """What builds an enhancer again, JSON-serialisable; see :func:`build`."""
    return {"name": enhancer.name, "scale": enhancer.scale, "config": enhancer.config}


def build(description: Mapping[str, Any]) -> Enhancer:
    """An untrained enhancer as :func:`describe` describes it.

    Raises:
        UnknownNameError: If nothing is registered under its name.
        ConfigurationError: If the enhancer does not have one of its settings.
    """
    return _build(description["name"], description["scale"], description["config"])


def load(path: str | os.PathLike[str]) -> Enhancer:
    """Builds the enhancer that a file describes, with its weights.

    Raises:
        WeightsError: If the file is missing, damaged, or holds something else.
    """
    return _load(Path(path), None, None, {})


def shipped(name: str, scale: int, dataset: str | None = None, protocol: str = "bicubic") -> Path:
    """Path of the weights that come with the project.

    Args:
        name: The enhancer.
        scale: Factor between low and high resolution.
        dataset: What they should be trained on; photographs (``"lfw"``) if there are none for it.
        protocol: How its low resolution should be made; as in ``"bicubic"`` if there are none for
            this one.

    Raises:
        WeightsError: If there are none for this name and scale.
    """
    for trained_on in dict.fromkeys((dataset or "lfw", "lfw", "synthetic")):
        for made_by in (f"-{protocol}", ""):
            path = SHIPPED / f"{name}-{trained_on}{made_by}-x{scale}.safetensors"
            if path.is_file():
                return path
    factory = ENHANCERS.get(name)
    command = getattr(factory, "trained_by", Enhancer.trained_by).format(name=name)
    present = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none"
    raise WeightsError(
        f"No weights for {name!r} at {scale}x come with the project (there are: {present}): train "
        f"some with `facehall train {command} --scale {scale}` and give their path, or give "
        "weights=None for an untrained network."
    )


def _build(name: str, scale: int, config: Mapping[str, Any]) -> Enhancer:
    try:
        return ENHANCERS.get(name)(scale=scale, **config)
    except FacehallError:
        raise
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ConfigurationError(
            f"The enhancer {name!r} cannot be built from {dict(config)} ({error}): see its "
            "docstring for its settings."
        ) from error


def _load(path: Path, name: str | None, scale: int | None, config: Mapping[str, Any]) -> Enhancer:
    tensors, metadata = load_tensors(path, kind="enhancer")
    for setting, wanted in (("name", name), ("scale", scale)):
        if wanted is not None and metadata[setting] != wanted:
            raise WeightsError(
                f"{path} holds an enhancer with {setting} {metadata[setting]!r}, expected "
                f"{wanted!r}: give the weights of that one, or ask for what the file holds."
            )
    enhancer = build({**metadata, "config": {**metadata["config"], **config}})
    fill(enhancer, tensors, f"{path} for the enhancer {metadata['name']!r} with {enhancer.config}")
    enhancer.provenance = metadata["provenance"]
    return enhancer.eval()
