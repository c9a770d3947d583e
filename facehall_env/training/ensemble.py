"""Puts trained networks together into one that averages their results."""

from __future__ import annotations

from pathlib import Path

from facehall_env import enhancers, limits
from facehall_env.enhancers import Enhancer, Ensemble
from facehall_env.errors import ConfigurationError
from facehall_env.spec import BICUBIC, load_initial
from facehall_env.training.run import versions
from facehall_env.training.settings import EnsembleConfig


def make_ensemble(config: EnsembleConfig) -> Path:
    """Writes an `Ensemble` of trained networks to one file.

    Returns:
        Path of the weights.

    Raises:
        ConfigurationError: If there are no members, they are made for another scale, or one does
            not restore whole faces.
        UnknownNameError: If a member is neither a file nor the name of an enhancer.
        WeightsError: If the weights of one are missing or damaged.
    """
    limits.check(config)
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
