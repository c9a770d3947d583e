"""From the settings of `gymnasium.make` to the dataset, the protocol and the core they name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from facehall_env import data, enhancers, rewards
from facehall_env.core import HallucinationCore, Precision
from facehall_env.data import FaceDataset, Identified, Protocol
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.patches import Border
from facehall_env.rewards import Reward

BICUBIC = "bicubic"
"""Episodes start from the up-sampled face itself."""


class Setup(NamedTuple):
    """What episodes are made of.

    Attributes:
        dataset: Where the faces come from.
        protocol: How they are made small.
        core: The batched process that restores them.
    """

    dataset: FaceDataset
    protocol: Protocol
    core: HallucinationCore


def build_core(
    *,
    dataset: str | FaceDataset = "synthetic",
    split: str = "train",
    scale: int = 4,
    protocol: str | Protocol = "bicubic",
    enhancer: str | Enhancer = "compact",
    weights: str | os.PathLike[str] | None = "auto",
    reward: str | Reward | Mapping[str, float] = "delayed_mse",
    num_steps: int = 25,
    patch_size: tuple[int, int] | None = None,
    border: Border = "centre",
    action_stride: int = 1,
    action_offset: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    validate: bool = True,
    initial: str | os.PathLike[str] | Enhancer = BICUBIC,
) -> Setup:
    """Builds the process that the settings of an environment describe.

    Args:
        dataset: A name out of `data.available()`, or a dataset.
        split: ``"train"``, ``"test"`` or ``"all"``; of a dataset given by name.
        scale: Factor between the low and the high resolution.
        protocol: Degradation preset out of `data.protocols.PROTOCOLS`, or one of your own.
        enhancer: A name out of `enhancers.available()`, or an enhancer, used as it is.
        weights: ``"auto"`` for those that come with the project, a file, or None for an untrained
            network; of an enhancer given by name.
        reward: Name of the reward, or a sum such as ``"delayed_mse + 4*coverage"``, or a `Reward`.
        num_steps: Patches in an episode, T.
        patch_size: Height and width of the patch; the enhancer's own by default.
        border: ``"centre"`` or ``"inside"``; see `PatchGeometry`.
        action_stride: Width of a cell of the grid of locations.
        action_offset: On which row and column of its cell a patch is centred; the middle by
            default.
        device: Where everything is computed.
        precision: ``"fp32"`` or ``"bf16"``.
        validate: Whether to check actions and the enhancer's output at every step, for which a
            GPU is waited for.
        initial: What episodes start from: ``"bicubic"``, the face as the protocol enlarges it, or
            what a network that restores whole faces makes of it: a name out of
            `enhancers.available()`, with the weights that come with the project, a file with
            weights, or an enhancer.

    Returns:
        Dataset, protocol and core.

    Raises:
        UnknownNameError: On an unknown dataset, protocol, enhancer or reward.
        ConfigurationError: On settings that contradict each other or lie outside their range.
        DatasetError: If the images are missing, unreadable or none.
        WeightsError: If the weights are missing, damaged, or made for something else.

    >>> dataset, protocol, core = build_core(enhancer="bicubic", scale=8, action_stride=4)
    >>> core.geometry.num_locations
    1024
    """
    place = check_device(device)
    faces = _dataset(dataset, split)
    if scale < 1 or any(side % scale for side in faces.image_size):
        raise ConfigurationError(
            f"scale={scale} does not divide the image size {faces.image_size} of dataset "
            f"{faces.name!r}: choose a positive common divisor of its sides."
        )
    network = _enhancer(enhancer, scale, weights, faces.name, patch_size)
    core = HallucinationCore(
        network,
        image_size=faces.image_size,
        reward=rewards.make(reward).for_people(_people(faces)),
        border=border,
        patch_size=patch_size,
        num_steps=num_steps,
        action_stride=action_stride,
        action_offset=action_offset,
        device=place,
        precision=precision,
        validate=validate,
        initial=load_initial(initial, scale, faces.name),
    )
    return Setup(
        dataset=faces,
        protocol=protocol if isinstance(protocol, Protocol) else data.protocols.get(protocol),
        core=core,
    )


def load_initial(
    initial: str | os.PathLike[str] | Enhancer, scale: int, dataset: str | None = None
) -> Enhancer | None:
    """The network from whose result episodes start; None for ``"bicubic"``.

    Args:
        initial: See :func:`build_core`.
        scale: Factor between the low and the high resolution.
        dataset: What weights that come with the project should be trained on.

    Raises:
        UnknownNameError: If it is neither a file nor the name of an enhancer.
        WeightsError: If there are no such weights, or they are made for something else.
    """
    if isinstance(initial, Enhancer):
        return initial
    if initial == BICUBIC:
        return None
    if Path(initial).is_file() or Path(initial).suffix == ".safetensors":
        return enhancers.load(initial)
    return enhancers.make(str(initial), scale=scale, weights="auto", dataset=dataset)


def check_device(device: str | torch.device) -> torch.device:
    """The device itself, if this machine has it.

    Raises:
        ConfigurationError: Otherwise.
    """
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigurationError(
            f"device={str(device)!r} cannot be used here ({reason}): use 'cpu' or one that "
            "this machine and this build of torch have."
        ) from error
    return place


def _dataset(dataset: object, split: str) -> FaceDataset:
    if isinstance(dataset, str):
        dataset = data.make(dataset, split=split)
    if not isinstance(dataset, FaceDataset):
        raise ConfigurationError(
            f"dataset={dataset!r} is neither a name nor a FaceDataset: give one of "
            f"{', '.join(data.available())}, or an object from facehall_env.data."
        )
    if len(dataset) == 0:
        raise DatasetError(
            f"Dataset {dataset.name!r} has no faces in its split {dataset.split!r}: give one that "
            "has at least one."
        )
    return dataset


def _people(dataset: FaceDataset) -> tuple[str, ...] | None:
    """Names of the people that the faces' `identity` counts; None if nobody knows them."""
    return (dataset.people or None) if isinstance(dataset, Identified) else None


def _enhancer(
    enhancer: object,
    scale: int,
    weights: str | os.PathLike[str] | None,
    dataset: str,
    patch_size: tuple[int, int] | None,
) -> Enhancer:
    if isinstance(enhancer, str):
        config = {} if patch_size is None else {"patch_size": patch_size}
        return enhancers.make(enhancer, scale=scale, weights=weights, dataset=dataset, **config)
    if not isinstance(enhancer, Enhancer):
        raise ConfigurationError(
            f"enhancer={enhancer!r} is neither a name nor an enhancer object: give one of "
            f"{', '.join(enhancers.available())}, or an instance of "
            "facehall_env.enhancers.Enhancer, such as OneShot(network, scale)."
        )
    if weights not in (None, "auto"):
        raise ConfigurationError(
            f"weights={str(weights)!r} cannot be loaded into an enhancer object: give the "
            "enhancer by name, or load them into it before."
        )
    if enhancer.scale != scale:
        raise ConfigurationError(
            f"The enhancer is made for scale {enhancer.scale}, but scale={scale} was asked for: "
            "give both the same."
        )
    return enhancer
