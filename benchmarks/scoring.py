"""Playing an agent on many images and scoring every step, with a cache that survives a kill."""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from facehall_env import metrics
from facehall_env.agents import Agent, rollout
from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.core import HallucinationCore
from facehall_env.data import Protocol
from facehall_env.errors import WeightsError
from facehall_env.files import write_text_atomic
from facehall_env.patches import PatchGeometry
from facehall_env.state import CoreState
from facehall_env.training.run import versions


@dataclass(frozen=True)
class Measurements:
    """What one agent made of N images, all on the CPU.

    Attributes:
        psnr: (N, T + 1) float64 in dB under the protocol, before the first and after each patch.
        ssim: (N, S) float64 after each of the S numbers of patches asked for.
        fsim: (N, S) float64; NaN for images beyond the limit.
        seconds: (N, T + 1) float64, time until then: the image's share of its batch's.
        actions: (N, T) int64; -1 where there was no patch.
    """

    psnr: Tensor
    ssim: Tensor
    fsim: Tensor
    seconds: Tensor
    actions: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.psnr)

    def first(self, number: int) -> Measurements:
        """Those of the first images."""
        return Measurements(**{name: tensor[:number] for name, tensor in vars(self).items()})

    def __add__(self, other: Measurements) -> Measurements:
        """Those of further images behind these."""
        more = vars(other)
        return Measurements(
            **{name: torch.cat((own, more[name])) for name, own in vars(self).items()}
        )


@dataclass(frozen=True)
class Contestant:
    """Who is measured.

    Attributes:
        name: In the tables.
        core: The process it plays on.
        make_agent: Builds the agent for the batch that starts with the image of that number;
            None for the starting image, which no patch changes.
        seed: Of an agent that draws at random; part of what tells cached results apart.
    """

    name: str
    core: HallucinationCore
    make_agent: Callable[[int], Agent] | None
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """All that its results depend on, as far as it is the contestant's."""
        identity: dict[str, Any] = {
            "agent": None if self.make_agent is None else fingerprint(self.make_agent(0)),
            "enhancer": fingerprint(self.core.enhancer),
            "geometry": _described(self.core.geometry),
            "num_steps": self.core.num_steps,
            "precision": self.core.precision,
            "device": self.core.device.type,
            "seed": self.seed,
        }
        if self.core.initial is not None:
            identity["initial"] = fingerprint(self.core.initial)
        return identity


def _described(geometry: PatchGeometry) -> dict[str, Any]:
    """The locations; of the middles of cells nothing is said, since there was nothing else once."""
    described = asdict(geometry)
    if geometry.centre == geometry.stride // 2:
        del described["offset"]
    return described


@dataclass(frozen=True)
class Scoring:
    """How images are degraded, played and scored.

    Attributes:
        protocol: Degrades the images and fixes the convention of the metrics.
        scale: Factor between the resolutions.
        steps: After how many patches SSIM and FSIM are taken.
        fsim_limit: FSIM is slow: it is taken on the first so many images only.
        batch: Images that are played at once.
    """

    protocol: Protocol
    scale: int
    steps: tuple[int, ...]
    fsim_limit: int
    batch: int


class Cache:
    """Measurements on disk, one file for each contestant, extended batch by batch.

    Args:
        folder: Where the files are, which git is told to ignore; None keeps nothing.
        fresh: Begin again, whatever is there.
    """

    def __init__(self, folder: Path | None, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh

    def path(self, contestant: Contestant, scoring: Scoring) -> Path | None:
        """The file of a contestant: its name says all that the results depend on, hashed."""
        if self.folder is None:
            return None
        settings = {
            **contestant.identity(),
            "scoring": asdict(scoring),
            "versions": versions(),
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        name = re.sub(r"[^\w.-]+", "_", contestant.name)
        return self.folder / f"{name}-{digest[:20]}.safetensors"

    def load(self, path: Path | None, checksums: Tensor, batch: int) -> Measurements | None:
        """What an earlier run measured on the first of these images, in whole batches."""
        if path is None or self.fresh or not path.is_file():
            return None
        try:
            tensors, _ = load_tensors(path, kind="measurements")
        except WeightsError as error:
            warnings.warn(f"{error} What it held is measured again.", stacklevel=2)
            return None
        found = tensors.pop("checksums")
        number = min(len(found), len(checksums))
        # An incomplete last batch is played again: what a random agent draws depends on its size.
        if number < len(checksums):
            number -= number % batch
        if number == 0 or not torch.equal(found[:number], checksums[:number]):
            return None
        return Measurements(**tensors).first(number)

    def save(self, path: Path | None, checksums: Tensor, measured: Measurements) -> None:
        """Keeps what was measured on the first of these images."""
        if path is None:
            return
        if not (ignore := path.parent / ".gitignore").is_file():
            write_text_atomic(ignore, "*\n")
        tensors = {**vars(measured), "checksums": checksums[: len(measured)]}
        save_tensors(path, tensors, {}, kind="measurements")


def measure(
    contestant: Contestant,
    images: Tensor,
    scoring: Scoring,
    cache: Cache | None = None,
    progress: bool = True,
) -> Measurements:
    """Plays a contestant on images and scores every step.

    One episode of the core's T patches serves every smaller number of patches: it begins in the
    same way.

    Args:
        contestant: Who plays.
        images: (N, 3, H, W) uint8, the true faces.
        scoring: How to play and score.
        cache: Where finished batches are kept and found.
        progress: Whether to show a progress bar.

    Returns:
        The measurements of all images, in their order.
    """
    cache = cache or Cache(None)
    path, checksums = cache.path(contestant, scoring), image_checksums(images)
    measured = cache.load(path, checksums, scoring.batch)
    done = 0 if measured is None else len(measured)
    with tqdm(
        total=len(images) * contestant.core.num_steps,
        initial=done * contestant.core.num_steps,
        desc=f"{contestant.name:>10}",
        unit="patch",
        disable=not progress,
    ) as bar:
        for first in range(done, len(images), scoring.batch):
            new = _play(contestant, images[first : first + scoring.batch], first, scoring, bar)
            measured = new if measured is None else measured + new
            bar.set_postfix(psnr=f"{measured.psnr[:, -1].mean():.2f} dB")
            cache.save(path, checksums, measured)
    if measured is None:
        raise ValueError("images is empty; expected at least one image.")
    return measured


def _play(
    contestant: Contestant, images: Tensor, first: int, scoring: Scoring, bar: Any
) -> Measurements:
    """One batch; ``first`` is the number of its first image."""
    core = contestant.core
    faces = scoring.protocol.degrade(images.to(core.device), scoring.scale)
    recorder = _Recorder(scoring, max(0, scoring.fsim_limit - first), bar)
    if contestant.make_agent is None:
        state = core.reset(faces)
        recorder.record_still(state, core.num_steps)
        return recorder.measurements(state.actions)
    agent = contestant.make_agent(first)
    recorder.start()
    played = rollout(core, agent, faces, on_step=recorder)
    return recorder.measurements(played.actions)


class _Recorder:
    """Scores each state of a rollout; its own time does not count."""

    def __init__(self, scoring: Scoring, fsim_images: int, bar: Any) -> None:
        self._scoring = scoring
        self._fsim_images = fsim_images
        self._bar = bar
        self._psnr: list[Tensor] = []
        self._similarity: dict[str, list[Tensor]] = {"ssim": [], "fsim": []}
        self._seconds: list[float] = []
        self._resumed = 0.0

    def start(self) -> None:
        """Starts the clock."""
        self._resumed = time.perf_counter()

    def __call__(self, state: CoreState) -> None:
        """Records the next state, the first one before any patch."""
        before = self._seconds[-1] if self._seconds else 0.0
        self._seconds.append(before + time.perf_counter() - self._resumed)
        taken = len(self._psnr)
        self._psnr.append(self._score(state, "psnr"))
        if taken in self._scoring.steps:
            self._record_similarity(state)
        if taken:
            self._bar.update(state.num_envs)
        # The scores were copied to the host, so that the device has nothing left to do.
        self._resumed = time.perf_counter()

    def record_still(self, state: CoreState, num_steps: int) -> None:
        """Records an episode in which nothing happens, in no time."""
        self._psnr = [self._score(state, "psnr")] * (num_steps + 1)
        self._record_similarity(state)
        for scores in self._similarity.values():
            scores *= len(self._scoring.steps)
        self._seconds = [0.0] * (num_steps + 1)
        self._bar.update(state.num_envs * num_steps)

    def measurements(self, actions: Tensor) -> Measurements:
        """All that was recorded."""
        number = len(actions)
        seconds = torch.tensor(self._seconds, dtype=torch.float64) / number
        return Measurements(
            psnr=torch.stack(self._psnr, dim=1),
            ssim=torch.stack(self._similarity["ssim"], dim=1),
            fsim=torch.stack(self._similarity["fsim"], dim=1),
            seconds=seconds.expand(number, -1),
            actions=actions.cpu(),
        )

    def _record_similarity(self, state: CoreState) -> None:
        self._similarity["ssim"].append(self._score(state, "ssim"))
        fsim = torch.full((state.num_envs,), torch.nan, dtype=torch.float64)
        if number := min(self._fsim_images, state.num_envs):
            fsim[:number] = self._score(state, "fsim", number)
        self._similarity["fsim"].append(fsim)

    def _score(self, state: CoreState, name: str, number: int | None = None) -> Tensor:
        """(N,) float64 on the CPU, of the first ``number`` images."""
        image, truth = state.image[:number], state.hr[:number]
        scoring = self._scoring
        scores = metrics.score(image, truth, scoring.protocol, scoring.scale, (name,))
        return scores[name].double().cpu()


def image_checksums(images: Tensor) -> Tensor:
    """A number for each image that changes when a pixel does, (N,) int64."""
    digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    return torch.tensor([int.from_bytes(d[:8], "big", signed=True) for d in digests])


def fingerprint(thing: object) -> str:
    """Hash of what an agent or a network consists of: tensors, weights and plain settings.

    >>> fingerprint(nn.Linear(1, 1)) == fingerprint(nn.Linear(1, 1))
    False
    >>> fingerprint(nn.ReLU()) == fingerprint(nn.ReLU())
    True
    """
    digest = hashlib.sha256()
    for name, value in _parts(thing):
        digest.update(f"{name}=".encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _parts(thing: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    yield f"{prefix}class", f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, nn.Module):
        for name, tensor in sorted(thing.state_dict().items()):
            yield prefix + name, tensor
    for name, value in sorted(vars(thing).items()):
        if isinstance(value, Tensor | bool | int | float | str | tuple):
            yield prefix + name, value
        elif isinstance(value, nn.Module):
            yield from _parts(value, f"{prefix}{name}.")
        elif name == "config" and isinstance(value, Mapping):
            yield prefix + name, sorted(value.items())
