"""Memory of an update: of the right settings, and less when features are recomputed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from facehall_env.benchmarks import cli
from facehall_env.benchmarks.speed import training_memory
from facehall_env.benchmarks.speed.training_memory import TrainingMemoryConfig, report
from facehall_env.errors import ConfigurationError


def test_ratios_by_hand() -> None:
    rows = [
        {"features": "kept", "peak_memory_mib": 2000.0},
        {"features": "recomputed", "peak_memory_mib": 500.0},
    ]
    table = report({"settings": {"size": 512, "batch": 2}, "rows": rows})
    assert table.rows == [("kept", "2,000", "1.00"), ("recomputed", "500", "0.25")]
    assert "512x512 pixels, 2 at once" in table.caption


def test_a_process_that_ran_out_of_memory() -> None:
    rows = [
        {"features": "kept", "peak_memory_mib": None},
        {"features": "recomputed", "peak_memory_mib": 500.0},
    ]
    table = report({"settings": {"size": 512, "batch": 1}, "rows": rows})
    assert [line[2] for line in table.rows] == ["–", "–"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_recomputing_takes_less_memory(tmp_path: Path) -> None:
    words = "bench training-memory --size 256 --model-settings width=8 most=32 --out"
    assert cli.main([*words.split(), str(tmp_path)]) == 0
    written = json.loads((tmp_path / "training-memory.json").read_text())
    kept, recomputed = (row["peak_memory_mib"] for row in written["rows"])
    assert recomputed < 0.8 * kept
    assert written["command"] == f"facehall {words} {tmp_path}"


def test_bad_input(tmp_path: Path) -> None:
    wrong = TrainingMemoryConfig(model_settings=("widht=8",), out=tmp_path)
    with pytest.raises(ConfigurationError, match="'sparnet_hd' cannot be built"):
        training_memory.run(wrong)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="--batch 0 and --size 512"):
        training_memory.run(TrainingMemoryConfig(batch=0))
