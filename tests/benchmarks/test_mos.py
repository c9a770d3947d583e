"""The rating page and its key, the ratings that come back, and the scores worked out by hand."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from rich.console import Console

from facehall_env import data
from facehall_env.benchmarks.apps import mos_page, mos_scores
from facehall_env.benchmarks.apps.mos_page import build, read_key
from facehall_env.benchmarks.apps.mos_scores import score
from facehall_env.benchmarks.apps.settings import MosBuildConfig, MosScoreConfig
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.scoring import fixed_order
from facehall_env.errors import ConfigurationError, DatasetError
from facehall_env.spec import FacesSpec

T1, T2 = 12.706205, 4.302653
"""The 97.5 % quantiles of Student's t with one and two degrees of freedom."""


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    """Results of two methods on three faces; the one has a fourth, and of another file type."""
    given = []
    for number, (name, faces, suffix) in enumerate(
        (("ours", "abcd", ".png"), ("bicubic", "cab", ".bmp"))
    ):
        for face in faces:
            image = np.full((8, 8, 3), 40 * number + ord(face), np.uint8)
            path = tmp_path / name / "sub" / f"{face}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            note = PngImagePlugin.PngInfo()
            note.add_text("Comment", f"made by {name}")
            extra = {"pnginfo": note} if suffix == ".png" else {}
            Image.fromarray(image).save(path, **extra)
        given.append(f"{name}={tmp_path / name}")
    return tuple(given)


def content_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="content">(.*?)</script>', text)
    assert match is not None
    content: dict[str, Any] = json.loads(match[1])
    return content


def pixels(source: str) -> np.ndarray[Any, Any]:
    head, _, code = source.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(code)))
    assert image.info == {}
    return np.asarray(image)


def test_the_page_shows_what_the_key_says(folders: tuple[str, ...], tmp_path: Path) -> None:
    page, key = build(MosBuildConfig(folders=folders, out=tmp_path / "out"), quiet())
    identity, items = read_key(key)
    content = content_of(page)
    assert content["page"] == identity
    shown = {item["id"]: pixels(item["src"]) for item in content["items"]}
    assert shown.keys() == items.keys()
    assert sorted(items.values()) == sorted(
        (method, f"sub/{face}") for method in ("ours", "bicubic") for face in "abc"
    )
    for name, (method, face) in items.items():
        value = ord(face[-1]) + 40 * (method == "bicubic")
        np.testing.assert_array_equal(shown[name], np.full((8, 8, 3), value))


def test_the_page_tells_nobody_who_is_who(folders: tuple[str, ...], tmp_path: Path) -> None:
    page, key = build(MosBuildConfig(folders=folders, out=tmp_path / "out", title="T"), quiet())
    text = page.read_text(encoding="utf-8")
    assert "ours" not in text
    assert "bicubic" not in text
    assert "sub/" not in text
    # In the order of names that are hashes, not by method.
    methods = [read_key(key)[1][item["id"]][0] for item in content_of(page)["items"]]
    assert methods not in (sorted(methods), sorted(methods, reverse=True))
    other, _ = build(MosBuildConfig(folders=folders, out=tmp_path / "2", seed=1), quiet())
    assert content_of(other)["page"] != content_of(page)["page"]
    again, _ = build(MosBuildConfig(folders=folders, out=tmp_path / "3", title="T"), quiet())
    assert again.read_bytes() == page.read_bytes()


class Page(html.parser.HTMLParser):
    """Collects the elements of a page; complains about wrong nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_accessible(folders: tuple[str, ...], tmp_path: Path) -> None:
    title = "<Faces> & co"
    page, _ = build(MosBuildConfig(folders=folders, out=tmp_path, title=title), quiet())
    text = page.read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    assert "&lt;Faces&gt; &amp; co</h1>" in text
    named = {attributes["id"] for _, attributes in parsed.elements if "id" in attributes}
    # All that the script asks for is there.
    assert set(re.findall(r'element\("(\w+)"\)', text)) <= named
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "default-src 'none'" in text
    elements = {tag: attributes for tag, attributes in parsed.elements}
    assert elements["html"]["lang"] == "en"
    assert elements["img"]["alt"]
    assert elements["label"]["for"] == "progress"
    assert "prefers-color-scheme: dark" in text
    ratings = [a["data-rating"] for t, a in parsed.elements if t == "button" and "data-rating" in a]
    assert ratings == ["1", "2", "3", "4", "5"]


def test_faces_restored_on_the_spot(tmp_path: Path, weights: Any) -> None:
    settings = MosBuildConfig(
        models=("bicubic",),
        agents=(f"even={weights(1.0)},even",),
        faces=FacesSpec("tiny", scale=4),
        steps=2,
        limit=3,
        out=tmp_path / "out",
    )
    page, key = build(settings, quiet())
    _, items = read_key(key)
    shown = {items[i["id"]]: pixels(i["src"]) for i in content_of(page)["items"]}
    assert len(shown) == 9
    dataset = data.make("tiny", split="test")
    protocol = data.protocols.get("bicubic")
    for place in fixed_order(len(dataset), 3):
        face = dataset.key(place)
        np.testing.assert_array_equal(shown["truth", face], dataset[place])
        small = protocol.degrade(dataset.batch([place]), 4).initial[0]
        expected = (small * 255).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(shown["bicubic", face], expected)
        assert (shown["even", face] != shown["bicubic", face]).any()


ITEMS = {
    "1": ("ours", "a"),
    "2": ("ours", "b"),
    "3": ("bicubic", "a"),
    "4": ("bicubic", "b"),
}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    items = {name: {"method": method, "face": face} for name, (method, face) in ITEMS.items()}
    path.write_text(json.dumps({"format": mos_page.KEY_FORMAT, "page": "p", "items": items}))
    return path


def ratings(path: Path, rater: str, given: dict[str, int], page: str = "p") -> Path:
    content = {"format": mos_scores.RATINGS_FORMAT, "page": page, "rater": rater, "ratings": given}
    path.write_text(json.dumps(content))
    return path


def test_the_key_of_another_page_is_not_replaced(folders: tuple[str, ...], tmp_path: Path) -> None:
    _, key = build(MosBuildConfig(folders=folders, out=tmp_path / "out"), quiet())
    before = key.read_bytes()
    build(MosBuildConfig(folders=folders, out=tmp_path / "out"), quiet())  # the same page
    assert key.read_bytes() == before
    with pytest.raises(ConfigurationError, match=r"key\.json belongs to another page"):
        build(MosBuildConfig(folders=folders, out=tmp_path / "out", seed=1), quiet())
    assert key.read_bytes() == before


def test_scores_by_hand(key: Path, tmp_path: Path) -> None:
    files = (
        ratings(tmp_path / "r1.json", "ada", {"1": 5, "2": 4, "3": 1, "4": 2}),
        ratings(tmp_path / "r2.json", "bob", {"1": 4, "2": 3, "3": 2}),
        ratings(tmp_path / "r3.json", "cyd", {"1": 3}),
    )
    first, second = score(MosScoreConfig(key, files, tmp_path / "out"), quiet())
    assert (first["method"], second["method"]) == ("ours", "bicubic")
    assert first["mos"] == pytest.approx((5 + 4 + 3 + 4 + 3) / 5)
    assert (first["ratings"], first["raters"], first["faces"]) == (5, 3, 2)
    assert first["counts"] == [0, 0, 2, 2, 1]
    # Faces: 4 and 3.5; raters: 4.5, 3.5 and 3.
    assert first["mos_ci"] == pytest.approx(T1 * math.sqrt(0.125 / 2), rel=1e-5)
    assert first["mos_ci_raters"] == pytest.approx(T2 * math.sqrt(7 / 12 / 3), rel=1e-5)
    assert second["mos"] == pytest.approx(5 / 3)
    written = json.loads((tmp_path / "out" / "mos.json").read_text())
    assert written["rows"][0]["mos"] == pytest.approx(3.8)
    assert "| ours | 3.80 |" in (tmp_path / "out" / "mos.md").read_text()


BAD = {
    "missing": (None, "cannot be read"),
    "cut short": ('{"format": "faceh', "is damaged"),
    "a list": ("[1, 2]", "is no file of ratings"),
    "binary": ("\xff\x00", "is damaged"),
    "other page": ({"page": "q"}, "is of another page"),
    "no ratings": ({"ratings": {}}, "no ratings or no rater"),
    "no rater": ({"rater": 3}, "no ratings or no rater"),
    "unknown image": ({"ratings": {"9": 3}}, "an image '9' that the page does not have"),
    "too good": ({"ratings": {"1": 6}}, "the rating 6, not one of 1 to 5"),
    "a half": ({"ratings": {"1": 2.5}}, "the rating 2.5"),
    "true": ({"ratings": {"1": True}}, "the rating True"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_named_and_left_out(what: str, key: Path, tmp_path: Path) -> None:
    good = ratings(tmp_path / "good.json", "ada", {"1": 4, "3": 2})
    bad, (content, reason) = tmp_path / "bad.json", BAD[what]
    if isinstance(content, dict):
        own = {
            "format": mos_scores.RATINGS_FORMAT,
            "page": "p",
            "rater": "bob",
            "ratings": {"1": 1},
        }
        bad.write_text(json.dumps({**own, **content}))
    elif content is not None:
        bad.write_bytes(content.encode("latin-1"))
    console = quiet()
    rows = score(MosScoreConfig(key, (bad, good)), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"left out: {bad}: " in printed
    assert reason in printed
    assert [row["mos"] for row in rows] == [4, 2]
    with pytest.raises(DatasetError, match="None of the 1 files of ratings can be used"):
        score(MosScoreConfig(key, (bad,)), quiet())


@pytest.mark.parametrize("turned", [False, True])
def test_one_rater_counts_once(key: Path, tmp_path: Path, turned: bool) -> None:
    early = ratings(tmp_path / "early.json", "ada", {"1": 1})
    late = ratings(tmp_path / "late.json", "ada", {"1": 4, "3": 2})
    console = quiet()
    files = (late, early) if turned else (early, late)
    rows = score(MosScoreConfig(key, files), console)
    assert [row["mos"] for row in rows] == [4, 2]
    assert f"left out: {early}: " in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", ["", "[]", '{"format": "other"}', '{"format": 1, "items": 2}'])
def test_a_key_that_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"is not the key of a page .* mos build"):
        read_key(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_key(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Give either --folders"),
        ({"folders": ("a=b",), "models": ("bicubic",)}, "Give either --folders"),
        ({"folders": ("a=b",), "limit": 0}, "limit=0: give a whole number of 1 or more"),
        ({"folders": ("a",)}, "'a' is not NAME=FOLDER"),
        ({"folders": ("a=.", "a=.")}, "has 'a' twice"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(MosBuildConfig(**settings, out=tmp_path / "out"), quiet())
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be(folders: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"ours 4, none 0 images"):
        build(MosBuildConfig(folders=(folders[0], f"none={tmp_path / 'empty'}")), quiet())
    with pytest.raises(DatasetError, match="nowhere is not a directory"):
        build(MosBuildConfig(folders=(f"a={tmp_path / 'nowhere'}",)), quiet())


def test_a_page_that_would_be_too_large(
    folders: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mos_page, "LARGEST_PAGE", 100)
    with pytest.raises(ConfigurationError, match=r"6 images make a page of .* lower --limit"):
        build(MosBuildConfig(folders=folders, out=tmp_path / "out"), quiet())


def test_the_commands(
    folders: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mos", "build", "--folders", *folders, "--out", str(tmp_path / "m")]) == 0
    assert "6 images, 3 faces by ours, bicubic" in capsys.readouterr().out
    identity, items = read_key(tmp_path / "m" / "key.json")
    given = {name: 4 if method == "ours" else 2 for name, (method, _) in items.items()}
    file = ratings(tmp_path / "r.json", "ada", given, identity)
    assert main(["mos", "score", str(tmp_path / "m" / "key.json"), str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("ours") < printed.index("bicubic")
    assert main(["mos", "score", str(file), str(file)]) == 2
    assert "is not the key of a page" in capsys.readouterr().err
