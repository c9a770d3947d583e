"""Recognisers look at restored faces: what the benchmarks have in common in which they do.

Every image is restored once by every row and shown to all recognisers; what they see is kept from
run to run. Faces are detected on the truth and cut out alike in all versions; see
`facehall_env.recognition.embed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facehall_env import data, metrics
from facehall_env.benchmarks.cache import Compute, Store, in_batches
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.restoring import RestoringConfig
from facehall_env.benchmarks.scoring import Contestant, fingerprint, image_checksums
from facehall_env.core import Precision
from facehall_env.data import FaceDataset
from facehall_env.errors import ConfigurationError
from facehall_env.metrics.landmark_errors import normalised_mean_error
from facehall_env.photos.landmarks import Landmarks, Marker
from facehall_env.recognition import embed
from facehall_env.recognition.embed import Align, FaceRecogniser
from facehall_env.registry import parse_settings
from facehall_env.spec import BICUBIC, Setup
from facehall_env.training.run import versions

TRUTH = "truth"
"""Name of the row of the true faces."""


@dataclass
class JudgingConfig(RestoringConfig):
    """Which faces are restored by whom and cut out how; a benchmark adds who looks at them."""

    scale: int = 8
    models: tuple[str, ...] = (BICUBIC,)
    """Rows of networks that restore whole faces, as for `facehall bench sr`: NAME, NAME=PATH."""
    agents: tuple[str, ...] = ()
    """Rows of agents, as for `facehall bench sr`: ROW=ENHANCER,AGENT[,INITIAL]."""
    batch: int = 32
    """Images that are restored at once."""
    precision: Precision = "fp32"
    """Of the restoring networks: fp32 or bf16."""
    out: Path = Path("benchmarks/results")
    """Folder for the results: JSON, Markdown, and the cache."""
    fresh: bool = False
    """Compute everything again, whatever an earlier run has left in the cache."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset as NAME=VALUE."""
    align: Align = "landmarks"
    """landmarks: by dlib's points on the truth; none: the middle of the image, without dlib."""

    def restoring(self) -> sr.SRBenchConfig:
        """The settings of the rows that restore, of which bicubic is always one."""
        shared = {field.name: getattr(self, field.name) for field in fields(RestoringConfig)}
        if BICUBIC not in self.models:
            shared["models"] = (BICUBIC, *self.models)
        return sr.SRBenchConfig(**shared)

    def open_dataset(self, split: str) -> FaceDataset:
        """A split of the dataset.

        Raises:
            FacehallError: If there is no such dataset, or it is not where it should be.
        """
        return data.make(self.dataset, split=split, **parse_settings(self.dataset_settings))


def gather(config: JudgingConfig, setup: Setup) -> list[sr.Entry]:
    """The rows that restore, in their order.

    Raises:
        FacehallError: If a row cannot be understood, is there twice, has the name of the true
            faces, or its weights cannot be used.
    """
    entries = sr.gather(config.restoring(), setup)
    if TRUTH in [entry.name for entry in entries]:
        raise ConfigurationError(f"A row is called {TRUTH!r}, as the true faces are: rename it.")
    return entries


class Views:
    """What recognisers see of each row, every image restored once.

    Args:
        config: The settings.
        setup: Protocol and device.
        judges: The embed.
        marker: Finds the landmarks; None if nobody needs any.
        images: (N, 3, H, W) uint8, the true faces.
        landmark_errors: Whether it is measured how far landmarks on the restored faces are off.
        folder: Within the cache; of two sets of images that share one, the results on the second
            replace those on the first.

    Attributes:
        landmarks: Of the true faces.
        truth: What is seen of these; as `of` has it.
    """

    def __init__(
        self,
        config: JudgingConfig,
        setup: Setup,
        judges: Sequence[FaceRecogniser],
        marker: Marker | None,
        images: Tensor,
        *,
        landmark_errors: bool = False,
        folder: str = "",
    ) -> None:
        self._config = config
        self._setup = setup
        self._judges = judges
        self._marker = marker
        self._images = images
        self._landmark_errors = landmark_errors
        self._checksums = image_checksums(images)
        self._store = Store(config.out / ".cache" / folder, config.fresh)
        self.landmarks = embed.unmarked(len(images))
        if marker is not None:
            self.landmarks = self._found(marker)
        self.truth = self._compute(TRUTH, None, {"row": TRUTH})

    def of(self, contestant: Contestant) -> dict[str, Tensor]:
        """What is seen of the faces as someone restores them.

        Returns:
            Embeddings (N, D) by the recognisers' names; ``psnr`` and ``ssim`` (N,) float64; and
            ``nme`` (N,), of the landmarks, if it is measured.
        """
        return self._compute(contestant.name, contestant, contestant.identity())

    def not_found(self, keys: Sequence[str]) -> list[str]:
        """Names of the true faces in which landmarks were looked for in vain.

        Args:
            keys: Names of all N faces.
        """
        if self._marker is None:
            return []
        found = self.landmarks.found.tolist()
        return [key for key, there in zip(keys, found, strict=True) if not there]

    def _found(self, marker: Marker) -> Landmarks:
        def find(rows: slice) -> dict[str, Tensor]:
            return {"points": torch.from_numpy(marker(self._images[rows].float() / 255).points)}

        settings = {"marker": fingerprint(marker), "versions": versions()}
        return Landmarks(self._batches(find, "landmarks", settings)["points"].numpy())

    def _compute(
        self, name: str, contestant: Contestant | None, who: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The rows of all images; None leaves them as they are."""
        settings = {
            "who": dict(who),
            "judges": [fingerprint(judge) for judge in self._judges],
            "marker": None if self._marker is None else fingerprint(self._marker),
            "landmarks": self._landmark_errors,
            "protocol": asdict(self._setup.protocol),
            "scale": self._config.scale,
            "batch": self._config.batch,
            "versions": versions(),
        }
        return self._batches(partial(self._view, contestant), name, settings)

    def _batches(
        self, compute: Compute, name: str, settings: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        return in_batches(compute, self._checksums, self._config.batch, self._store, name, settings)

    def _view(self, contestant: Contestant | None, rows: slice) -> dict[str, Tensor]:
        protocol, scale = self._setup.protocol, self._config.scale
        images = self._images[rows].to(self._setup.core.device)
        truth = restored = images.float() / 255
        if contestant is not None:
            restored = sr.restored(contestant, protocol.degrade(images, scale), rows.start)
        points = self.landmarks.rows(rows)
        seen = {judge.name: judge.embed(restored, points) for judge in self._judges}
        scores = metrics.score(restored, truth, protocol, scale, ("psnr", "ssim"))
        seen |= {name: values.double().cpu() for name, values in scores.items()}
        if self._landmark_errors and self._marker is not None:
            errors = normalised_mean_error(self._marker(restored), points)
            seen["nme"] = torch.from_numpy(errors)
        return seen


def told_not_found(names: Sequence[str]) -> str:
    """A sentence for the table's caption, with a space before it; empty if all were found."""
    if not names:
        return ""
    return f" Not found in the truth and cut out as a whole: {len(names)} (listed in the JSON)."
