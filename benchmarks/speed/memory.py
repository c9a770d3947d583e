"""What an update of SPARNetHD takes, without VGG19, with and without gradient checkpointing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from facehall_env import data, enhancers, limits
from facehall_env.benchmarks.speed.contents import MemoryRow, TrainingMemory
from facehall_env.benchmarks.speed.output import publish
from facehall_env.benchmarks.speed.peak_memory import START_METHOD, peak_memory
from facehall_env.benchmarks.speed.settings import MemoryConfig
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress
from facehall_env.registry import parse_settings
from facehall_env.spec import check_device
from facehall_env.training.settings import LossWeights, TrainSPARNetHDConfig
from facehall_env.training.sparnet_hd import SPARNetHDTrainer

FORMS: Mapping[str, bool] = {"kept": False, "recomputed": True}
"""What becomes of the features between forward and backward pass: `recompute`."""


def run(config: MemoryConfig, command: str = "") -> dict[str, Any]:
    """Measures, prints the table and writes ``training-memory.json``; returns what was written.

    Raises:
        ConfigurationError: If the settings do not allow it.
    """
    config.check()
    with TemporaryDirectory() as name:
        trained = TrainSPARNetHDConfig(
            dataset="folder",
            dataset_settings=(f"root={name}", f"size={config.size}"),
            enhancer_settings=config.enhancer_settings,
            updates=1,
            batch=config.batch,
            loss=LossWeights(perceptual_weight=0.0),
            validation_faces=1,
            limit=1 + config.batch,
            device=config.device,
        )
        # What would end the processes that measure is found out here.
        limits.check(trained)
        check_device(trained.device)
        enhancers.make("sparnet_hd", **parse_settings(trained.enhancer_settings))
        faces, drawn = Path(name) / "train", data.make("synthetic")
        faces.mkdir()
        for index in range(1 + config.batch):
            Image.fromarray(drawn[index]).save(faces / f"{index}.png")
        rows = []
        for form in progress(FORMS, desc="an update in a process of its own"):
            own = replace(trained, recompute=FORMS[form])
            memory = peak_memory(START_METHOD, config.device, one_update, own)
            rows.append(MemoryRow(form, math.nan if memory is None else memory))
    if all(math.isnan(row.peak_memory_mib) for row in rows):
        raise ConfigurationError(
            "No update could be measured; what went wrong stands above: take smaller faces or "
            "networks if it was the memory."
        )
    return publish(config, command, {"rows": rows}, TrainingMemory)


@contextmanager
def one_update(config: TrainSPARNetHDConfig) -> Iterator[list[int]]:
    """Trains all networks once, for `peak_memory`."""
    trainer = SPARNetHDTrainer(config)
    try:
        trainer.update()
    finally:
        trainer.close()
    yield []
