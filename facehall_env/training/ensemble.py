"""Puts trained networks together into one that averages their results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facehall_env import enhancers
from facehall_env.enhancers import Enhancer, Ensemble
from facehall_env.errors import ConfigurationError
from facehall_env.spec import BICUBIC, load_initial
from facehall_env.training.run import versions


@dataclass
class EnsembleConfig:
    """Settings of ``facehall train ensemble``."""

    members: tuple[str, ...] = ("light",)
    """Networks that restore whole faces: names, with the weights that come with the project, or
    files of weights."""
    mirror: bool = True
    """Let each restore the mirrored face, too."""
    dataset: str = "lfw"
    """What weights that come with the project should be trained on."""
    scale: int = 4
    """Factor between low and high resolution."""
    out: Path = Path("runs/ensemble.safetensors")
    """File for the weights of all of them."""


def make_ensemble(config: EnsembleConfig) -> Path:
    """Writes an `Ensemble` of trained networks.

    Returns:
        Path of the weights.

    Raises:
        ConfigurationError: If there are no members, they are made for another scale, or one does
            not restore whole faces.
        UnknownNameError: If a member is neither a file nor the name of an enhancer.
        WeightsError: If the weights of one are missing or damaged.
    """
    ensemble = Ensemble.of([_load(config, name) for name in config.members], mirror=config.mirror)
    provenance = {**ensemble.provenance, "names": list(config.members), "versions": versions()}
    enhancers.save(ensemble, config.out, provenance)
    return config.out


def _load(config: EnsembleConfig, name: str) -> Enhancer:
    if name == BICUBIC:
        return enhancers.make(BICUBIC, scale=config.scale)
    network = load_initial(name, config.scale, config.dataset)
    assert network is not None, "only bicubic is no network"
    if network.scale != config.scale:
        raise ConfigurationError(
            f"{name} is made for scale {network.scale}, but --scale is {config.scale}: give both "
            "the same."
        )
    return network
