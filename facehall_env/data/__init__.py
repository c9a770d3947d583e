"""Datasets of faces, and the protocols that make them small.

```python
from facehall_env import data

faces = data.make("synthetic", split="test")
batch = data.protocols.get("bicubic").degrade(faces.batch([0, 1, 2]), scale=4)
```
"""

from __future__ import annotations

import inspect
from typing import Any

from facehall_env.data import (
    bioid,
    celeba,
    ffhq,
    folder,
    helen,
    identities,
    lfw,
    protocols,
    scface,
    synthetic,
)
from facehall_env.data.base import (
    DATASETS,
    Attributed,
    FaceDataset,
    Identified,
    Split,
    check_split,
)
from facehall_env.data.bioid import BioID
from facehall_env.data.celeba import CelebA
from facehall_env.data.faces import Faces
from facehall_env.data.ffhq import FFHQ
from facehall_env.data.folder import ImageFolder
from facehall_env.data.helen import Helen
from facehall_env.data.identities import YTF, IdentityFolder
from facehall_env.data.layout import Layout
from facehall_env.data.lfw import LFW
from facehall_env.data.protocols import Protocol
from facehall_env.data.scface import SCface
from facehall_env.data.synthetic import SyntheticFaces
from facehall_env.errors import ConfigurationError, FacehallError

__all__ = [
    "DATASETS",
    "FFHQ",
    "LAYOUTS",
    "LFW",
    "YTF",
    "Attributed",
    "BioID",
    "CelebA",
    "FaceDataset",
    "Faces",
    "Helen",
    "Identified",
    "IdentityFolder",
    "ImageFolder",
    "Layout",
    "Protocol",
    "SCface",
    "Split",
    "SyntheticFaces",
    "available",
    "check_split",
    "folder",
    "lfw",
    "make",
    "protocols",
    "synthetic",
]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        bioid.LAYOUT,
        celeba.LAYOUT,
        ffhq.LAYOUT,
        helen.LAYOUT,
        identities.YTF_LAYOUT,
        scface.LAYOUT,
    )
}
"""How the folders look that users bring of the datasets that cannot be fetched, by name."""


def available() -> list[str]:
    """Names of all datasets that `make` knows."""
    return DATASETS.available()


def make(name: str, split: str = "train", **options: Any) -> FaceDataset:
    """A dataset by name.

    Args:
        name: One of `available`.
        split: ``"train"``, ``"test"`` or ``"all"``.
        **options: What this dataset takes besides; see its class.

    Returns:
        The dataset.

    Raises:
        UnknownNameError: If there is no dataset of that name; the message has the nearest ones.
        ConfigurationError: On an unknown split or option.
        DatasetError: If its images are missing or unreadable.

    Example:
        >>> make("synthetic", split="test")[0].shape
        (128, 128, 3)
    """
    factory = DATASETS.get(name)
    split = check_split(split)
    try:
        inspect.signature(factory).bind(split=split, **options)
    except TypeError as error:
        known = ", ".join(p for p in inspect.signature(factory).parameters if p != "split")
        raise ConfigurationError(
            f"Dataset {name!r} cannot be made so ({error}): its options are {known}."
        ) from error
    try:
        return factory(split=split, **options)
    except FacehallError:
        raise
    except (TypeError, ValueError) as error:  # what Python says of values of another type
        raise ConfigurationError(
            f"Dataset {name!r} cannot be made from {options} ({error}): see its docstring for what "
            "its options are."
        ) from error
