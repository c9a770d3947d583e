"""Something computed for many images, batch by batch, and kept on disk in between."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.errors import WeightsError
from facehall_env.files import write_text_atomic

Compute = Callable[[slice], Mapping[str, Tensor]]
"""Tensors with a row for each image of a slice, on the CPU."""

SAVE_EVERY = 10.0
"""Seconds between two copies of what was computed."""


class Store:
    """A folder of results that an interrupted run has left.

    Args:
        folder: Where they are, which git is told to ignore; None keeps nothing.
        fresh: Begin again, whatever is there.
    """

    def __init__(self, folder: Path | None, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh

    def path(self, name: str, settings: Mapping[str, Any]) -> Path | None:
        """A file whose name says all that its content depends on, hashed."""
        if self.folder is None:
            return None
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        word = re.sub(r"[^\w.-]+", "_", name)
        return self.folder / f"{word}-{digest[:20]}.safetensors"

    def load(self, path: Path | None, checksums: Tensor) -> dict[str, Tensor] | None:
        """What is there on the first of these images; None if it is on others."""
        if path is None or self.fresh or not path.is_file():
            return None
        try:
            tensors, _ = load_tensors(path, kind="batches")
        except WeightsError:
            return None
        found = tensors.pop("checksums")
        number = min(len(found), len(checksums))
        if number == 0 or not torch.equal(found[:number], checksums[:number]):
            return None
        return {name: tensor[:number] for name, tensor in tensors.items()}

    def save(self, path: Path | None, checksums: Tensor, rows: Mapping[str, Tensor]) -> None:
        """Keeps what was computed on the first of these images."""
        if path is None or not rows:
            return
        if not (ignore := path.parent / ".gitignore").is_file():
            write_text_atomic(ignore, "*\n")
        done = len(next(iter(rows.values())))
        save_tensors(path, {**rows, "checksums": checksums[:done]}, {}, kind="batches")


def in_batches(
    compute: Compute,
    checksums: Tensor,
    batch: int,
    store: Store,
    name: str,
    settings: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Computes rows for all images, those of an earlier run excepted.

    Args:
        compute: Makes the rows of some of the images.
        checksums: (N,) int64 of the images; see `measure.image_checksums`.
        batch: Images of a slice.
        store: Where finished batches are found and kept, every few seconds, at the end, and when
            the run is interrupted.
        name: Of what is computed.
        settings: All that the rows depend on beside the images; JSON-serialisable.

    Returns:
        The same tensors with N rows.
    """
    path = store.path(name, settings)
    rows = store.load(path, checksums) or {}
    done = len(next(iter(rows.values()))) if rows else 0
    # What is random in a batch may depend on where it begins: an incomplete one is done again.
    if done < len(checksums):
        done -= done % batch
    parts = [{key: tensor[:done] for key, tensor in rows.items()}] if done else []
    saved, kept = time.monotonic(), done
    try:
        with tqdm(total=len(checksums), initial=done, desc=f"{name:>12}", unit="face") as bar:
            while done < len(checksums):
                last = min(done + batch, len(checksums))
                parts.append(dict(compute(slice(done, last))))
                bar.update(last - done)
                done = last
                if time.monotonic() - saved > SAVE_EVERY:
                    parts = [_joined(parts)]
                    store.save(path, checksums, parts[0])
                    saved, kept = time.monotonic(), done
    finally:
        whole = _joined(parts)
        if done > kept:
            store.save(path, checksums, whole)
    return whole


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if not parts:
        return {}
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
