from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facehall_env import data
from facehall_env.data import ImageFolder
from facehall_env.errors import ConfigurationError, DatasetError, UnknownNameError


def picture(path: Path, size: tuple[int, int] = (40, 40), level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def test_images_are_found_in_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/y.bmp", ".hidden.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    faces = ImageFolder("all", root=tmp_path, size=32)
    assert [faces.key(i) for i in range(len(faces))] == ["a/y.bmp", "a/z.JPG", "b.png"]
    assert faces[-1].shape == (32, 32, 3)
    shallow = ImageFolder("all", root=tmp_path, recursive=False)
    assert [shallow.key(i) for i in range(len(shallow))] == ["b.png"]


def test_sub_directories_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/deep/b.png", "test/c.png"):
        picture(tmp_path / name)
    for recursive, train in ((True, ["train/a.png", "train/deep/b.png"]), (False, ["train/a.png"])):
        faces = {
            split: ImageFolder(split, root=tmp_path, recursive=recursive)
            for split in ("train", "test")
        }
        keys = {split: [f.key(i) for i in range(len(f))] for split, f in faces.items()}
        assert keys == {"train": train, "test": ["test/c.png"]}


def test_the_hash_split_is_disjoint_and_does_not_move_when_files_come(tmp_path: Path) -> None:
    def keys(split: str) -> set[str]:
        faces = ImageFolder(split, root=tmp_path, test_fraction=0.3)
        return {faces.key(i) for i in range(len(faces))}

    for number in range(60):
        picture(tmp_path / f"{number}.png", (4, 4))
    train, test = keys("train"), keys("test")
    assert not train & test
    assert len(train | test) == 60
    assert 8 <= len(test) <= 30
    for number in range(60, 90):
        picture(tmp_path / f"{number}.png", (4, 4))
    assert train <= keys("train")
    assert test <= keys("test")


def test_fit_scales_and_centre_does_not(tmp_path: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 30:50] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    fitted = ImageFolder("all", root=tmp_path, size=20)[0]
    assert (fitted[:, 6:14] == 255).all()
    assert (fitted[:, :3] == 0).all()
    cut = ImageFolder("all", root=tmp_path, size=20, crop="centre")[0]
    assert (cut == 255).all()


def test_an_image_smaller_than_the_centre_crop_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "small.png", (10, 10))
    faces = ImageFolder("all", root=tmp_path, size=20, crop="centre")
    with pytest.raises(DatasetError, match=r"small\.png is 10x10"):
        faces[0]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    faces = ImageFolder("all", root=tmp_path)
    with pytest.raises(DatasetError, match=r"broken\.png cannot be read"):
        faces.batch([0])


def test_the_directory_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path))
    assert len(data.make("folder", split="all")) == 1
    monkeypatch.delenv("FACEHALL_DATA")
    with pytest.raises(ConfigurationError, match="needs a directory"):
        data.make("folder")


def test_empty_missing_and_contradictory_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has 0 images.*\.jpg"):
        ImageFolder("train", root=tmp_path)
    with pytest.raises(DatasetError, match="is not a directory"):
        ImageFolder("train", root=tmp_path / "nowhere")
    picture(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="1 images, none of them in split 'test'"):
        ImageFolder("test", root=tmp_path, test_fraction=0.0)
    with pytest.raises(UnknownNameError, match="Unknown crop 'square'"):
        data.make("folder", root=tmp_path, crop="square")
    with pytest.raises(ConfigurationError, match="test_fraction"):
        ImageFolder("test", root=tmp_path, test_fraction=1.5)
