"""``facehall data``: which datasets there are, whether they can be read, and preparing them."""

from __future__ import annotations

import os

from rich.console import Console

from facehall_env import data
from facehall_env.benchmarks.apps.settings import DataCheckConfig, PrepareConfig
from facehall_env.benchmarks.tables import Column, Table, terminal
from facehall_env.errors import DatasetError
from facehall_env.photos.crop_faces import REPORT, prepare
from facehall_env.progress import progress


def list_datasets(console: Console | None = None) -> None:
    """Prints the known datasets and where their images are; fetches nothing."""
    names = data.available()
    places = [_whereabouts(name) for name in names]
    columns = [Column("name", names), Column("images", places)]
    (console or terminal()).print(Table("Datasets", columns))


def check(config: DataCheckConfig, console: Console | None = None) -> None:
    """Reads every image of a dataset and prints what it holds; lists all if none is named.

    Raises:
        DatasetError: If the dataset is missing or empty, or images cannot be read; names them.
    """
    if config.dataset is None:
        list_datasets(console)
        return
    options = {} if config.root is None else {"root": config.root}
    dataset = data.make(config.dataset, split=config.split, **options)
    number = min(len(dataset), config.limit or len(dataset))
    broken = []
    for index in progress(range(number), desc=f"reading {config.dataset}", unit="image"):
        try:
            shape = dataset[index].shape
        except DatasetError as error:
            broken.append(str(error))
            continue
        if shape != (*dataset.image_size, 3):
            broken.append(f"{dataset.key(index)} has shape {shape}")
    if broken:
        raise DatasetError(
            f"{len(broken)} of {number} images of {config.dataset!r} cannot be used: "
            + "; ".join(broken)
        )
    height, width = dataset.image_size
    (console or terminal()).print(
        f"{config.dataset}, {config.split}: {number} of {len(dataset)} images of {height}x{width} "
        "pixels were read, all are well."
    )


def prepare_faces(config: PrepareConfig, console: Console | None = None) -> None:
    """Cuts the faces out of a folder of photographs and prints what became of them.

    Raises:
        FacehallError: As `facehall_env.photos.crop_faces.prepare` does.
    """
    report = prepare(config)
    (console or terminal()).print(f"{report.summary()} Details: {config.out / REPORT}")


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
