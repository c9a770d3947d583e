"""Fetching archives and unpacking them; half of one is never left behind."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
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

_DAMAGED = (
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Archive:
    """A file on the web.

    Attributes:
        url: Where it is.
        file_name: What it is called on disk.
        sha256: Its checksum, 64 hexadecimal digits.
        size: Its size in bytes.
    """

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
    try:
        return Path(
            pooch.retrieve(
                archive.url,
                known_hash=f"sha256:{archive.sha256}",
                fname=archive.file_name,
                path=directory,
                downloader=downloader,
            )
        )
    except requests.RequestException as error:
        raise DatasetError(f"{archive.url} could not be fetched ({_reason(error)}).") from error
    except ValueError as error:
        raise DatasetError(
            f"What {archive.url} sent is not {archive.file_name}, its SHA-256 not being "
            f"{archive.sha256}: try again, or fetch the file from elsewhere."
        ) from error


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words: the library's own text fills several lines."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    return "it took too long" if "Timeout" in type(error).__name__ else "no connection"


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip file into a new directory, all or nothing.

    Args:
        archive: The file.
        target: The directory to make; if it exists already, it is returned as it is.

    Returns:
        ``target``.

    Raises:
        DatasetError: If the archive is damaged, or has a member that is a link or a device or
            would be written outside ``target``. Nothing is left behind.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        content = work / "content"
        content.mkdir()
        try:
            for name, source in _members(archive):
                destination = content / _inside(name, archive)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with source, destination.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
        except _DAMAGED as error:
            # tarfile lists on further lines what each decompressor says.
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise DatasetError(
                f"Archive {archive} is damaged or incomplete ({reason}): fetch it again."
            ) from error
        _rename(content, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _rename(content: Path, target: Path) -> None:
    try:
        os.rename(content, target)
    except OSError:
        # Another process has just unpacked the same archive.
        if not target.is_dir():
            raise


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        yield from _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            _inside(info.filename, archive)
            kind = info.external_attr >> 16 & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                raise _refused(info.filename, archive, "is a link or a device")
            if not info.is_dir():
                yield info.filename, file.open(info)


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as file:
        for member in file:
            _inside(member.name, archive)
            if not (member.isfile() or member.isdir()):
                raise _refused(member.name, archive, "is a link or a device")
            if member.isfile():
                source = file.extractfile(member)
                if source is not None:
                    yield member.name, source
        # tarfile takes a file that ends between two members for a whole one; a whole one ends
        # with blocks of zeros.
        if file.fileobj is not None:
            file.fileobj.seek(file.offset)
            if not file.fileobj.read(1):
                raise tarfile.ReadError("its end is missing")


def _inside(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        raise _refused(name, archive, "lies outside the directory to unpack into")
    return path


def _refused(name: str, archive: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"Archive {archive} is refused because its member {name!r} {reason}: "
        "get it from a trusted source."
    )
