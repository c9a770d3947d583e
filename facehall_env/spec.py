"""What episodes are made of, as plain data that settings hold and a file can keep.

Importing this module is light: datasets, networks and torch are imported by `EpisodeSpec.build`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from facehall_env import nested
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.limits import Ge
from facehall_env.literals import Border, Precision
from facehall_env.registry import parse_settings, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from facehall_env.core import HallucinationCore
    from facehall_env.data.base import FaceDataset
    from facehall_env.data.protocols import Protocol
    from facehall_env.enhancers.base import Enhancer
    from facehall_env.rewards.base import Reward

BICUBIC = "bicubic"
"""Episodes start from the up-sampled face itself."""


class Setup(NamedTuple):
    """Where the faces come from, how they are degraded, and the process that restores them."""

    dataset: FaceDataset
    protocol: Protocol
    core: HallucinationCore


@dataclass(frozen=True)
class FacesSpec:
    """Which faces are restored, and how they are degraded before."""

    dataset: str = "synthetic"
    """Where the faces come from."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset as NAME=VALUE, such as size=256."""
    scale: Annotated[int, Ge(1)] = 4
    """Factor between the low and the high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made and the result measured."""

    def open(self, split: str = "train") -> FaceDataset:
        """The dataset's split ``"train"``, ``"test"`` or ``"all"``.

        Raises:
            UnknownNameError: If there is no dataset of that name.
            ConfigurationError: On an unknown split or option of the dataset.
            DatasetError: If the images are missing, unreadable or none.
        """
        from facehall_env.data.catalog import make

        dataset = make(self.dataset, split=split, **parse_settings(self.dataset_settings))
        return _with_faces(dataset)

    @property
    def degradation(self) -> Protocol:
        """The protocol called ``protocol``; UnknownNameError if there is none of that name."""
        from facehall_env.data.protocols import get

        return get(self.protocol)


@dataclass(frozen=True)
class EpisodeSpec:
    """An episode: the faces, the network that restores their patches, and the rules."""

    faces: FacesSpec = field(default_factory=FacesSpec)
    """The faces."""
    enhancer: str = "compact"
    """Network that restores the patches."""
    weights: str | None = "auto"
    """Weights of the enhancer: a file, auto for those that come with the project, or None for an
    untrained network."""
    initial: str = BICUBIC
    """What episodes start from: bicubic, the face as the protocol upsamples it, or the result of a
    network that restores whole faces, by its name or the file of its weights."""
    steps: Annotated[int, Ge(1)] = 25
    """Patches in an episode."""
    patch_size: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]] | None = None
    """Height and width of the patches in pixels; the enhancer's own by default."""
    border: Border = "centre"
    """Patches centred anywhere in the image, or kept inside it."""
    action_stride: Annotated[int, Ge(1)] = 1
    """Spacing of the locations in pixels; divides both sides of the image."""
    action_offset: Annotated[int, Ge(0)] | None = None
    """Row and column of its grid cell that a patch is centred on, the middle by default. Patches of
    32x32 can tile the image at a spacing of 8 if it is 7."""
    reward: str = "delayed_mse"
    """What is maximised: a reward by name, or a weighted sum such as "delayed_mse + 4*coverage"."""
    device: str = "cpu"
    """Device that computes: cpu, cuda, cuda:1, ..."""
    precision: Precision = "fp32"
    """Numbers that the enhancer computes with."""

    def build(
        self,
        split: str = "train",
        dataset: FaceDataset | None = None,
        *,
        protocol: Protocol | None = None,
        enhancer: Enhancer | None = None,
        initial: Enhancer | None = None,
        reward: Reward | Mapping[str, float] | None = None,
        validate: bool = True,
    ) -> Setup:
        """Opens the dataset, loads the networks and makes the process.

        An opened dataset, a protocol, an enhancer (used as it is), an initial network or a reward
        takes the place of the one named. See `HallucinationCore` for ``validate``.

        Raises:
            UnknownNameError: On an unknown dataset, protocol, enhancer or reward.
            ConfigurationError: On settings that contradict each other or lie outside their range.
            DatasetError: If the images are missing, unreadable or none.
            WeightsError: If the weights are missing, damaged, or made for something else.

        >>> spec = EpisodeSpec(FacesSpec(scale=8), enhancer="bicubic", action_stride=4)
        >>> dataset, protocol, core = spec.build("test")
        >>> core.geometry.num_locations
        1024
        """
        from facehall_env.core import HallucinationCore
        from facehall_env.data.base import Identified
        from facehall_env.rewards.base import make

        place = check_device(self.device)
        protocol = self.faces.degradation if protocol is None else protocol
        worth = make(self.reward if reward is None else reward)
        faces = self.faces.open(split) if dataset is None else _with_faces(dataset)
        people = faces.people if isinstance(faces, Identified) else ()
        scale = self.faces.scale
        if scale < 1 or any(side % scale for side in faces.image_size):
            raise ConfigurationError(
                f"scale={scale} does not divide the image size {faces.image_size} of dataset "
                f"{faces.name!r}: choose a positive common divisor of its sides."
            )
        if enhancer is None:
            enhancer = self.load_enhancer(faces.name)
        elif enhancer.scale != scale:
            raise ConfigurationError(
                f"The enhancer is made for scale {enhancer.scale}, but scale={scale} was asked "
                "for: give both the same."
            )
        core = HallucinationCore(
            enhancer,
            image_size=faces.image_size,
            reward=worth.for_people(people or None),
            border=self.border,
            patch_size=self.patch_size,
            num_steps=self.steps,
            action_stride=self.action_stride,
            action_offset=self.action_offset,
            device=place,
            precision=self.precision,
            validate=validate,
            initial=load_initial(self.initial if initial is None else initial, scale, faces.name),
        )
        return Setup(faces, protocol, core)

    def load_enhancer(self, dataset: str | None = None) -> Enhancer:
        """The enhancer named, with its weights.

        Those that come with the project are trained on ``dataset``, by default that of the faces.

        Raises:
            UnknownNameError: If there is no enhancer of that name.
            WeightsError: If the weights are missing, damaged, or made for something else.
        """
        from facehall_env.enhancers.weights import make

        config = {} if self.patch_size is None else {"patch_size": self.patch_size}
        trained_on = dataset or self.faces.dataset
        return make(self.enhancer, self.faces.scale, self.weights, trained_on, **config)


def build_from_keywords(
    *, split: str = "train", num_steps: int = 25, validate: bool = True, **keywords: Any
) -> Setup:
    """Builds what the keywords of `gymnasium.make` describe; see `FaceHallucinationEnv`.

    They are the fields of `FacesSpec` and `EpisodeSpec`. In place of the names of dataset,
    protocol, enhancer, initial network and reward they may be the objects themselves; files may be
    paths. An unknown keyword is an UnknownNameError; for others see `EpisodeSpec.build`.

    >>> dataset, protocol, core = build_from_keywords(enhancer="bicubic", scale=8, action_stride=4)
    >>> core.geometry.num_locations
    1024
    """
    objects = {
        name: keywords.pop(name)
        for name in _OBJECTS
        if name in keywords and not isinstance(keywords[name], str | os.PathLike)
    }
    _check_objects(objects, keywords.get("weights", "auto"))
    paths = {name: os.fspath(v) for name, v in keywords.items() if isinstance(v, os.PathLike)}
    named = {**keywords, **paths}
    named["device"] = str(named.get("device", "cpu"))
    known = nested.leaves(EpisodeSpec()).keys() - {"steps"}
    for name in named:
        if name not in known:
            raise unknown_name("keyword", name, {*known, "split", "num_steps", "validate"})
    spec = nested.build(EpisodeSpec, steps=num_steps, **named)
    return spec.build(split, validate=validate, **objects)


_OBJECTS = ("dataset", "protocol", "enhancer", "initial", "reward")
"""What may be given as an object instead of its name."""


def load_initial(
    initial: str | Path | Enhancer, scale: int, dataset: str | None = None
) -> Enhancer | None:
    """The network from whose result episodes start; None for ``"bicubic"``.

    ``initial`` is as of `EpisodeSpec`; a network is returned as it is. Weights that come with the
    project are those trained on ``dataset``.

    Raises:
        UnknownNameError: If it is neither a file nor the name of an enhancer.
        WeightsError: If there are no such weights, or they are made for something else.
    """
    if not isinstance(initial, str | Path):
        return initial
    if initial == BICUBIC:
        return None

    from facehall_env.enhancers import weights

    if Path(initial).is_file() or Path(initial).suffix == ".safetensors":
        return weights.load(initial)
    return weights.make(str(initial), scale=scale, weights="auto", dataset=dataset)


def check_device(device: str | torch.device) -> torch.device:
    """The device itself, if this machine has it, or a ConfigurationError."""
    import torch

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


def _with_faces(dataset: FaceDataset) -> FaceDataset:
    """The dataset itself, if it is not empty."""
    if len(dataset) == 0:
        raise DatasetError(
            f"Dataset {dataset.name!r} has no faces in its split {dataset.split!r}: give one that "
            "has at least one."
        )
    return dataset


def _check_objects(objects: Mapping[str, Any], weights: object) -> None:
    """Refuses objects that are none of their kind, and weights for an enhancer object."""
    from facehall_env import data, enhancers

    if "dataset" in objects and not isinstance(objects["dataset"], data.FaceDataset):
        raise ConfigurationError(
            f"dataset={objects['dataset']!r} is neither a name nor a FaceDataset: give one of "
            f"{', '.join(data.available())}, or an object from facehall_env.data."
        )
    if "enhancer" not in objects:
        return
    if not isinstance(objects["enhancer"], enhancers.Enhancer):
        raise ConfigurationError(
            f"enhancer={objects['enhancer']!r} is neither a name nor an enhancer object: give one "
            f"of {', '.join(enhancers.available())}, or an instance of "
            "facehall_env.enhancers.Enhancer, such as OneShot(network, scale)."
        )
    if weights not in (None, "auto"):
        raise ConfigurationError(
            f"weights={str(weights)!r} cannot be loaded into an enhancer object: give the "
            "enhancer by name, or load them into it before."
        )
