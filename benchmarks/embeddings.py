"""What recognisers see of restored faces.

Every face is restored once by every restorer and shown to all recognisers; what they see is kept
from run to run. Faces are detected on the truth and cut out alike in all versions; see
`facehall_env.recognition.embed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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


@dataclass(eq=False)
class Views:
    """What recognisers see of the same faces as each restorer restores them.

    Attributes:
        faces: The N faces.
        judges: The recognisers.
        marker: Finds the landmarks; None if nobody needs any.
        cache: Where results are kept.
        batch: Faces that are restored at once.
        landmark_errors: Whether it is measured how far landmarks on the restored faces are off.
        split: Name of the set of faces, which tells files of the cache apart.
        landmarks: The landmarks of the true faces.
        truth: What is seen of the true faces; see `of`.
    """

    faces: TestFaces
    judges: Sequence[FaceRecogniser]
    marker: Marker | None = None
    cache: Cache = field(default_factory=lambda: Cache(None))
    batch: int = 32
    landmark_errors: bool = False
    split: str = "test"

    def __post_init__(self) -> None:
        """Looks at the true faces."""
        self.landmarks = embed.unmarked(len(self.faces))
        if (marker := self.marker) is not None:

            def find(rows: slice, _: Advance) -> dict[str, Tensor]:
                points = marker(self.faces.images[rows].float() / 255).points
                return {"points": torch.from_numpy(points)}

            found = self._rows(find, "landmarks", {"marker": fingerprint(marker)}, self.batch)
            self.landmarks = Landmarks(found["points"].numpy())
        self.truth = self.of(None)

    def not_found(self, keys: Sequence[str]) -> list[str]:
        """Those of the names of all N true faces in which no landmarks were found."""
        if self.marker is None:
            return []
        found = self.landmarks.found.tolist()
        return [key for key, there in zip(keys, found, strict=True) if not there]

    def of(self, restorer: Restorer | None) -> dict[str, Tensor]:
        """What is seen of the faces as a restorer restores them; without one, of the true faces.

        Returns:
            Embeddings (N, D) by the recognisers' names; ``psnr`` and ``ssim`` (N,) float64; and
            ``nme`` (N,), the error of the landmarks, if it is measured.
        """
        faces, marker = self.faces, self.marker
        batch = min(self.batch, (restorer and restorer.most_at_once) or self.batch)
        settings = {
            "restorer": TRUTH if restorer is None else restorer.fingerprint,
            "judges": fingerprint(list(self.judges)),
            "marker": "none" if marker is None else fingerprint(marker),
            "landmark_errors": self.landmark_errors,
            "protocol": asdict(faces.protocol),
            "scale": faces.scale,
            "batch": batch,
        }

        def see(rows: slice, _: Advance) -> dict[str, Tensor]:
            if restorer is None:
                truth = restored = faces.images[rows].to(faces.device).float() / 255
            else:
                given = faces.rows(rows)
                truth, restored = given.hr, restorer.restore(given, rows.start)
            points = self.landmarks.rows(rows)
            seen = {judge.name: judge.embed(restored, points) for judge in self.judges}
            scores = metrics.score(restored, truth, faces.protocol, faces.scale, ("psnr", "ssim"))
            seen |= {name: values.double().cpu() for name, values in scores.items()}
            if self.landmark_errors and marker is not None:
                errors = normalised_mean_error(marker(restored), points)
                seen["nme"] = torch.from_numpy(errors)
            return seen

        return self._rows(see, TRUTH if restorer is None else restorer.name, settings, batch)

    def _rows(
        self, compute: Compute, name: str, settings: dict[str, Any], batch: int
    ) -> dict[str, Tensor]:
        settings, sums = {**settings, "split": self.split}, self.faces.checksums
        return self.cache.rows(compute, sums, name=name, settings=settings, batch=batch)


def missing_faces_note(names: Sequence[str]) -> str:
    """A sentence for the table's caption, with a space before it; empty if all were found."""
    if not names:
        return ""
    return f" Not found in the truth and cut out as a whole: {len(names)} (listed in the JSON)."
