"""The metrics that columns of tables may have, by name.

Those that a protocol scores (PSNR, SSIM, FSIM) come from the measurement itself; others look at the
restored faces, or say what a method costs. What cannot be had says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facehall_env.errors import ConfigurationError, FacehallError
from facehall_env.photos.landmarks import DlibLandmarks, Landmarks, Marker

if TYPE_CHECKING:
    from facehall_env.metrics.perceptual import LPIPS

Score = Callable[[Tensor, Tensor], Tensor]
"""Takes restored and true faces (N, 3, H, W) in [0, 1] and gives (N,) float64 on the CPU, NaN where
there is no score."""
Source = Literal["protocol", "faces", "cost", "pairs", "none"]
JUDGES: Mapping[str, str] = {
    "accuracy": "dlib",
    "accuracy-2": "mobilefacenet",
    "accuracy-all": "dlib",
    "cosine": "dlib",
}
"""Who looks at the faces in the columns of verification."""


class Remembering:
    """A marker that marks the same face once only: the truth is that of all rows and metrics."""

    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._points: dict[bytes, NDArray[np.float64]] = {}

    def __call__(self, faces: Tensor) -> Landmarks:
        """The points of faces (N, 3, H, W) in [0, 1]."""
        points = []
        for face in faces.detach().cpu():
            key = hashlib.sha256(face.contiguous().numpy().tobytes()).digest()
            if key not in self._points:
                self._points[key] = self._marker(face[None]).points[0]
            points.append(self._points[key])
        return Landmarks(np.stack(points))


@lru_cache(maxsize=1)
def _dlib() -> Marker:
    return Remembering(DlibLandmarks())


@dataclass(frozen=True)
class Settings:
    """What metrics need that not everybody has.

    Attributes:
        lpips: Files with the weights of LPIPS's network and of its linear layers.
        device: Where networks compute.
        marker: Finds the landmarks; dlib by default.
    """

    lpips: tuple[str, str] | None = None
    device: str = "cpu"
    marker: Marker | None = None


@dataclass(frozen=True)
class Metric:
    """What a column shows.

    Attributes:
        digits: Behind the point.
        source: Where it comes from: the protocol's scores, the restored faces, counting and timing,
            pairs of faces, or nowhere.
        lower: Whether less is better.
        make: Makes the score, of a metric that looks at the restored faces.
        why: Why there is none, of a metric from nowhere.
    """

    title: str
    digits: int
    source: Source = "protocol"
    lower: bool = False
    make: Callable[[Settings], Score] | None = None
    why: str = ""


def _lpips(settings: Settings) -> Score:
    network = _perceptual(settings)
    return lambda restored, truth: network(restored, truth).double().cpu()


def _mps(settings: Settings) -> Score:
    from facehall_env.metrics.mps import mps

    network = _perceptual(settings)
    return lambda restored, truth: mps(restored, truth, network).double().cpu()


def _perceptual(settings: Settings) -> LPIPS:
    from facehall_env.metrics.perceptual import LPIPS

    if settings.lpips is None:
        raise ConfigurationError(
            'LPIPS needs weights: give --set \'lpips=["BACKBONE", "LINEAR"]\'; docs/perceptual.md '
            "says where to get them"
        )
    return LPIPS.load(*settings.lpips).to(settings.device)


def _identity(settings: Settings) -> Score:
    from facehall_env.metrics.verification import cosine_similarity
    from facehall_env.recognition import embed

    recogniser = embed.make("dlib", "landmarks", settings.device, settings.marker or _dlib())

    def score(restored: Tensor, truth: Tensor) -> Tensor:
        points = recogniser.align(truth)
        return torch.from_numpy(
            cosine_similarity(recogniser.embed(restored, points), recogniser.embed(truth, points))
        )

    return score


def _landmark_area(settings: Settings) -> Score:
    from facehall_env.metrics.landmark_errors import LIMIT, normalised_mean_error

    mark = settings.marker or _dlib()

    def score(restored: Tensor, truth: Tensor) -> Tensor:
        errors = normalised_mean_error(mark(restored), mark(truth))
        # What an error leaves of the limit: its mean is the area under the curve of all.
        return torch.from_numpy(100 * np.maximum(0, 1 - errors / LIMIT))

    return score


_BENCH = "`facehall bench identity` measures it where the faces are"

METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR", 2),
    "ssim": Metric("SSIM", 4),
    "fsim": Metric("FSIM", 4),
    "lpips": Metric("LPIPS", 4, "faces", lower=True, make=_lpips),
    "mps": Metric("MPS", 4, "faces", make=_mps),
    "identity": Metric("identity", 4, "faces", make=_identity),
    "auc": Metric("AUC(<10%) %", 2, "faces", make=_landmark_area),
    "accuracy": Metric("verification %", 2, "pairs"),
    "accuracy-2": Metric("verification % (MobileFaceNet)", 2, "pairs"),
    # All pairs of each fold's faces, which are many more than those of the list.
    "accuracy-all": Metric("verification %, all pairs", 2, "pairs"),
    # As "identity", but of the faces of the pairs, whose embeddings verification has already.
    "cosine": Metric("cosine to the truth", 4, "pairs"),
    "mparams": Metric("parameters M", 2, "cost", lower=True),
    "gmacs": Metric("GMACs", 2, "cost", lower=True),
    "ms": Metric("ms/face", 1, "cost", lower=True),
    "time-ratio": Metric("time ratio", 2, "cost", lower=True),
    "tar": Metric("TAR at FAR 0.001", 2, "none", why=_BENCH),
    "rank1": Metric("rank-1", 2, "none", why=_BENCH),
    "attributes": Metric(
        "attributes %", 2, "none", why="it needs a network trained on CelebA's attributes"
    ),
    "mos": Metric("MOS", 2, "none", why="it takes people who look at faces"),
    "mug-shot": Metric(
        "similarity", 4, "none", why="SCface's faces have no truth that this engine could score"
    ),
}
"""All of them."""


def make_scores(names: list[str], settings: Settings) -> tuple[dict[str, Score], dict[str, str]]:
    """The scores of restored faces among some metrics, and why others cannot be had."""
    scores: dict[str, Score] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(names):
        metric = METRICS[name]
        if metric.source == "none":
            reasons[name] = metric.why
        if metric.make is None:
            continue
        try:
            scores[name] = metric.make(settings)
        except FacehallError as error:
            reasons[name] = str(error).rstrip(".")
    return scores, reasons
