"""The engine on tables of its own: scores, budgets, caches, and what is missing."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from facehall_env import agents, data, enhancers, metrics
from facehall_env.benchmarks.cache import Cache
from facehall_env.benchmarks.papers import engine, experiment, pages, pairs, results, trainers
from facehall_env.benchmarks.papers.experiment import Experiment
from facehall_env.benchmarks.papers.found import Found
from facehall_env.benchmarks.papers.settings import PaperConfig
from facehall_env.benchmarks.papers.weights import Parts
from facehall_env.benchmarks.quality import identity
from facehall_env.benchmarks.report import page
from facehall_env.benchmarks.report.settings import ReportConfig
from facehall_env.benchmarks.scoring import fixed_order
from facehall_env.data import FaceDataset
from facehall_env.enhancers import OneShot
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.recognition import embed
from facehall_env.spec import EpisodeSpec, FacesSpec

TABLE = """
paper = "p"
number = "1"
title = "Which is best"
protocol = "bicubic"
reference = "brighter"
columns = ["a psnr", "a ssim", "b psnr"]
caption = "Nothing differs."

[ours]
minutes = 2
limit = 6
batch = 4

[networks]
brighter = { like = "stub", settings.colours = 3, training.amount = 0.1 }
darker = { like = "stub", training.amount = -0.2 }
stub = { network = "brighter", trainer = "stub" }
sharpener = { network = "tiny", trainer = "stub", training = { amount = 0.5 } }
even = { agent = "even" }

[methods]
patches = { steps = 3, enhancer = "sharpener", agent = "even" }

[faces]
tiny = { test = "tiny" }
helen = { test = "helen", train = "celeba" }

[conditions]
a = { title = "Tiny 4x", scale = 4, faces = "tiny" }
b = { title = "Helen 4x", scale = 4, faces = "helen" }

[rows]
bicubic = { name = "Bicubic", kind = "start", paper = "20.00 0.5 10" }
brighter = { name = "Brighter", model = "brighter", paper = "25.00 0.6 11" }
darker = { name = "Darker", model = "darker", paper = "24.00 - 12" }
patches = { name = "Patches", method = "patches", paper = "30.00 0.7 13" }
other = { name = "Other", why = "it is not here", paper = "31.00 0.8 14" }
"""


class Shift(nn.Module):
    """Adds a number to all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        shifted: Tensor = image + self.amount
        return shifted


class Brighter(OneShot):
    """`Shift` as an enhancer."""

    name = "brighter"

    def __init__(
        self, scale: int = 4, patch_size: tuple[int, int] = (16, 12), colours: int = 1
    ) -> None:
        super().__init__(Shift(), scale, patch_size, colours=colours)


@dataclasses.dataclass
class StubConfig:
    """What the stub of a trainer is told."""

    out: Path = Path("runs")
    network: str = ""
    network_settings: tuple[str, ...] = ()
    dataset: str = ""
    scale: int = 4
    seed: int = 0
    minutes: float | None = None
    updates: int = 500
    amount: float = 0.0
    resume: bool = False


class Stub(trainers.Trainer):
    """Writes weights with the amount that it is told, and can be interrupted."""

    def __init__(self) -> None:
        super().__init__("", "", "w.safetensors", ("network", "network_settings"))
        self.__dict__.update(done=[], stop_at=99)

    done: list[StubConfig]
    stop_at: int

    @property
    def config_class(self) -> type[StubConfig]:
        return StubConfig

    def __call__(self, settings: Any) -> None:
        if len(self.done) == self.stop_at:
            raise KeyboardInterrupt
        config = self.configure(**settings)
        self.done.append(config)
        network = enhancers.make(config.network, scale=config.scale)
        shift = network.network if isinstance(network, Brighter) else network
        shift.amount.data.fill_(config.amount)  # type: ignore[union-attr, operator]
        enhancers.save(network, config.out / "w.safetensors", {})


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path / "cache"))
    own = Stub()
    monkeypatch.setitem(trainers.TRAINERS, "stub", own)
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "brighter", Brighter)
    return own


Load = Callable[..., Experiment]


@pytest.fixture
def load(stub: Stub, tmp_path: Path) -> Load:
    """Reads the experiment above, with other settings or in another form."""

    def read(*changes: str, text: str = TABLE) -> Experiment:
        path = tmp_path / "p-1.toml"
        path.write_text(text)
        return experiment.load(str(path), changes)

    return read


@pytest.fixture
def asked(load: Load) -> Experiment:
    return load()


@pytest.fixture
def config(tmp_path: Path) -> PaperConfig:
    return PaperConfig(experiment=str(tmp_path / "p-1.toml"), out=tmp_path / "out")


def evaluate(asked: Experiment, config: PaperConfig) -> tuple[Found, str]:
    shown: list[str] = []
    return engine.evaluate(asked, config, shown.append), "\n".join(shown)


def other(asked: Experiment, **changes: Any) -> Experiment:
    """An experiment with another table of ours."""
    own = dataclasses.replace(asked)
    own.__dict__["ours"] = dataclasses.replace(asked.ours, **changes)
    return own


def episode(stride: int = 1, offset: int | None = None, amount: float = 0.5) -> Any:
    """The process of the row "patches"."""
    network = enhancers.make("tiny")
    network.amount.data.fill_(amount)  # type: ignore[union-attr, operator]
    spec = EpisodeSpec(FacesSpec("tiny"), steps=3, action_stride=stride, action_offset=offset)
    return spec.build("test", enhancer=network).core


def first_faces(faces: FaceDataset) -> data.Faces:
    images = torch.cat([faces.batch([index]) for index in fixed_order(len(faces), 6)])
    return data.protocols.get("bicubic").degrade(images, 4)


def test_a_table_has_what_its_networks_make_of_the_faces(
    stub: Stub, asked: Experiment, config: PaperConfig, faces: FaceDataset
) -> None:
    found, _ = evaluate(asked, config)
    batch = first_faces(faces)
    core = episode()
    restored = {
        "bicubic": batch.initial,
        "brighter": batch.initial + 0.1,
        "darker": batch.initial - 0.2,
        "patches": agents.rollout(core, agents.make("even", core), batch).state.image,
    }
    psnr = {name: metrics.psnr(im.clamp(0, 1), batch.hr) for name, im in restored.items()}
    result = results.describe(found)
    rows = {row.key: row.cells for row in result.rows}
    for name, expected in psnr.items():
        assert rows[name][0].value == pytest.approx(expected.mean().item(), abs=1e-4)
        assert rows[name][0].images == 6
        if name != "brighter":
            gap = expected - psnr["brighter"]
            assert rows[name][0].minus == pytest.approx(gap.mean().item(), abs=1e-4)
            half = 2.570582 * gap.std().item() / math.sqrt(6)
            assert rows[name][0].minus_ci == pytest.approx(half, rel=1e-3)
        ssim = metrics.ssim(restored[name].clamp(0, 1), batch.hr).mean().item()
        assert rows[name][1].value == pytest.approx(ssim, abs=1e-5)
    assert rows["brighter"][0].minus is None
    assert [row.cells[0].paper for row in result.rows] == [
        "20.00",
        "25.00",
        "24.00",
        "30.00",
        "31.00",
    ]
    text = pages.summary(result).markdown()
    assert f"| Bicubic | {psnr['bicubic'].mean():.2f} (20.00) |" in text
    assert "| Other | (31.00) | (0.8) | (14) |" in text


def test_orders_of_the_paper_are_judged_by_paired_differences(
    stub: Stub, asked: Experiment, config: PaperConfig
) -> None:
    found, _ = evaluate(asked, config)
    lines = {
        (line.better, line.worse): line
        for line in results.describe(found).orderings
        if line.metric == "PSNR"
    }
    assert list(lines) == [("Patches", "Brighter"), ("Brighter", "Darker"), ("Darker", "Bicubic")]
    values = {row: found.values[row, "a", "psnr"] for row in ("bicubic", "darker", "brighter")}
    gap = values["darker"] - values["bicubic"]
    line = lines["Darker", "Bicubic"]
    assert line.difference == pytest.approx(gap.mean())
    assert gap.mean() < -(line.ci or 0) < 0
    assert line.verdict == "does not hold"
    assert lines["Brighter", "Darker"].verdict == "holds"


def test_the_budget_is_shared_equally(stub: Stub, asked: Experiment, config: PaperConfig) -> None:
    _, shown = evaluate(asked, config)
    assert [(own.amount, own.minutes) for own in stub.done] == [(0.1, 2.0), (-0.2, 2.0), (0.5, 2.0)]
    assert stub.done[0].network_settings == (("colours", 3),)
    assert "6 minutes of training: 2 minutes for each row." in shown


def test_a_number_of_updates_takes_the_place_of_the_time(
    stub: Stub, load: Load, config: PaperConfig
) -> None:
    found, shown = evaluate(load("darker.updates=1500"), config)
    lengths = [(done.amount, done.minutes, done.updates) for done in stub.done]
    assert lengths == [(0.1, 2.0, 500), (-0.2, None, 1500), (0.5, 2.0, 500)]
    assert "Darker, Tiny 4x: darker is trained for 1,500 updates." in shown
    (line,) = [own for own in results.describe(found).differences if own.setting == "updates"]
    assert (line.of, line.ours, line.paper) == (("darker",), "1,500", "not stated")


def test_columns_about_the_same_networks_take_one_share(
    stub: Stub, asked: Experiment, config: PaperConfig
) -> None:
    table = asked.ours
    own, second = table.conditions["a"], table.conditions["b"]
    (faces,) = own.sources
    standing_in = dataclasses.replace(faces, differs="tiny instead of Helen")
    conditions = {"a": own, "b": dataclasses.replace(second, sources=(standing_in,))}
    found, shown = evaluate(other(asked, conditions=conditions), config)
    assert found.cells["patches", "b", "psnr"].images == 6
    assert "6 minutes of training: 2 minutes for each row." in shown
    assert len(stub.done) == 3
    # At another scale they are other networks.
    conditions = {**conditions, "a": dataclasses.replace(own, scale=2)}
    _, shown = evaluate(other(asked, conditions=conditions), config)
    assert "12 minutes of training: 2 minutes for each row." in shown


def test_parts_that_rows_share_take_one_share(
    stub: Stub, asked: Experiment, config: PaperConfig
) -> None:
    rows = {row.key: row for row in asked.ours.rows}
    again = dataclasses.replace(rows["patches"], key="again", name="Again", steps=5)
    part = dataclasses.replace(rows["darker"].parts["model"], share=0.5)
    half = dataclasses.replace(rows["darker"], parts={"model": part})
    shared = other(asked, rows=(rows["brighter"], half, rows["patches"], again))
    found, shown = evaluate(shared, config)
    assert found.shares == 2.5
    assert "5 minutes of training: 2 minutes for each row." in shown
    assert [(own.amount, own.minutes) for own in stub.done] == [(0.1, 2.0), (-0.2, 1.0), (0.5, 2.0)]
    assert "5 minutes on cpu, 2 minutes for each row" in pages.caption(results.describe(found))


def test_a_file_for_every_row_leaves_what_nothing_trains(
    stub: Stub, asked: Experiment, config: PaperConfig, policy: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"\*:PART=PATH"):
        evaluate(asked, dataclasses.replace(config, weights=(f"*:agent={policy}",)))


def test_agents_that_learn_nothing_choose_among_the_locations_asked_for(
    load: Load, config: PaperConfig
) -> None:
    # A patch for the whole face, which it covers only from the middle of its one cell.
    values = {}
    for offset in (None, 0):
        changes = ["action_stride=32", *(["action_offset=0"] if offset == 0 else [])]
        found, _ = evaluate(load(*changes), config)
        values[offset] = found.cells["patches", "a", "psnr"].value
        core = episode(32, offset)
        dataset = data.make("tiny", split="test")
        faces = data.protocols.get("bicubic").degrade(dataset.batch(fixed_order(9, 6)), 4)
        played = agents.rollout(core, agents.make("even", core), faces)
        assert values[offset] == pytest.approx(played.psnr[:, 3].mean().item(), abs=1e-4)
    assert values[None] != values[0]
    said = {own.setting: own.ours for own in results.describe(found).differences}
    assert said["action_stride"], said["action_offset"] == ("32", "0")


class Judge:
    """Embeds a face as its mean colour and a constant."""

    def __init__(self, text: str, *_: Any) -> None:
        self.name = text.partition("=")[0]
        self.size = 4

    def align(self, faces: Tensor) -> None:
        return None

    def embed(self, faces: Tensor, _: Any) -> np.ndarray:
        means = faces.flatten(2).mean(2)
        return np.asarray(torch.cat([means, torch.ones(len(faces), 1)], dim=1))


def judged(name: str, judge: str, accuracy: float, every: float, cosine: float) -> identity.Judged:
    """What a recogniser says: of ten pairs, two folds and seven faces."""
    nothing = {key: math.nan for key in ("rank1", "rank1_ci", "psnr", "psnr_ci", "ssim", "ssim_ci")}
    row = identity.IdentityRow(
        model=name,
        recogniser=judge,
        images=7,
        accuracy=accuracy,
        accuracy_se=0.01,
        accuracy_all=every,
        accuracy_all_se=0.02,
        tar={},
        cosine=cosine,
        cosine_ci=0.02,
        **nothing,
    )
    return identity.Judged(
        row,
        right=np.arange(10) < round(10 * accuracy),
        cosine=cosine + np.array([-0.1, 0, 0.1, 0, 0, 0, 0]),
        by_fold=every + np.array([-0.2, 0.2]),
    )


PAIRS = TABLE.replace('"a ssim"', '"a accuracy", "a accuracy-2", "a accuracy-all", "a cosine"')
PAIRS = re.sub(r'paper = "(\S+) (\S+) (\S+)"', r'paper = "\1 \2 - - - \3"', PAIRS)
PAIRS += 't = { name = "Truth", kind = "truth", paper = "- - - - - -" }\n'


def test_two_recognisers_and_the_truth(
    load: Load, config: PaperConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[identity.IdentityBenchConfig, list[str], list[str]]] = []

    def opened(dataset: FaceDataset, protocol: Any, own: identity.IdentityBenchConfig) -> Any:
        faces = identity.TestFaces(dataset.batch(range(7)), protocol, own.faces.scale)
        return identity.PairFaces(faces, [], [], Folds(), [], [])  # type: ignore[arg-type]

    def evaluated(
        restorers: Any, judges: Any, faces: Any, own: identity.IdentityBenchConfig, marker: Any
    ) -> identity.Results:
        asked.append((own, [who.name for who in restorers], [judge.name for judge in judges]))
        said = []
        for judge in asked[-1][2]:
            for name in [*asked[-1][1], "truth"]:
                accuracy = 0.5 + 0.1 * (name == "truth") + 0.2 * (judge == "dlib")
                every = {"truth": 0.85, "brighter": math.nan}.get(name, 0.8)
                said.append(judged(name, judge, accuracy, every, 1.0 if name == "truth" else 0.75))
        return identity.Results(own, said, faces, [], {})

    monkeypatch.setattr(identity, "open_pairs", opened)
    monkeypatch.setattr(identity, "evaluate", evaluated)
    monkeypatch.setattr(embed, "make", Judge)
    monkeypatch.setattr(pairs, "DlibLandmarks", lambda: None)
    found, _ = evaluate(load(text=PAIRS), config)
    # Student's t with nine degrees of freedom.
    half_width = pytest.approx(100 * 0.01 * 2.262157, rel=1e-5)
    for row, accuracy in (("bicubic", 70), ("brighter", 70), ("patches", 70), ("t", 80)):
        cell = found.cells[row, "a", "accuracy"]
        assert (cell.value, cell.ci, cell.images) == (pytest.approx(accuracy), half_width, 7)
        reason = found.cells[row, "a", "accuracy-2"].reason
        assert reason == "it needs --set mobilefacenet=WEIGHTS"
    # Nine in ten pairs are told alike, and one by the truth alone.
    gap = found.difference(("t", "a", "accuracy"), ("patches", "a", "accuracy"))
    assert gap is not None
    assert gap.value == pytest.approx(10)
    assert gap.half_width == pytest.approx(100 * 2.262157 * (0.09 / 9) ** 0.5, rel=1e-5)
    cell = found.cells["patches", "a", "accuracy-all"]
    assert (cell.value, cell.ci, cell.images) == (
        pytest.approx(80),
        pytest.approx(100 * 0.02 * 2.262157, rel=1e-5),
        7,
    )
    gap = found.difference(("t", "a", "accuracy-all"), ("patches", "a", "accuracy-all"))
    assert gap is not None
    # Paired over the folds, which differ by the same.
    assert (gap.value, gap.half_width) == (pytest.approx(5), pytest.approx(0))
    reason = found.cells["brighter", "a", "accuracy-all"].reason
    assert reason == "its folds' faces make more than 10,000,000 pairs"
    cell = found.cells["patches", "a", "cosine"]
    assert (cell.value, cell.ci, cell.images) == (0.75, 0.02, 7)
    gap = found.difference(("t", "a", "cosine"), ("patches", "a", "cosine"))
    assert gap is not None
    assert (gap.value, gap.half_width) == (pytest.approx(0.25), pytest.approx(0))
    assert found.cells["t", "a", "psnr"].reason == "it is the truth itself"
    # All rows are shown to one recogniser at once, in pairs of a twentieth of the images.
    ((own, rows, judges),) = asked
    assert (rows, judges) == (["bicubic", "brighter", "darker", "patches"], ["dlib"])
    assert own.limit == 2
    assert "verification % (MobileFaceNet): it needs --set mobilefacenet=WEIGHTS." in found.notes
    weights = tmp_path / "m.safetensors"
    weights.touch()
    found, _ = evaluate(load(f"mobilefacenet={weights}", "pairs=7", text=PAIRS), config)
    own, _, judges = asked[-1]
    assert (own.limit, judges) == (7, ["dlib", "mobilefacenet"])
    assert found.cells["patches", "a", "accuracy-2"].value == pytest.approx(50)
    assert found.cells["t", "a", "accuracy-2"].value == pytest.approx(60)
    found, _ = evaluate(load("mobilefacenet=nowhere", text=PAIRS), config)
    assert "there is no file nowhere" in found.cells["t", "a", "accuracy-2"].reason

    def refused(*_: Any) -> None:
        raise ConfigurationError("No pairs.")

    monkeypatch.setattr(identity, "open_pairs", refused)
    found, _ = evaluate(load(text=PAIRS), config)
    assert found.cells["patches", "a", "accuracy"].reason == "No pairs"
    assert found.cells["t", "a", "psnr"].reason == "it is the truth itself"
    assert math.isfinite(found.cells["patches", "a", "psnr"].value)


class Folds:
    """Pairs of ten folds."""

    folds = 10


def test_given_weights_take_no_share_and_are_told_apart_by_their_content(
    stub: Stub,
    asked: Experiment,
    config: PaperConfig,
    weights: Callable[[float], Path],
    tmp_path: Path,
) -> None:
    path = tmp_path / "given.safetensors"
    path.write_bytes(weights(0.25).read_bytes())
    own = dataclasses.replace(config, weights=(f"patches:enhancer={path}",))
    first, _ = evaluate(asked, own)
    assert [done.minutes for done in stub.done] == [2.0, 2.0]
    assert "given: given.safetensors" in first.origins["patches", "a"]["enhancer"]
    path.write_bytes(weights(0.75).read_bytes())
    second, _ = evaluate(asked, own)
    assert len(stub.done) == 2
    place = ("patches", "a", "psnr")
    assert second.cells[place].value != first.cells[place].value
    assert second.cells["darker", "a", "psnr"] == first.cells["darker", "a", "psnr"]


def test_a_file_for_every_row_that_has_the_part(
    stub: Stub, asked: Experiment, config: PaperConfig, weights: Callable[[float], Path]
) -> None:
    for_all, for_one = weights(0.25), weights(0.75)
    words = (f"*:model={for_all}", f"darker:model={for_one}")
    found, _ = evaluate(asked, dataclasses.replace(config, weights=words))
    assert [done.amount for done in stub.done] == [0.5]
    for row, path in (("brighter", for_all), ("darker", for_one)):
        assert path.name in found.origins[row, "a"]["model"]
    with pytest.raises(ConfigurationError, match=r"is not ROW:PART=PATH.* of this table"):
        evaluate(asked, dataclasses.replace(config, weights=(f"*:initial={for_all}",)))


class Computed:
    """Counts the batches that are computed and not found on disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[str] = []
        rows = Cache.rows

        def counted(cache: Cache, compute: Any, *rest: Any, name: str, **more: Any) -> Any:
            def count(*arguments: Any) -> Any:
                self.rows.append(name)
                return compute(*arguments)

            return rows(cache, count, *rest, name=name, **more)

        monkeypatch.setattr(Cache, "rows", counted)


def test_an_interrupted_table_goes_on(
    stub: Stub, load: Load, config: PaperConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = Computed(monkeypatch)
    asked = load()
    stub.stop_at = 1
    with pytest.raises(KeyboardInterrupt):
        evaluate(asked, config)
    assert computed.rows == ["bicubic", "bicubic", "brighter", "brighter"]
    stub.stop_at, computed.rows = 99, []
    second, _ = evaluate(asked, config)
    assert [own.amount for own in stub.done] == [0.1, -0.2, 0.5]
    assert computed.rows == ["darker", "darker", "patches", "patches"]
    stub.done, computed.rows = [], []
    third, _ = evaluate(asked, config)
    assert (stub.done, computed.rows) == ([], [])
    assert third.cells == second.cells
    # Another time makes other weights.
    evaluate(load("minutes=3"), config)
    assert [own.minutes for own in stub.done] == [3.0, 3.0, 3.0]


def test_faces_are_degraded_once_and_no_setting_is_parsed_again(
    load: Load, config: PaperConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One row is trained by a real trainer, whose network has settings.
    real = 'darker = { network = "srcnn", settings.kernels = [3, 1, 3], trainer = "sr", \
training = { batch = 2, validation_faces = 2 } }'
    text = TABLE.replace('"a ssim"', '"a identity"')
    text = re.sub(r"\nbrighter = .*\ndarker = .*\n", f"\n{real}\n", text, count=1)
    text = text.replace('model = "brighter"', 'model = "darker"')
    asked, degraded = load("minutes=0.001", text=text), []
    degrade = data.Protocol.degrade

    def counted(protocol: data.Protocol, images: Tensor, scale: int) -> data.Faces:
        degraded.append(len(images))
        return degrade(protocol, images, scale)

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a setting was turned into text and parsed again")

    def typed_only(words: Any) -> dict[str, Any]:
        return {name: value for name, value in words} if words else {}

    monkeypatch.setattr(Parts, "specification", _counting(Parts.specification, degraded))
    monkeypatch.setattr(data.Protocol, "degrade", counted)
    monkeypatch.setattr(embed, "make", Judge)
    monkeypatch.setattr("facehall_env.benchmarks.papers.metrics._dlib", lambda: None)
    for name in ("restorers.parse_model", "restorers.parse_agent"):
        monkeypatch.setattr(f"facehall_env.benchmarks.{name}", refused)
    for name in ("spec", "training.sr", "benchmarks.papers.engine"):
        monkeypatch.setattr(f"facehall_env.{name}.parse_settings", typed_only)
    found, _ = evaluate(asked, config)
    assert found.cells["patches", "a", "identity"].images == 6
    assert found.cells["darker", "a", "identity"].images == 6
    # Six faces, once for all rows and all scores; the trainings' own do not count.
    assert degraded == [6]


def _counting(make: Callable[[Parts], Any], degraded: list[int]) -> Callable[[Parts], Any]:
    """Trains without counting the faces that are degraded for it."""

    def specification(parts: Parts) -> Any:
        before = list(degraded)
        made = make(parts)
        degraded[:] = before
        return made

    return specification


def test_damaged_weights_are_named_and_trained_again(
    stub: Stub, asked: Experiment, config: PaperConfig
) -> None:
    first, _ = evaluate(asked, config)
    (path,) = (config.out / ".cache/papers/training").glob("darker-*/w.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    stub.done = []
    second, shown = evaluate(asked, config)
    assert f"{path} is damaged: darker is trained again." in shown
    assert [own.amount for own in stub.done] == [-0.2]
    assert second.cells == first.cells


def test_damaged_scores_are_named_and_taken_again(
    stub: Stub, asked: Experiment, config: PaperConfig
) -> None:
    first, _ = evaluate(asked, config)
    (path,) = (config.out / ".cache").glob("darker-*.safetensors")
    path.write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=rf"{path.name}.*computed again"):
        second, _ = evaluate(asked, config)
    assert second.cells == first.cells


def test_missing_faces_are_named_and_the_table_comes_out(
    stub: Stub, asked: Experiment, config: PaperConfig
) -> None:
    found, _ = evaluate(asked, config)
    (note,) = [note for note in found.notes if note.startswith("Left out: Helen 4x. ")]
    assert "No Helen in" in note or "No CelebA in" in note
    assert "docs/datasets.md" in note
    assert not math.isnan(found.cells["darker", "a", "psnr"].value)
    assert ("darker", "b", "psnr") not in found.cells
    assert "Other: the paper's numbers alone, it is not here." in found.notes


def test_faces_that_stand_in_are_said_so(load: Load, config: PaperConfig) -> None:
    found, _ = evaluate(load("limit=2"), dataclasses.replace(config, dataset="tiny"))
    result = results.describe(found)
    assert {line.condition for line in result.orderings} == {"Tiny 4x (on tiny)"}
    assert "Tiny 4x: tiny instead of the paper's faces." in pages.caption(result)
    assert found.missing == {"b": "The same faces and scale as Tiny 4x."}


def test_without_time_rows_say_how_to_get_weights(
    stub: Stub, load: Load, config: PaperConfig
) -> None:
    found, _ = evaluate(load("minutes=null"), config)
    assert stub.done == []
    assert not math.isnan(found.cells["bicubic", "a", "psnr"].value)
    for row, option in (
        ("darker", "--weights darker:model=PATH"),
        ("patches", "--weights patches:enhancer=PATH patches:agent=PATH"),
    ):
        cell = found.cells[row, "a", "psnr"]
        assert math.isnan(cell.value)
        assert option in cell.reason
        assert "--set minutes=MINUTES" in cell.reason
        assert any(option in note for note in found.notes)


def test_costs_need_no_training(stub: Stub, load: Load, config: PaperConfig) -> None:
    text = TABLE.replace('["a psnr", "a ssim", "b psnr"]', '["a mparams", "a ms", "a time-ratio"]')
    found, _ = evaluate(load("seconds=0", "repetitions=1", text=text), config)
    assert stub.done == []
    millions = {row: found.cells[row, "a", "mparams"].value for row in ("bicubic", "darker")}
    assert millions == {"bicubic": 0.0, "darker": 1e-6}
    own, reference = (found.cells[row, "a", "ms"].value for row in ("patches", "brighter"))
    assert found.cells["patches", "a", "time-ratio"].value == pytest.approx(own / reference)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"experiment": ""}, "Name an experiment"),
        ({"dataset_settings": ("a=1",)}, "--dataset-settings a=1 are options of --dataset"),
    ],
)
def test_settings_are_checked(config: PaperConfig, change: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        engine.run(dataclasses.replace(config, **change))


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("nobody=w", r"--weights 'nobody=w' is not ROW:PART=PATH.*patches:agent"),
        ("darker@z=w", r"its conditions a, b"),
        ("darker=nowhere", r"there is no file nowhere"),
    ],
)
def test_weights_that_fit_nothing_are_refused(
    stub: Stub, asked: Experiment, config: PaperConfig, word: str, error: str
) -> None:
    with pytest.raises(ConfigurationError, match=error):
        evaluate(asked, dataclasses.replace(config, weights=(word,)))


def test_a_file_of_others_is_refused_before_anything_is_trained(
    stub: Stub, asked: Experiment, config: PaperConfig, tmp_path: Path
) -> None:
    notes, network = tmp_path / "notes.md", tmp_path / "network.safetensors"
    notes.write_text("no weights")
    enhancers.save(enhancers.make("tiny"), network, {})
    for path, held in ((notes, "nothing of this project"), (network, "enhancer")):
        error = rf"patches:agent=.*{path.name} holds {held}, expected agent"
        with pytest.raises(ConfigurationError, match=error):
            evaluate(asked, dataclasses.replace(config, weights=(f"patches:agent={path}",)))
    assert stub.done == []


@pytest.mark.parametrize("suffix", [".safetensors", ".zip"])
def test_files_that_a_training_starts_from_count_by_their_content(
    tmp_path: Path, suffix: str
) -> None:
    def digest(path: Path) -> str:
        return trainers.Task("own", "agent", {"init": path}).digest

    paths = [tmp_path / f"{name}{suffix}" for name in ("first", "second", "other")]
    for path, content in zip(paths, ("same", "same", "else"), strict=True):
        path.write_text(content)
    first, second, other = map(digest, paths)
    assert first == second != other
    with pytest.raises(ConfigurationError, match="There is no file"):
        digest(tmp_path / f"missing{suffix}")


def test_a_scale_chooses_columns(load: Load) -> None:
    wide = load(text=TABLE.replace('"Helen 4x", scale = 4', '"H", scale = 8')).ours
    chosen = engine._of_scale(wide, 8)
    assert [column.condition for column in chosen.columns] == ["b"]
    assert [row.paper for row in chosen.rows] == [("10",), ("11",), ("12",), ("13",), ("14",)]
    with pytest.raises(UnknownNameError, match=r"scale '16'.*4, 8"):
        engine._of_scale(wide, 16)


def test_errors_are_averaged_at_each_pixel(
    load: Load, config: PaperConfig, faces: FaceDataset
) -> None:
    figure = '\n[figure]\ndraw = "bars"\nmaps = true\n\n[conditions]'
    found, _ = evaluate(load(text=TABLE.replace("\n[conditions]", figure)), config)
    batch = first_faces(faces)
    expected = (batch.initial - 0.2).clamp(0, 1).sub(batch.hr).square().mean((0, 1))
    torch.testing.assert_close(found.maps["darker", "a"], expected)
    paths = pages.write(found, results.describe(found), config.out)
    assert [path.name for path in paths] == ["p-1.json", "p-1.md", "p-1.png", "p-1-errors.png"]


def test_a_trial_has_a_name_of_its_own(asked: Experiment, config: PaperConfig) -> None:
    names = {
        pages.stem(Found(asked, asked.ours, dataclasses.replace(config, **changes)))
        for changes in ({}, {"set": ("limit=3",)}, {"set": ("limit=4",)}, {"weights": ("a=b",)})
    }
    assert len(names) == 4
    small = dataclasses.replace(config, small=True, dataset="tiny", scale=4)
    assert pages.stem(Found(asked, asked.ours, small)) == "p-1-tiny-x4-small"


def test_the_results_page(asked: Experiment, config: PaperConfig, tmp_path: Path) -> None:
    found, _ = evaluate(asked, config)
    path, *_ = pages.write(found, results.describe(found, "facehall bench paper p-1"), config.out)
    read = results.PaperResult.from_json(json.loads(path.read_text()))
    assert read.rows[2].name == "Darker"
    assert json.loads(json.dumps(read.to_json())) == json.loads(path.read_text())
    (config.out / "broken.json").write_text("{")
    trial = json.loads(path.read_text())
    trial |= {"title": "A trial", "settings": {**trial["settings"], "small": True}}
    (config.out / "trial.json").write_text(json.dumps(trial))
    cut = json.loads(path.read_text())
    cut["rows"][0]["cells"].pop()
    (config.out / "changed.json").write_text(json.dumps(cut))
    old = {key: value for key, value in cut.items() if key not in ("name", "version")}
    (config.out / "old.json").write_text(json.dumps(old))
    shown = io.StringIO()
    report = ReportConfig(results=(config.out,), out=tmp_path / "RESULTS.md")
    text = page.run(report, Console(file=shown, width=300)).read_text()
    for name, problem in (
        ("broken.json", "is damaged"),
        ("changed.json", "has 2 cells for 3 columns"),
        ("old.json", "version 1, this report reads version 2: run `facehall bench paper p-1` ag"),
        ("trial.json", "is a trial"),
    ):
        assert f"left out: {name} " in shown.getvalue()
        assert problem in shown.getvalue()
    holds, fails = text.index("### Orders that hold here"), text.index("that do not hold here")
    assert (
        holds < text.index("Brighter before Darker") < fails < text.index("Darker before Bicubic")
    )
    assert "## p, Table 1: Which is best" in text
    assert "(results/p-1.md); `facehall bench paper p-1`" in text
    assert "A trial" not in text
    assert pages.summary(read).markdown() in text
