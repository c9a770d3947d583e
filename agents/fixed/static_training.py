"""Fits one sequence of locations for all faces: ``facehall train agent static``."""

from __future__ import annotations

from pathlib import Path

import torch

from facehall_env import limits, nested
from facehall_env.agents.fixed.static import StaticAgent
from facehall_env.agents.settings import TrainStaticConfig
from facehall_env.agents.training import build, chunks
from facehall_env.training.run import versions


def train_static(config: TrainStaticConfig) -> Path:
    """Fits one sequence of locations for all faces, writes it, and returns the path of the file.

    Raises:
        ConfigurationError: If a setting is out of range.
    """
    limits.check(config)
    dataset, protocol, core = build(config)
    generator = torch.Generator().manual_seed(config.seed)
    chosen = torch.randperm(len(dataset), generator=generator)[: config.limit].tolist()
    faces = protocol.degrade(dataset.batch(chosen), config.episode.faces.scale)
    agent = StaticAgent.fit(core, chunks(faces), stride=config.stride, progress=True)
    settings = {key: str(value) for key, value in nested.leaves(config).items() if key != "out"}
    agent.save(config.out, {"settings": settings, "versions": versions()})
    return config.out
