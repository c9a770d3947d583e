"""What recognisers see of restored faces.

Every face is restored once by every restorer and shown to all recognisers; what they see is kept
from run to run. Faces are detected on the truth and cut out alike in all versions; see
`facehall_env.recognition.embed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from facehall_env import metrics
from facehall_env.benchmarks.cache import Advance, Cache, Compute
from facehall_env.benchmarks.fingerprint import fingerprint
from facehall_env.benchmarks.restorers import Restorer
from facehall_env.benchmarks.scoring import TestFaces
from facehall_env.metrics.landmark_errors import normalised_mean_error
from facehall_env.photos.landmarks import Landmarks, Marker
from facehall_env.recognition import embed
from facehall_env.recognition.embed import FaceRecogniser

TRUTH = "truth"
"""Name of the row of the true faces."""


class Views:
    """What recognisers see of the same faces as each restorer restores them.

    Args:
        faces: The faces.
        judges: The recognisers.
        marker: Finds the landmarks; None if nobody needs any.
        cache: Where results are kept.
        batch: Faces that are restored at once.
        landmark_errors: Whether it is measured how far landmarks on the restored faces are off.
        split: Name of the set of faces, which tells files of the cache apart.

    Attributes:
        landmarks: The landmarks of the true faces.
        truth: What is seen of the true faces; see `of`.
    """

    def __init__(
        self,
        faces: TestFaces,
        judges: Sequence[FaceRecogniser],
        marker: Marker | None = None,
        cache: Cache | None = None,
        *,
        batch: int = 32,
        landmark_errors: bool = False,
        split: str = "test",
    ) -> None:
        self.faces = faces
        self._judges = judges
        self._marker = marker
        self._cache = cache or Cache(None)
        self._batch = batch
        self._errors_of = marker if landmark_errors else None
        self._split = split
        self.landmarks = embed.unmarked(len(faces)) if marker is None else self._found(marker)
        self.truth = self.of(None)

    def not_found(self, keys: Sequence[str]) -> list[str]:
        """Names of the true faces in which no landmarks were found.

        Args:
            keys: Names of all N faces.
        """
        if self._marker is None:
            return []
        found = self.landmarks.found.tolist()
        return [key for key, there in zip(keys, found, strict=True) if not there]

    def _found(self, marker: Marker) -> Landmarks:
        def find(rows: slice, advance: Advance) -> dict[str, Tensor]:
            return {
                "points": torch.from_numpy(marker(self.faces.images[rows].float() / 255).points)
            }

        settings = {"marker": fingerprint(marker)}
        return Landmarks(self._rows(find, "landmarks", settings, self._batch)["points"].numpy())

    def of(self, restorer: Restorer | None) -> dict[str, Tensor]:
        """What is seen of the faces as a restorer restores them; without one, of the true faces.

        Returns:
            Embeddings (N, D) by the recognisers' names; ``psnr`` and ``ssim`` (N,) float64; and
            ``nme`` (N,), the error of the landmarks, if it is measured.
        """
        faces = self.faces
        batch = min(self._batch, (restorer and restorer.most_at_once) or self._batch)
        settings = {
            "restorer": TRUTH if restorer is None else restorer.fingerprint,
            "judges": fingerprint(list(self._judges)),
            "marker": "none" if self._marker is None else fingerprint(self._marker),
            "landmark_errors": self._errors_of is not None,
            "protocol": asdict(faces.protocol),
            "scale": faces.scale,
            "batch": batch,
        }

        def see(rows: slice, advance: Advance) -> dict[str, Tensor]:
            if restorer is None:
                truth = restored = faces.images[rows].to(faces.device).float() / 255
            else:
                given = faces.rows(rows)
                truth, restored = given.hr, restorer.restore(given, rows.start)
            points = self.landmarks.rows(rows)
            seen = {judge.name: judge.embed(restored, points) for judge in self._judges}
            scores = metrics.score(restored, truth, faces.protocol, faces.scale, ("psnr", "ssim"))
            seen |= {name: values.double().cpu() for name, values in scores.items()}
            if self._errors_of is not None:
                errors = normalised_mean_error(self._errors_of(restored), points)
                seen["nme"] = torch.from_numpy(errors)
            return seen

        return self._rows(see, TRUTH if restorer is None else restorer.name, settings, batch)

    def _rows(
        self, compute: Compute, name: str, settings: dict[str, Any], batch: int
    ) -> dict[str, Tensor]:
        known = None not in settings.values()
        return self._cache.rows(
            compute,
            self.faces.checksums,
            name=name,
            settings={**settings, "split": self._split} if known else None,
            batch=batch,
        )


def missing_faces_note(names: Sequence[str]) -> str:
    """A sentence for the table's caption, with a space before it; empty if all were found."""
    if not names:
        return ""
    return f" Not found in the truth and cut out as a whole: {len(names)} (listed in the JSON)."
