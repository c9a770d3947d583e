"""``facehall bench identity``: numbers from the parts, faces not found, the cache, bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from facehall_env import data, metrics, recognition
from facehall_env.benchmarks import restorers
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.quality import identity as bench
from facehall_env.benchmarks.quality.identity import Results, run
from facehall_env.benchmarks.quality.opening import specifications
from facehall_env.benchmarks.quality.settings import IdentityBenchConfig
from facehall_env.benchmarks.report.reading import Result, read_result
from facehall_env.data import Identified, pairs
from facehall_env.errors import ConfigurationError
from facehall_env.metrics import verification
from facehall_env.photos.landmarks import Landmarks
from facehall_env.recognition import RECOGNISERS, Recogniser
from facehall_env.spec import FacesSpec


class Glance(Recogniser):
    """Sees the mean colours of sixteen fields."""

    name = "glance"

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__((32, 32), 48, (0.5,) * 3, (0.5,) * 3, config={"gain": gain})
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        return (torch.nn.functional.avg_pool2d(normalised * self.gain, 8),)

    def embedding_of(self, features: Tensor) -> Tensor:
        return features.flatten(1)


class Blink(Glance):
    """Another recogniser of the same make."""

    name = "blink"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tiny: None) -> None:
    for network in (Glance, Blink):
        monkeypatch.setitem(RECOGNISERS._factories, network.name, network)
    faces = data.DATASETS._factories["tiny"]

    class TinyPeople(faces, Identified):  # type: ignore[misc, valid-type]
        """Twelve faces of four people, who wear a colour each."""

        people = ("0", "1", "2", "3")

        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
            own = np.random.default_rng(self.checked(index) // 3).integers(0, 256, (4, 4, 3))
            noise = np.random.default_rng(index).integers(-60, 60, (8, 8, 3))
            fields = np.kron(own, np.ones((2, 2, 1))) + noise
            image = np.kron(fields, np.ones((4, 4, 1)))
            return np.clip(image, 0, 255).astype(np.uint8)

        def identity(self, index: int) -> str:
            return str(self.checked(index) // 3)

    monkeypatch.setitem(data.DATASETS._factories, "tiny", TinyPeople)


@pytest.fixture
def glance(tmp_path: Path) -> str:
    path = tmp_path / "glance.safetensors"
    recognition.save(Glance(), path)
    return f"glance={path}"


def config(out: Path, *judges: str, **settings: Any) -> IdentityBenchConfig:
    defaults: dict[str, Any] = {
        "faces": FacesSpec("tiny", scale=4),
        "limit": 3,
        "folds": 2,
        "recognisers": judges,
        "align": "none",
        "batch": 5,
        "out": out,
    }
    return IdentityBenchConfig(**{**defaults, **settings})


def quietly(settings: IdentityBenchConfig, **options: Any) -> Results:
    console = Console(file=io.StringIO(), width=250)
    return run(settings, "facehall bench identity", console, **options)


def written(folder: Path, suffix: str) -> Path:
    (file,) = folder.glob(f"identity-tiny-x4-bicubic-*{suffix}")
    return file


def by_name(results: Results) -> dict[str, dict[str, Any]]:
    return {row.model: row.to_json() for row in results.rows}


@pytest.mark.parametrize("against", ["restored", "truth"])
def test_the_numbers_are_those_of_the_parts(glance: str, tmp_path: Path, against: str) -> None:
    results = quietly(config(tmp_path, glance, against=against, seed=3))
    rows = by_name(results)
    assert list(rows) == ["bicubic", "truth"]
    dataset = data.make("tiny", split="test")
    drawn = pairs.drawn(dataset, 3, 2, seed=3)
    truth = dataset.batch(range(12)).float() / 255
    faces = data.protocols.get("bicubic").degrade(truth, 4)
    with torch.no_grad():
        embedded, true = (Glance().embed(images) for images in (faces.initial, truth))
    other = embedded if against == "restored" else true
    alike = verification.cosine_similarity(embedded[drawn.first], other[drawn.second])
    verified = verification.verification(alike, drawn.same, drawn.fold)
    assert results.judged[0].right.tolist() == verified.right.tolist()
    row = rows["bicubic"]
    assert row["accuracy"] == pytest.approx(verified.accuracy)
    assert row["accuracy_se"] == pytest.approx(verified.standard_error)
    assert row["recogniser"] == "glance"
    every = drawn.all_of_each([str(n // 3) for n in range(12)])
    alike = verification.cosine_similarity(embedded[every.first], other[every.second])
    verified = verification.verification(alike, every.same, every.fold, balanced=True)
    assert len(every) > len(drawn)
    assert results.judged[0].by_fold.tolist() == verified.accuracies.tolist()
    assert row["accuracy_all"] == pytest.approx(verified.accuracy)
    assert row["accuracy_all_se"] == pytest.approx(verified.standard_error)
    cosine = verification.cosine_similarity(embedded, true)[drawn.faces]
    assert row["cosine"] == pytest.approx(cosine.mean(), abs=1e-5)
    assert results.judged[0].cosine == pytest.approx(cosine, abs=1e-5)
    psnr = metrics.psnr(faces.initial, truth)[drawn.faces]
    assert row["psnr"] == pytest.approx(psnr.mean().item(), abs=1e-4)
    # The first face of everyone is known, the others are asked for.
    used = drawn.faces.tolist()
    known = sorted({n // 3: n for n in reversed(used)}.values())
    asked = [n for n in used if n not in known]
    hits = verification.rank_one(
        embedded[asked], other[known], [n // 3 for n in asked], [n // 3 for n in known]
    )
    assert row["rank1"] == pytest.approx(hits.mean())
    assert rows["truth"]["cosine"] == pytest.approx(1)
    assert np.isnan(rows["truth"]["psnr"])
    # Six mismatched pairs cannot show a rate of one in a hundred.
    assert np.isnan(row["tar"]["0.01"])


def test_rates_that_so_many_pairs_can_show(
    glance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "FARS", (0.2,))
    row = by_name(quietly(config(tmp_path, glance)))["truth"]
    dataset = data.make("tiny", split="test")
    drawn = pairs.drawn(dataset, 3, 2)
    with torch.no_grad():
        true = Glance().embed(dataset.batch(range(12)).float() / 255)
    alike = verification.cosine_similarity(true[drawn.first], true[drawn.second])
    assert row["tar"]["0.2"] == verification.tar_at_far(alike, drawn.same, 0.2)


def test_every_row_before_every_recogniser(glance: str, tmp_path: Path, weights: Any) -> None:
    path = tmp_path / "blink.safetensors"
    recognition.save(Blink(gain=2.0), path)
    agents = (f"patches={weights(1.0)},even",)
    settings = config(tmp_path, glance, f"blink={path}", agents=agents, steps=3)
    results = quietly(settings)
    names = [(row.recogniser, row.model) for row in results.rows]
    rows = ["bicubic", "patches", "truth"]
    assert names == [(judge, row) for judge in ("glance", "blink") for row in rows]
    # A gain changes no angle.
    first, second = results.rows[:3], results.rows[3:]
    for one, other in zip(first, second, strict=True):
        assert one.cosine == pytest.approx(other.cosine, abs=1e-6)
        assert one.accuracy == other.accuracy
    # The agent's row is what the agent leaves behind.
    place = restorers.Conditions((32, 32), scale=4)
    patches = restorers.build(specifications(settings), place)[1]
    faces = data.protocols.get("bicubic").degrade(results.faces.faces.images, 4)
    scores = metrics.psnr(patches.restore(faces), faces.hr)
    assert first[1].psnr == pytest.approx(scores.mean().item(), abs=1e-4)
    assert first[1].psnr != first[0].psnr


class Marker:
    """Finds all but the first face; points of restored faces are off by some pixels."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, faces: Tensor) -> Landmarks:
        points = np.random.default_rng(0).uniform(8, 24, (68, 2))
        points[36], points[45] = (12, 6), (12, 26)
        every = np.repeat(points[None], len(faces), axis=0)
        if self.seen == 0:
            every[0] = np.nan
        every += 2.0 * (self.seen >= 12)
        self.seen += len(faces)
        return Landmarks(every)


def test_faces_that_are_not_found_are_listed(glance: str, tmp_path: Path) -> None:
    results = quietly(
        config(tmp_path, glance, align="landmarks", landmarks=True, fresh=True), marker=Marker()
    )
    number = len(results.faces.keys)
    content = json.loads(written(tmp_path, ".json").read_text())
    assert content["not_found"] == [results.faces.keys[0]]
    assert "Not found in the truth and cut out as a whole: 1 (listed" in results.table.caption
    row = by_name(results)["bicubic"]
    assert row["images"] == number
    # Off by (2, 2) pixels, 20 being between the outer corners of the eyes.
    assert number == 12
    assert row["nme"] == pytest.approx(np.hypot(2, 2) / 20)
    assert row["landmark_failures"] == 1
    assert row["landmarks_not_found"] == 0


def test_aligned_by_the_truths_landmarks(glance: str, tmp_path: Path) -> None:
    aligned = quietly(config(tmp_path / "a", glance, align="landmarks"), marker=Marker())
    whole = quietly(config(tmp_path / "b", glance))
    assert aligned.rows[0].cosine != pytest.approx(whole.rows[0].cosine, abs=1e-4)
    assert whole.not_found == []


def test_an_interrupted_table_goes_on(
    glance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[int] = []
    restore = restorers.WholeFace.restore

    def counted(own: restorers.WholeFace, faces: Any, first: int = 0) -> Tensor:
        if len(restored) == stop_at:
            raise KeyboardInterrupt
        restored.append(first)
        return restore(own, faces, first)

    monkeypatch.setattr(restorers.WholeFace, "restore", counted)
    stop_at = 1
    settings = config(tmp_path, glance, models=("bicubic",))
    with pytest.raises(KeyboardInterrupt):
        quietly(settings)
    stop_at = 99
    first = quietly(settings)
    assert restored == [0, 5, 10]
    again = quietly(settings)
    assert restored == [0, 5, 10]
    assert repr(again.rows) == repr(first.rows)
    # Another recogniser sees everything anew.
    recognition.save(Glance(gain=3.0), tmp_path / "glance.safetensors")
    quietly(settings)
    assert restored == 2 * [0, 5, 10]


def test_what_is_written(glance: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        f"bench identity --dataset tiny --limit 2 --folds 2 --scale 4 --recognisers {glance} "
        f"--align none --out {tmp_path}"
    )
    assert main(words.split()) == 0
    file = written(tmp_path, ".json")
    # `facehall report` reads it, too.
    assert isinstance(read_result(file), Result)
    content = json.loads(file.read_text())
    assert content["command"].startswith("facehall bench identity --dataset tiny")
    assert content["pairs"]["source"] == "drawn"
    assert (content["pairs"]["number"], content["pairs"]["folds"]) == (8, 2)
    assert content["pairs"]["probes"] + content["pairs"]["gallery"] == content["pairs"]["images"]
    drawn = pairs.drawn(data.make("tiny", split="test"), 2, 2)
    every = drawn.all_of_each([str(n // 3) for n in range(12)])
    counted = content["pairs"]["all"], content["pairs"]["all_matched"]
    assert counted == (len(every), every.same.sum())
    row = content["rows"][0]
    assert row["tar"]["0.001"] is None
    markdown = written(tmp_path, ".md").read_text()
    line = next(line for line in markdown.splitlines() if line.startswith("| bicubic"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["glance", f"{row['psnr']:.2f} ± {row['psnr_ci']:.2f}"]
    assert cells[4] == f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_se']:.2f} %"
    assert cells[5] == f"{100 * row['accuracy_all']:.2f} ± {100 * row['accuracy_all_se']:.2f} %"
    assert f"balanced accuracy on the {len(every)} that the folds' faces make" in markdown
    assert "written: " in capsys.readouterr().out


def test_all_pairs_are_left_out_where_they_are_too_many(
    glance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, glance)
    fitting = quietly(settings)
    assert fitting.faces.all_pairs is not None
    monkeypatch.setattr(bench, "MOST_PAIRS", len(fitting.faces.all_pairs) - 1)
    results = quietly(settings)
    content = json.loads(written(tmp_path, ".json").read_text())
    assert (content["pairs"]["all"], content["pairs"]["all_matched"]) == (None, None)
    for row, before in zip(content["rows"], fitting.rows, strict=True):
        assert (row["accuracy_all"], row["accuracy_all_se"]) == (None, None)
        assert row["accuracy"] == before.accuracy
    assert all(np.isnan(judged.by_fold).all() for judged in results.judged)
    assert "of all pairs: more than" in results.table.caption


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, "limit=0: give a whole number of 1 or more"),
        ({"folds": 1}, "folds=1: give a whole number of 2 or more"),
        ({"recognisers": ()}, "--recognisers is empty"),
        ({"recognisers": ("dlib", "dlib")}, "--recognisers dlib dlib: give each one once"),
        ({"pairs": "official"}, "official pairs are LFW's"),
    ],
)
def test_settings_that_cannot_be(
    glance: str, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        quietly(config(tmp_path, **{"recognisers": (glance,), **settings}))


def test_no_row_may_be_called_as_the_true_faces_are(
    glance: str, tmp_path: Path, weights: Any
) -> None:
    with pytest.raises(ConfigurationError, match="A row is called 'truth'"):
        quietly(config(tmp_path, glance, agents=(f"truth={weights(1.0)},even",)))
