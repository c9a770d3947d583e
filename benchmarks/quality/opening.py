"""From a benchmark's settings to its restorers and faces."""

from __future__ import annotations

from facehall_env.benchmarks.quality.settings import BenchConfig, RestoringConfig
from facehall_env.benchmarks.restorers import Conditions, Spec, parse_agent, parse_model
from facehall_env.benchmarks.scoring import TestFaces, first_images
from facehall_env.data import FaceDataset

NAMED = ("dataset", "scale", "protocol", "precision")
"""Settings that the names of the results say."""


def specifications(config: RestoringConfig) -> list[Spec]:
    """The rows that the settings ask for, in their order.

    Raises:
        FacehallError: If a row cannot be understood.
    """
    specs: list[Spec] = [parse_model(word) for word in config.models]
    return specs + [
        parse_agent(
            word,
            steps=config.steps,
            seed=config.seed,
            action_stride=config.action_stride,
            action_offset=config.action_offset,
        )
        for word in config.agents
    ]


def conditions(config: BenchConfig, dataset: FaceDataset) -> Conditions:
    """What the settings say about all restorers of a dataset's faces."""
    scale, precision = config.faces.scale, config.precision
    size, name = dataset.image_size, dataset.name
    return Conditions(size, scale, name, config.device, precision, config.trust_pickle)


def open_faces(config: BenchConfig, dataset: FaceDataset, limit: int) -> TestFaces:
    """The first faces of a dataset, degraded as the settings say."""
    faces = config.faces
    return TestFaces(first_images(dataset, limit), faces.degradation, faces.scale, config.device)
