"""The table of whole-face networks: multiplications by hand, scores, differences, the cache."""

from __future__ import annotations

import io
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import agents, data, enhancers, metrics
from facehall_env.benchmarks import restorers
from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.quality.opening import specifications
from facehall_env.benchmarks.quality.settings import SRBenchConfig
from facehall_env.benchmarks.quality.sr import Results, run
from facehall_env.benchmarks.report.reading import Result, read_result
from facehall_env.benchmarks.restorers import Conditions, build
from facehall_env.benchmarks.scoring import fixed_order
from facehall_env.benchmarks.speed import timing
from facehall_env.benchmarks.speed.timing import milliseconds
from facehall_env.data import FaceDataset, Faces
from facehall_env.data.resize import resize
from facehall_env.enhancers import Enhancer, OneShot
from facehall_env.enhancers.base import multiply_accumulates
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.spec import FacesSpec, build_core

T5 = 2.570582


class Mixer(nn.Module):
    """A 3x3 convolution, and a map of where it looks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        restored: Tensor = image + 0.1 * self.convolution(image)
        return restored

    def attention_maps(self, image: Tensor) -> dict[str, Tensor]:
        """A ramp from left to right, of half the size."""
        ramp = torch.linspace(0.25, 0.75, image.shape[3] // 2)
        return {"ramp": ramp.expand(len(image), 1, image.shape[2] // 2, -1)}


class MixerShot(OneShot):
    """`Mixer` as an enhancer."""

    name = "mixer"

    def __init__(self, scale: int = 4, patch_size: tuple[int, int] = (16, 12)) -> None:
        super().__init__(Mixer(), scale, patch_size)


class GrowShot(OneShot):
    """Sees the low resolution only."""

    name = "grow"

    def __init__(self, scale: int = 4, patch_size: tuple[int, int] = (16, 12)) -> None:
        network = nn.Sequential(nn.Conv2d(3, 3 * scale**2, 1), nn.PixelShuffle(scale))
        super().__init__(network, scale, patch_size, takes="lr")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for network in (MixerShot, GrowShot):
        monkeypatch.setitem(enhancers.ENHANCERS._factories, network.name, network)


def saved(network: Enhancer, path: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    enhancers.save(network, path, {"seed": seed})
    return str(path)


@pytest.fixture
def mixer(tmp_path: Path) -> str:
    return saved(MixerShot(), tmp_path / "m.safetensors")


def config(out: Path, *models: str, **settings: Any) -> SRBenchConfig:
    defaults: dict[str, Any] = {
        "faces": FacesSpec("tiny"),
        "models": models,
        "limit": 6,
        "fsim_limit": 2,
        "batch": 4,
        "seconds": 0.0,
        "repetitions": 1,
        "memory": False,
        "out": out,
    }
    return SRBenchConfig(**{**defaults, **settings})


def quietly(settings: SRBenchConfig) -> Results:
    return run(settings, "facehall bench sr", Console(file=io.StringIO(), width=200))


def by_name(results: Results) -> dict[str, dict[str, Any]]:
    return {row.model: row.to_json() for row in results.rows}


def first_faces(faces: FaceDataset) -> Faces:
    images = torch.cat([faces.batch([index]) for index in fixed_order(len(faces), 6)])
    return data.protocols.get("bicubic").degrade(images, 4)


class TestComplexity:
    @pytest.mark.parametrize(
        ("layer", "shape", "expected"),
        [
            (nn.Conv2d(3, 8, 5, padding=2), (1, 3, 10, 12), 10 * 12 * 8 * 3 * 25),
            (nn.Conv2d(4, 6, 3, stride=2, groups=2), (1, 4, 9, 9), 4 * 4 * 6 * 2 * 9),
            (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 5 * 5 * 4 * 6 * 4),
            (nn.Linear(7, 5), (3, 7), 3 * 7 * 5),
            (nn.LSTMCell(3, 4), (2, 3), 2 * 4 * 4 * (3 + 4)),
        ],
        ids=["conv", "grouped", "transposed", "linear", "lstm"],
    )
    def test_by_hand(self, layer: nn.Module, shape: tuple[int, ...], expected: int) -> None:
        assert multiply_accumulates(lambda: layer(torch.zeros(shape))) == expected

    def test_of_functions_and_sums(self) -> None:
        first, second = torch.zeros(4, 3, 1, 1), torch.zeros(2, 4, 3, 3)
        image = torch.zeros(1, 3, 6, 6)

        def work() -> Tensor:
            hidden = functional.relu(functional.conv2d(image, first))
            return functional.conv2d(hidden, second)

        assert multiply_accumulates(work) == 36 * 4 * 3 + 16 * 2 * 4 * 9

    def test_times_take_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        calls: list[str] = []
        monkeypatch.setattr(timing, "now", lambda device: clock[0])

        def work(name: str, *seconds: float) -> Any:
            left = iter(seconds)

            def call() -> None:
                calls.append(name)
                clock[0] += next(left)

            return call

        times = milliseconds(
            # The first call of each is not counted.
            {"a": work("a", 99, 1, 9, 3), "b": work("b", 99, 0.5, 0.5, 2, 1)},
            2,
            seconds=1.0,
            repetitions=3,
            device=torch.device("cpu"),
        )
        assert "".join(calls) == "abab" + "babab"
        assert times == {"a": 1500, "b": 500}


def test_scores_are_those_of_the_restored_faces(
    mixer: str, tmp_path: Path, faces: FaceDataset
) -> None:
    grow = saved(GrowShot(), tmp_path / "g.safetensors")
    results = quietly(config(tmp_path, "bicubic", f"mixer={mixer}", f"my row={grow}"))
    rows, batch = by_name(results), first_faces(faces)
    with torch.no_grad():
        mixed, grown = (enhancers.load(path) for path in (mixer, grow))
        assert isinstance(mixed, OneShot)
        assert isinstance(grown, OneShot)
        restored = {
            "bicubic": batch.initial,
            "mixer": mixed.network(batch.initial),
            "my row": grown.network(batch.lr),
        }
    start = metrics.psnr(batch.initial, batch.hr)
    for name, images in restored.items():
        images = images.clamp(0, 1)
        psnr, row = metrics.psnr(images, batch.hr), rows[name]
        assert row["images"] == 6
        assert row["psnr"] == pytest.approx(psnr.mean().item(), abs=1e-5)
        assert row["psnr_ci"] == pytest.approx(T5 * psnr.std().item() / math.sqrt(6), rel=1e-4)
        assert row["ssim"] == pytest.approx(metrics.ssim(images, batch.hr).mean().item(), abs=1e-6)
        assert row["fsim_images"] == 2
        assert row["fsim"] == pytest.approx(
            metrics.fsim(images[:2], batch.hr[:2]).mean().item(), abs=1e-6
        )
        gain = psnr - start
        if name != "bicubic":
            assert row["psnr_minus"] == pytest.approx(gain.mean().item(), abs=1e-5)
            half = T5 * gain.std().item() / math.sqrt(6)
            assert row["psnr_minus_ci"] == pytest.approx(half, rel=1e-3)
    assert [row.model for row in results.rows] == ["bicubic", "mixer", "my row"]
    assert math.isnan(rows["bicubic"]["psnr_minus"])


def test_costs_are_those_of_the_networks(mixer: str, tmp_path: Path) -> None:
    results = quietly(config(tmp_path, "bicubic", f"mixer={mixer}", "grow=None"))
    rows = by_name(results)
    assert [rows[n]["parameters"] for n in ("bicubic", "mixer", "grow")] == [0, 84, 48 * 4]
    macs = [rows[name]["macs_per_face"] for name in ("bicubic", "mixer", "grow")]
    assert macs == [0, 32 * 32 * 3 * 3 * 9, 8 * 8 * 48 * 3]
    for row in rows.values():
        assert row["time_ratio"] == row["ms_per_face"] / rows["bicubic"]["ms_per_face"]
    assert [rows[n]["weights"] for n in rows] == ["auto", "m.safetensors", None]


def test_up_sampling_is_part_of_the_time_where_it_is_needed(mixer: str, tmp_path: Path) -> None:
    settings = config(tmp_path, f"mixer={mixer}", "grow=None")
    place = Conditions((32, 32), scale=4)
    first, second = build(specifications(settings), place)
    lr = torch.rand(1, 3, 8, 8)
    nothing = torch.zeros(1, 3, 32, 32)
    enlarged = resize(lr, (32, 32), "bicubic").clamp(0, 1)
    with torch.no_grad():
        found = first.from_lr(Faces(nothing, lr, nothing), data.protocols.get("bicubic"))
        expected = enhancers.load(mixer).whole_face()(enlarged)
    torch.testing.assert_close(found, expected.clamp(0, 1))
    assert not second.needs_initial


def test_agents_are_further_rows(weights: Any, mixer: str, tmp_path: Path) -> None:
    enhancer = str(weights(0.5))
    rows = (f"AFH, even={enhancer},even", f"on top={enhancer},even,{mixer}")
    settings = config(tmp_path, f"mixer={mixer}", agents=rows, steps=3, relative_to="AFH, even")
    results = quietly(settings)
    found = by_name(results)
    for name, initial in (("AFH, even", "bicubic"), ("on top", mixer)):
        core = build_core(
            dataset="tiny",
            split="test",
            enhancer="tiny",
            weights=enhancer,
            num_steps=3,
            initial=initial,
        ).core
        images = torch.cat(
            [core_faces(index) for index in fixed_order(9, 6)],
        )
        batch = data.protocols.get("bicubic").degrade(images, 4)
        played = agents.rollout(core, agents.make("even", core), batch)
        assert found[name]["psnr"] == pytest.approx(played.psnr[:, 3].mean().item(), abs=1e-4)
    assert found["AFH, even"]["parameters"] == 1
    assert found["on top"]["parameters"] == 1 + 84
    assert found["on top"]["macs_per_face"] == 32 * 32 * 3 * 3 * 9
    assert found["AFH, even"]["time_ratio"] == 1
    gain = found["mixer"]["psnr"] - found["AFH, even"]["psnr"]
    assert found["mixer"]["psnr_minus"] == pytest.approx(gain)


def test_agents_without_a_grid_of_their_own_get_one(
    weights: Any, policy: Path, tmp_path: Path
) -> None:
    enhancer = str(weights(0.5))
    rows = (f"random={enhancer},random", f"learned={enhancer},{policy}")
    found = by_name(quietly(config(tmp_path, agents=rows, action_stride=32, steps=1)))
    other = by_name(
        quietly(config(tmp_path, agents=rows, action_stride=32, action_offset=0, steps=1))
    )
    images = torch.cat([core_faces(index) for index in fixed_order(9, 6)])
    batch = data.protocols.get("bicubic").degrade(images, 4)
    for results, offset in ((found, None), (other, 0)):
        core = build_core(
            dataset="tiny",
            enhancer="tiny",
            weights=enhancer,
            num_steps=1,
            action_stride=32,
            action_offset=offset,
        ).core
        # There is one location alone.
        played = agents.rollout(core, agents.make("random", core), batch)
        assert results["random"]["psnr"] == pytest.approx(played.psnr[:, 1].mean().item(), abs=1e-4)
    assert found["random"]["psnr"] != other["random"]["psnr"]
    assert found["learned"]["psnr"] == other["learned"]["psnr"]


def core_faces(index: int) -> Tensor:
    return data.make("tiny", split="test").batch([index])


class Counted:
    """Counts the batches that are restored, and can be interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[str] = []
        self.stop_at = 99
        restore = restorers.WholeFace.restore

        def counted(own: restorers.WholeFace, faces: Faces, first: int = 0) -> Tensor:
            if len(faces.hr) == 1:
                return restore(own, faces, first)  # Its cost is counted.
            if len(self.rows) == self.stop_at:
                raise KeyboardInterrupt
            self.rows.append(own.name)
            return restore(own, faces, first)

        monkeypatch.setattr(restorers.WholeFace, "restore", counted)


def test_an_interrupted_table_goes_on(
    mixer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, "bicubic", f"mixer={mixer}")
    counted = Counted(monkeypatch)
    counted.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        quietly(settings)
    assert counted.rows == ["bicubic", "bicubic", "mixer"]
    counted.rows, counted.stop_at = [], 99
    first = by_name(quietly(settings))
    assert counted.rows == ["mixer"]
    # Other weights are another row's.
    saved(MixerShot(), Path(mixer), seed=1)
    counted.rows = []
    second = by_name(quietly(settings))
    assert counted.rows == ["mixer", "mixer"]
    assert second["mixer"]["psnr"] != first["mixer"]["psnr"]
    assert second["bicubic"]["psnr"] == first["bicubic"]["psnr"]


def test_what_is_written(mixer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        f"bench sr --dataset tiny --models bicubic mixer={mixer} --limit 3 --fsim-limit 0 "
        f"--seconds 0 --repetitions 1 --no-memory --attention-figure --figure-faces 2 "
        f"--out {tmp_path}"
    )
    assert main(arguments.split()) == 0
    (file,) = tmp_path.glob("sr-tiny-x4-bicubic-*.json")
    # `facehall report` reads it, too.
    assert isinstance(read_result(file), Result)
    content = json.loads(file.read_text())
    assert content["command"].startswith("facehall bench sr --dataset tiny")
    assert content["relative_to"] == "bicubic"
    assert content["weights"]["mixer"] == {"seed": 0}
    assert content["machine"]["threads"] == torch.get_num_threads()
    row = content["rows"][1]
    assert row["fsim"] is None
    markdown = file.with_suffix(".md").read_text()
    line = next(line for line in markdown.splitlines() if line.startswith("| mixer"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["mixer", "84", "0.000", f"{row['psnr']:.2f} ± {row['psnr_ci']:.2f}"]
    assert cells[6] == "–"
    figure = np.asarray(Image.open(f"{file.with_suffix('')}-attention-mixer.png"))
    # The second panel of the first row: dark on the left, light on the right.
    left = 12 + 32 + 6
    panel = figure[30:62, left : left + 32].astype(int).sum(2)
    assert panel[:, 0].max() < 20
    assert panel[:, -1].min() > 500
    assert "written: " in capsys.readouterr().out


def test_memory_is_measured_for_each_row(
    mixer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def peak(method: str, device: str, work: Any, *arguments: Any) -> float:
        # What goes to the other process is plain data.
        with work(*pickle.loads(pickle.dumps(arguments))) as processes:
            assert list(processes) == []
        seen.append(arguments[0].name)
        return 10.0 + len(seen)

    monkeypatch.setattr(sr, "peak_memory", peak)
    rows = by_name(quietly(config(tmp_path, "bicubic", f"mixer={mixer}", memory=True)))
    assert seen == ["bicubic", "mixer"]
    assert rows["mixer"]["peak_memory_mib"] == 12


@pytest.mark.parametrize(
    ("models", "settings", "message"),
    [
        ((), {}, "--models and --agents are empty"),
        (("bicubic",), {"time_batch": 0}, "time_batch=0: give a whole number of 1 or more"),
        (("bicubic", "bicubic"), {}, "called bicubic, bicubic"),
        (("bicubic",), {"relative_to": "vdsr"}, "--relative-to 'vdsr' is none of the rows bicubic"),
        (("bicubic",), {"attention_figure": True}, "none of the rows is a network with attention"),
        (("attention_fh=None",), {}, "'attention_fh' works on patches"),
        (("bicubic",), {"agents": ("tiny:even",)}, "'tiny:even' is not ROW=ENHANCER,AGENT"),
    ],
)
def test_settings_that_cannot_be(
    models: tuple[str, ...], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        quietly(config(tmp_path, *models, **settings))


def test_weights_of_another_scale_or_network(tmp_path: Path, mixer: str) -> None:
    other = saved(MixerShot(scale=8), tmp_path / "x8.safetensors")
    with pytest.raises(WeightsError, match="scale 8, expected 4"):
        quietly(config(tmp_path, f"mixer={other}"))
    with pytest.raises(ConfigurationError, match="scale 8"):
        quietly(config(tmp_path, f"row={other}"))
    with pytest.raises(WeightsError, match="name 'mixer', expected 'grow'"):
        quietly(config(tmp_path, f"grow={mixer}"))
