"""Scores of restored faces: PSNR, SSIM, FSIM and time, after each patch where there are patches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from facehall_env import metrics
from facehall_env.benchmarks.cache import Advance, Cache, image_checksums
from facehall_env.benchmarks.restorers import PatchByPatch, Restorer
from facehall_env.data import FaceDataset, Faces, Protocol
from facehall_env.progress import progress
from facehall_env.state import CoreState

ORDER_SEED = 0
"""Seed of the order of the test images, which no option changes."""
CHUNK = 32
"""Faces that are degraded at once."""
ORACLE_LIMIT = 200
"""Most faces that the oracle restores, unless a setting says otherwise: it is slow."""


class TestFaces:
    """The faces that a benchmark shows to all restorers, each one degraded once.

    Args:
        images: (N, 3, H, W) uint8, the true faces.
        protocol: How they are degraded, and the convention of the metrics.
        scale: Factor between the resolutions.
        device: Where `rows` puts them.
    """

    __test__ = False  # pytest takes classes of such a name for tests.

    def __init__(
        self, images: Tensor, protocol: Protocol, scale: int, device: str | torch.device = "cpu"
    ) -> None:
        self.images = images
        self.protocol = protocol
        self.scale = scale
        self.device = torch.device(device)
        self.checksums = image_checksums(images)
        self._degraded: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.images)

    def rows(self, rows: slice) -> Faces:
        """Some of the faces, a slice without a step, degraded when they are first asked for."""
        start, stop, _ = rows.indices(len(self))
        chunks = range(start // CHUNK, (max(start, stop - 1)) // CHUNK + 1)
        lr, initial = (torch.cat(parts) for parts in zip(*map(self._chunk, chunks), strict=True))
        own = slice(start - chunks[0] * CHUNK, stop - chunks[0] * CHUNK)
        return Faces(
            self.images[start:stop].to(self.device).float() / 255,
            lr[own].to(self.device),
            initial[own].to(self.device),
        )

    def _chunk(self, number: int) -> tuple[Tensor, Tensor]:
        """The low-resolution and the up-sampled faces of a chunk, on the CPU."""
        if number not in self._degraded:
            images = self.images[number * CHUNK : (number + 1) * CHUNK]
            faces = self.protocol.degrade(images.to(self.device), self.scale)
            self._degraded[number] = (faces.lr.cpu(), faces.initial.cpu())
        return self._degraded[number]


@dataclass(frozen=True)
class Measurements:
    """Scores of N faces, all on the CPU; T is the number of patches, 0 for a whole-face network.

    Attributes:
        psnr: (N, T + 1) float64 in dB under the protocol, before the first and after each patch.
        ssim: (N, S) float64 after each of the S numbers of patches asked for; S is 1 if T is 0.
        fsim: (N, S) float64; NaN for faces beyond the limit.
        seconds: (N, T + 1) float64, time until then: the face's share of its batch's.
        actions: (N, T) int64; -1 where there was no patch.
    """

    psnr: Tensor
    ssim: Tensor
    fsim: Tensor
    seconds: Tensor
    actions: Tensor

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.psnr)

    def over(self, steps: int, numbers: int) -> Measurements:
        """Measurements of T ``steps`` and S ``numbers`` of these; a whole face stays as it is."""
        if self.actions.shape[1]:
            return self
        return Measurements(
            psnr=self.psnr.expand(-1, steps + 1),
            ssim=self.ssim.expand(-1, numbers),
            fsim=self.fsim.expand(-1, numbers),
            seconds=self.seconds.expand(-1, steps + 1),
            actions=self.actions.new_full((len(self), steps), -1),
        )


def score(
    restorer: Restorer,
    faces: TestFaces,
    steps: Sequence[int],
    fsim_limit: int,
    batch: int,
    cache: Cache,
    limit: int | None = None,
) -> Measurements:
    """Restores faces and scores them, in their order.

    One episode of an agent's T patches serves every smaller number of patches: it begins in the
    same way.

    Args:
        restorer: Restores the faces.
        faces: The faces.
        steps: After how many patches SSIM and FSIM are taken; of whole-face networks these are
            taken once.
        fsim_limit: FSIM is slow: it is taken on the first so many faces only.
        batch: Faces that are restored at once.
        cache: Where finished batches are kept and found.
        limit: Restore the first so many faces only.
    """
    batch = min(batch, restorer.most_at_once or batch)
    settings = {
        "restorer": restorer.fingerprint,
        "protocol": asdict(faces.protocol),
        "scale": faces.scale,
        "steps": steps if restorer.steps else (),
        "fsim_limit": fsim_limit,
        "batch": batch,
    }

    def compute(rows: slice, advance: Advance) -> dict[str, Tensor]:
        given = faces.rows(rows)
        fsim_faces = max(0, fsim_limit - rows.start)
        if isinstance(restorer, PatchByPatch):
            recorder = _Recorder(faces, steps, fsim_faces, advance)
            return recorder.tensors(restorer.play(given, rows.start, recorder).actions)
        recorder = _Recorder(faces, (0,), fsim_faces, advance)
        recorder.record(restorer.restore(given, rows.start), given.hr)
        return recorder.tensors(torch.empty(len(given.hr), 0, dtype=torch.int64))

    found = cache.rows(
        compute,
        faces.checksums[:limit],
        name=restorer.name,
        settings=settings,
        batch=batch,
        unit="patch" if restorer.steps else "face",
        units=restorer.steps or 1,
    )
    return Measurements(**found)


def limit_of(restorer: Restorer, limit: int, oracle_limit: int = ORACLE_LIMIT) -> int:
    """On how many faces a restorer is scored: the oracle on fewer."""
    oracle = isinstance(restorer, PatchByPatch) and restorer.agent == "oracle"
    return min(limit, oracle_limit) if oracle else limit


class _Recorder:
    """Scores each state of an episode; its own time does not count, nor that of whole faces."""

    def __init__(
        self, faces: TestFaces, steps: Sequence[int], fsim_faces: int, advance: Advance
    ) -> None:
        self._faces = faces
        self._steps = steps
        self._fsim_faces = fsim_faces
        self._advance = advance
        self._scores: dict[str, list[Tensor]] = {"psnr": [], "ssim": [], "fsim": []}
        self._seconds = [0.0]
        self._resumed = time.perf_counter()

    def __call__(self, state: CoreState) -> None:
        """Records the next state, the first one before any patch."""
        passed = self._seconds[-1] + time.perf_counter() - self._resumed
        taken = len(self._scores["psnr"])
        self.record(state.image, state.hr, passed)
        if taken:
            self._advance(state.num_envs)
        # The scores were copied to the host, so that the device has nothing left to do.
        self._resumed = time.perf_counter()

    def record(self, image: Tensor, truth: Tensor, seconds: float = 0.0) -> None:
        """Records faces that were restored in so many seconds."""
        similar = len(self._scores["psnr"]) in self._steps
        self._seconds.append(seconds)
        self._score("psnr", image, truth)
        if similar:
            self._score("ssim", image, truth)
            self._score("fsim", image, truth, self._fsim_faces)

    def tensors(self, actions: Tensor) -> dict[str, Tensor]:
        """All that was recorded; see `Measurements`."""
        number = len(actions)
        seconds = torch.tensor(self._seconds[1:], dtype=torch.float64) / number
        scores = {name: torch.stack(values, dim=1) for name, values in self._scores.items()}
        return {**scores, "seconds": seconds.expand(number, -1), "actions": actions.cpu()}

    def _score(self, name: str, image: Tensor, truth: Tensor, limit: int | None = None) -> None:
        """Adds (N,) float64 on the CPU, NaN for faces beyond the limit."""
        scores, faces = torch.full((len(image),), torch.nan, dtype=torch.float64), self._faces
        if limit != 0:
            scores[:limit] = metrics.score(
                image[:limit], truth[:limit], faces.protocol, faces.scale, (name,)
            )[name]
        self._scores[name].append(scores)


def first_images(dataset: FaceDataset, limit: int) -> Tensor:
    """The first ``limit`` images of a dataset in the fixed order, (N, 3, H, W) uint8."""
    return read_images(dataset, fixed_order(len(dataset), limit))


def read_images(dataset: FaceDataset, numbers: Sequence[int]) -> Tensor:
    """Some images of a dataset, (N, 3, H, W) uint8."""
    bar = progress(numbers, desc=f"{dataset.split:>12}", unit="image")
    return torch.cat([dataset.batch([number]) for number in bar])


def fixed_order(number: int, limit: int) -> list[int]:
    """The first numbers of a random order of ``range(number)`` that is always the same.

    So the first N images are a fair sample, and the first of a larger N are the same ones.

    >>> fixed_order(1000, 5)[:3] == fixed_order(1000, 3)
    True
    >>> sorted(fixed_order(4, 9))
    [0, 1, 2, 3]
    """
    # Fisher and Yates' shuffle, which keeps only the places that it has touched: a dataset of
    # procedural faces may have billions.
    generator = np.random.default_rng(ORDER_SEED)
    moved: dict[int, int] = {}
    order = []
    for place in range(min(number, limit)):
        other = int(generator.integers(place, number))
        order.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return order
