"""How much memory an update of SPARNetHD takes, with and without gradient checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from tqdm.auto import tqdm

from facehall_env import data, enhancers, limits
from facehall_env.benchmarks.provenance import header, write_json
from facehall_env.benchmarks.speed.peak_memory import peak_memory
from facehall_env.benchmarks.speed.throughput import START_METHOD
from facehall_env.benchmarks.tables import NOTHING, Table, number, say_written, terminal
from facehall_env.errors import ConfigurationError
from facehall_env.registry import parse_settings
from facehall_env.spec import check_device
from facehall_env.training.settings import LossWeights, TrainSPARNetHDConfig
from facehall_env.training.sparnet_hd import SPARNetHDTrainer

FORMS: Mapping[str, bool] = {"kept": False, "recomputed": True}
"""What becomes of the features between forward and backward pass: `recompute`."""


@dataclass
class TrainingMemoryConfig:
    """Settings of ``facehall bench training-memory``."""

    batch: int = 1
    """Faces in an update."""
    size: int = 512
    """Height and width of the faces."""
    model_settings: tuple[str, ...] = ()
    """Settings of the generator, NAME=VALUE, such as width=32."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("benchmarks/results")
    """Folder for training-memory.json."""

    def training(self, folder: Path) -> TrainSPARNetHDConfig:
        """One update on the faces of a folder, without VGG19.

        Raises:
            ConfigurationError: If a number is too small.
        """
        if min(self.batch, self.size) < 1:
            raise ConfigurationError(
                f"--batch {self.batch} and --size {self.size} must be 1 or more."
            )
        return TrainSPARNetHDConfig(
            dataset="folder",
            dataset_settings=(f"root={folder}", f"size={self.size}"),
            enhancer_settings=self.model_settings,
            updates=1,
            batch=self.batch,
            loss=LossWeights(perceptual_weight=0.0),
            validation_faces=1,
            limit=1 + self.batch,
            device=self.device,
        )


def run(
    config: TrainingMemoryConfig, command: str = "", console: Console | None = None
) -> dict[str, Any]:
    """Measures, prints the table and writes ``training-memory.json``.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Returns:
        What was written.

    Raises:
        ConfigurationError: If the settings do not allow it.
    """
    with TemporaryDirectory() as name:
        training = config.training(Path(name))
        _check(training)
        _draw_faces(Path(name) / "train", 1 + config.batch)
        rows = []
        for form in tqdm(FORMS, desc="an update in a process of its own"):
            own = replace(training, recompute=FORMS[form])
            memory = peak_memory(START_METHOD, config.device, one_update, own)
            rows.append({"features": form, "peak_memory_mib": memory})
    results = {
        **header("training-memory", config, command),
        "rows": rows,
    }
    if all(row["peak_memory_mib"] is None for row in rows):
        raise ConfigurationError(
            "No update could be measured; what went wrong stands above: take smaller faces or "
            "networks if it was the memory."
        )
    console = console or terminal()
    console.print(report(results).rich())
    path = config.out / "training-memory.json"
    write_json(path, results)
    say_written(console, path)
    return results


def _check(training: TrainSPARNetHDConfig) -> None:
    """Raises here what would end the processes that measure."""
    limits.check(training)
    check_device(training.device)
    with torch.device("meta"):
        enhancers.make("sparnet_hd", **parse_settings(training.enhancer_settings))


def _draw_faces(folder: Path, number: int) -> None:
    folder.mkdir()
    drawn = data.make("synthetic")
    for index in range(number):
        Image.fromarray(drawn[index]).save(folder / f"{index}.png")


@contextmanager
def one_update(config: TrainSPARNetHDConfig) -> Iterator[list[int]]:
    """Trains all networks once, for `peak_memory`."""
    trainer = SPARNetHDTrainer(config)
    try:
        trainer.update()
    finally:
        trainer.close()
    yield []


def report(results: Mapping[str, Any]) -> Table:
    """The results as a table."""
    settings, rows = results["settings"], results["rows"]
    whole = rows[0]["peak_memory_mib"]
    lines = []
    for row in rows:
        memory = row["peak_memory_mib"]
        share = NOTHING if None in (memory, whole) else f"{memory / whole:.2f}"
        lines.append((row["features"], number(memory, ",.0f"), share))
    return Table(
        "Memory of an update of SPARNetHD",
        ("features", "peak MiB", "ratio"),
        lines,
        caption=(
            f"{settings['size']}x{settings['size']} pixels, {settings['batch']} at once: weights, "
            "Adam's momenta, gradients and features of the generator, its average and the "
            "discriminators; without VGG19. No number: the process failed, mostly for lack of "
            "memory."
        ),
    )
