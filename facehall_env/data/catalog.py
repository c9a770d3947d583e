"""The datasets by name; listing them imports none."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from facehall_env.errors import ConfigurationError, FacehallError
from facehall_env.registry import Registry

if TYPE_CHECKING:
    from facehall_env.data.base import FaceDataset

DATASETS: Registry[FaceDataset] = Registry(
    "dataset",
    "facehall_env.datasets",
    {
        "bioid": "facehall_env.data.bioid:BioID",
        "celeba": "facehall_env.data.celeba:CelebA",
        "ffhq": "facehall_env.data.ffhq:FFHQ",
        "folder": "facehall_env.data.folder:ImageFolder",
        "helen": "facehall_env.data.helen:Helen",
        "identities": "facehall_env.data.identities:IdentityFolder",
        "lfw": "facehall_env.data.lfw:LFW",
        "scface": "facehall_env.data.scface:SCface",
        "synthetic": "facehall_env.data.synthetic.faces:SyntheticFaces",
        "ytf": "facehall_env.data.identities:YTF",
    },
)
"""Other packages join by the entry-point group ``facehall_env.datasets``."""


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
        UnknownNameError: If there is no dataset of that name, or an option is none of its words;
            the message has the nearest ones.
        ConfigurationError: On an unknown split or option.
        DatasetError: If its images are missing or unreadable.

    Example:
        >>> make("synthetic", split="test")[0].shape
        (128, 128, 3)
    """
    from facehall_env.data.base import check_split

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
