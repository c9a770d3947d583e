"""The engine on tables of its own: scores, budgets, caches, and what is missing."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from facehall_env import agents, data, enhancers, metrics
from facehall_env.benchmarks import scoring
from facehall_env.benchmarks.papers import engine, layout, pages, results_page, trainers
from facehall_env.benchmarks.papers.changes import changed
from facehall_env.benchmarks.papers.engine import Found, PaperConfig, difference
from facehall_env.benchmarks.papers.results_page import ResultsPageConfig
from facehall_env.benchmarks.quality import identity
from facehall_env.benchmarks.quality.patch_selection import fixed_order
from facehall_env.benchmarks.report.reading import read_results
from facehall_env.data import FaceDataset, Faces
from facehall_env.enhancers import OneShot
from facehall_env.errors import ConfigurationError, UnknownNameError
from facehall_env.spec import build_core

NETWORKS = """
[brighter]
network = "brighter"
settings = { colours = 3 }
trainer = "stub"
with = { amount = 0.1 }

[darker]
network = "brighter"
trainer = "stub"
with = { amount = -0.2 }

[sharpener]
network = "tiny"
trainer = "stub"
with = { amount = 0.5 }

[even]
agent = "even"
"""
TABLE = """
paper = "p"
number = "1"
title = "Which is best"
protocol = "bicubic"
reference = "brighter"
columns = ["a psnr", "a ssim", "b psnr"]
caption = "Nothing differs."

[conditions.a]
title = "Tiny 4x"
scale = 4
sources = [{ test = { name = "tiny" }, train = { name = "tiny" } }]

[conditions.b]
title = "Helen 4x"
scale = 4
sources = [{ test = { name = "helen" }, train = { name = "celeba" } }]

[[rows]]
key = "bicubic"
name = "Bicubic"
kind = "start"
paper = "20.00 0.5 10"

[[rows]]
key = "brighter"
name = "Brighter"
kind = "model"
model = "brighter"
paper = "25.00 0.6 11"

[[rows]]
key = "darker"
name = "Darker"
kind = "model"
model = "darker"
paper = "24.00 - 12"

[[rows]]
key = "patches"
name = "Patches"
kind = "agent"
steps = 3
enhancer = "sharpener"
agent = "even"
paper = "30.00 0.7 13"

[[rows]]
key = "other"
name = "Other"
kind = "paper-only"
why = "it is not here"
paper = "31.00 0.8 14"
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

    out: Path
    network: str = ""
    network_settings: tuple[str, ...] = ()
    dataset: str = ""
    scale: int = 4
    seed: int = 0
    minutes: float | None = None
    updates: int = 500
    amount: float = 0.0
    resume: bool = False


class Stub:
    """Writes weights with the amount that it is told, and can be interrupted."""

    file = "w.safetensors"
    network = ("network", "network_settings")

    def __init__(self) -> None:
        self.done: list[StubConfig] = []
        self.stop_at = 99

    def fields(self) -> dict[str, Any]:
        return {field.name: field for field in dataclasses.fields(StubConfig)}

    def choices(self, name: str) -> tuple[Any, ...]:
        return ()

    def __call__(self, settings: dict[str, Any]) -> None:
        if len(self.done) == self.stop_at:
            raise KeyboardInterrupt
        config = StubConfig(**settings)
        self.done.append(config)
        network = enhancers.make(config.network, scale=config.scale)
        shift = network.network if isinstance(network, Brighter) else network
        shift.amount.data.fill_(config.amount)  # type: ignore[union-attr, operator]
        enhancers.save(network, config.out / "w.safetensors", {})


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    own = Stub()
    monkeypatch.setitem(trainers.TRAINERS, "stub", own)  # type: ignore[arg-type]
    monkeypatch.setitem(enhancers.ENHANCERS._factories, "brighter", Brighter)
    return own


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> layout.PaperTable:
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path / "cache"))
    return written(tmp_path, TABLE)


def written(folder: Path, text: str) -> layout.PaperTable:
    (folder / "tables").mkdir(exist_ok=True)
    (folder / "tables" / "networks.toml").write_text(NETWORKS)
    (folder / "tables" / "p-table-1.toml").write_text(text)
    return layout.load("p", "table", "1", folder=folder / "tables")


@pytest.fixture
def config(tmp_path: Path) -> PaperConfig:
    return PaperConfig(table="1", budget=6.0, limit=6, batch=4, out=tmp_path / "out")


def evaluate(table: layout.PaperTable, config: PaperConfig) -> tuple[Found, str]:
    shown = io.StringIO()
    return engine.evaluate(table, config, Console(file=shown, width=400)), shown.getvalue()


def first_faces(faces: FaceDataset) -> Faces:
    images = torch.cat([faces.batch([index]) for index in fixed_order(len(faces), 6)])
    return data.protocols.get("bicubic").degrade(images, 4)


def test_a_table_has_what_its_networks_make_of_the_faces(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, faces: FaceDataset
) -> None:
    found, _ = evaluate(table, config)
    batch = first_faces(faces)
    network = enhancers.make("tiny")
    network.amount.data.fill_(0.5)  # type: ignore[union-attr, operator]
    core = build_core(dataset="tiny", enhancer=network, weights=None, num_steps=3).core
    restored = {
        "bicubic": batch.initial,
        "brighter": batch.initial + 0.1,
        "darker": batch.initial - 0.2,
        "patches": agents.rollout(core, agents.make("even", core), batch).state.image,
    }
    psnr = {name: metrics.psnr(im.clamp(0, 1), batch.hr) for name, im in restored.items()}
    content = pages.describe(found)
    rows = {row["key"]: row["cells"] for row in content["rows"]}
    for name, expected in psnr.items():
        assert rows[name][0]["value"] == pytest.approx(expected.mean().item(), abs=1e-4)
        assert rows[name][0]["images"] == 6
        if name != "brighter":
            gap = expected - psnr["brighter"]
            assert rows[name][0]["minus"] == pytest.approx(gap.mean().item(), abs=1e-4)
            half = 2.570582 * gap.std().item() / math.sqrt(6)
            assert rows[name][0]["minus_ci"] == pytest.approx(half, rel=1e-3)
        ssim = metrics.ssim(restored[name].clamp(0, 1), batch.hr).mean().item()
        assert rows[name][1]["value"] == pytest.approx(ssim, abs=1e-5)
    assert rows["brighter"][0]["minus"] is None
    assert [row["cells"][0]["paper"] for row in content["rows"]] == [
        "20.00",
        "25.00",
        "24.00",
        "30.00",
        "31.00",
    ]
    text = pages.summary(content).markdown()
    assert f"| Bicubic | {psnr['bicubic'].mean():.2f} (20.00) |" in text
    assert "| Other | (31.00) | (0.8) | (14) |" in text


def test_orders_of_the_paper_are_judged_by_paired_differences(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    found, _ = evaluate(table, config)
    lines = {
        (line["better"], line["worse"]): line
        for line in pages.describe(found)["orderings"]
        if line["metric"] == "PSNR"
    }
    assert list(lines) == [("Patches", "Brighter"), ("Brighter", "Darker"), ("Darker", "Bicubic")]
    values = {row: found.values[row, "a", "psnr"] for row in ("bicubic", "darker", "brighter")}
    gap = values["darker"] - values["bicubic"]
    line = lines["Darker", "Bicubic"]
    assert line["difference"] == pytest.approx(gap.mean())
    assert gap.mean() < -line["ci"] < 0
    assert line["verdict"] == "does not hold"
    assert lines["Brighter", "Darker"]["verdict"] == "holds"


def test_the_budget_is_shared_equally(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    _, shown = evaluate(table, config)
    assert [(own.amount, own.minutes) for own in stub.done] == [(0.1, 2.0), (-0.2, 2.0), (0.5, 2.0)]
    assert stub.done[0].network_settings == ("colours=3",)
    assert "6 minutes of training: 2 minutes for each row." in shown


def test_a_number_of_updates_takes_the_place_of_the_time(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    own = dataclasses.replace(config, change=("darker.updates=1500",))
    found, shown = evaluate(changed(table, own.change), own)
    lengths = [(done.amount, done.minutes, done.updates) for done in stub.done]
    assert lengths == [(0.1, 2.0, 500), (-0.2, None, 1500), (0.5, 2.0, 500)]
    assert "Darker, Tiny 4x: darker is trained for 1,500 updates." in shown
    assert "Trainings given a number of updates" in pages.caption(pages.describe(found))


def test_columns_about_the_same_networks_take_one_share(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    own, other = table.conditions["a"], table.conditions["b"]
    (faces,) = own.sources
    both = dataclasses.replace(
        table,
        conditions={
            "a": own,
            "b": dataclasses.replace(
                other, sources=(dataclasses.replace(faces, differs="tiny instead of Helen"),)
            ),
        },
    )
    found, shown = evaluate(both, config)
    assert found.cells["patches", "b", "psnr"].images == 6
    assert "6 minutes of training: 2 minutes for each row." in shown
    assert len(stub.done) == 3
    # At another scale they are other networks.
    conditions = {**both.conditions, "a": dataclasses.replace(own, scale=2)}
    _, shown = evaluate(dataclasses.replace(both, conditions=conditions), config)
    assert "6 minutes of training: 1 minutes for each row." in shown


def test_parts_that_rows_share_take_one_share(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    rows = {row.key: row for row in table.rows}
    again = dataclasses.replace(rows["patches"], key="again", name="Again", steps=5)
    part = dataclasses.replace(rows["darker"].parts["model"], share=0.5)
    half = dataclasses.replace(rows["darker"], parts={"model": part})
    shared = dataclasses.replace(table, rows=(rows["brighter"], half, rows["patches"], again))
    found, shown = evaluate(shared, config)
    assert found.shares == 2.5
    assert "6 minutes of training: 2.4 minutes for each row." in shown
    assert [(own.amount, own.minutes) for own in stub.done] == [(0.1, 2.4), (-0.2, 1.2), (0.5, 2.4)]
    assert "6 minutes on" in pages.caption(pages.describe(found))
    assert "2.4 minutes for each row" in pages.caption(pages.describe(found))


def test_a_file_for_every_row_leaves_what_nothing_trains(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, policy: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"\*:PART=PATH"):
        evaluate(table, dataclasses.replace(config, weights=(f"*:agent={policy}",)))


def test_agents_that_learn_nothing_choose_among_the_locations_asked_for(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    # A patch for the whole face, which it covers only from the middle of its one cell.
    values = {}
    for offset in (None, 0):
        own = dataclasses.replace(config, action_stride=32, action_offset=offset)
        found, _ = evaluate(table, own)
        values[offset] = found.cells["patches", "a", "psnr"].value
        core = build_core(
            dataset="tiny",
            split="test",
            enhancer="tiny",
            weights=None,
            num_steps=3,
            action_stride=32,
            action_offset=offset,
        ).core
        core.enhancer.amount.data.fill_(0.5)  # type: ignore[union-attr, operator]
        dataset = data.make("tiny", split="test")
        faces = data.protocols.get("bicubic").degrade(dataset.batch(fixed_order(9, 6)), 4)
        played = agents.rollout(core, agents.make("even", core), faces)
        assert values[offset] == pytest.approx(played.psnr[:, 3].mean().item(), abs=1e-4)
    assert values[None] != values[0]
    assert pages.stem(found) == "p-table-1-stride32-offset0"
    said = pages.caption(pages.describe(found))
    assert "choose among locations 32 pixels apart, at pixel 0 of their cells." in said
    assert "locations" not in pages.caption(pages.describe(Found(table, config)))


def test_two_recognisers_and_the_truth(
    stub: Stub, config: PaperConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[identity.IdentityBenchConfig] = []

    def verified(own: identity.IdentityBenchConfig, console: Console) -> SimpleNamespace:
        asked.append(own)
        names = ["bicubic", "truth", *(text.partition("=")[0] for text in own.agents + own.models)]
        rows = [
            {
                "model": name,
                "recogniser": judge.partition("=")[0],
                "accuracy": 0.5 + 0.1 * (name == "truth") + 0.2 * (judge == "dlib"),
                "accuracy_se": 0.01,
                "accuracy_all": {"truth": 0.85, "brighter": np.nan}.get(name, 0.8),
                "accuracy_all_se": 0.02,
                "cosine": 1.0 if name == "truth" else 0.75,
                "cosine_ci": 0.02,
            }
            for judge in own.recognisers
            for name in names
        ]
        # Of ten pairs the truth, and whoever else dlib judges, is told rightly more often.
        right = [np.arange(10) < round(10 * row["accuracy"]) for row in rows]
        alike = [row["cosine"] + np.array([-0.1, 0, 0.1, 0, 0, 0, 0]) for row in rows]
        faces = SimpleNamespace(pairs=SimpleNamespace(folds=10), images=range(7))
        by_fold = [row["accuracy_all"] + np.array([-0.2, 0.2]) for row in rows]
        return SimpleNamespace(rows=rows, faces=faces, right=right, alike=alike, by_fold=by_fold)

    monkeypatch.setattr(identity, "run", verified)
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path / "nothing"))
    text = TABLE.replace('"a ssim"', '"a accuracy", "a accuracy-2", "a accuracy-all", "a cosine"')
    text = re.sub(r'paper = "(\S+) (\S+) (\S+)"', r'paper = "\1 \2 - - - \3"', text)
    text += '[[rows]]\nkey = "t"\nname = "Truth"\nkind = "truth"\npaper = "- - - - - -"\n'
    table = written(tmp_path, text)
    found, _ = evaluate(table, config)
    # Student's t with nine degrees of freedom.
    half_width = pytest.approx(100 * 0.01 * 2.262157, rel=1e-5)
    for row, accuracy in (("bicubic", 70), ("brighter", 70), ("patches", 70), ("t", 80)):
        cell = found.cells[row, "a", "accuracy"]
        assert (cell.value, cell.half_width, cell.images) == (
            pytest.approx(accuracy),
            half_width,
            7,
        )
        reason = found.cells[row, "a", "accuracy-2"].reason
        assert reason == "it needs --mobilefacenet WEIGHTS"
    # Nine in ten pairs are told alike, and one by the truth alone.
    gap = difference(found, ("t", "a", "accuracy"), ("patches", "a", "accuracy"))
    assert gap is not None
    assert gap.value == pytest.approx(10)
    assert gap.half_width == pytest.approx(100 * 2.262157 * (0.09 / 9) ** 0.5, rel=1e-5)
    cell = found.cells["patches", "a", "accuracy-all"]
    assert (cell.value, cell.half_width, cell.images) == (
        pytest.approx(80),
        pytest.approx(100 * 0.02 * 2.262157, rel=1e-5),
        7,
    )
    gap = difference(found, ("t", "a", "accuracy-all"), ("patches", "a", "accuracy-all"))
    assert gap is not None
    # Paired over the folds, which differ by the same.
    assert (gap.value, gap.half_width) == (pytest.approx(5), pytest.approx(0))
    reason = found.cells["brighter", "a", "accuracy-all"].reason
    assert reason == "its folds' faces make more than 10,000,000 pairs"
    cell = found.cells["patches", "a", "cosine"]
    assert (cell.value, cell.half_width, cell.images) == (0.75, 0.02, 7)
    gap = difference(found, ("t", "a", "cosine"), ("patches", "a", "cosine"))
    assert gap is not None
    assert (gap.value, gap.half_width) == (pytest.approx(0.25), pytest.approx(0))
    assert found.cells["t", "a", "psnr"].reason == "it is the truth itself"
    # One recogniser for two columns is asked once.
    assert {own.recognisers for own in asked} == {("dlib",)}
    assert [own.steps for own in asked] == [1, 1, 1, 3, 1]
    assert {own.limit for own in asked} == {2}
    assert "verification % (MobileFaceNet): it needs --mobilefacenet WEIGHTS." in found.notes
    own = dataclasses.replace(config, mobilefacenet=Path("m.safetensors"), pairs=7)
    found, _ = evaluate(table, own)
    assert asked[-1].limit == 7
    assert asked[-1].recognisers == ("dlib", "mobilefacenet=m.safetensors")
    assert found.cells["patches", "a", "accuracy-2"].value == pytest.approx(50)
    assert found.cells["t", "a", "accuracy-2"].value == pytest.approx(60)
    with pytest.raises(ConfigurationError, match=r"--mobilefacenet m\.safetensors: there is no"):
        own.check()

    def refused(own: identity.IdentityBenchConfig, console: Console) -> None:
        raise ConfigurationError("No pairs.")

    monkeypatch.setattr(identity, "run", refused)
    found, _ = evaluate(table, own)
    assert found.cells["patches", "a", "accuracy"].reason == "No pairs"
    assert found.cells["t", "a", "psnr"].reason == "it is the truth itself"
    assert math.isfinite(found.cells["patches", "a", "psnr"].value)


def test_given_weights_take_no_share_and_are_told_apart_by_their_content(
    stub: Stub,
    table: layout.PaperTable,
    config: PaperConfig,
    weights: Callable[[float], Path],
    tmp_path: Path,
) -> None:
    path = tmp_path / "given.safetensors"
    path.write_bytes(weights(0.25).read_bytes())
    own = dataclasses.replace(config, weights=(f"patches:enhancer={path}",))
    first, _ = evaluate(table, own)
    assert [done.minutes for done in stub.done] == [3.0, 3.0]
    assert "given: given.safetensors" in first.origins["patches", "a"]["enhancer"]
    path.write_bytes(weights(0.75).read_bytes())
    second, _ = evaluate(table, own)
    assert len(stub.done) == 2
    place = ("patches", "a", "psnr")
    assert second.cells[place].value != first.cells[place].value
    assert second.cells["darker", "a", "psnr"] == first.cells["darker", "a", "psnr"]


def test_a_file_for_every_row_that_has_the_part(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, weights: Callable[[float], Path]
) -> None:
    for_all, for_one = weights(0.25), weights(0.75)
    words = (f"*:model={for_all}", f"darker:model={for_one}")
    found, _ = evaluate(table, dataclasses.replace(config, weights=words))
    assert [done.amount for done in stub.done] == [0.5]
    for row, path in (("brighter", for_all), ("darker", for_one)):
        assert path.name in found.origins[row, "a"]["model"]
    with pytest.raises(ConfigurationError, match=r"is not ROW:PART=PATH.* of this table"):
        evaluate(table, dataclasses.replace(config, weights=(f"*:initial={for_all}",)))


class Plays:
    """Counts the batches that are scored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[str] = []
        play = scoring._play

        def counted(contestant: Any, *rest: Any) -> Any:
            self.rows.append(contestant.name)
            return play(contestant, *rest)

        monkeypatch.setattr(scoring, "_play", counted)


def test_an_interrupted_table_goes_on(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays = Plays(monkeypatch)
    stub.stop_at = 1
    with pytest.raises(KeyboardInterrupt):
        evaluate(table, config)
    assert plays.rows == ["bicubic", "bicubic", "brighter", "brighter"]
    stub.stop_at, plays.rows = 99, []
    second, _ = evaluate(table, config)
    assert [own.amount for own in stub.done] == [0.1, -0.2, 0.5]
    assert plays.rows == ["darker", "darker", "patches", "patches"]
    stub.done, plays.rows = [], []
    third, _ = evaluate(table, config)
    assert (stub.done, plays.rows) == ([], [])
    assert third.cells == second.cells
    # Another budget makes other weights.
    evaluate(table, dataclasses.replace(config, budget=9.0))
    assert [own.minutes for own in stub.done] == [3.0, 3.0, 3.0]


def test_damaged_weights_are_named_and_trained_again(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    first, _ = evaluate(table, config)
    (path,) = (config.out / ".cache/papers/training").glob("darker-*/w.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    stub.done = []
    second, shown = evaluate(table, config)
    assert f"{path} is damaged: darker is trained again." in shown
    assert [own.amount for own in stub.done] == [-0.2]
    assert second.cells == first.cells


def test_damaged_scores_are_named_and_taken_again(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    first, _ = evaluate(table, config)
    (path,) = (config.out / ".cache").glob("darker-*.safetensors")
    path.write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=rf"{path.name}.*measured again"):
        second, _ = evaluate(table, config)
    assert second.cells == first.cells


def test_missing_faces_are_named_and_the_table_comes_out(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    found, _ = evaluate(table, config)
    (note,) = [note for note in found.notes if note.startswith("Left out: Helen 4x. ")]
    assert "No Helen in" in note or "No CelebA in" in note
    assert "docs/datasets.md" in note
    assert not math.isnan(found.cells["darker", "a", "psnr"].value)
    assert ("darker", "b", "psnr") not in found.cells
    assert "Other: the paper's numbers alone, it is not here." in found.notes


def test_faces_that_stand_in_are_said_so(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    found, _ = evaluate(table, dataclasses.replace(config, dataset="tiny", limit=2))
    content = pages.describe(found)
    assert {line["condition"] for line in content["orderings"]} == {"Tiny 4x (on tiny)"}
    assert "Tiny 4x: tiny instead of the paper's faces." in pages.caption(content)
    assert found.missing == {"b": "The same faces and scale as Tiny 4x."}


def test_without_a_budget_rows_say_how_to_get_weights(
    stub: Stub, table: layout.PaperTable, config: PaperConfig
) -> None:
    found, _ = evaluate(table, dataclasses.replace(config, budget=None))
    assert stub.done == []
    assert not math.isnan(found.cells["bicubic", "a", "psnr"].value)
    for row, option in (
        ("darker", "--weights darker:model=PATH"),
        ("patches", "--weights patches:enhancer=PATH patches:agent=PATH"),
    ):
        cell = found.cells[row, "a", "psnr"]
        assert math.isnan(cell.value)
        assert option in cell.reason
        assert "--budget MINUTES" in cell.reason
        assert any(option in note for note in found.notes)


def test_costs_need_no_training(stub: Stub, config: PaperConfig, tmp_path: Path) -> None:
    text = TABLE.replace('["a psnr", "a ssim", "b psnr"]', '["a mparams", "a ms", "a time-ratio"]')
    table = written(tmp_path, text)
    found, _ = evaluate(table, dataclasses.replace(config, seconds=0.0, repetitions=1))
    assert stub.done == []
    millions = {row: found.cells[row, "a", "mparams"].value for row in ("bicubic", "darker")}
    assert millions == {"bicubic": 0.0, "darker": 1e-6}
    own, reference = (found.cells[row, "a", "ms"].value for row in ("patches", "brighter"))
    assert found.cells["patches", "a", "time-ratio"].value == pytest.approx(own / reference)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"table": None}, "one of --table and --figure"),
        ({"figure": "2"}, "one of --table and --figure"),
        ({"budget": 0.0}, "--budget 0.0"),
        ({"limit": 0}, "--limit 0"),
        ({"pairs": 0}, "--pairs 0"),
        ({"dataset_settings": ("a=1",)}, "--dataset-settings a=1 are options of --dataset"),
        ({"action_offset": 1}, "--action-stride 1 --action-offset 1: give a stride"),
        ({"action_stride": 8, "action_offset": -1}, "an offset from 0 to one less"),
    ],
)
def test_settings_are_checked(config: PaperConfig, change: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        engine.run("p", dataclasses.replace(config, **change))


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("nobody=w", r"--weights 'nobody=w' is not ROW:PART=PATH.*patches:agent"),
        ("darker@z=w", r"its conditions a, b"),
        ("darker=nowhere", r"there is no file nowhere"),
    ],
)
def test_weights_that_fit_nothing_are_refused(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, word: str, error: str
) -> None:
    with pytest.raises(ConfigurationError, match=error):
        evaluate(table, dataclasses.replace(config, weights=(word,)))


def test_a_file_of_others_is_refused_before_anything_is_trained(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, tmp_path: Path
) -> None:
    notes, network = tmp_path / "notes.md", tmp_path / "network.safetensors"
    notes.write_text("no weights")
    enhancers.save(enhancers.make("tiny"), network, {})
    for path, held in ((notes, "nothing of this project"), (network, "enhancer")):
        error = rf"patches:agent=.*{path.name} holds {held}, expected agent"
        with pytest.raises(ConfigurationError, match=error):
            evaluate(table, dataclasses.replace(config, weights=(f"patches:agent={path}",)))
    assert stub.done == []


def test_a_number_out_of_its_limits_is_refused_as_a_change(
    stub: Stub, table: layout.PaperTable
) -> None:
    with pytest.raises(ConfigurationError, match=r"--change darker\.updates=0: give 1 or more"):
        changed(table, ("darker.updates=0",))


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


def test_a_scale_chooses_columns(table: layout.PaperTable, tmp_path: Path) -> None:
    wide = written(
        tmp_path, TABLE.replace('title = "Helen 4x"\nscale = 4', 'title = "H"\nscale = 8')
    )
    chosen = engine._of_scale(wide, 8)
    assert [column.condition for column in chosen.columns] == ["b"]
    assert [row.paper for row in chosen.rows] == [("10",), ("11",), ("12",), ("13",), ("14",)]
    with pytest.raises(UnknownNameError, match=r"scale '16'.*4, 8"):
        engine._of_scale(wide, 16)


def test_errors_are_averaged_at_each_pixel(
    stub: Stub, config: PaperConfig, tmp_path: Path, faces: FaceDataset
) -> None:
    figure = '\n[figure]\ndraw = "bars"\nmaps = true\n\n[conditions.a]'
    table = written(tmp_path, TABLE.replace("\n[conditions.a]", figure))
    found, _ = evaluate(table, config)
    batch = first_faces(faces)
    expected = (batch.initial - 0.2).clamp(0, 1).sub(batch.hr).square().mean((0, 1))
    torch.testing.assert_close(found.maps["darker", "a"], expected)
    paths = pages.write(found, pages.describe(found))
    assert [path.name for path in paths] == [
        "p-table-1.json",
        "p-table-1.md",
        "p-table-1.png",
        "p-table-1-errors.png",
    ]


def test_the_results_page(
    stub: Stub, table: layout.PaperTable, config: PaperConfig, tmp_path: Path
) -> None:
    found, _ = evaluate(table, config)
    path, *_ = pages.write(found, pages.describe(found, "facehall bench p --table 1"))
    (read,) = read_results(config.out).of("paper-table")
    assert read.content["rows"][2]["name"] == "Darker"
    (config.out / "broken.json").write_text("{")
    trial = json.loads(path.read_text())
    trial |= {"title": "A trial", "settings": {**trial["settings"], "small": True}}
    (config.out / "trial.json").write_text(json.dumps(trial))
    cut = json.loads(path.read_text())
    cut["rows"][0]["cells"].pop()
    (config.out / "changed.json").write_text(json.dumps(cut))
    (config.out / "old.json").write_text(json.dumps({**cut, "version": 0}))
    shown = io.StringIO()
    text = results_page.run(
        ResultsPageConfig(config.out, tmp_path / "RESULTS.md"), Console(file=shown, width=300)
    )
    for name, problem in (
        ("broken.json", "is damaged"),
        ("changed.json", "has 2 cells for 3 columns"),
        ("old.json", "is of version 0"),
        ("trial.json", "is a trial"),
    ):
        assert f"left out: {name} " in shown.getvalue()
        assert problem in shown.getvalue()
    assert (tmp_path / "RESULTS.md").read_text() == text
    holds, fails = text.index("### Orders that hold here"), text.index("that do not hold here")
    assert (
        holds < text.index("Brighter before Darker") < fails < text.index("Darker before Bicubic")
    )
    assert "## p, Table 1: Which is best" in text
    assert "[In detail](results/p-table-1.md)" in text
    assert "A trial" not in text
    assert pages.summary(read.content).markdown() in text
