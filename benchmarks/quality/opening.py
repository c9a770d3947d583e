"""From a benchmark's settings to its restorers and faces, and from what it found to its files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from facehall_env.benchmarks import provenance, restorers
from facehall_env.benchmarks.provenance import NOT_IN_THE_NUMBERS, output_folder
from facehall_env.benchmarks.quality.settings import BenchConfig, RestoringConfig
from facehall_env.benchmarks.restorers import Conditions, Restorer, Spec, build
from facehall_env.benchmarks.scoring import TestFaces, first_images
from facehall_env.benchmarks.tables import Table
from facehall_env.data import FaceDataset

NAMED = ("dataset", "scale", "protocol", "precision")
"""Settings that the names of the results say."""


def specifications(config: RestoringConfig) -> list[Spec]:
    """The rows that the settings ask for, in their order.

    Raises:
        FacehallError: If a row cannot be understood.
    """
    fields = ("steps", "seed", "action_stride", "action_offset")
    settings = {name: getattr(config, name) for name in fields}
    specs: list[Spec] = [restorers.parse_model(word) for word in config.models]
    return specs + [restorers.parse_agent(word, **settings) for word in config.agents]


def conditions(config: BenchConfig, dataset: FaceDataset) -> Conditions:
    """What the settings say about all restorers of a dataset's faces."""
    own = (config.device, config.precision, config.trust_pickle)
    return Conditions(dataset.image_size, config.faces.scale, dataset.name, *own)


def opened(config: RestoringConfig, split: str = "test") -> tuple[FaceDataset, list[Restorer]]:
    """Checks the settings, opens a split of their dataset and builds the restorers.

    Raises:
        FacehallError: If the settings, the data or the weights do not allow it.
    """
    config.check()
    output_folder(config.out, config.publish)
    specs = specifications(config)
    dataset = config.faces.open(split)
    return dataset, build(specs, conditions(config, dataset))


def open_faces(config: BenchConfig, dataset: FaceDataset) -> TestFaces:
    """The first faces of a dataset, degraded as the settings say."""
    faces, images = config.faces, first_images(dataset, config.limit)
    return TestFaces(images, faces.degradation, faces.scale, config.device)


def write(
    benchmark: str,
    config: BenchConfig,
    words: Collection[str],
    command: str,
    content: Mapping[str, Any],
    *tables: Table,
    named: Collection[str] = NAMED,
    leave_out: Collection[str] = NOT_IN_THE_NUMBERS,
) -> list[Path]:
    """Writes content below a header as JSON, and tables as Markdown; returns the paths.

    The files lie in the folder that the settings name. They are called by ``words`` and a hash of
    the settings that are neither ``named`` by these nor left out.
    """
    folder = output_folder(config.out, config.publish)
    stem = provenance.file_stem(words, config, named, leave_out)
    content = {**provenance.header(benchmark, config, command, leave_out), **content}
    return provenance.write_results(folder, stem, content, *tables)
