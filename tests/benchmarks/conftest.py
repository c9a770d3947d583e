from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facehall_env import agents, data, enhancers
from facehall_env.core import HallucinationCore
from facehall_env.data import FaceDataset
from facehall_env.data.base import check_split
from facehall_env.enhancers import Enhancer
from facehall_env.spec import build_from_keywords

SIZE = (32, 32)
PATCH = (16, 12)
CENTRES = [[8, 8], [24, 8], [8, 24], [24, 24]]


class TinyFaces(FaceDataset):
    """A few small pictures with edges everywhere, different for each index."""

    def __init__(self, split: str = "train") -> None:
        self.name, self.split, self.image_size = "tiny", check_split(split), SIZE

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([self.checked(index), self.split == "test"])
        return np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)

    def key(self, index: int) -> str:
        return f"{self.split}/{self.checked(index)}"


class TinySharpener(Enhancer):
    """Sharpens by a learned amount; cheap, and different for every image and location."""

    name = "tiny"

    def __init__(self, scale: int = 4, patch_size: tuple[int, int] = PATCH) -> None:
        super().__init__(scale, patch_size)
        self.amount = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        blurred = torch.nn.functional.avg_pool2d(patch, 3, 1, 1, count_include_pad=False)
        amount = self.amount * (1 + location.sum(1) / 100 + image.flatten(1).mean(1) / 10)
        return patch + amount[:, None, None, None] * (patch - blurred)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dataset and the enhancer "tiny"."""
    monkeypatch.setitem(data.DATASETS._factories, "tiny", TinyFaces)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "tiny", TinySharpener)


@pytest.fixture
def faces() -> FaceDataset:
    """The test split of "tiny"."""
    return TinyFaces("test")


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[float], Path]:
    """Writes weights for "tiny" that sharpen by some amount."""

    def write(amount: float) -> Path:
        enhancer = TinySharpener()
        enhancer.amount.data.fill_(amount)
        path = tmp_path / f"tiny-{amount}.safetensors"
        enhancers.save(enhancer, path, {})
        return path

    return write


def tiny_core(stride: int = 1) -> HallucinationCore:
    """The process that the benchmark builds for "tiny"."""
    return build_from_keywords(
        dataset="tiny", enhancer="tiny", weights=None, num_steps=4, action_stride=stride
    ).core


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """An untrained policy for "tiny" with locations 8 pixels apart."""
    path = tmp_path / "policy.safetensors"
    agents.ReinforceAgent(tiny_core(8), "conv", seed=1).save(path)
    return path


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """A static agent for "tiny" that plays the four quarters of the image."""
    path = tmp_path / "static.safetensors"
    agents.StaticAgent(tiny_core(), centres=torch.tensor(CENTRES)).save(path)
    return path


@pytest.fixture
def settings(tmp_path: Path, policy: Path, static: Path) -> dict[str, object]:
    """Settings of a patch-selection benchmark that takes no time."""
    return {
        "dataset": "tiny",
        "enhancer": "tiny",
        "weights": None,
        "policy": (str(policy), str(static)),
        "steps": (2, 4),
        "limit": 6,
        "oracle_limit": 3,
        "oracle_stride": 16,
        "fsim_limit": 2,
        "batch": 4,
        "film_faces": 2,
        "out": tmp_path / "results",
    }
