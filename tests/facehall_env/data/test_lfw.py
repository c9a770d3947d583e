from __future__ import annotations

import hashlib
import shutil
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facehall_env import data
from facehall_env.data import LFW, lfw
from facehall_env.data.download import Archive
from facehall_env.data.images import read_image
from facehall_env.errors import DatasetError

PEOPLE = {"Ada_Lovelace": 2, "Grace_Hopper": 1, "Emmy_Noether": 3}


def people_folder(folder: Path, side: int = 140) -> Path:
    rng = np.random.default_rng(0)
    for person, count in PEOPLE.items():
        (folder / person).mkdir(parents=True)
        for number in range(1, count + 1):
            picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            picture.save(folder / person / f"{person}_{number:04d}.jpg")
    return folder


def archived(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    return archive


@pytest.fixture
def partial() -> Iterator[None]:
    """Ignore the warning that these are not all of LFW's images."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not comparable")
        yield


@pytest.mark.parametrize(("split", "images"), [("Train", 9525), ("Test", 3708)])
def test_the_split_is_the_official_one(photographs: Path, split: str, images: int) -> None:
    dataset = LFW(split.lower(), root=photographs)
    assert len(dataset) == images
    path = photographs / "lfw-protocol" / f"peopleDev{split}.txt"
    if not path.is_file():
        pytest.skip(f"the official list {path} is not there")
    lines = path.read_text(encoding="utf-8").splitlines()
    listed = {name: int(count) for name, count in (line.split("\t") for line in lines[1:])}
    keys = [dataset.key(index).split("/")[0] for index in range(len(dataset))]
    assert list(dataset.people) == sorted(listed)
    assert {person: keys.count(person) for person in dataset.people} == listed


def test_the_bitmap_has_the_official_numbers_of_people() -> None:
    is_train = lfw.official_split()
    assert (is_train.sum(), (~is_train).sum()) == (4038, 1711)


def test_nobody_is_in_both_splits(photographs: Path) -> None:
    train, test, everyone = (LFW(split, root=photographs) for split in ("train", "test", "all"))
    assert not set(train.people) & set(test.people)
    assert len(train) + len(test) == len(everyone) == lfw.NUM_IMAGES
    assert set(train.people) | set(test.people) == set(everyone.people)


def test_the_crop_is_the_middle_of_the_original(photographs: Path) -> None:
    dataset = LFW("test", root=photographs)
    whole = read_image(dataset.root / dataset.key(5))
    # The originals have 250 pixels a side; whatever was cut from their middle has the same middle.
    border = (250 - whole.shape[0]) // 2
    original = np.pad(whole, ((border, border), (border, border), (0, 0)))
    assert original.shape == (250, 250, 3)
    np.testing.assert_array_equal(dataset[5], original[61:189, 61:189])


@pytest.mark.usefixtures("empty_places", "partial")
@pytest.mark.parametrize(
    "place",
    [
        "lfw",
        "lfw_funneled",
        "lfw-funneled",
        "lfw-deepfunneled",
        "lfw/lfw",
        ".",
        "lfw-deepfunneled/lfw-deepfunneled",
    ],
)
def test_the_folder_is_found_under_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    root = people_folder(tmp_path / "data" / place)
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path / "data"))
    dataset = data.make("lfw", split="all")
    assert isinstance(dataset, LFW)
    assert dataset.root.resolve() == root.resolve()
    assert dataset.key(-1) == "Grace_Hopper/Grace_Hopper_0001.jpg"
    assert len(dataset) == 6
    assert dataset[0].shape == (128, 128, 3)


@pytest.mark.usefixtures("partial")
def test_the_cache_comes_after_the_data_directory(
    tmp_path: Path, empty_places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people_folder(empty_places / "lfw" / "lfw_funneled")
    assert LFW("all").root.parent == empty_places / "lfw"
    people_folder(tmp_path / "data" / "lfw")
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path / "data"))
    assert LFW("all").root == tmp_path / "data" / "lfw"


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    root = people_folder(tmp_path / "lfw")
    (root / "Ada_Lovelace" / "notes.txt").write_text("x")
    (root / "Ada_Lovelace" / "Someone_Else_0001.jpg").write_bytes(b"")
    (root / "__MACOSX").mkdir()
    (root / ".DS_Store").write_text("x")
    with pytest.warns(UserWarning, match="6 images of 3 people instead of LFW's 13,233 of 5,749"):
        dataset = LFW("all", root=tmp_path)
    assert dataset.people == ("Ada_Lovelace", "Emmy_Noether", "Grace_Hopper")


@pytest.mark.parametrize("split", ["train", "test"])
def test_part_of_the_people_cannot_be_split(tmp_path: Path, split: str) -> None:
    people_folder(tmp_path / "lfw")
    with pytest.raises(DatasetError, match=r"3 of LFW's 5,749 people.*complete the folder"):
        LFW(split, root=tmp_path)


@pytest.mark.usefixtures("partial")
def test_part_of_the_people_is_split_by_lists_beside_them(tmp_path: Path) -> None:
    people_folder(tmp_path / "lfw")
    (tmp_path / "peopleDevTrain.txt").write_text("2\nAda_Lovelace\t2\nAlan_Turing\t1\n")
    (tmp_path / "peopleDevTest.txt").write_text("1\nJohn_Neumann\t1\n")
    assert LFW("train", root=tmp_path).people == ("Ada_Lovelace",)
    with pytest.raises(DatasetError, match="none of whom"):
        LFW("test", root=tmp_path)


@pytest.mark.usefixtures("partial")
def test_images_smaller_than_the_crop_are_named(tmp_path: Path) -> None:
    people_folder(tmp_path / "lfw", side=100)
    with pytest.raises(DatasetError, match=r"Ada_Lovelace_0001\.jpg is 100x100 pixels"):
        LFW("all", root=tmp_path)[0]
    assert LFW("all", root=tmp_path, size=(90, 64))[0].shape == (90, 64, 3)


@pytest.mark.usefixtures("empty_places")
def test_nothing_found_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"No LFW images below .*set FACEHALL_DATA"):
        LFW(root=tmp_path)
    with pytest.raises(DatasetError, match=r"No LFW images below .*cache.*lfw-deepfunneled"):
        LFW(download=False)


@pytest.mark.usefixtures("empty_places")
def test_offline_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Archive("http://127.0.0.1:1/lfw", "lfw-funneled.tgz", "0" * 64, 1)
    monkeypatch.setattr(lfw, "FUNNELED", nowhere)
    with pytest.raises(DatasetError, match=r"not on this machine.*http://127.*FACEHALL_DATA") as e:
        data.make("lfw")
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("partial")
def test_it_is_fetched_once(
    tmp_path: Path, empty_places: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archived(people_folder(tmp_path / "lfw_funneled"), tmp_path / "a.tgz").read_bytes()
    server.files["/lfw"] = content
    checksum = hashlib.sha256(content).hexdigest()
    remote = Archive(f"{server.url}/lfw", "lfw-funneled.tgz", checksum, len(content))
    monkeypatch.setattr(lfw, "FUNNELED", remote)
    for _ in range(2):
        dataset = LFW("all")
        assert dataset.root == empty_places / "lfw" / "lfw-funneled" / "lfw_funneled"
        assert dataset[1].shape == (128, 128, 3)
    assert len(server.user_agents) == 1


@pytest.mark.usefixtures("empty_places", "partial")
def test_an_archive_that_the_user_brings_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = people_folder(tmp_path / "lfw-deepfunneled")
    archive = archived(folder, tmp_path / "data" / "lfw-deepfunneled.tgz")
    shutil.rmtree(folder)
    monkeypatch.setenv("FACEHALL_DATA", str(archive.parent))
    assert len(LFW("all")) == 6


@pytest.mark.usefixtures("partial")
def test_a_truncated_archive_loses_nothing(
    tmp_path: Path, empty_places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = people_folder(tmp_path / "lfw-deepfunneled")
    archive = archived(folder, tmp_path / "data" / "lfw-deepfunneled.tgz")
    whole = archive.read_bytes()
    monkeypatch.setenv("FACEHALL_DATA", str(archive.parent))
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"lfw-deepfunneled\.tgz is damaged or incomplete"):
        LFW("all")
    assert list((empty_places / "lfw").iterdir()) == []
    archive.write_bytes(whole)
    assert len(LFW("all")) == 6


@pytest.mark.usefixtures("empty_places", "partial")
def test_an_archive_of_something_else_does_not_block_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "readme").write_text("not faces")
    archive = archived(other, tmp_path / "data" / "lfw.tgz")
    monkeypatch.setenv("FACEHALL_DATA", str(archive.parent))
    with pytest.raises(DatasetError, match=r"lfw\.tgz holds no files NAME"):
        LFW("all")
    archived(people_folder(tmp_path / "lfw"), archive)
    assert len(LFW("all")) == 6
