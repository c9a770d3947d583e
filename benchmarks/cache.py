"""Results for many images, computed batch by batch and kept on disk in between."""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facehall_env.benchmarks.fingerprint import project_code
from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.errors import WeightsError
from facehall_env.files import write_text_atomic
from facehall_env.progress import progress
from facehall_env.training.run import versions

Advance = Callable[[int], object]
"""Moves a progress bar on by so many units."""
Compute = Callable[[slice, Advance], Mapping[str, Tensor]]
"""Computes tensors with a row for each image of a slice, on the CPU."""

SAVE_EVERY = 10.0
"""Seconds between two copies of what was computed."""


class Cache:
    """A folder of results, one file for each restorer and purpose, extended batch by batch.

    Args:
        folder: Where the files are, which git is told to ignore; None keeps nothing.
        fresh: Compute everything again, whatever is there.
    """

    def __init__(self, folder: Path | None, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh
        self._warned: set[str] = set()

    def rows(
        self,
        compute: Compute,
        checksums: Tensor,
        *,
        name: str,
        settings: Mapping[str, Any] | None,
        batch: int,
        unit: str = "face",
        units: int = 1,
    ) -> dict[str, Tensor]:
        """Computes tensors with N rows, except those that an earlier run has left.

        What was computed is kept every few seconds, at the end, and when the run is interrupted.

        Args:
            compute: Makes the rows of some of the images.
            checksums: (N,) int64 of the images; see `image_checksums`.
            name: What is computed, for the progress bar and the file.
            settings: All that the rows depend on beside the images and the code of the project;
                JSON-serialisable. None, or with a None among them, if that cannot be told:
                nothing is kept then, and a warning says so once.
            batch: Images of a slice.
            unit: What the progress bar counts.
            units: How many of them each image takes.
        """
        path = self._path(name, settings)
        rows = self._load(path, checksums)
        done = len(next(iter(rows.values()))) if rows else 0
        # What is random in a batch may depend on where it begins: an incomplete one is done again.
        if done < len(checksums):
            done -= done % batch
        parts = [{key: tensor[:done] for key, tensor in rows.items()}] if done else []
        saved, kept = time.monotonic(), done
        bar = progress(
            total=len(checksums) * units, initial=done * units, desc=f"{name:>12}", unit=unit
        )
        try:
            with bar:
                while done < len(checksums):
                    last = min(done + batch, len(checksums))
                    parts.append(dict(compute(slice(done, last), bar.update)))
                    bar.update(last * units - bar.n)
                    done = last
                    if time.monotonic() - saved > SAVE_EVERY:
                        parts = [_joined(parts)]
                        self._save(path, checksums, parts[0])
                        saved, kept = time.monotonic(), done
        finally:
            whole = _joined(parts)
            if done > kept:
                self._save(path, checksums, whole)
        return whole

    def _path(self, name: str, settings: Mapping[str, Any] | None) -> Path | None:
        """A file whose name holds a hash of everything that its content depends on."""
        if self.folder is None:
            return None
        if settings is None or None in settings.values():
            if name not in self._warned:
                self._warned.add(name)
                warnings.warn(
                    f"{name} holds parts whose code or state cannot be read: its results are "
                    "computed anew in each run.",
                    stacklevel=3,
                )
            return None
        content = json.dumps(
            {**settings, "code": project_code(), "versions": versions()}, sort_keys=True
        )
        digest = hashlib.sha256(content.encode()).hexdigest()
        word = re.sub(r"[^\w.-]+", "_", name)
        return self.folder / f"{word}-{digest[:20]}.safetensors"

    def _load(self, path: Path | None, checksums: Tensor) -> dict[str, Tensor]:
        """What is there on the first of these images; nothing if it is on others."""
        if path is None or self.fresh or not path.is_file():
            return {}
        try:
            tensors, _ = load_tensors(path, kind="batches")
        except WeightsError as error:
            warnings.warn(f"{error} What it held is computed again.", stacklevel=4)
            return {}
        found = tensors.pop("checksums")
        number = min(len(found), len(checksums))
        if number == 0 or not torch.equal(found[:number], checksums[:number]):
            return {}
        return {name: tensor[:number] for name, tensor in tensors.items()}

    def _save(self, path: Path | None, checksums: Tensor, rows: Mapping[str, Tensor]) -> None:
        """Keeps what was computed on the first of these images."""
        if path is None or not rows:
            return
        if not (ignore := path.parent / ".gitignore").is_file():
            write_text_atomic(ignore, "*\n")
        done = len(next(iter(rows.values())))
        save_tensors(path, {**rows, "checksums": checksums[:done]}, {}, kind="batches")


def image_checksums(images: Tensor) -> Tensor:
    """A number for each image (N, ...) that changes when a pixel does, (N,) int64."""
    digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    return torch.tensor([int.from_bytes(d[:8], "big", signed=True) for d in digests])


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if not parts:
        return {}
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
