"""The table of the agents against episodes that are stepped by hand."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from facehall_env import agents
from facehall_env.agents.fixed.even import even_schedule
from facehall_env.benchmarks import restorers, tables
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.quality.patch_selection import Results, measure_all, run
from facehall_env.benchmarks.quality.settings import PatchSelectionConfig
from facehall_env.benchmarks.scoring import fixed_order
from facehall_env.data import FaceDataset
from facehall_env.env import FaceHallucinationEnv
from facehall_env.metrics import fsim, ssim
from facehall_env.spec import FacesSpec, build_from_keywords

# Student's t at 95 % for five and for two degrees of freedom, from table.
T5, T2 = 2.570582, 4.302653

Rows = dict[tuple[str, int], dict[str, Any]]


def by_agent(results: Results) -> Rows:
    return {(row.agent, row.steps): row.to_json() for row in results.rows}


def configured(settings: dict[str, Any], **more: Any) -> PatchSelectionConfig:
    """The settings, those of the faces in their place."""
    given = {**settings, **more}
    where = {name: given.pop(name) for name in ("dataset", "scale", "protocol") if name in given}
    return PatchSelectionConfig(faces=FacesSpec(**where), **given)


def environment(dataset: FaceDataset, results: Results, stride: int = 1) -> FaceHallucinationEnv:
    return FaceHallucinationEnv(
        dataset=dataset,
        enhancer=results.restorers["even"].core.enhancer,
        num_steps=4,
        action_stride=stride,
    )


def play(env: FaceHallucinationEnv, face: int, actions: list[int]) -> list[float]:
    """PSNR at the start and after each patch."""
    _, info = env.reset(options={"index": face})
    return [info["psnr"], *(env.step(action)[4]["psnr"] for action in actions)]


def greedy(env: FaceHallucinationEnv, face: int, candidates: list[int], steps: int) -> list[float]:
    """PSNR of whoever tries all candidates at every step."""
    chosen: list[int] = []
    for _ in range(steps):
        chosen.append(max(candidates, key=lambda a: play(env, face, [*chosen, a])[-1]))
    return play(env, face, chosen)


def half_width(values: np.ndarray, quantile: float) -> float:
    return float(quantile * values.std(ddof=1) / math.sqrt(len(values)))


@pytest.fixture
def results(settings: dict[str, Any]) -> Results:
    return measure_all(configured(settings))


def test_rows_are_those_of_episodes_played_by_hand(results: Results, faces: FaceDataset) -> None:
    env = environment(faces, results)
    images = fixed_order(len(faces), 6)
    quarters = [y * 32 + x for y, x in ((8, 8), (24, 8), (8, 24), (24, 24))]
    even_actions = even_schedule(env.core.geometry)[:4]
    curves = {
        "bicubic": np.array([[play(env, face, [])[0]] * 5 for face in images]),
        "even": np.array([play(env, face, even_actions) for face in images]),
        "static": np.array([play(env, face, quarters) for face in images]),
        "oracle": np.array([greedy(env, face, quarters, 4) for face in images[:3]]),
    }
    rows = by_agent(results)
    for name, curve in curves.items():
        for step in (2, 4):
            row, count = rows[name, step], len(curve)
            quantile = T5 if count == 6 else T2
            area = curve[:, 1 : step + 1].mean(1)
            even = curves["even"][:count]
            even_area = even[:, 1 : step + 1].mean(1)
            assert row["images"] == count
            assert row["psnr"] == pytest.approx(curve[:, step].mean(), abs=1e-5)
            assert row["psnr_ci"] == pytest.approx(half_width(curve[:, step], quantile), rel=1e-4)
            assert row["psnr_auc"] == pytest.approx(area.mean(), abs=1e-5)
            assert row["psnr_auc_ci"] == pytest.approx(half_width(area, quantile), rel=1e-4)
            won = curve[:, step] - curve[:, 0]
            assert row["psnr_minus_start"] == pytest.approx(won.mean(), abs=1e-5)
            assert row["psnr_minus_start_ci"] == pytest.approx(
                half_width(won, quantile), rel=1e-3, abs=1e-6
            )
            if name == "even":
                assert math.isnan(row["psnr_minus_even"])
                continue
            gain, area_gain = curve[:, step] - even[:, step], area - even_area
            assert row["psnr_minus_even"] == pytest.approx(gain.mean(), abs=1e-5)
            assert row["psnr_minus_even_ci"] == pytest.approx(half_width(gain, quantile), rel=1e-3)
            assert row["psnr_auc_minus_even"] == pytest.approx(area_gain.mean(), abs=1e-5)
            assert row["psnr_auc_minus_even_ci"] == pytest.approx(
                half_width(area_gain, quantile), rel=1e-3
            )


@pytest.mark.parametrize(("name", "stride"), [("random", 1), ("rl", 8), ("saliency", 1)])
def test_recorded_actions_give_the_recorded_curves(
    results: Results, faces: FaceDataset, name: str, stride: int
) -> None:
    env = environment(faces, results, stride)
    measured = results.measured[name]
    for row, face in enumerate(fixed_order(len(faces), 6)):
        replayed = play(env, face, measured.actions[row].tolist())
        assert measured.psnr[row].tolist() == pytest.approx(replayed, abs=1e-4)
    assert len(set(measured.actions[:, 0].tolist())) > 1 or name == "rl"


def test_share_of_the_oracle_gap_is_on_the_oracles_images(results: Results) -> None:
    rows = by_agent(results)
    for step in (2, 4):
        random, oracle, static = (
            results.measured[name].psnr[:3, step].numpy() for name in ("random", "oracle", "static")
        )
        share = (static.mean() - random.mean()) / (oracle.mean() - random.mean())
        row = rows["static", step]
        assert row["oracle_share"] == pytest.approx(share)
        assert row["oracle_images"] == 3
        assert row["psnr_oracle_images"] == pytest.approx(static.mean())
        assert rows["random", step]["oracle_share"] == 0
        assert rows["oracle", step]["oracle_share"] == 1
        assert math.isnan(rows["bicubic", step]["oracle_share"])


def test_similarity_of_the_images_at_that_step(results: Results, faces: FaceDataset) -> None:
    env = environment(faces, results)
    actions = even_schedule(env.core.geometry)
    states = []
    for face in fixed_order(len(faces), 6):
        play(env, face, actions[:2])
        states.append(env.state)
    sr, hr = (torch.cat([getattr(s, name) for s in states]) for name in ("image", "hr"))
    row = by_agent(results)["even", 2]
    assert row["ssim"] == pytest.approx(ssim(sr, hr).mean().item(), abs=1e-5)
    assert row["fsim"] == pytest.approx(fsim(sr[:2], hr[:2]).mean().item(), abs=1e-5)
    assert row["fsim_images"] == 2


def test_fewer_patches_are_prefixes(settings: dict[str, Any], results: Results) -> None:
    alone = measure_all(configured(settings, steps=(2,), fresh=True))
    for name in ("even", "static", "oracle", "saliency"):
        expected = by_agent(alone)[name, 2]
        row = by_agent(results)[name, 2]
        for key in ("psnr", "psnr_auc", "ssim"):
            assert row[key] == pytest.approx(expected[key], abs=1e-5)


def test_psnr_follows_the_protocol(settings: dict[str, Any], faces: FaceDataset) -> None:
    config = configured(settings, protocol="matlab-y", agents=("even",), policy=(), fsim_limit=0)
    results = measure_all(config)
    env = FaceHallucinationEnv(
        dataset=faces,
        enhancer=results.restorers["even"].core.enhancer,
        protocol="matlab-y",
        num_steps=4,
    )
    expected = []
    for face in fixed_order(len(faces), 6):
        play(env, face, even_schedule(env.core.geometry)[:2])
        sr, hr = (
            image[0, :, 4:-4, 4:-4].double().numpy() for image in (env.state.image, env.state.hr)
        )
        weights = np.array([65.481, 128.553, 24.966]) / 255
        # Luma of the 8-bit image, without its offset, which the difference loses.
        difference = np.tensordot(weights, np.floor(sr * 255 + 0.5) / 255 - hr, 1)
        expected.append(-10 * np.log10((difference**2).mean()))
    row = by_agent(results)["even", 2]
    assert row["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert math.isnan(row["fsim"])
    assert row["fsim_images"] == 0


def test_time_grows_with_the_patches(results: Results) -> None:
    rows = by_agent(results)
    for name in ("random", "even", "saliency", "static", "rl", "oracle"):
        assert 0 < rows[name, 2]["ms_per_image"] < rows[name, 4]["ms_per_image"]
    assert rows["bicubic", 4]["ms_per_image"] == 0


class Plays:
    """Counts the batches that are played, and can be interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[tuple[str, int]] = []
        self.interrupt_at: int | None = None
        self._rollout = restorers.rollout
        monkeypatch.setattr(restorers, "rollout", self)

    def __call__(self, core: Any, agent: Any, faces: Any, **options: Any) -> Any:
        if len(self.batches) == self.interrupt_at:
            raise KeyboardInterrupt
        self.batches.append((agent.name, len(faces.hr)))
        return self._rollout(core, agent, faces, **options)


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> Plays:
    return Plays(monkeypatch)


def without_time(results: Results) -> Rows:
    rows = by_agent(results)
    for row in rows.values():
        del row["ms_per_image"]
    return rows


def same(first: Results, second: Results) -> bool:
    # As text, in which a number that is none equals itself.
    return repr(without_time(first)) == repr(without_time(second))


def test_a_second_run_plays_nothing(
    settings: dict[str, Any], weights: Callable[[float], Path], plays: Plays
) -> None:
    settings["weights"] = str(weights(0.5))
    first = measure_all(configured(settings))
    assert len(plays.batches) == 5 * 2 + 1
    plays.batches.clear()
    assert same(measure_all(configured(settings)), first)
    assert plays.batches == []


def test_a_further_agent_plays_alone(settings: dict[str, Any], plays: Plays) -> None:
    settings |= {"policy": (), "agents": ("random", "even")}
    measure_all(configured(settings))
    plays.batches.clear()
    settings["agents"] = ("random", "saliency", "even")
    results = measure_all(configured(settings))
    assert plays.batches == [("saliency", 4), ("saliency", 2)]
    assert [row.agent for row in results.rows[:3]] == ["random", "saliency", "even"]


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 2},
        {"protocol": "afh"},
        {"border": "inside"},
        {"precision": "bf16"},
        {"steps": (1, 4)},
        {"fresh": True},
        {"weights": 0.6},
        {"dataset": "synthetic"},
    ],
)
def test_what_changes_the_numbers_is_measured_again(
    settings: dict[str, Any],
    weights: Callable[[float], Path],
    plays: Plays,
    change: dict[str, Any],
) -> None:
    settings |= {"policy": (), "agents": ("even",), "limit": 2, "fsim_limit": 0}
    measure_all(configured(settings))
    plays.batches.clear()
    if "weights" in change:
        change = {"weights": str(weights(change["weights"]))}
    measure_all(configured(settings, **change))
    assert plays.batches == [("even", 2)]


def test_more_images_go_on_with_whole_batches(settings: dict[str, Any], plays: Plays) -> None:
    settings |= {"policy": (), "agents": ("random",)}
    measure_all(configured(settings))
    plays.batches.clear()
    more = measure_all(configured(settings, limit=9))
    assert plays.batches == [("random", 4), ("random", 1)]
    assert same(more, measure_all(configured(settings, limit=9, fresh=True)))


def test_an_interrupted_benchmark_goes_on(
    settings: dict[str, Any], plays: Plays, capsys: pytest.CaptureFixture[str]
) -> None:
    settings |= {"policy": (), "agents": ("random", "even", "oracle"), "batch": 2}
    whole = measure_all(configured(settings, out=settings["out"] / "whole"))
    count = len(plays.batches)
    plays.batches.clear()
    arguments = command_line(settings)
    plays.interrupt_at = 4
    assert main(arguments) == 130
    assert "interrupted" in capsys.readouterr().err
    plays.interrupt_at = None
    assert main(arguments) == 0
    assert len(plays.batches) == count
    assert same(measure_all(configured(settings)), whole)


def test_a_damaged_cache_is_measured_again(settings: dict[str, Any], plays: Plays) -> None:
    settings |= {"policy": (), "agents": ("even",)}
    first = measure_all(configured(settings))
    (file,) = (settings["out"] / ".cache").glob("even-*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    plays.batches.clear()
    assert same(measure_all(configured(settings)), first)
    assert len(plays.batches) == 2


def test_fixed_order_is_a_permutation_with_stable_beginnings() -> None:
    order = fixed_order(50, 50)
    assert sorted(order) == list(range(50))
    assert order != list(range(50))
    assert fixed_order(50, 20) == order[:20]
    assert len(set(fixed_order(10**12, 500))) == 500


def test_policies_and_enhancers_as_further_rows(
    settings: dict[str, Any], policy: Path, static: Path, weights: Callable[[float], Path]
) -> None:
    settings |= {
        "agents": ("random", "even", "oracle"),
        "policy": (f"again={static}", str(static)),
        "extra_enhancer": (
            f"softer={weights(0.25)},even",
            f"softer rl={weights(0.25)},{policy}",
        ),
    }
    results = measure_all(configured(settings))
    rows = by_agent(results)
    names = ["random", "even", "oracle", "static", "again", "softer", "softer rl"]
    assert [row.agent for row in results.rows[:7]] == names
    assert rows["again", 4]["psnr"] == rows["static", 4]["psnr"]
    assert rows["softer", 4]["psnr"] != rows["even", 4]["psnr"]
    assert math.isnan(rows["softer", 4]["oracle_share"])
    assert rows["softer", 4]["enhancer_weights"] == "tiny-0.25.safetensors"
    assert rows["softer rl", 4]["agent_weights"] == "policy.safetensors"
    assert rows["softer rl", 4]["action_stride"] == 8
    assert rows["softer", 4]["action_stride"] == 1


def test_a_policy_plays_on_the_grid_that_it_was_trained_on(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    core = build_from_keywords(
        dataset="tiny", enhancer="tiny", weights=None, num_steps=4, action_stride=8, action_offset=1
    ).core
    shifted = tmp_path / "shifted.safetensors"
    agents.ReinforceAgent(core, "conv", seed=1).save(shifted)
    settings |= {"agents": ("even",), "policy": (f"shifted={shifted}",)}
    rows = by_agent(measure_all(configured(settings)))
    grids = {name: (row["action_stride"], row["action_offset"]) for (name, _), row in rows.items()}
    assert grids == {"even": (1, 0), "shifted": (8, 1)}
    settings |= {"policy": (), "action_stride": 8, "action_offset": 3}
    rows = by_agent(measure_all(configured(settings)))
    assert {(row["action_stride"], row["action_offset"]) for row in rows.values()} == {(8, 3)}


REQUIRED = {
    "agent": str,
    "enhancer": str,
    "dataset": str,
    "scale": int,
    "protocol": str,
    "steps": int,
    "images": int,
    "psnr": float,
    "psnr_ci": float,
    "ssim": float,
    "fsim": float,
    "psnr_auc": float,
    "ms_per_image": float,
}


def command_line(settings: dict[str, Any]) -> list[str]:
    words = ["bench", "patch-selection"]
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def test_the_command_writes_json_markdown_and_figures(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{tables.START}\nold\n{tables.END}\nend\n", encoding="utf-8")
    settings["readme"] = readme
    arguments = command_line(settings)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    (file,) = settings["out"].glob("patch-selection-tiny-tiny-x4-bicubic-*.json")
    stem = file.with_suffix("")
    for suffix in (".json", ".md", ".png", "-patches.png"):
        assert f"written: {stem}{suffix}" in printed

    content = json.loads(Path(f"{stem}.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert content["command"].split()[:3] == ["facehall", "bench", "patch-selection"]
    assert {"facehall-env", "torch", "python", "numpy", "gymnasium"} <= content["versions"].keys()
    assert len(content["rows"]) == 7 * 2
    for row in content["rows"]:
        for key, kind in REQUIRED.items():
            assert type(row[key]) is kind, (key, row[key])
        assert row["oracle_share"] is None or 0 <= abs(row["oracle_share"]) < 100
    assert {row["agent"] for row in content["rows"]} == {
        "bicubic", "random", "even", "saliency", "static", "rl", "oracle",
    }  # fmt: skip
    curve = next(curve for curve in content["curves"] if curve["agent"] == "rl")
    rl = next(r for r in content["rows"] if r["agent"] == "rl" and r["steps"] == 4)
    assert len(curve["psnr"]) == 5
    assert curve["psnr"][4] == pytest.approx(rl["psnr"])
    assert np.mean(curve["psnr"][1:]) == pytest.approx(rl["psnr_auc"])

    markdown = Path(f"{stem}.md").read_text("utf-8")
    cells = f"| rl | {curve['psnr'][2]:.2f} | {rl['psnr']:.2f} | {rl['psnr_auc']:.2f} |"
    assert cells in markdown
    assert "| oracle (first 3) |" in markdown
    text = readme.read_text("utf-8")
    assert text.startswith(f"# Title\n{tables.START}\n| agent | T=2 | T=4 |")
    assert cells in text
    assert "old" not in text
    assert text.endswith(f"{tables.END}\nend\n")

    strip = np.asarray(Image.open(f"{stem}-patches.png"))
    # Two faces; the input, four steps and the truth; red outlines and dashed blue ones.
    assert strip.shape[1] > 6 * 32
    assert (strip == (226, 28, 36)).all(2).any()
    figure = Image.open(f"{stem}.png")
    assert figure.size == pytest.approx((1152, 704), abs=1)


def test_the_table_on_the_terminal(settings: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=170)
    results = run(configured(settings), console=console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    row = by_agent(results)["static", 4]
    assert f"{row['psnr']:.2f} ± {row['psnr_ci']:.2f}" in printed
    assert f"{row['psnr_minus_even']:+.3f} ± {row['psnr_minus_even_ci']:.3f}" in printed
    assert "on the first 3 images" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": ()}, "--steps is empty"),
        ({"steps": (0, 5)}, "steps[0]=0"),
        ({"limit": 0}, "limit=0"),
        ({"agents": ("evn",)}, "did you mean 'even'"),
        ({"dataset": "tyni"}, "did you mean 'tiny'"),
        ({"enhancer": "compakt"}, "did you mean 'compact'"),
        ({"protocol": "bicubik"}, "did you mean 'bicubic'"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"policy": ("nowhere.safetensors",)}, "nowhere.safetensors"),
        ({"policy": ()}, "facehall train"),
        ({"extra_enhancer": ("joint",)}, "NAME=WEIGHTS,AGENT"),
        ({"agents": ("oracle",), "oracle_stride": 0}, "stride=0"),
        ({"readme": "nothing.md"}, "<!-- table:start -->"),
        ({"device": "cuda:99"}, "device='cuda:99'"),
    ],
)
def test_bad_settings_get_one_sentence(
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    complaint: str,
) -> None:
    settings |= {"agents": ("even", "static"), **change}
    assert main(command_line(settings)) == 2
    error = capsys.readouterr().err
    assert error.startswith("facehall: ")
    assert error.count("\n") == 1
    assert complaint in error
    assert not settings["out"].exists()


def test_an_agent_named_twice_plays_once(settings: dict[str, Any]) -> None:
    settings |= {"policy": (), "agents": ("even", "even"), "steps": (2,)}
    rows = measure_all(configured(settings)).rows
    assert [row.agent for row in rows] == ["even"]


def test_two_rows_of_one_name_are_refused(settings: dict[str, Any], static: Path) -> None:
    settings["policy"] = (*settings["policy"], f"even={static}")
    with pytest.raises(ValueError, match="a name of its own"):
        measure_all(configured(settings))
