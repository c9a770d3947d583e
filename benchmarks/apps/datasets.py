"""``facehall data``: which datasets there are, whether they can be read, and preparing them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from tqdm.auto import tqdm

from facehall_env import data
from facehall_env.benchmarks.tables import Table, terminal
from facehall_env.data import FaceDataset
from facehall_env.data.base import Split
from facehall_env.errors import DatasetError
from facehall_env.photos.crop_faces import REPORT, prepare
from facehall_env.photos.settings import PrepareConfig


@dataclass
class CheckConfig:
    """Settings of ``facehall data check``."""

    name: Annotated[str, tyro.conf.Positional]
    """Of the dataset; `facehall data list` has them all."""
    split: Split = "all"
    """train, test or all."""
    root: Path | None = None
    """Folder of a dataset that takes one; by default FACEHALL_DATA and the cache are searched."""
    limit: int | None = None
    """Read only so many images; all by default."""


def list_datasets(console: Console | None = None) -> None:
    """Prints the known datasets and where their images are; fetches nothing."""
    rows = [(name, _whereabouts(name)) for name in data.available()]
    (console or terminal()).print(Table("Datasets", ("name", "images"), rows).rich())


def check(config: CheckConfig, console: Console | None = None) -> None:
    """Reads every image of a dataset and prints what it holds.

    Raises:
        DatasetError: If the dataset is missing or empty, or images cannot be read; names them.
    """
    options = {} if config.root is None else {"root": config.root}
    dataset = data.make(config.name, split=config.split, **options)
    number = min(len(dataset), config.limit or len(dataset))
    broken = [
        str(error)
        for index in tqdm(range(number), desc=f"reading {config.name}", unit="image")
        if (error := _problem(dataset, index)) is not None
    ]
    if broken:
        raise DatasetError(
            f"{len(broken)} of {number} images of {config.name!r} cannot be used: "
            + "; ".join(broken)
        )
    height, width = dataset.image_size
    (console or terminal()).print(
        f"{config.name}, {config.split}: {number} of {len(dataset)} images of {height}x{width} "
        "pixels were read, all are well."
    )


def prepare_faces(config: PrepareConfig, console: Console | None = None) -> None:
    """Cuts the faces out of a folder of photographs and prints what became of them.

    Raises:
        FacehallError: As `facehall_env.photos.crop_faces.prepare` does.
    """
    report = prepare(config)
    (console or terminal()).print(f"{report.summary()} Details: {config.out / REPORT}")


def without_fetching(name: str, split: str = "test", **options: Any) -> FaceDataset:
    """A dataset that is on this machine.

    Args:
        name: Of the dataset.
        split: ``"train"``, ``"test"`` or ``"all"``.
        **options: As for `facehall_env.data.make`.

    Raises:
        DatasetError: If it is not, even if it could be fetched.
    """
    if name == "lfw" and data.lfw.find() is None:
        raise DatasetError(
            "LFW is not on this machine: give --dataset lfw, and the first use fetches 232 MiB, or "
            "set FACEHALL_DATA to where it is."
        )
    return data.make(name, split=split, **options)


def _problem(dataset: FaceDataset, index: int) -> DatasetError | None:
    try:
        shape = dataset[index].shape
    except DatasetError as error:
        return error
    if shape != (*dataset.image_size, 3):
        return DatasetError(f"{dataset.key(index)} has shape {shape}")
    return None


def _whereabouts(name: str) -> str:
    if name == "synthetic":
        return "drawn when they are asked for"
    if name == "lfw":
        found = data.lfw.find()
        return f"in {found}" if found else "not on this machine; the first use fetches 232 MiB"
    if name in data.LAYOUTS:
        layout = data.LAYOUTS[name]
        found = layout.find()
        return f"in {found}" if found else f"not here; put {layout.title} into FACEHALL_DATA/{name}"
    if name in ("folder", "identities"):
        root = os.environ.get("FACEHALL_DATA")
        return f"FACEHALL_DATA={root}" if root else "any folder: set FACEHALL_DATA to it"
    return "from another package"
