"""``facehall bench attributes``: values by hand, intervals, what is left out, bad input."""

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

from facehall_env import data, recognition
from facehall_env.benchmarks import restorers
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.quality.attributes import Results, image_scores, read, run
from facehall_env.benchmarks.quality.settings import AttributesBenchConfig
from facehall_env.benchmarks.report.reading import Result, read_result
from facehall_env.data import Attributed, CelebA, FaceDataset, SyntheticFaces
from facehall_env.data.base import check_split
from facehall_env.data.synthetic.traits import Traits
from facehall_env.errors import ConfigurationError
from facehall_env.metrics.attributes import AttributeHead
from facehall_env.photos.landmarks import Landmarks
from facehall_env.recognition import RECOGNISERS, Recogniser
from facehall_env.spec import FacesSpec


class Look(Recogniser):
    """Sees how bright a face is, and how much neighbouring columns differ."""

    name = "look"

    def __init__(self) -> None:
        super().__init__((32, 32), 2, (0.5,) * 3, (0.5,) * 3, config={})

    def stages(self, normalised: Tensor) -> tuple[Tensor, ...]:
        return (normalised,)

    def embedding_of(self, features: Tensor) -> Tensor:
        stripes = (features[..., 1:] - features[..., :-1]).abs().mean((1, 2, 3))
        return torch.stack((features.mean((1, 2, 3)), stripes), dim=1)


class Patterns(FaceDataset, Attributed):
    """Every second face is bright, every third striped; one bright test face is called dark."""

    attribute_names = ("Bright", "Always", "Striped", "Lone")

    def __init__(self, split: str = "train") -> None:
        self.name, self.split, self.image_size = "patterns", check_split(split), (32, 32)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        number = self.checked(index)
        image = np.full((32, 32, 3), 170 if number % 2 else 80, np.uint8)
        if number % 3 == 0:
            image[:, ::2] += 40
            image[:, 1::2] -= 40
        return image

    def key(self, index: int) -> str:
        return f"{self.split}/{self.checked(index)}"

    def attributes(self, index: int) -> dict[str, bool]:
        number, test = self.checked(index), self.split == "test"
        return {
            "Bright": bool(number % 2) and not (test and number == 1),
            "Always": True,
            "Striped": number % 3 == 0,
            "Lone": number == 5 and not test,
        }


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECOGNISERS._factories, "look", Look)
    monkeypatch.setitem(data.DATASETS._factories, "patterns", Patterns)


@pytest.fixture
def look(tmp_path: Path) -> str:
    path = tmp_path / "look.safetensors"
    recognition.save(Look(), path)
    return f"look={path}"


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Says bright above the middle of the range, and striped where columns differ."""
    head = AttributeHead(2, ("Striped", "Bright"))
    head.linear.weight.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    head.linear.bias.data = torch.tensor([-0.3, 0.0])
    head.save(tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


def config(out: Path, recogniser: str, **settings: Any) -> AttributesBenchConfig:
    defaults: dict[str, Any] = {
        "faces": FacesSpec("patterns", scale=4),
        "recogniser": recogniser,
        "align": "none",
        "batch": 5,
        "out": out,
    }
    return AttributesBenchConfig(**{**defaults, **settings})


def quietly(settings: AttributesBenchConfig, **options: Any) -> Results:
    console = Console(file=io.StringIO(), width=250)
    return run(settings, "facehall bench attributes", console, **options)


def written(folder: Path, suffix: str) -> Path:
    (file,) = folder.glob(f"attributes-patterns-x4-bicubic-look-*{suffix}")
    return file


def by_name(results: Results) -> dict[str, dict[str, Any]]:
    return {row.model: row.to_json() for row in results.rows}


def test_image_scores_by_hand() -> None:
    labels = torch.tensor([[1], [1], [1], [0]]).bool()
    scores = image_scores(torch.tensor([[1], [1], [0], [1]]).bool(), labels)
    # Two of three are told, the one without is not: (2/3 + 0) / 2; deviations weigh 4/3 and 4.
    assert scores[:, 0].tolist() == pytest.approx([5 / 9, 5 / 9, -1 / 9, 1 / 3])


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> Tensor:
    """(A,) float64, the mean of the shares told rightly of those with and without an attribute."""
    right = (predicted == labels).double()
    parts = [(right * part).sum(0) / part.sum(0) for part in (labels.double(), 1 - labels.double())]
    return (parts[0] + parts[1]) / 2


def test_their_spread_is_that_of_a_bootstrap() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(400, 3, generator=generator) < torch.tensor([0.5, 0.2, 0.7])
    # Errors on one face go together, so that the mean varies more than its parts suggest.
    wrong = torch.rand(400, 1, generator=generator) + 0.3 * labels < 0.35
    predicted = labels ^ wrong
    scores = image_scores(predicted, labels)
    torch.testing.assert_close(scores.mean(dim=0), balanced_accuracy(predicted, labels))
    draws = torch.randint(400, (1000, 400), generator=generator)
    means = torch.stack([balanced_accuracy(predicted[own], labels[own]).mean() for own in draws])
    error = scores.mean(dim=1).std() / 400**0.5
    assert error.item() == pytest.approx(means.std().item(), rel=0.07)


def test_values_by_hand(look: str, head: Path, tmp_path: Path) -> None:
    results = quietly(config(tmp_path, look, head=head))
    rows = by_name(results)
    assert list(rows) == ["bicubic", "truth"]
    # Of five bright faces five are told, of seven dark ones six: one is bright after all.
    for row in rows.values():
        assert row["attributes"]["Bright"]["balanced_accuracy"] == pytest.approx(13 / 14)
        assert row["images"] == 12
    # Stripes as fine as these do not outlive the low resolution: nobody seems to have them.
    assert rows["truth"]["attributes"]["Striped"] == {
        "balanced_accuracy": 1,
        "balanced_accuracy_ci": 0,
    }
    assert rows["bicubic"]["attributes"]["Striped"]["balanced_accuracy"] == 0.5
    assert rows["truth"]["balanced_accuracy"] == pytest.approx((13 / 14 + 1) / 2)
    assert rows["bicubic"]["balanced_accuracy"] == pytest.approx((13 / 14 + 1 / 2) / 2)
    # What both rows get wrong alike is in both intervals and not in that of their difference.
    assert rows["truth"]["balanced_accuracy_ci"] > 0.01
    assert rows["truth"]["minus_bicubic"] == pytest.approx(1 / 4)
    assert rows["truth"]["minus_bicubic_ci"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(rows["bicubic"]["minus_bicubic"])
    assert results.left_out == ["Always", "Lone"]


def test_the_head_is_fitted_to_true_training_faces(look: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = tmp_path / "fitted.safetensors"
    results = quietly(config(out, look, save_head=file))
    training = read(Patterns("train"), 12, config(out, look))
    with torch.no_grad():
        embedded = Look().embed(training.faces.images.float() / 255)
    names = ("Bright", "Striped", "Lone")
    own = AttributeHead(2, names).fit(embedded, training.labels_of(names))
    written = AttributeHead.load(file)
    assert written.names == names
    torch.testing.assert_close(written.linear.weight, own.linear.weight, rtol=1e-3, atol=1e-3)
    # The same on all training faces, and the same on all test faces: told, and in no mean.
    assert (results.left_out, results.untested) == (["Always"], ["Lone"])
    rows = by_name(results)
    assert list(rows["truth"]["attributes"]) == ["Bright", "Striped"]
    assert rows["truth"]["balanced_accuracy"] == pytest.approx((13 / 14 + 1) / 2)
    again = quietly(config(out, look, head=file))
    assert repr(again.rows) == repr(results.rows)


def test_what_is_written(look: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"bench attributes --dataset patterns --scale 4 --recogniser {look} --align none"
    assert main([*words.split(), "--limit", "12", "--out", str(tmp_path)]) == 0
    file = written(tmp_path, ".json")
    # `facehall report` reads it, too.
    assert isinstance(read_result(file), Result)
    content = json.loads(file.read_text())
    assert content["benchmark"] == "attributes"
    assert content["command"].startswith("facehall bench attributes --dataset patterns")
    assert (content["left_out"], content["untested"]) == (["Always"], ["Lone"])
    assert (content["head"]["faces"], content["share"]["Striped"]) == (12, pytest.approx(1 / 3))
    assert content["rows"][1]["psnr"] is None
    markdown = written(tmp_path, ".md").read_text()
    line = next(line for line in markdown.splitlines() if line.startswith("| Striped"))
    assert line == "| Striped | 33 % | 50.00 ± 0.00 % | 100.00 ± 0.00 % |"
    assert "Not known to the head: Always. The same on all test faces: Lone." in markdown
    assert capsys.readouterr().out.count("written: ") == 2


def test_agents_are_rows_and_nothing_is_restored_twice(
    look: str, head: Path, tmp_path: Path, weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[tuple[str, int]] = []
    for kind in (restorers.WholeFace, restorers.PatchByPatch):
        restore = kind.restore

        def counted(own: Any, faces: Any, first: int = 0, restore: Any = restore) -> Tensor:
            restored.append((own.name, first))
            given: Tensor = restore(own, faces, first)
            return given

        monkeypatch.setattr(kind, "restore", counted)
    settings = config(
        tmp_path, look, head=head, agents=(f"ours={weights(1.0)},even",), steps=2, limit=8
    )
    results = quietly(settings)
    assert [row.model for row in results.rows] == ["bicubic", "ours", "truth"]
    assert by_name(results)["ours"]["psnr"] != by_name(results)["bicubic"]["psnr"]
    batches = [("bicubic", 0), ("bicubic", 5), ("ours", 0), ("ours", 5)]
    assert restored == batches
    again = quietly(settings)
    assert repr(again.rows) == repr(results.rows)
    assert restored == batches


def test_neither_split_is_looked_at_twice(
    look: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    embedding_of = Look.embedding_of

    def counted(self: Look, features: Tensor) -> Tensor:
        seen.append(len(features))
        return embedding_of(self, features)

    monkeypatch.setattr(Look, "embedding_of", counted)
    settings = config(tmp_path, look, align="landmarks")
    results = quietly(settings, marker=Marker())
    # Twelve true training faces; as many of the test split, true and restored.
    assert seen == 3 * [5, 5, 2]
    again = quietly(settings, marker=Marker())
    assert seen == 3 * [5, 5, 2]
    assert repr(again.rows) == repr(results.rows)
    assert len(list(tmp_path.rglob("truth-*.safetensors"))) == 2


class Marker:
    """Finds the points of bright faces."""

    def __call__(self, faces: Tensor) -> Landmarks:
        every = np.random.default_rng(0).uniform(8, 24, (len(faces), 68, 2))
        every[faces.mean((1, 2, 3)).numpy() < 0.5] = np.nan
        return Landmarks(every)


def test_faces_that_are_not_found_are_listed(look: str, tmp_path: Path) -> None:
    results = quietly(config(tmp_path, look, align="landmarks"), marker=Marker())
    assert sorted(results.not_found) == sorted(f"test/{number}" for number in range(0, 12, 2))
    assert "Not found in the truth and cut out as a whole: 6 (listed" in results.table.caption
    content = json.loads(written(tmp_path, ".json").read_text())
    assert content["not_found"] == results.not_found
    assert len(content["head"]["not_found"]) == 6
    assert results.rows[0].images == 12


def test_synthetic_faces(look: str, tmp_path: Path) -> None:
    settings = config(tmp_path, look, faces=FacesSpec(scale=8), train_limit=20, limit=10)
    results = quietly(settings)
    training = read(data.make("synthetic", split="train"), 20, settings)
    numbers = training.labels.sum(dim=0).tolist()
    varying = {name for name, own in zip(training.names, numbers, strict=True) if 0 < own < 20}
    assert set(results.head.names) == varying
    assert set(results.left_out) == set(training.names) - varying
    told = set(results.rows[0].attributes)
    assert told == varying - set(results.untested)
    assert {"Smiling", "Young"} <= told


def test_synthetic_attributes_are_what_is_drawn() -> None:
    faces = SyntheticFaces("test")
    for index in range(40):
        traits = Traits.sample(np.random.default_rng([0, 1, index]))
        own = faces.attributes(index)
        assert tuple(own) == faces.attribute_names
        assert own["Eyeglasses"] == (traits.glasses > 0)
        assert own["No_Beard"] == (traits.beard == 0)
        assert own["Bald"] == (traits.style == "bald")
    several = SyntheticFaces("test", images_per_person=8)
    person = [several.attributes(index) for index in range(8)]
    kept = ("Bald", "Eyeglasses", "No_Beard", "Mustache", "Young")
    assert all(face[name] == person[0][name] for face in person for name in kept)
    assert len({face["Smiling"] for face in person}) == 2
    with pytest.raises(IndexError):
        faces.attributes(10_000)


def test_who_knows_attributes() -> None:
    assert issubclass(CelebA, Attributed)
    assert not isinstance(data.make("tiny"), Attributed)


def test_a_dataset_without_attributes(look: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "attributes", "--dataset", "tiny", "--recogniser", look]) == 2
    assert capsys.readouterr().err == (
        "facehall: Dataset 'tiny' does not know its faces' attributes: use one that does, such as "
        "celeba, or synthetic to try.\n"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, "limit=0: give a whole number of 1 or more"),
        ({"train_limit": 0}, "train_limit=0: give a whole number"),
        ({"head": Path("a"), "save_head": Path("b")}, "give one of them"),
        ({"save_head": Path(".")}, "--save-head . is a folder"),
        ({"train_limit": 1}, "All 1 training faces have the same attributes.*raise --train-limit"),
        ({"limit": 1}, "the same on all 1 test faces.*raise --limit"),
    ],
)
def test_settings_that_cannot_be(
    look: str, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        quietly(config(tmp_path, look, **settings))


@pytest.mark.parametrize(
    ("dimensions", "names", "message"),
    [
        (3, ("Bright",), "embeddings of 3 numbers and the recogniser makes 2"),
        (2, ("Bright", "Smiling"), "tells 'Smiling', which the dataset does not know"),
    ],
)
def test_a_head_of_something_else(
    look: str, tmp_path: Path, dimensions: int, names: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "other.safetensors"
    AttributeHead(dimensions, names).save(path)
    with pytest.raises(ConfigurationError, match=message):
        quietly(config(tmp_path, look, head=path))


def test_no_row_may_be_called_as_the_true_faces_are(
    look: str, tmp_path: Path, weights: Any
) -> None:
    with pytest.raises(ConfigurationError, match="A row is called 'truth'"):
        quietly(config(tmp_path, look, agents=(f"truth={weights(1.0)},even",)))
