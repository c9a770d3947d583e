from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facehall_env import data
from facehall_env.data import DATASETS, FaceDataset
from facehall_env.errors import ConfigurationError, UnknownNameError


class Levels(FaceDataset):
    """Grey images whose level is their number."""

    def __init__(self, split: str = "train", count: int = 3) -> None:
        self.name, self.split, self.image_size = "levels", data.check_split(split), (4, 5)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((4, 5, 3), self.checked(index), np.uint8)

    def key(self, index: int) -> str:
        return str(self.checked(index))


def test_the_registry_holds_ours() -> None:
    assert {"folder", "lfw", "synthetic"} <= set(data.available())


def test_others_can_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_factories", dict(DATASETS._factories))
    DATASETS.register("levels")(Levels)
    faces = data.make("levels", split="test", count=5)
    assert len(faces) == 5
    assert faces.batch([3, -1]).flatten(1).float().mean(1).tolist() == [3.0, 4.0]
    assert repr(faces) == "<levels test: 5 faces of 4x5>"
    assert "levels" in data.available()


def test_an_unknown_dataset_brings_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'synthetic'"):
        data.make("sintetic")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "validation"}, "train, test, all"),
        ({"sead": 1}, "its options are seed"),
        ({"images_per_person": "x"}, "made from .*'x'"),
    ],
)
def test_bad_options_are_explained(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        data.make("synthetic", **options)
