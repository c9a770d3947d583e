from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from facehall_env.enhancers import Enhancer


class Sharpen(Enhancer):
    """Cheap, and different at every location, for every image and at every repetition."""

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        blurred = torch.nn.functional.avg_pool2d(patch, 3, 1, 1, count_include_pad=False)
        amount = 0.3 + location.sum(1) / 1000 + image.flatten(1).mean(1) / 10
        return patch + amount[:, None, None, None] * (patch - blurred)


@pytest.fixture
def sharpen() -> Sharpen:
    """An enhancer of patches of 24 x 20 pixels for scale 4."""
    return Sharpen(4, (24, 20))


@pytest.fixture
def video_frames(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """The frames that Gymnasium's RecordVideo would have moviepy encode."""
    recorded: list[Any] = []

    class Clip:
        def __init__(self, frames: list[Any], fps: int) -> None:
            recorded.extend(frames)

        def write_videofile(self, path: str, logger: str | None = None) -> None:
            """Writes nothing."""

    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    encoder = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    encoder.ImageSequenceClip = Clip  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, encoder.__name__, encoder)
    return lambda: recorded
