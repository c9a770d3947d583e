"""Agents on disk: what they are made for is stored with them and checked on loading."""

from __future__ import annotations

import json
import os
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from facehall_env.agents.base import Agent
from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.core import HallucinationCore
from facehall_env.errors import WeightsError
from facehall_env.patches import PatchGeometry

SHIPPED = Path(__file__).parent / "weights"


def describe_geometry(geometry: PatchGeometry) -> dict[str, Any]:
    """What fixes the meaning of an action, as JSON-serialisable settings."""
    return {
        "image_size": list(geometry.image_size),
        "patch_size": list(geometry.patch_size),
        "border": geometry.border,
        "grid": list(geometry.grid),
        "offset": geometry.centre,
    }


def grid_of(stored: Mapping[str, Any]) -> tuple[int, int]:
    """The stride and the offset of the locations that :func:`describe_geometry` describes."""
    stride = int(stored["image_size"][0] // stored["grid"][0])
    # Agents of older versions choose among the middles of cells.
    return stride, int(stored.get("offset", stride // 2))


class LearnedAgent(Agent):
    """An agent with something to store."""

    provenance: dict[str, Any]
    """How it was trained."""

    @abstractmethod
    def stored(self) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """What it has learned, and the settings that build it again."""

    def save(
        self, path: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Writes the agent with the locations it was trained for, whole or not at all; no pickle.

        Args:
            path: File to write.
            provenance: How it was trained, by default what it knows itself. JSON-serialisable.

        Raises:
            ConfigurationError: If it cannot be built again from its settings.
        """
        tensors, config = self.stored()
        metadata = {
            "agent": self.name,
            "geometry": describe_geometry(self.geometry),
            "config": config,
            "provenance": dict(self.provenance if provenance is None else provenance),
        }
        save_tensors(path, tensors, metadata, kind="agent")


def load_agent(
    path: str | os.PathLike[str], agent: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :meth:`LearnedAgent.save` wrote.

    Raises:
        WeightsError: If the file is missing, damaged, or holds another agent than ``agent``.
    """
    tensors, metadata = load_tensors(path, kind="agent")
    if agent is not None and metadata["agent"] != agent:
        raise WeightsError(
            f"{path} holds a {metadata['agent']!r} agent, expected {agent!r}: give a file of that "
            "agent, or load it by agents.load, which takes any."
        )
    return tensors, metadata


def check_geometry(
    path: str | os.PathLike[str],
    stored: Mapping[str, Any],
    geometry: PatchGeometry,
    settings: tuple[str, ...] = ("image_size", "grid", "offset", "patch_size", "border"),
) -> None:
    """Checks that actions of stored weights mean the same in this environment.

    Raises:
        WeightsError: Naming each setting that differs, as stored and as it is here.
    """
    here = describe_geometry(geometry)
    stored = {**stored, "offset": grid_of(stored)[1]}
    different = [key for key in settings if stored[key] != here[key]]
    if "grid" in different and "offset" in different:
        different.remove("offset")  # Where in their cells: that says nothing of other cells.
    if different:
        theirs = ", ".join(f"{key} {_show(stored[key])}" for key in different)
        ours = ", ".join(f"{key} {_show(here[key])}" for key in different)
        raise WeightsError(
            f"{path} was trained with {theirs}, but the environment has {ours}: create the "
            "environment with the settings of the weights, or train an agent for it."
        )


def archive_locations(path: str | os.PathLike[str]) -> int | None:
    """Among how many locations a model of Stable-Baselines3 chooses; None if that is not there.

    Archives hold their settings as JSON beside pickles, none of which is read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return int(json.loads(archive.read("data"))["action_space"]["n"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def shipped(prefix: str, core: HallucinationCore, dataset: str | None = None) -> Path:
    """Path of the agent that comes with the project for the core's enhancer and scale.

    Args:
        prefix: What the file's name begins with: ``"rl-conv"``, ``"static"``.
        core: Fixes the enhancer's name and the scale.
        dataset: What it should be trained on; photographs (``"lfw"``) if there is none for this
            one.

    Raises:
        WeightsError: If there is none.
    """
    enhancer, scale = core.enhancer.name, core.scale
    for trained_on in dict.fromkeys((dataset or "lfw", "lfw", "synthetic")):
        path = SHIPPED / f"{prefix}-{enhancer}-{trained_on}-x{scale}.safetensors"
        if path.is_file():
            return path
    present = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none"
    raise WeightsError(
        f"No {prefix!r} agent for the enhancer {enhancer!r} at {scale}x comes with the project "
        f"(there are: {present}): train one with `facehall train` and give its path as weights."
    )


def _show(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
