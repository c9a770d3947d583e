"""Memory of an update: of the right settings, and less when features are recomputed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.speed import memory
from facehall_env.benchmarks.speed.contents import TrainingMemory
from facehall_env.benchmarks.speed.settings import MemoryConfig
from facehall_env.enhancers.whole_face.sparnet_hd import RecomputedUnits, SPARNetHD
from facehall_env.errors import ConfigurationError


def content(batch: int, rows: list[dict[str, Any]]) -> TrainingMemory:
    made = {"command": "", "versions": {}, "machine": {"device": "cpu", "threads": 1}}
    return TrainingMemory.from_json(
        {**made, "settings": {"size": 512, "batch": batch}, "rows": rows}
    )


def test_ratios_by_hand() -> None:
    rows = [
        {"features": "kept", "peak_memory_mib": 2000.0},
        {"features": "recomputed", "peak_memory_mib": 500.0},
    ]
    (table,) = content(2, rows).tables
    assert table.rows == [("kept", "2,000", "1.00"), ("recomputed", "500", "0.25")]
    assert "512x512 pixels, 2 at once" in table.caption


def test_a_process_that_ran_out_of_memory() -> None:
    rows = [
        {"features": "kept", "peak_memory_mib": None},
        {"features": "recomputed", "peak_memory_mib": 500.0},
    ]
    (table,) = content(1, rows).tables
    assert [line[2] for line in table.rows] == ["–", "–"]


def test_recomputed_features_are_not_kept() -> None:
    """What autograd keeps for the backward pass, counted by its own hooks."""
    kept = {}
    for recompute in (False, True):
        network = SPARNetHD(width=4, most=8).network.train()
        for module in network.modules():
            if isinstance(module, RecomputedUnits):
                module.recompute = recompute
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.rand(1, 3, 64, 64))
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(start: str, device: str, work: object, config: Any) -> float:
        return 25.0 if config.recompute else 100.0

    monkeypatch.setattr(memory, "peak_memory", measured)
    words = "profile memory --size 128 --enhancer-settings width=4 most=8 --out"
    assert main([*words.split(), str(tmp_path)]) == 0
    written = json.loads((tmp_path / "training-memory.json").read_text())
    assert written["rows"] == [
        {"features": "kept", "peak_memory_mib": 100.0},
        {"features": "recomputed", "peak_memory_mib": 25.0},
    ]
    assert written["command"] == f"facehall {words} {tmp_path}"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_recomputing_takes_less_memory(tmp_path: Path) -> None:
    config = MemoryConfig(size=256, enhancer_settings=("width=8", "most=32"), out=tmp_path)
    kept, recomputed = (row["peak_memory_mib"] for row in memory.run(config)["rows"])
    assert recomputed < 0.8 * kept


def test_bad_input(tmp_path: Path) -> None:
    wrong = MemoryConfig(enhancer_settings=("widht=8",), out=tmp_path)
    with pytest.raises(ConfigurationError, match="'sparnet_hd' cannot be built"):
        memory.run(wrong)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="batch=0: give a whole number of 1 or more"):
        memory.run(MemoryConfig(batch=0))
