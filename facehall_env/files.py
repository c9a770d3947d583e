"""Files that are never half-written, and where caches live."""

from __future__ import annotations

import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

STILL_WRITTEN = 60
"""Seconds; a temporary file that is younger may still be written."""


def cache_dir() -> Path:
    """Folder for downloads: ``FACEHALL_CACHE`` if set, else the user's cache folder."""
    configured = os.environ.get("FACEHALL_CACHE")
    return Path(configured).expanduser() if configured else user_cache_path("facehall")


def results_dir() -> Path:
    """Folder for results: ``FACEHALL_RESULTS`` if set, else one in the user's data folder."""
    configured = os.environ.get("FACEHALL_RESULTS")
    return Path(configured).expanduser() if configured else user_data_path("facehall") / "results"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that replaces it when the block succeeds.

    If the block raises (a full disk, an interrupt), the temporary file is removed and whatever
    stood at ``path`` is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes files private; give the result the permissions of an ordinary new file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Removes what killed processes have left of :func:`atomic_path`, half-written.

    What has changed within the last minute may be another process's, and stays.
    """
    target = Path(path)
    # mkstemp puts eight characters of its own between prefix and suffix.
    for left in target.parent.glob(f".{glob.escape(target.stem)}-????????{target.suffix}"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STILL_WRITTEN:
                left.unlink()


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Writes ``text`` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
