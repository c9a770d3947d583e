"""Fetching archives and unpacking them; half of one is never left behind."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from facehall_env.errors import DatasetError

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
"""Mirrors of datasets have answered 403 to clients that do not look like a browser."""

_STREAM_ERRORS = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_DAMAGED = (*_STREAM_ERRORS, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Archive:
    """A file on the web: its name on disk, SHA-256 (64 hexadecimal digits) and size in bytes."""

    url: str
    file_name: str
    sha256: str
    size: int


def fetch(archive: Archive, directory: Path, progress: bool = True) -> Path:
    """Download an archive, unless it is already there.

    Args:
        archive: What to fetch.
        directory: Where to put it; made if needed.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The path of the file, whose checksum is right.

    Raises:
        DatasetError: If it cannot be fetched or its checksum differs. Nothing is left behind.
    """
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(
        progressbar=progress, headers={"User-Agent": USER_AGENT}, timeout=30
    )
    known = f"sha256:{archive.sha256}"
    try:
        path = pooch.retrieve(
            archive.url, known, archive.file_name, directory, downloader=downloader
        )
    except requests.RequestException as error:
        raise DatasetError(f"{archive.url} could not be fetched ({_reason(error)}).") from error
    except ValueError as error:
        raise DatasetError(
            f"What {archive.url} sent is not {archive.file_name}, its SHA-256 not being "
            f"{archive.sha256}: try again, or fetch the file from elsewhere."
        ) from error
    return Path(path)


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words: the library's own text fills several lines."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    return "it took too long" if "Timeout" in type(error).__name__ else "no connection"


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip file into a new directory, all or nothing.

    Returns:
        The directory ``target``, which is left as it is if it exists already.

    Raises:
        DatasetError: If the archive is damaged, or has a member that is a link or a device or
            would be written outside ``target``. Nothing is left behind.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        content = Path(work) / "content"
        content.mkdir()
        try:
            for name, source in _members(archive):
                destination = content / name
                destination.parent.mkdir(parents=True, exist_ok=True)
                with source, destination.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
        except _DAMAGED as error:
            # tarfile lists on further lines what each decompressor says.
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise DatasetError(
                f"Archive {archive} is damaged or incomplete ({reason}): fetch it again."
            ) from error
        try:
            os.rename(content, target)
        except OSError:
            # Another process has just unpacked the same archive.
            if not target.is_dir():
                raise
    return target


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The files in an archive; refuses links, devices and what lies outside."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                path = _checked(info.filename, archive, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if not info.is_dir():
                    yield path, packed.open(info)
        return
    with tarfile.open(archive) as file:
        for member in file:
            path = _checked(member.name, archive, member.isfile() or member.isdir())
            source = file.extractfile(member)
            if source is not None:
                yield path, source
        # tarfile takes a file that ends between two members for a whole one; a whole one ends
        # with blocks of zeros.
        if file.fileobj is not None:
            file.fileobj.seek(file.offset)
            if not file.fileobj.read(1):
                raise tarfile.ReadError("its end is missing")


def _checked(name: str, archive: Path, plain: bool) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        reason = "lies outside the directory to unpack into"
    elif not plain:
        reason = "is a link or a device"
    else:
        return path
    raise DatasetError(
        f"Archive {archive} is refused because its member {name!r} {reason}: get it from a trusted "
        "source."
    )
