"""The page: whole, readable by machines and people, and loading nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.report import gallery as restored
from facehall_env.benchmarks.report import page
from facehall_env.benchmarks.report.contents import PatchSelection
from facehall_env.benchmarks.report.gallery import Gallery, Play
from facehall_env.benchmarks.report.layout import Section
from facehall_env.benchmarks.report.page import run
from facehall_env.benchmarks.report.reading import Found, Result, read_results
from facehall_env.benchmarks.report.sections import sections
from facehall_env.benchmarks.report.selection import headlines
from facehall_env.benchmarks.report.settings import ReportConfig
from facehall_env.benchmarks.restorers import NetworkSpec
from facehall_env.benchmarks.tables import Table
from facehall_env.errors import ConfigurationError
from facehall_env.patches import PatchGeometry

GEOMETRY = PatchGeometry((32, 32), (16, 12))
VOID = {"meta", "link", "img", "input", "br"}


class Document(HTMLParser):
    """Elements in their order, with the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text: list[str] = []
        self.elements.append((tag, dict(attrs), text))
        if tag not in VOID:
            self._open.append((tag, text))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self.unbalanced.append(tag)
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for _, text in self._open:
            text.append(data)

    def all(self, *tags: str) -> Iterator[tuple[str, dict[str, str | None], str]]:
        for tag, attributes, text in self.elements:
            if not tags or tag in tags:
                yield tag, attributes, " ".join("".join(text).split())


def gallery(seed: int = 0) -> Gallery:
    """Two faces of noise, which two agents restored with two patches."""
    rng = np.random.default_rng(seed)
    faces = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2)]
    actions = torch.tensor([[0, 33], [5, 900]])
    psnr = torch.tensor([[20.0, 21.0, 22.0], [20.0, 22.0, 24.0]])
    plays = [
        Play("static", GEOMETRY, actions, psnr + 5, [faces] * 3),
        Play("rl", GEOMETRY, actions, psnr, [faces] * 3),
    ]
    small = [face[::4, ::4] for face in faces]
    return Gallery("synthetic", 4, 2, faces, small, faces[0], plays)


@pytest.fixture
def document(results: Path) -> Document:
    (results / "broken.json").write_text("{", encoding="utf-8")
    text, _ = page.render(read_results(results), gallery())
    return Document(text)


def test_nothing_is_loaded_from_elsewhere(document: Document) -> None:
    addresses = [
        address
        for _, attributes, _ in document.all()
        for name, address in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href") and address
    ]
    outside = {address for address in addresses if not address.startswith(("data:", "#"))}
    assert outside == {page.PAPER}
    links = {a["href"] for tag, a, _ in document.all("a") if (a["href"] or "").startswith("http")}
    assert links == outside
    style = next(text for _, _, text in document.all("style"))
    assert "url(" not in style
    assert "@import" not in style


def test_the_browser_is_told_so(document: Document) -> None:
    policy = next(a["content"] for _, a, _ in document.all("meta") if "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none'; img-src data:;")
    source = (Path(page.__file__).parent / "templates" / "slider.js").read_bytes()
    digest = base64.b64encode(hashlib.sha256(source).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_elements_are_closed_and_identifiers_the_only_ones(document: Document) -> None:
    assert document.unbalanced == []
    ids = [a["id"] for _, a, _ in document.all() if "id" in a]
    assert len(set(ids)) == len(ids)
    for _, attributes, _ in document.all():
        for id_ in (attributes.get("aria-labelledby") or "").split():
            assert id_ in ids
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids


def test_pictures_have_words_and_tables_have_heads(document: Document) -> None:
    images = [attributes for _, attributes, _ in document.all("img")]
    assert len(images) > 20
    assert all((image.get("alt") or "").strip() for image in images)
    assert all(a.get("scope") in ("row", "col") for _, a, _ in document.all("th"))
    tables = list(document.all("table"))
    assert len(tables) == len(list(document.all("caption"))) >= 8


def test_headings_are_in_order(document: Document) -> None:
    levels = [int(tag[1]) for tag, _, _ in document.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(list(document.all(landmark))) == 1


def test_what_was_left_out_is_said(document: Document) -> None:
    items = [text for _, _, text in document.all("li")]
    assert any(text.startswith("broken.json is damaged: it is no JSON") for text in items)
    assert "patch-selection.json" in " ".join(items)


def by_id(results: Path) -> dict[str, Section]:
    return {section.id: section for section in sections(read_results(results))}


def bold(table: Table) -> dict[str, list[str]]:
    """Titles of the columns in which a row is the best."""
    names = table.columns[0].cells
    best = [(column.title, column.best(table.aside)) for column in table.columns]
    return {name: [title for title, rows in best if row in rows] for row, name in enumerate(names)}


def test_the_best_is_bold_but_never_the_oracle(results: Path) -> None:
    shown = by_id(results)
    table = shown["choosing"].blocks[0].tables[0]
    best = bold(table)
    assert best.pop("rl") == ["T=1", "T=2", "area"]
    assert not any(best.values())
    assert table.rows[4][:3] == ("oracle", "33.00", "34.00")
    # The least of sizes and times is the best; the truth does not compete for identity.
    whole = bold(shown["whole"].blocks[0].tables[0])
    assert {"parameters", "ms/face"} <= set(whole["small"]) - set(whole["large"])
    assert "PSNR" in set(whole["large"]) - set(whole["small"])
    identity = bold(shown["identity"].blocks[0].tables[0])
    assert "accuracy" in identity["mine"]
    assert "of all pairs" in identity["bicubic"]
    assert identity["truth"] == []


def test_attributes_have_a_table_of_networks_and_one_of_attributes(results: Path) -> None:
    (block,) = by_id(results)["attributes"].blocks
    assert block.intro == "10 test images, 2 attributes, predicted from the embeddings of judge."
    table, each = block.tables[0], block.details[0]
    assert table.rows == [
        ("bicubic", "62.5 ± 2.0 %", "–", "30.00 ± 0.10"),
        ("mine", "68.8 ± 2.0 %", "+6.25 ± 1.00 %", "31.00 ± 0.10"),
        ("truth", "81.2 ± 2.0 %", "+18.75 ± 1.00 %", "–"),
    ]
    assert bold(table) == {"bicubic": [], "mine": ["balanced accuracy", "PSNR"], "truth": []}
    # Only what was told is listed, with how many have it.
    assert each.header == ["balanced accuracy", "have it", "bicubic", "mine", "truth"]
    assert each.rows[3:] == [
        ("Smiling", "50 %", "75.00 ± 4.00 %", "75.00 ± 4.00 %", "75.00 ± 4.00 %"),
        ("No_Beard", "90 %", "50.00 ± 4.00 %", "62.50 ± 4.00 %", "87.50 ± 4.00 %"),
    ]


def test_most_environments_are_shown_and_all_are_there(results: Path) -> None:
    block = by_id(results)["speed"].blocks[0]
    assert block.tables[0].title == "Environments around tiny, 32 at once"
    assert [row[2:4] for row in block.tables[0].rows] == [("32", "77")]
    assert [row[2:4] for row in block.details[0].rows] == [("1", "11"), ("32", "77")]


def test_the_papers_numbers_stand_beside_ours(document: Document) -> None:
    cells = [text for _, _, text in document.all("td")]
    assert "30.00 ± 0.20 (28.89)" in cells
    text = " ".join(text for _, _, text in document.all("main"))
    assert "T = 9 before T = 5" in text
    assert {"+2.62", "+1.000 ± 0.100", "holds"} <= set(cells)
    assert "A row could not be made." in text


def test_what_was_found_is_said_in_the_numbers_of_the_table(results: Path) -> None:
    assert headlines(read_results(results)) == [
        "With 1 patch, choosing where to put it is worth 1.00 dB: 31.00 dB for places chosen at "
        "random, 32.00 dB for rl, the best agent, on 10 faces of tiny.",
        "After 2 patches, rl is 0.750 ± 0.050 dB above the fixed order even, on the same faces "
        "with the same network (95 % interval).",
        "An oracle that knows the truth gains the most over random places. Of its gain, rl reaches "
        "50 ± 4 % after 2 patches (95 % interval).",
    ]


def test_the_curves_start_where_the_faces_did(results: Path) -> None:
    chart = sections(read_results(results))[0].blocks[0].chart
    assert chart is not None
    assert chart.curves["rl"] == [0.0, 2.0, 3.0]
    assert set(chart.curves) == {"random", "even", "rl", "oracle"}
    assert chart.start == 30.0


def test_markup_in_results_is_text(contents: dict[str, dict[str, Any]]) -> None:
    content = json.loads(
        json.dumps(contents["patch-selection"]).replace('"rl"', '"<script>rl</script>"')
    )
    found = Found((Result(Path("a<b>.json"), PatchSelection.from_json(content)),))
    text, _ = page.render(found)
    assert "<script>rl" not in text
    assert "&lt;script&gt;rl" in text
    assert "a<b>" not in text
    assert Document(text).unbalanced == []


def test_coverage_is_counted() -> None:
    # Centres (8, 8) and (24, 8), so that rows 1-16 and 17-32 of columns 3-14 are covered.
    actions = torch.tensor([[8 * 32 + 8, 24 * 32 + 8], [8 * 32 + 8, 8 * 32 + 8]])
    expected = np.zeros((32, 32))
    expected[1:17, 3:15] = 1.5
    expected[17:33, 3:15] = 0.5
    np.testing.assert_array_equal(restored.coverage(GEOMETRY, actions), expected)


def test_the_shown_agent_is_the_best_of_those_that_look() -> None:
    assert gallery().shown.agent == "rl"


def test_heat_goes_from_the_first_colour_to_the_last() -> None:
    coloured = page.heat(np.array([[0.0, 2.0, 9.0]]), 2.0)
    assert coloured.shape == (1, 3, 3)
    assert coloured[0, 0].sum() < coloured[0, 1].sum()
    # What is beyond the highest has its colour.
    assert (coloured[0, 1] == coloured[0, 2]).all()


def test_pictures_are_kept_without_loss() -> None:
    picture = gallery().truth[0]
    kind, _, data = page.address(picture, "PNG", optimize=True).partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (np.asarray(image) == picture).all()


def test_attention_figures_of_people_need_their_dataset(
    results: Path, contents: dict[str, dict[str, Any]]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(results / "sr-attention-sparnet.png")
    (results / "sr-attention-torn.png").write_bytes(b"\x89PNG")
    found = read_results(results)
    assert page.attention_figures(found, "synthetic") == []
    figures = page.attention_figures(found, "tiny")
    assert [title for title, _ in figures] == ["sparnet on faces of tiny", "torn on faces of tiny"]
    text, left_out = page.render(found, None, figures)
    assert [file.name for file in left_out] == ["sr-attention-torn.png"]
    widths = [a["width"] for _, a, _ in Document(text).all("img")]
    assert widths == [str(page.WIDEST)]


def test_a_page_that_is_too_large_is_refused(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LARGEST", 10_000)
    with pytest.raises(ConfigurationError, match="show fewer --faces"):
        page.render(read_results(results))


@pytest.fixture
def config(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportConfig:
    """A report with small faces and a network that does nothing."""
    monkeypatch.setattr(restored, "ENHANCER", NetworkSpec("tiny", None))
    return ReportConfig(
        results=(results,),
        out=tmp_path / "page.html",
        dataset="tiny",
        faces=2,
        images=3,
        agents=("random", "saliency"),
        steps=3,
    )


def test_the_seed_decides_and_the_old_page_is_replaced(config: ReportConfig) -> None:
    config.out.write_text("old", encoding="utf-8")
    first = run(config).read_bytes()
    assert run(config).read_bytes() == first
    config.seed = 1
    assert run(config).read_bytes() != first
    assert len(first) < 1_000_000
    assert [path.name for path in config.out.parent.glob("*.html")] == ["page.html"]
    text = " ".join(text for _, _, text in Document(first.decode()).all("main"))
    assert "The agent is saliency" in text
    assert "the mean over 3 test faces" in text
    assert "These are people" in text


def test_the_users_results_and_the_published_ones_are_read(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("FACEHALL_RESULTS", str(own))
    monkeypatch.setattr(page, "published_folder", lambda: results)
    config = ReportConfig(out=tmp_path / "page.html", faces=0)
    assert "mine.json" not in run(config).read_text("utf-8")
    own.mkdir()
    (results / "training-memory.json").rename(own / "mine.json")
    assert "mine.json" in run(config).read_text("utf-8")
    monkeypatch.setattr(page, "published_folder", lambda: None)
    assert "profile.json" not in run(config).read_text("utf-8")


def test_a_failure_leaves_the_old_page(
    config: ReportConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.out.write_text("old", encoding="utf-8")
    monkeypatch.setattr(page, "LARGEST", 10)
    with pytest.raises(ConfigurationError):
        run(config)
    assert config.out.read_text("utf-8") == "old"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--faces", "-1"], "faces=-1: give a whole number of 0 or more"),
        (["--images", "0"], "images=0: give a whole number of 1 or more"),
        (["--results", "nowhere"], "There is no folder nowhere"),
        (["--agents", "bicubic"], "Unknown agent 'bicubic'"),
        (["--agents", "nobody"], "nobody"),
        (["--out", "."], "--out . is a folder"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str],
    words: str,
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["report", "--results", str(results), "--out", str(tmp_path / "a.html"), *arguments]
    assert main(given) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_the_command_names_what_it_left_out(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "mine.json").write_text('{"a": 1}', encoding="utf-8")
    out = tmp_path / "deep" / "a.html"
    assert main(["report", "--results", str(results), "--faces", "0", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'left out: mine.json holds no results: it has no field "benchmark".' in printed
    assert printed.endswith(f"written: {out}\n")
    document = Document(out.read_text("utf-8"))
    assert list(document.all("img")) == []
    assert document.unbalanced == []


def browser() -> str:
    """A Chromium, or the reason to skip."""
    given = os.environ.get("FACEHALL_CHROMIUM")
    found = given or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("needs Chromium: install it, or name it in FACEHALL_CHROMIUM")
    return found


def test_in_a_browser(results: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    executable = browser()
    path = tmp_path / "page.html"
    path.write_text(page.render(read_results(results), gallery())[0], encoding="utf-8")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for width, scheme in ((400, "dark"), (1400, "light")):
            window = chromium.new_page(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            )
            asked, said = [], []
            window.on("request", lambda request, asked=asked: asked.append(request.url))
            window.on("console", lambda message, said=said: said.append(message.text))
            window.goto(path.as_uri())
            # No part of the page is wider than the window, and nothing was asked for or refused.
            assert window.evaluate("document.documentElement.scrollWidth") == width
            assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
            assert said == []
            paper = window.evaluate("getComputedStyle(document.body).backgroundColor")
            levels = [int(level) for level in re.findall(r"\d+", paper)]
            assert (sum(levels) < 200) == (scheme == "dark")
            shown = ".narrow" if width < 700 else ".wide"
            assert window.locator(f"{shown} svg").first.is_visible()
            # The slider answers to the keyboard.
            slider = window.locator(".pair input").first
            slider.focus()
            slider.press("Home")
            clip = "getComputedStyle(document.querySelector('.after')).clipPath"
            assert window.evaluate(clip) == "inset(0px 0px 0px 0%)"
        without = chromium.new_context(java_script_enabled=False).new_page()
        without.goto(path.as_uri())
        before, after = (without.locator(f".{side} img").first for side in ("before", "after"))
        assert before.bounding_box()["x"] < after.bounding_box()["x"]
        chromium.close()


def test_what_patches_add_to_a_restored_face_is_not_the_main_finding(results: Path) -> None:
    before = headlines(read_results(results))
    (path,) = (each for each in results.glob("*.json") if "patch-selection" in each.read_text())
    content = json.loads(path.read_text(encoding="utf-8"))
    content["settings"]["initial"] = "light"
    for row in content["rows"]:
        row["psnr"] += 3
    for curve in content["curves"]:
        curve["psnr"] = [psnr + 3 for psnr in curve["psnr"]]
    (results / "patch-selection-on-light.json").write_text(json.dumps(content), encoding="utf-8")
    assert headlines(read_results(results)) == before
    path.unlink()
    assert "35.00 dB for rl" in headlines(read_results(results))[0].replace("\xa0", " ")
