from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facehall_env.data.download import Archive, fetch, unpack
from facehall_env.errors import DatasetError

FILES = {"faces/a.txt": b"first", "faces/deep/b.bin": bytes(range(256)) * 600}


def tar(members: dict[str, bytes], mode: Any = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_with(kind: bytes, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("faces/link")
        info.type = kind
        info.linkname = target
        archive.addfile(info)
    return buffer.getvalue()


def described(content: bytes, url: str) -> Archive:
    return Archive(url, "faces.tgz", hashlib.sha256(content).hexdigest(), len(content))


def put(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "content",
    [tar(FILES, "w"), tar(FILES, "w:gz"), tar(FILES, "w:bz2"), tar(FILES, "w:xz"), zipped(FILES)],
    ids=["tar", "gzip", "bzip2", "xz", "zip"],
)
def test_every_kind_of_archive_is_unpacked(tmp_path: Path, content: bytes) -> None:
    target = unpack(put(tmp_path, content), tmp_path / "made" / "here")
    assert contents(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == ["here"]


def test_what_is_unpacked_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "here"
    target.mkdir()
    (target / "mine").write_text("kept")
    unpack(put(tmp_path, tar(FILES)), target)
    assert contents(target) == {"mine": b"kept"}


@pytest.mark.parametrize(
    "name", ["../evil", "faces/../../evil", "/tmp/evil", "C:\\evil", "..\\evil"]
)
@pytest.mark.parametrize("pack", [tar, zipped])
def test_members_outside_are_refused(tmp_path: Path, name: str, pack: Callable[..., bytes]) -> None:
    archive = put(tmp_path, pack({"faces/fine": b"x", name: b"evil"}))
    with pytest.raises(DatasetError, match=r"is refused because its member .* lies outside"):
        unpack(archive, tmp_path / "sub" / "here")
    assert not list(tmp_path.rglob("evil"))
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "harmless"),
        (tarfile.LNKTYPE, "../../x"),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    with pytest.raises(DatasetError, match="'faces/link' is a link or a device"):
        unpack(put(tmp_path, tar_with(kind, target)), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("faces/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DatasetError, match="is a link or a device"):
        unpack(put(tmp_path, buffer.getvalue()), tmp_path / "here")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_archives_leave_nothing(tmp_path: Path, mode: str, share: float) -> None:
    noise = hashlib.shake_256(b"seed").digest(60_000)
    whole = tar({"faces/a": noise, "faces/b": noise[::-1]}, mode)
    # A plain tar is padded with zeros at its end, which may be missing.
    end = len(whole) if mode != "w" else 2 * (512 + 60_416)
    archive = put(tmp_path, whole[: int(end * share)])
    message = rf"Archive {archive} is damaged or incomplete \(.+\): fetch it again\."
    with pytest.raises(DatasetError, match=message):
        unpack(archive, tmp_path / "sub" / "here")
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_tar_cut_between_two_members_is_noticed(tmp_path: Path) -> None:
    whole = tar({"faces/a": b"x" * 512, "faces/b": b"y" * 512}, "w")
    with pytest.raises(DatasetError, match="damaged or incomplete"):
        unpack(put(tmp_path, whole[:1024]), tmp_path / "here")


def test_damaged_zip_and_plain_rubbish(tmp_path: Path) -> None:
    whole = bytearray(zipped(FILES))
    whole[45] ^= 0xFF
    for content in (bytes(whole), zipped(FILES)[:200], b"", b"<html>not found</html>"):
        with pytest.raises(DatasetError, match="damaged or incomplete"):
            unpack(put(tmp_path, content), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_fetching_shows_progress_and_looks_like_a_browser(
    tmp_path: Path, server: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    content = tar(FILES)
    server.files["/faces"] = content
    path = fetch(described(content, f"{server.url}/faces"), tmp_path / "cache")
    assert path == tmp_path / "cache" / "faces.tgz"
    assert path.read_bytes() == content
    assert server.user_agents[0].startswith("Mozilla/5.0")
    assert "100%" in capfd.readouterr().err


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, server: Any) -> None:
    content = tar(FILES)
    server.files["/faces"] = content
    for _ in range(2):
        fetch(described(content, f"{server.url}/faces"), tmp_path, progress=False)
    assert len(server.user_agents) == 1


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path: Path, server: Any) -> None:
    content = tar(FILES)
    server.files["/faces"] = content
    (tmp_path / "faces.tgz").write_bytes(content[:50])
    fetched = fetch(described(content, f"{server.url}/faces"), tmp_path, progress=False)
    assert fetched.read_bytes() == content


def test_a_wrong_checksum_is_refused(tmp_path: Path, server: Any) -> None:
    server.files["/faces"] = b"something else"
    archive = described(tar(FILES), f"{server.url}/faces")
    with pytest.raises(DatasetError, match=r"is not faces\.tgz, its SHA-256 not being"):
        fetch(archive, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_leaves_nothing(tmp_path: Path, server: Any) -> None:
    content = tar(FILES)
    server.files["/faces"] = content
    server.cut_after = len(content) // 2
    with pytest.raises(DatasetError, match="could not be fetched"):
        fetch(described(content, f"{server.url}/faces"), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_and_a_missing_server(tmp_path: Path, server: Any) -> None:
    with pytest.raises(DatasetError, match="404"):
        fetch(described(b"", f"{server.url}/nothing"), tmp_path, progress=False)
    with pytest.raises(DatasetError, match=r"http://127\.0\.0\.1:1/x could not be fetched"):
        fetch(described(b"", "http://127.0.0.1:1/x"), tmp_path, progress=False)
