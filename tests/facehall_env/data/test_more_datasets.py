"""The datasets that users bring: small trees in the layouts in which they are published."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facehall_env import data
from facehall_env.data import celeba, ffhq, helen, lfw, scface
from facehall_env.data.base import FaceDataset, Identified
from facehall_env.data.image_list import drawn, in_split
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.spec import EpisodeSpec, FacesSpec

pytestmark = pytest.mark.usefixtures("empty_places", "partial")


@pytest.fixture
def partial() -> Iterator[None]:
    """Ignore the warnings that these trees are not the whole datasets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not comparable")
        yield


def image(path: Path, size: tuple[int, int] = (8, 8), level: int = 100) -> None:
    """A grey picture of rows x columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (level, level, level)).save(path)


def keys(dataset: FaceDataset) -> list[str]:
    return [dataset.key(index) for index in range(len(dataset))]


def level(dataset: FaceDataset, index: int) -> int:
    return int(dataset[index].mean())


def expect_one_sentence(error: pytest.ExceptionInfo[Exception]) -> None:
    assert "\n" not in str(error.value)


# CelebA

PARTS = (0, 0, 0, 1, 2, 2)
WHO = (7, 7, 9, 11, 13, 13)


def celeba_tree(root: Path, suffix: str = "jpg") -> Path:
    for number in range(1, 7):
        image(root / "img_align_celeba" / f"{number:06d}.{suffix}", (218, 178), 20 * number)
    names = [f"{number:06d}.jpg" for number in range(1, 7)]
    partition = [f"{name} {part}" for name, part in zip(names, PARTS, strict=True)]
    (root / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    people = [f"{name} {person}" for name, person in zip(names, WHO, strict=True)]
    (root / "identity_CelebA.txt").write_text("\n".join(people) + "\n")
    attributes = ["6", "Bald Smiling "]
    attributes += [f"{name} {'-1' if number % 2 else ' 1'}  1" for number, name in enumerate(names)]
    (root / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    return root


def test_celeba_follows_the_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    celeba_tree(tmp_path / "celeba")
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path))
    train, test, everyone = (data.make("celeba", split=split) for split in ("train", "test", "all"))
    assert keys(train) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert keys(test) == ["000005.jpg", "000006.jpg"]
    assert len(everyone) == 6
    assert keys(data.make("celeba", validation=True)) == ["000004.jpg"]
    assert train[2].shape == (128, 128, 3)
    assert abs(level(train, 2) - 60) <= 1


def test_celebas_parts_make_up_the_whole() -> None:
    assert sum(celeba.PARTITION.values()) == celeba.NUM_IMAGES == 202_599


def test_celeba_knows_people_and_attributes(tmp_path: Path) -> None:
    faces = data.CelebA("test", root=celeba_tree(tmp_path))
    assert isinstance(faces, Identified)
    assert faces.people == ("13",)
    train = data.CelebA("train", root=tmp_path)
    assert [train.identity(index) for index in (0, 1, 2, -1)] == ["7", "7", "9", "9"]
    assert not set(train.people) & set(faces.people)
    assert train.attribute_names == ("Bald", "Smiling")
    assert train.attributes(1) == {"Bald": False, "Smiling": True}
    assert train.attributes(2) == {"Bald": True, "Smiling": True}
    with pytest.raises(IndexError):
        train.identity(3)


def test_celebas_published_folders_and_archive(tmp_path: Path, empty_places: Path) -> None:
    tree = celeba_tree(tmp_path / "tree")
    home = tmp_path / "CelebA"
    for folder in ("Img", "Anno", "Eval"):
        (home / folder).mkdir(parents=True)
    with zipfile.ZipFile(home / "Img" / "img_align_celeba.zip", "w") as archive:
        for path in sorted((tree / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    (tree / "list_eval_partition.txt").rename(home / "Eval" / "list_eval_partition.txt")
    (tree / "identity_CelebA.txt").rename(home / "Anno" / "identity_CelebA.txt")
    faces = data.CelebA("test", root=tmp_path)
    assert faces.root == empty_places / "celeba" / "img_align_celeba" / "img_align_celeba"
    assert (keys(faces), faces.people) == (["000005.jpg", "000006.jpg"], ("13",))
    assert abs(level(faces, 1) - 120) <= 1


def test_celebas_copies_of_another_type_with_commas(tmp_path: Path) -> None:
    celeba_tree(tmp_path, "png")
    rows = (tmp_path / "list_eval_partition.txt").read_text().replace(" ", ",")
    (tmp_path / "list_eval_partition.txt").unlink()
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n" + rows)
    assert keys(data.CelebA("test", root=tmp_path)) == ["000005.png", "000006.png"]
    # The folder of images itself may be given, too.
    assert len(data.CelebA("all", root=tmp_path / "img_align_celeba")) == 6


def test_celebas_sizes(tmp_path: Path) -> None:
    root = tmp_path / "img_align_celeba"
    root.mkdir()
    columns = np.arange(178, dtype=np.uint8)
    picture = np.broadcast_to(columns[None, :, None], (218, 178, 3))
    Image.fromarray(picture.copy()).save(root / "000001.png")
    centre = data.CelebA("all", root=tmp_path, size=(200, 160), crop="centre")[0]
    np.testing.assert_array_equal(centre, picture[9:209, 9:169])
    stretched = data.CelebA("all", root=tmp_path, size=(216, 176), crop="stretch")[0]
    assert stretched.shape == (216, 176, 3)
    # The whole width is there: the outermost columns keep their levels.
    assert (stretched[0, 0, 0], stretched[0, -1, 0]) == (0, 177)


@pytest.mark.parametrize(
    ("remove", "split", "words"),
    [
        (
            "list_eval_partition.txt",
            "train",
            "holds 6 images, but there is no list_eval_",
        ),
        ("img_align_celeba/000004.jpg", "all", None),
    ],
)
def test_celeba_without_a_part(tmp_path: Path, remove: str, split: str, words: str | None) -> None:
    celeba_tree(tmp_path)
    (tmp_path / remove).unlink()
    if words is None:
        assert len(data.CelebA(split, root=tmp_path)) == 5
        return
    with pytest.raises(DatasetError, match=words) as error:
        data.CelebA(split, root=tmp_path)
    expect_one_sentence(error)
    assert len(data.CelebA("all", root=tmp_path)) == 6


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("list_eval_partition.txt", "000001.jpg 0\n", "has 1 lines for the 6 images .* 000002.jpg"),
        ("list_eval_partition.txt", "000001.jpg\n", "Line 1 of .* expected 2 fields"),
        ("identity_CelebA.txt", "000001.jpg 4\n", "identity_CelebA.txt has no line for 000002.jpg"),
    ],
)
def test_celebas_damaged_lists(tmp_path: Path, file: str, content: str, words: str) -> None:
    celeba_tree(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(DatasetError, match=words) as error:
        data.CelebA("train", root=tmp_path)
    expect_one_sentence(error)


def test_celeba_without_identities_or_attributes_says_so_when_asked(tmp_path: Path) -> None:
    celeba_tree(tmp_path)
    (tmp_path / "identity_CelebA.txt").unlink()
    (tmp_path / "list_attr_celeba.txt").write_text("6\nBald Smiling\n000001.jpg 1\n")
    faces = data.CelebA("train", root=tmp_path)
    assert faces.people == ()
    with pytest.raises(DatasetError, match=r"no identity_CelebA\.txt"):
        faces.identity(0)
    with pytest.raises(DatasetError, match=r"2 attributes but 000001\.jpg has 1 values"):
        faces.attributes(0)


def test_part_of_celeba_brings_a_warning(tmp_path: Path) -> None:
    celeba_tree(tmp_path)
    with pytest.warns(UserWarning, match="holds 6 images instead of CelebA's 202,599"):
        data.CelebA("train", root=tmp_path)


# SISN's random selections


@pytest.mark.parametrize("counts", [celeba.SISN_COUNTS, ffhq.SISN_COUNTS])
def test_sisns_selection_has_the_papers_numbers(counts: tuple[int, int, int]) -> None:
    names = [f"{number:05d}" for number in range(2_500)]
    parts = {
        part: drawn(names, counts, part, 3, Path()) for part in ("train", "validation", "test")
    }
    assert tuple(len(part) for part in parts.values()) == counts
    assert len(set().union(*parts.values())) == sum(counts)
    assert drawn(names, counts, "test", 3, Path()) == parts["test"]
    assert drawn(names, counts, "test", 4, Path()) != parts["test"]


def test_sisns_selection_of_too_few_images(tmp_path: Path) -> None:
    celeba_tree(tmp_path)
    with pytest.raises(DatasetError, match=r"holds 6 images, too few for 2,000"):
        data.CelebA("train", root=tmp_path, selection="sisn")


# Helen


def helen_tree(root: Path) -> Path:
    for number, folder in enumerate(("helen_1", "helen_1", "helen_5", "test"), 1):
        image(root / folder / f"{number}00_1.jpg", (40, 30), 30 * number)
    (root / "trainnames.txt").write_text("300_1\n100_1\n")
    (root / "testnames.txt").write_text("400_1\r\n200_1\r\n")
    return root


def test_helen_follows_its_lists(tmp_path: Path) -> None:
    helen_tree(tmp_path / "helen")
    train, test = (data.Helen(split, root=tmp_path) for split in ("train", "test"))
    assert keys(train) == ["helen_5/300_1.jpg", "helen_1/100_1.jpg"]
    assert keys(test) == ["test/400_1.jpg", "helen_1/200_1.jpg"]
    assert abs(level(train, 0) - 90) <= 1
    assert helen.LAYOUT.images == 2_330


def test_helen_without_lists_follows_its_folders(tmp_path: Path) -> None:
    helen_tree(tmp_path)
    for name in ("trainnames.txt", "testnames.txt"):
        (tmp_path / name).unlink()
    assert keys(data.Helen("test", root=tmp_path)) == ["test/400_1.jpg"]
    assert len(data.Helen("train", root=tmp_path)) == 3
    (tmp_path / "test" / "400_1.jpg").unlink()
    with pytest.raises(DatasetError, match=r"neither testnames\.txt nor a folder test"):
        data.Helen("test", root=tmp_path)


def test_helens_lists_of_other_images(tmp_path: Path) -> None:
    helen_tree(tmp_path)
    (tmp_path / "testnames.txt").write_text("99_1\n")
    with pytest.raises(DatasetError, match=r"None of the 1 names in .*testnames\.txt .* 4 images"):
        data.Helen("test", root=tmp_path)
    image(tmp_path / "helen_2" / "300_1.jpg")
    with pytest.raises(DatasetError, match=r"both helen_2/300_1\.jpg and helen_5/300_1\.jpg"):
        data.Helen("train", root=tmp_path)


def test_dics_helen_is_for_testing(tmp_path: Path) -> None:
    for folder in ("HR", "LR"):
        image(tmp_path / "helen_dic" / folder / "10_1.png", (128, 128))
    faces = data.Helen("test", root=tmp_path, release="dic")
    assert keys(faces) == ["10_1.png"]
    assert faces.root.name == "HR"
    with pytest.raises(DatasetError, match="nothing to train with"):
        data.Helen("train", root=tmp_path, release="dic")


# FFHQ


def test_ffhq_splits_by_number(tmp_path: Path) -> None:
    for number in (0, 59_999, 60_000, 69_999):
        block = f"{number // 1000 * 1000:05d}"
        image(tmp_path / "thumbnails128x128" / block / f"{number:05d}.png", (128, 128))
        image(tmp_path / "images1024x1024" / block / f"{number:05d}.png", (256, 256))
    (tmp_path / "thumbnails128x128" / "LICENSE.txt").write_text("x")
    train, test = (data.FFHQ(split, root=tmp_path) for split in ("train", "test"))
    assert keys(train) == ["00000/00000.png", "59000/59999.png"]
    assert keys(test) == ["60000/60000.png", "69000/69999.png"]
    assert train.root.name == "thumbnails128x128"
    assert data.FFHQ("all", root=tmp_path, size=256).root.name == "images1024x1024"
    assert data.FFHQ(root=tmp_path, images="images1024x1024")[0].shape == (128, 128, 3)
    with pytest.raises(ConfigurationError, match="use one of 'thumbnails128x128'"):
        data.FFHQ(root=tmp_path, images="images512x512")
    with pytest.raises(ConfigurationError, match="no images for validation"):
        data.FFHQ(root=tmp_path, validation=True)


# BioID


def bioid_tree(root: Path, numbers: tuple[int, ...] = (0, 1027, 1028, 1520)) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:286, :384]
    # Dark discs where the eyes are: level at row 100 in columns 150 and 198.
    picture = np.full((286, 384), 200, np.uint8)
    for column in (150, 198):
        picture[(rows - 100) ** 2 + (columns - column) ** 2 <= 25] = 0
    for number in numbers:
        Image.fromarray(picture).save(root / f"BioID_{number:04d}.pgm")
        (root / f"BioID_{number:04d}.eye").write_text("#LX\tLY\tRX\tRY\n198\t100\t150\t100\n")
    return root


def test_bioid_splits_by_number(tmp_path: Path) -> None:
    bioid_tree(tmp_path / "BioID-FaceDatabase-V1.2")
    train, test = (data.BioID(split, root=tmp_path) for split in ("train", "test"))
    assert keys(train) == ["BioID_0000.pgm", "BioID_1027.pgm"]
    assert keys(test) == ["BioID_1028.pgm", "BioID_1520.pgm"]
    # Attention-FH, section 4: 1,028 to train with, 493 to test with.
    assert (1_521 - 493, data.bioid.NUM_TRAIN) == (1_028, 1_028)


def dark_middles(face: np.ndarray) -> list[tuple[float, float]]:
    """Middles (y, x) of the dark pixels in the left and in the right half."""
    half = face.shape[1] // 2
    middles = []
    for part, offset in ((face[:, :half, 0], 0), (face[:, half:, 0], half)):
        y, x = np.nonzero(part < 100)
        middles.append((float(y.mean()) + 0.5, float(x.mean()) + 0.5 + offset))
    return middles


def test_bioid_puts_the_eyes_in_their_places(tmp_path: Path) -> None:
    faces = data.BioID("all", root=bioid_tree(tmp_path, (0,)))
    assert faces.image_size == (160, 120)
    left, right = faces.eyes(0)
    assert (left.tolist(), right.tolist()) == ([100.5, 150.5], [100.5, 198.5])
    # 40 % of 160 rows; 60 -+ 20 % of 120 columns.
    np.testing.assert_allclose(dark_middles(faces[0]), [(64, 36), (64, 84)], atol=0.6)


def test_bioid_turns_and_scales(tmp_path: Path) -> None:
    bioid_tree(tmp_path, (0,))
    upright = Image.open(tmp_path / "BioID_0000.pgm")
    # Twice as large and turned by 20 degrees: the same face has to come out.
    turned = upright.resize((768, 572), Image.Resampling.BICUBIC).rotate(20, center=(349, 201))
    turned.save(tmp_path / "BioID_0001.pgm")
    angle = np.deg2rad(20)
    points = []
    for x in (397.0, 301.0):
        dx = x - 349
        points += [349 + dx * np.cos(angle) - 0.5, 201 - dx * np.sin(angle) - 0.5]
    text = "#LX\tLY\tRX\tRY\n" + "\t".join(f"{value:.3f}" for value in points)
    (tmp_path / "BioID_0001.eye").write_text(text)
    faces = data.BioID("all", root=tmp_path)
    np.testing.assert_allclose(dark_middles(faces[1]), [(64, 36), (64, 84)], atol=0.6)
    inner = slice(30, 100), slice(15, 105)
    assert np.abs(faces[0][inner].astype(int) - faces[1][inner]).mean() < 3


def test_bioid_without_alignment_is_the_middle(tmp_path: Path) -> None:
    bioid_tree(tmp_path, (0,))
    (tmp_path / "BioID_0000.eye").unlink()
    whole = np.asarray(Image.open(tmp_path / "BioID_0000.pgm"))
    face = data.BioID("all", root=tmp_path, align="none")[0]
    np.testing.assert_array_equal(face[..., 1], whole[63:223, 132:252])
    with pytest.raises(DatasetError, match=r"1 images but 1 have no \.eye file, BioID_0000\.pgm"):
        data.BioID("all", root=tmp_path)


@pytest.mark.parametrize("text", ["", "#LX LY RX RY\n1 2 3\n", "a b c d\n", "5 5 5 5\n"])
def test_bioids_damaged_eye_files_are_named(tmp_path: Path, text: str) -> None:
    bioid_tree(tmp_path, (0,))
    (tmp_path / "BioID_0000.eye").write_text(text)
    with pytest.raises(DatasetError, match=r"BioID_0000\.eye .*get it again"):
        data.BioID("all", root=tmp_path)[0]


# People

SPLITS = ("train", "test")


def test_people_are_in_one_split_only(tmp_path: Path) -> None:
    for person in range(30):
        for number in range(2):
            image(tmp_path / f"person_{person:02d}" / f"{number}.png", (4, 4))
    image(tmp_path / "stray.png")
    train, test, everyone = (
        data.IdentityFolder(split, root=tmp_path, test_fraction=0.3)
        for split in ("train", "test", "all")
    )
    assert not set(train.people) & set(test.people)
    assert len(train.people) + len(test.people) == len(everyone.people) == 30
    assert (len(train), len(everyone)) == (2 * len(train.people), 60)
    assert [everyone.identity(index) for index in (0, 1, 2)] == ["person_00"] * 2 + ["person_01"]
    assert 3 <= len(test.people) <= 17
    image(tmp_path / "somebody" / "0.png")
    assert set(train.people) <= set(
        data.IdentityFolder("train", root=tmp_path, test_fraction=0.3).people
    )


def test_folders_of_people_may_stand_in_splits(tmp_path: Path) -> None:
    for path in ("train/ada/1.png", "train/ada/deep/2.png", "test/emmy/1.png", "train/stray.png"):
        image(tmp_path / path)
    train, everyone = (data.IdentityFolder(split, root=tmp_path) for split in ("train", "all"))
    assert keys(train) == ["train/ada/1.png", "train/ada/deep/2.png"]
    assert (train.people, everyone.people) == (("ada",), ("ada", "emmy"))
    image(tmp_path / "test" / "ada" / "3.png")
    with pytest.raises(DatasetError, match="1 people in train and in test, ada the first"):
        data.IdentityFolder("test", root=tmp_path)


def test_a_folder_without_people(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="holds 1 images and no folder of a person"):
        data.IdentityFolder("all", root=tmp_path)


def test_the_split_of_people_is_the_same_everywhere() -> None:
    people = [f"{number:03d}" for number in range(1, 131)]
    train, test, everyone = (
        [person for person in people if in_split(split, person, 0.5)]
        for split in ("train", "test", "all")
    )
    assert sorted(train + test) == everyone == people
    assert test[:4] == ["001", "005", "007", "009"]


def test_ytf_orders_frames_and_thins_them(tmp_path: Path) -> None:
    for frame in (1, 2, 10, 11, 20):
        image(tmp_path / "aligned_images_DB" / "Ada" / "0" / f"aligned_detect_0.{frame}.jpg")
    image(tmp_path / "aligned_images_DB" / "Emmy" / "3" / "aligned_detect_3.7.jpg")
    image(tmp_path / "frame_images_DB" / "Ada" / "0" / "0.1.jpg")
    faces = data.YTF("all", root=tmp_path, every=2)
    assert [Path(key).stem[15:] for key in keys(faces)] == ["0.1", "0.10", "0.20", "3.7"]
    assert (faces.identity(3), faces.video(0)) == ("Emmy", "Ada/0")
    assert keys(data.YTF("all", root=tmp_path, images="frame_images_DB")) == ["Ada/0/0.1.jpg"]
    parts = [data.YTF(split, root=tmp_path, test_fraction=0.7).people for split in SPLITS]
    assert parts == [("Emmy",), ("Ada",)]


def scface_tree(root: Path, suffix: str = "JPG") -> Path:
    for person in ("001", "002"):
        image(root / "mugshot_frontal_cropped_all" / f"{person}_frontal.{suffix}", (40, 30), 250)
        for distance in (1, 2, 3):
            for camera in (1, 7):
                folder = root / f"surveillance_cameras_distance_{distance}" / f"cam_{camera}"
                shade = 10 * distance + camera
                image(folder / f"{person}_cam{camera}_{distance}.jpg", (40, 30), shade)
    return root


def test_scface_chooses_distances_and_cameras(tmp_path: Path) -> None:
    root = scface_tree(tmp_path / "SCface_database")
    faces = data.SCface("all", root=tmp_path, distances=(2, 3), cameras=[7])
    assert [tuple(faces.shot(index)) for index in range(len(faces))] == [
        ("001", 7, 2),
        ("002", 7, 2),
        ("001", 7, 3),
        ("002", 7, 3),
    ]
    assert (faces.identity(1), faces.people) == ("002", ("001", "002"))
    assert abs(level(faces, 2) - 37) <= 1
    assert abs(int(faces.mugshot(2).mean()) - 250) <= 1
    (root / "mugshot_frontal_cropped_all" / "002_frontal.JPG").unlink()
    with pytest.raises(DatasetError, match="002_frontal does not exist"):
        faces.mugshot(1)
    assert scface.NUM_PEOPLE * len(scface.CAMERAS) * len(scface.DISTANCES) == 130 * 7 * 3


@pytest.mark.parametrize(("option", "given"), [("distances", (0, 1)), ("cameras", ())])
def test_scfaces_options_are_checked(tmp_path: Path, option: str, given: Any) -> None:
    options: Mapping[str, Any] = {option: given}
    with pytest.raises(ConfigurationError, match=f"{option} must be some of 1, 2, 3"):
        data.SCface("all", root=scface_tree(tmp_path), **options)


def test_lfw_knows_who_is_who(tmp_path: Path) -> None:
    for name in ("Ada/Ada_0001", "Ada/Ada_0002", "Emmy/Emmy_0001"):
        image(tmp_path / "lfw" / f"{name}.jpg", (140, 140))
    faces = lfw.LFW("all", root=tmp_path)
    assert isinstance(faces, Identified)
    assert [faces.identity(index) for index in range(3)] == ["Ada", "Ada", "Emmy"]


# All of them

TREES = {
    "celeba": ("img_align_celeba", celeba_tree),
    "helen": ("helen_1", helen_tree),
    "bioid": ("BioID_0000.pgm", bioid_tree),
    "scface": ("surveillance_cameras_distance_1", scface_tree),
}


@pytest.mark.parametrize("name", sorted(data.LAYOUTS))
def test_nothing_there_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"\(not a directory\): expected .*FACEHALL_DATA") as e:
        data.make(name)
    expect_one_sentence(e)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"other \(holds notes\.txt\): expected"):
        data.make(name, root=tmp_path / "other")


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_folder_too_deep_is_pointed_out(name: str, tmp_path: Path) -> None:
    mark, tree = TREES[name]
    home = tree(tmp_path / "downloads" / "extracted")
    with pytest.raises(DatasetError, match=f"but {re.escape(str(home))} below it") as error:
        data.make(name, root=tmp_path)
    expect_one_sentence(error)
    assert len(data.make(name, split="all", root=home)) > 0
    assert (home / mark).exists()


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("celeba", "img_align_celeba"),
        ("celeba", "Img"),
        ("ffhq", "images1024x1024"),
        ("helen", "helen_1"),
        ("scface", "surveillance_cameras_distance_2"),
        ("ytf", "frame_images_DB"),
    ],
)
@pytest.mark.parametrize("content", [False, True])
def test_a_folder_without_its_images(name: str, mark: str, content: bool, tmp_path: Path) -> None:
    (tmp_path / mark).mkdir()
    if content:
        (tmp_path / mark / "readme.txt").write_text("x")
    with pytest.raises(DatasetError, match="expected") as error:
        data.make(name, split="all", root=tmp_path)
    assert str(tmp_path) in str(error.value)
    expect_one_sentence(error)


@pytest.mark.parametrize("name", sorted(TREES))
def test_an_empty_image_is_named(name: str, tmp_path: Path) -> None:
    TREES[name][1](tmp_path)
    faces = data.make(name, split="all", root=tmp_path)
    path = faces.root / faces.key(0)  # type: ignore[attr-defined]
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        faces[0]


@pytest.mark.parametrize("name", sorted(TREES))
def test_an_environment_finds_it_in_the_cache(name: str, empty_places: Path) -> None:
    TREES[name][1](empty_places / name)
    setup = EpisodeSpec(FacesSpec(name, scale=8), enhancer="bicubic").build("all")
    assert setup.dataset.name == name
    assert setup.dataset.batch([0, 1]).shape == (2, 3, *setup.dataset.image_size)
