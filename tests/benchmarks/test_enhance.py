"""`facehall enhance`: runs on small photographs, with invented detections and every mishap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from facehall_env.benchmarks.apps.enhance import run
from facehall_env.benchmarks.apps.enhance_pictures import Film, Look, animate, compare
from facehall_env.benchmarks.apps.enhance_report import Report, gather
from facehall_env.benchmarks.apps.settings import EnhanceConfig
from facehall_env.benchmarks.cli.program import main
from facehall_env.checkpoints import load_tensors, save_tensors
from facehall_env.data.images import ImageArray, read_image
from facehall_env.errors import ConfigurationError, DatasetError, WeightsError
from facehall_env.photos.alignment import Box
from facehall_env.photos.composite import Place
from facehall_env.photos.detect import DetectedFace

# Faces of 32 x 32 at 4x: the enhancer takes 8 x 8 pixels.
SIDE = 8


def photograph(height: int = 24, width: int = 30, seed: int = 0) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (height // 2, width // 2, 3))
    return Image.fromarray(np.kron(cells, np.ones((2, 2, 1))).astype(np.uint8))


def box(y: float, x: float, side: float = SIDE) -> Box:
    return Box(y - side / 2, x - side / 2, y + side / 2, x + side / 2)


def finds(*boxes: Box) -> Callable[[ImageArray], Sequence[DetectedFace]]:
    """A detector that finds the same on every photograph but on black ones."""

    def detect(image: ImageArray) -> Sequence[DetectedFace]:
        return [DetectedFace(b, np.zeros((5, 2)), 1.0) for b in boxes] if image.any() else []

    return detect


@pytest.fixture
def said() -> StringIO:
    """What is printed."""
    return StringIO()


@pytest.fixture
def enhance(
    tmp_path: Path, weights: Callable[[float], Path], said: StringIO
) -> Callable[..., Report]:
    """Runs it on some photographs with the enhancer "tiny" and tiles of 16 x 12."""
    path = weights(0.5)

    def enhance(*photos: Path | str, faces: Sequence[Box] = (box(12, 15),), **given: Any) -> Report:
        options = {
            "weights": path,
            "agent": "even",
            "steps": 4,
            "face_size": 4 * SIDE,
            "margin": 1.0,
            "out": tmp_path / "out",
            **given,
        }
        config = EnhanceConfig(tuple(str(photo) for photo in photos), **options)
        return run(config, Console(file=said), finds(*faces))

    return enhance


def saved(folder: Path, name: str = "a.png", **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    photograph(**options).save(folder / name)
    return folder / name


def bicubic(path: Path, scale: int = 4) -> ImageArray:
    image = read_image(path)
    size = (image.shape[1] * scale, image.shape[0] * scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def restored(tmp_path: Path, name: str = "a") -> ImageArray:
    return read_image(tmp_path / "out" / f"{name}.png")


# What comes out


def test_an_enhancer_that_changes_nothing_leaves_the_enlargement(
    enhance: Callable[..., Report], tmp_path: Path
) -> None:
    path = saved(tmp_path / "in", height=60, width=80)
    faces = [box(30, 40, 32), box(8, 70, 20)]
    report = enhance(path, enhancer="bicubic", weights=None, face_size=128, faces=faces)
    assert report.entries[0].faces == 2
    np.testing.assert_allclose(restored(tmp_path).astype(int), bicubic(path), atol=1)


def test_only_the_face_changes_and_three_files_come_out(
    enhance: Callable[..., Report], tmp_path: Path
) -> None:
    path = saved(tmp_path / "in")
    report = enhance(path)
    changed = (restored(tmp_path) != bicubic(path)).any(2)
    # 8 pixels a side around row 12 and column 15: rows 8 to 15, columns 11 to 18.
    assert changed[32:64, 44:76].mean() > 0.5
    changed[32:64, 44:76] = False
    assert not changed.any()
    names = ["a.png", "a-before-after.png", "a-patches.gif"]
    assert report.entries[0].outputs == [tmp_path / "out" / name for name in names]
    with Image.open(tmp_path / "out" / "a-patches.gif") as gif:
        assert gif.n_frames == 4 + 1
    sheet = read_image(tmp_path / "out" / "a-before-after.png")
    # Two photographs of 320 x 256 beside each other, and below them the face, twice 224 x 224.
    assert sheet.shape[0] > 256 + 224
    assert sheet.shape[1] > 2 * 320


def test_without_a_crop_the_whole_photograph_is_a_face(
    enhance: Callable[..., Report], tmp_path: Path
) -> None:
    path = saved(tmp_path / "in", height=8, width=8)
    enhance(path, crop="none")
    changed = (restored(tmp_path) != bicubic(path)).any(2)
    assert changed.mean() > 0.5
    # No soft edge where the photograph ends.
    assert changed[0].any()
    assert changed[:, -1].any()


def test_the_gif_can_be_left_out(enhance: Callable[..., Report], tmp_path: Path) -> None:
    report = enhance(saved(tmp_path / "in"), gif=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-before-after.png",
        "a.png",
    ]
    assert [path.name for path in report.entries[0].outputs] == ["a.png", "a-before-after.png"]


def test_one_batch_is_what_single_faces_are(enhance: Callable[..., Report], tmp_path: Path) -> None:
    paths = [saved(tmp_path / "in", f"{seed}.png", seed=seed) for seed in range(3)]
    three = [box(8, 8), box(12, 20, 7), box(20, 25, 6)]
    together = enhance(*paths, faces=three, gif=False)
    enhance(*paths, faces=three, gif=False, batch=1, out=tmp_path / "single")
    assert [entry.faces for entry in together.entries] == [3, 3, 3]
    for path in paths:
        one, other = restored(tmp_path, path.stem), read_image(tmp_path / "single" / path.name)
        np.testing.assert_allclose(one.astype(int), other, atol=1)
        assert (one != bicubic(path)).any()


def test_twice_is_the_same(enhance: Callable[..., Report], tmp_path: Path) -> None:
    path = saved(tmp_path / "in")
    for agent in ("even", "random"):
        first = enhance(path, agent=agent, overwrite=True).entries[0].outputs
        contents = [output.read_bytes() for output in first]
        enhance(path, agent=agent, overwrite=True)
        assert [output.read_bytes() for output in first] == contents


def test_the_policy_says_what_size_and_locations(
    enhance: Callable[..., Report], tmp_path: Path, policy: Path
) -> None:
    path = saved(tmp_path / "in")
    report = enhance(path, agent=str(policy), face_size=None, steps=2)
    assert report.entries[0].status == "written"
    assert (restored(tmp_path) != bicubic(path)).any()
    with pytest.raises(WeightsError, match="image_size"):
        enhance(path, agent=str(policy), face_size=48)


def test_a_policy_with_locations_elsewhere_in_their_cells(
    enhance: Callable[..., Report], tmp_path: Path, policy: Path
) -> None:
    tensors, metadata = load_tensors(policy, kind="agent")
    metadata["geometry"]["offset"] = 1
    save_tensors(tmp_path / "shifted.safetensors", tensors, metadata, kind="agent")
    images = []
    for path in (policy, tmp_path / "shifted.safetensors"):
        saved(tmp_path / "in")
        report = enhance(tmp_path / "in", agent=str(path), face_size=None, steps=2, overwrite=True)
        assert report.entries[0].status == "written"
        images.append(restored(tmp_path))
    assert (images[0] != images[1]).any()


def test_photographs_are_made_smaller_until_their_largest_face_fits(
    enhance: Callable[..., Report], tmp_path: Path
) -> None:
    path = saved(tmp_path / "in", height=48, width=64)
    report = enhance(path, faces=[box(24, 32, 16), box(10, 10, 12)], max_face=8)
    half = read_image(path)
    small = Image.fromarray(half).resize((32, 24), Image.Resampling.BICUBIC)
    large = np.asarray(small.resize((128, 96), Image.Resampling.BICUBIC))
    changed = (restored(tmp_path) != large).any(2)
    assert changed.shape == (96, 128)
    assert changed[32:64, 48:80].mean() > 0.5
    assert not changed[64:].any()
    assert report.entries[0].notes == []


def test_large_faces_are_said_and_those_with_nothing_to_gain_left_alone(
    enhance: Callable[..., Report], tmp_path: Path
) -> None:
    path = saved(tmp_path / "in", height=48, width=80)
    report = enhance(path, faces=[box(24, 20, 32), box(24, 60, 12)])
    (entry,) = report.entries
    assert (entry.status, entry.faces) == ("written", 1)
    assert "1 of 2 faces have as many pixels as restored ones" in entry.notes[0]
    assert "1 of 2 faces are larger, up to 12 pixels a side, than the 8 that" in entry.notes[1]
    np.testing.assert_array_equal(restored(tmp_path)[:, :144], bicubic(path)[:, :144])
    alone = enhance(path, faces=[box(24, 20, 32)], out=tmp_path / "other")
    assert alone.entries[0].status == "too large"
    assert "--max-face 8" in alone.entries[0].reason
    assert not (tmp_path / "other").exists()


# Pictures


def test_the_newest_patch_is_red_and_the_rest_stands_still() -> None:
    face = np.asarray(photograph(32, 32))
    films = [Film([face] * 3, [(0, 0), (16, 18)]), Film([face] * 3, [(16, 18), (0, 0)])]
    frames = [frame.astype(int) for frame in animate(films, (16, 12))]
    assert len(frames) == 3
    assert len({frame.shape for frame in frames}) == 1
    red = [(frame[..., 0] - frame[..., 1:].max(2)) > 150 for frame in frames]
    # Each of two faces at twice its size has a frame of 32 x 24 pixels, three wide.
    fresh = [np.argwhere(now & ~before).min(0).tolist() for before, now in pairwise(red)]
    # The first face's second patch is 18 pixels further right, the second's as high as the first.
    assert fresh[1] == [fresh[0][0], fresh[0][1] + 36]
    # Between the two patches, below the first, nothing has changed.
    top, left = fresh[0]
    still = [frame[top + 34 : top + 60, left : left + 30] for frame in frames]
    np.testing.assert_array_equal(still[0], still[1])
    np.testing.assert_array_equal(still[0], still[2])


def test_a_comparison_pairs_each_face_before_and_after() -> None:
    grey, white = np.full((64, 128, 3), 90, np.uint8), np.full((64, 128, 3), 200, np.uint8)
    places = [Place(0, 0, 16, 16), Place(20, 40, 30, 30)]
    sheet = compare(Look.at(grey, places), Look.at(white, places))
    middle = sheet.shape[1] // 2
    above, below = sheet[24 + 80], sheet[-6 - 112]
    assert above[middle - 160].tolist() == [90] * 3
    assert above[middle + 160].tolist() == [200] * 3
    levels = [level for level in below[:, 0].tolist() if level != 255]
    # Two pairs would be wider than the photographs: the last row has one.
    assert levels == [90] * 224 + [200] * 224


# Which photographs


def test_folders_patterns_and_files_each_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "a.bmp", "b.png"):
        saved(folder, name)
    saved(folder / "sub", "a.png")
    (folder / "notes.txt").write_text("no photograph")
    report = gather([str(folder / "a.png"), str(folder), str(folder / "*.png")], tmp_path / "out")
    names = {entry.file.relative_to(folder).as_posix(): entry.name for entry in report.entries}
    assert names == {"a.png": "a", "a.bmp": "a.bmp", "b.png": "b", "sub/a.png": "sub/a"}
    assert report.passed_over == 1
    # Files of one name from two places.
    twice = gather([str(folder / "a.png"), str(folder / "sub" / "a.png")], tmp_path / "out")
    assert [entry.name for entry in twice.entries] == ["a", "a.png"]


def test_outputs_are_no_photographs(tmp_path: Path) -> None:
    saved(tmp_path / "in")
    saved(tmp_path / "in" / "out", "b.png")
    report = gather([str(tmp_path / "in")], tmp_path / "in" / "out")
    assert [entry.file.name for entry in report.entries] == ["a.png"]


def test_outputs_never_have_the_same_name(tmp_path: Path) -> None:
    saved(tmp_path / "in", "a.png")
    saved(tmp_path / "in", "a-before-after.png")
    report = gather([str(tmp_path / "in")], tmp_path / "out")
    assert sorted(entry.name for entry in report.entries) == ["a-before-after", "a.png"]


def test_nothing_at_all(enhance: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="There are no photographs in"):
        enhance(tmp_path / "empty")
    saved(tmp_path / "out", "a.png")
    with pytest.raises(DatasetError, match=r" 1 lie in --out .*out and are taken for results"):
        enhance(tmp_path / "out")


# Bad input


@pytest.fixture
def mishaps(tmp_path: Path) -> Path:
    """A folder with one photograph of every kind."""
    folder = tmp_path / "in"
    saved(folder, "plain.png")
    upright = photograph(24, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(folder / "rotated.png", exif=exif)
    photograph().convert("CMYK").save(folder / "cmyk.jpg")
    frames = [photograph(seed=seed) for seed in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    whole = saved(folder, "truncated.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (30, 24)).save(folder / "nobody.png")
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_the_others_are_still_done(
    enhance: Callable[..., Report], mishaps: Path, tmp_path: Path, said: StringIO
) -> None:
    with pytest.raises(DatasetError, match=r"2 of 7 photographs failed: .*truncated.*missing"):
        enhance(mishaps, tmp_path / "missing.png")
    summary, *lines, _ = said.getvalue().splitlines()
    assert summary == (
        "7 photographs: 4 written with 4 faces, 0 kept, 1 without a face, 0 too large, 2 failed; "
        "1 other files passed over."
    )
    about = {Path(line.partition(":")[0]).name: line for line in lines}
    assert list(about) == ["moving.gif", "nobody.png", "truncated.png", "missing.png"]
    assert "only the first of its 3 frames" in about["moving.gif"]
    assert "no face: none was found" in about["nobody.png"]
    assert "failed: Image" in about["truncated.png"]
    assert "cannot be read" in about["truncated.png"]
    assert "No such file" in about["missing.png"]
    # Upright it is 40 high and 24 wide.
    turned = np.rot90(photograph(24, 40), -1)
    large = Image.fromarray(turned).resize((96, 160), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(restored(tmp_path, "rotated")[80:], np.asarray(large)[80:])
    for name, ending in (("cmyk", "jpg"), ("moving", "gif")):
        # What is far from the face is the enlarged photograph (the first frame).
        np.testing.assert_array_equal(
            restored(tmp_path, name)[:24], bicubic(mishaps / f"{name}.{ending}")[:24]
        )
    assert not (tmp_path / "out" / "truncated.png").exists()


def test_ten_faces(enhance: Callable[..., Report], tmp_path: Path) -> None:
    path = saved(tmp_path / "in", height=24, width=100)
    ten = [box(12, 10 * number + 5) for number in range(10)]
    assert enhance(path, faces=ten, batch=4).entries[0].faces == 10
    changed = (restored(tmp_path) != bicubic(path)).any(2)
    for number in range(10):
        assert changed[32:64, 40 * number + 4 : 40 * number + 36].mean() > 0.5
    assert not changed[:32].any()


def test_fifty_megapixels(enhance: Callable[..., Report], tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (8660, 5774), 1).save(path)
    report = enhance(path, faces=[box(3000, 4000, 600)], max_face=8)
    assert report.entries[0].status == "written"
    # 600 pixels become 8, and those 32.
    assert restored(tmp_path, "large").shape == (308, 460, 3)


def test_what_would_become_too_large_is_named(
    enhance: Callable[..., Report], tmp_path: Path, said: StringIO
) -> None:
    path = saved(tmp_path / "in", height=500, width=1000)
    with pytest.raises(DatasetError, match=r"1 of 1 photographs failed"):
        enhance(path, max_megapixels=7.9)
    assert "1000x500 pixels would become 8 megapixels, more than" in said.getvalue()
    long = saved(tmp_path / "in", "long.png", height=2, width=33_000)
    with pytest.raises(DatasetError, match=r"1 of 1 photographs failed"):
        enhance(long, faces=[box(1, 1000)])
    assert "33000x2 pixels, and a side may have 32,766" in said.getvalue()


def test_a_target_that_cannot_be_written(
    enhance: Callable[..., Report], tmp_path: Path, said: StringIO
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DatasetError, match="1 of 1"):
        enhance(saved(tmp_path / "in"), out=tmp_path / "file")
    assert "failed: " in said.getvalue()


# Running again


def test_what_is_there_is_kept(
    enhance: Callable[..., Report], tmp_path: Path, said: StringIO
) -> None:
    path = saved(tmp_path / "in")
    outputs = enhance(path).entries[0].outputs
    before = [output.stat().st_mtime_ns for output in outputs]
    (again,) = enhance(path).entries
    assert (again.status, again.outputs, again.notes) == ("kept", outputs, [])
    (other,) = enhance(path, steps=2).entries
    assert other.status == "kept"
    assert other.notes == ["kept, though made with other settings (steps=4, now 2)"]
    assert [output.stat().st_mtime_ns for output in outputs] == before
    assert enhance(path, steps=2, overwrite=True).entries[0].status == "written"
    with Image.open(outputs[2]) as gif:
        assert gif.n_frames == 3


def test_an_incomplete_output_is_made_again(enhance: Callable[..., Report], tmp_path: Path) -> None:
    path = saved(tmp_path / "in")
    photo, _, gif = enhance(path).entries[0].outputs
    gif.unlink()
    assert enhance(path, gif=False).entries[0].status == "kept"
    assert enhance(path).entries[0].status == "written"
    photo.unlink()
    assert enhance(path).entries[0].status == "written"


@pytest.mark.parametrize("other", ["photograph", "file"])
def test_the_output_of_another_photograph_is_not_taken_for_its_own(
    enhance: Callable[..., Report], tmp_path: Path, said: StringIO, other: str
) -> None:
    if other == "photograph":
        enhance(saved(tmp_path / "one"))
    else:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.png").write_bytes(b"mine")
    before = (tmp_path / "out" / "a.png").read_bytes()
    path = saved(tmp_path / "two", seed=5)
    with pytest.raises(DatasetError, match="1 of 1"):
        enhance(path)
    assert "was made of something else" in said.getvalue()
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    assert enhance(path, overwrite=True).entries[0].status == "written"


# Settings


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"agent": "oracle"}, ConfigurationError, "needs the truth"),
        ({"agent": "a.zip"}, ConfigurationError, "archive"),
        ({"agent": "rl"}, WeightsError, "No 'rl-conv' agent for the enhancer 'tiny'"),
        ({"scale": 2}, WeightsError, "scale 4, expected 2"),
        ({"enhancer": "compact"}, WeightsError, "name 'tiny', expected 'compact'"),
        ({"face_size": 30}, ConfigurationError, "Scale 4 does not divide"),
        ({"device": "nowhere"}, ConfigurationError, "device"),
        ({"margin": 0}, ConfigurationError, "margin=0: give a number above 0"),
        ({"max_face": 0}, ConfigurationError, "max_face="),
        ({"batch": -1}, ConfigurationError, "batch=-1: give a whole number of 1 or more"),
    ],
)
def test_impossible_settings(
    enhance: Callable[..., Report],
    tmp_path: Path,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        enhance(saved(tmp_path / "in"), **options)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_names_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    assert main(["enhance", str(saved(tmp_path / "in"))]) == 2
    error = capsys.readouterr().err
    assert "facehall-env[faces]" in error
    assert "--crop none" in error


def test_the_command_says_by_its_status_whether_all_went_well(
    tmp_path: Path,
    weights: Callable[[float], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = saved(tmp_path / "in", height=8, width=8)
    words = ["enhance", str(path), "--weights", str(weights(0.5)), "--agent", "even"]
    words += ["--steps", "2", "--face-size", "32", "--crop", "none", "--no-gif"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "1 photographs: 1 written with 1 faces" in capsys.readouterr().out
    (tmp_path / "in" / "b.png").write_bytes(b"nothing")
    words[1] = str(tmp_path / "in" / "*.png")
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "2 photographs: 0 written with 0 faces, 1 kept" in captured.out
    assert captured.err.splitlines()[-1].startswith("facehall: 1 of 2 photographs failed: ")
