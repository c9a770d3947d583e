"""The demo, with small weights in the place of the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from facehall_env import agents, enhancers
from facehall_env.agents import storage
from facehall_env.benchmarks.cli.program import main
from facehall_env.enhancers import weights
from facehall_env.spec import build_from_keywords


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the project looks for its weights; empty."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(weights, "SHIPPED", folder)
    monkeypatch.setattr(storage, "SHIPPED", folder)
    return folder


def fill(folder: Path) -> None:
    compact = enhancers.make("compact", width=4, blocks=1)
    torch.nn.init.normal_(compact.network.tail.weight, std=0.01)
    enhancers.save(compact, folder / "compact-synthetic-x4.safetensors", {})
    core = build_from_keywords(enhancer=compact, action_stride=8).core
    agents.ReinforceAgent(core, "conv").save(folder / "rl-conv-compact-synthetic-x4.safetensors")
    static = agents.StaticAgent(core, centres=torch.tensor([[64, 64], [32, 64]]))
    static.save(folder / "static-compact-synthetic-x4.safetensors")


def test_demo_writes_the_table_and_a_gif(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(shipped)
    out = tmp_path / "out"
    arguments = "demo --limit 2 --steps 1 2 --film-faces 2 --oracle-stride 64 --out"
    assert main([*arguments.split(), str(out)]) == 0
    printed = capsys.readouterr().out
    (results,) = out.glob("patch-selection-compact-synthetic-x4-bicubic-*.json")
    stem = results.stem
    files = ["restoring.gif", f"{stem}.json", f"{stem}.md", f"{stem}.png", f"{stem}-patches.png"]
    for name in files:
        assert f"written: {out / name}" in printed
        assert (out / name).is_file()
    rows = [line.split()[1] for line in printed.splitlines() if line.startswith("│")]
    assert rows == ["bicubic", "random", "even", "saliency", "static", "rl", "oracle"]
    with Image.open(out / "restoring.gif") as gif:
        # The start and two patches; two faces, one below the other.
        assert gif.n_frames == 3
        assert gif.height > 2 * 256


def test_without_weights_it_says_what_is_missing(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("facehall: No weights for 'compact' at 4x come with the project")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
