"""Faces are degraded once; results go where they belong, under names of their own."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from facehall_env import data
from facehall_env.benchmarks.provenance import file_stem, output_folder, write_results
from facehall_env.benchmarks.quality import patch_selection, sr
from facehall_env.benchmarks.quality.opening import NAMED
from facehall_env.benchmarks.quality.patch_selection_table import PatchSelectionRow
from facehall_env.benchmarks.quality.settings import (
    AttributesBenchConfig,
    IdentityBenchConfig,
    PatchSelectionConfig,
    SRBenchConfig,
)
from facehall_env.benchmarks.quality.sr import SRRow
from facehall_env.benchmarks.scoring import TestFaces
from facehall_env.benchmarks.tables import Table
from facehall_env.data import Faces, Protocol
from facehall_env.errors import ConfigurationError
from facehall_env.spec import FacesSpec

QUIET = Console(file=io.StringIO(), width=100)


@pytest.fixture
def degraded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many faces each call of Protocol.degrade was given."""
    calls: list[int] = []
    degrade = Protocol.degrade

    def counted(self: Protocol, hr: Tensor, scale: int) -> Faces:
        calls.append(len(hr))
        return degrade(self, hr, scale)

    monkeypatch.setattr(Protocol, "degrade", counted)
    return calls


def test_rows_are_what_the_protocol_makes(degraded: list[int]) -> None:
    images = torch.randint(0, 256, (70, 3, 16, 16), dtype=torch.uint8)
    protocol = data.protocols.get("matlab-y")
    faces = TestFaces(images, protocol, 4)
    for rows in (slice(0, 5), slice(30, 35), slice(31, 70), slice(64, 99)):
        expected = protocol.degrade(images[rows], 4)
        for own, other in zip(faces.rows(rows), expected, strict=True):
            assert own is None or own.equal(other)
    assert [number for number in degraded if number in (32, 6)] == [32, 32, 6, 6]


def test_a_run_of_sr_degrades_each_face_once(
    degraded: list[int], weights: Any, tmp_path: Path
) -> None:
    enhancer = weights(0.5)
    config = SRBenchConfig(
        faces=FacesSpec("tiny"),
        models=("bicubic",),
        agents=(f"even={enhancer},even", f"random={enhancer},random"),
        steps=2,
        limit=7,
        batch=3,
        fsim_limit=0,
        seconds=0.0,
        repetitions=1,
        memory=False,
        out=tmp_path,
    )
    sr.run(config, console=QUIET)
    assert degraded == [7]
    sr.run(config, console=QUIET)
    # For the costs, which are measured anew; the scores are there.
    assert degraded == [7, 7]


def test_a_run_of_patch_selection_degrades_each_face_once(
    degraded: list[int], settings: dict[str, Any]
) -> None:
    del settings["dataset"]
    config = PatchSelectionConfig(faces=FacesSpec("tiny"), **settings)
    patch_selection.run(config, console=QUIET)
    assert degraded == [6]


def test_a_run_in_a_checkout_writes_nothing_into_it(
    weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "benchmarks" / "results").mkdir(parents=True)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("FACEHALL_RESULTS", str(tmp_path / "user"))
    config = SRBenchConfig(
        faces=FacesSpec("tiny"), models=("bicubic",), limit=2, memory=False, seconds=0.0
    )
    sr.run(config, console=QUIET)
    assert [path for path in checkout.rglob("*") if path.is_file()] == []
    assert {path.suffix for path in (tmp_path / "user").glob("sr-tiny-*")} == {".json", ".md"}


def test_publishing_needs_a_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert output_folder(Path("own"), publish=False) == Path("own")
    if (root / ".git").exists():
        assert output_folder(Path("own"), publish=True) == root / "benchmarks" / "results"
    monkeypatch.setattr("facehall_env.__file__", "/usr/lib/site-packages/facehall_env/__init__.py")
    with pytest.raises(ConfigurationError, match="a checkout of facehall, which this"):
        output_folder(Path("own"), publish=True)


def test_names_tell_runs_apart() -> None:
    usual = SRBenchConfig(faces=FacesSpec("lfw"))
    name = file_stem(usual.words("sr"), usual, NAMED)
    assert name == "sr-lfw-x4-bicubic"
    elsewhere = replace(usual, out=Path("elsewhere"), fresh=True)
    assert file_stem(elsewhere.words("sr"), elsewhere, NAMED) == name
    names = {
        file_stem(own.words("sr"), own, NAMED)
        for own in (
            usual,
            replace(usual, limit=64),
            replace(usual, agents=("a=compact,even",)),
            replace(usual, steps=5),
            replace(usual, precision="bf16"),
            replace(usual, faces=FacesSpec("lfw", dataset_settings=("people=3",))),
        )
    }
    assert len(names) == 6
    assert all(own.startswith(name) for own in names)
    assert "sr-lfw-x4-bicubic-bf16" in names
    own = AttributesBenchConfig(recogniser="mobilefacenet=a/b.safetensors")
    words = own.words("attributes", "mobilefacenet")
    assert "-".join(words) == "attributes-celeba-x8-bicubic-mobilefacenet"


def test_rows_of_published_results_are_read_and_written_alike(root: Path) -> None:
    kinds = {"sr": SRRow, "patch-selection": PatchSelectionRow}
    read = 0
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        if (kind := kinds.get(content["benchmark"])) is None:
            continue
        for there in content["rows"]:
            written = kind.from_json(there).to_json()
            for key, value in there.items():
                assert written[key] == value or (value is None and written[key] != written[key])
            read += 1
    assert read > 50


def test_bicubic_is_always_a_row_that_is_judged() -> None:
    assert IdentityBenchConfig(models=("light",)).models == ("bicubic", "light")
    assert IdentityBenchConfig(models=("light", "bicubic")).models == ("light", "bicubic")


def test_results_are_for_machines_and_for_people(tmp_path: Path) -> None:
    table = Table.of_text("Title", ("a", "b"), [("x", "1")])
    paths = write_results(tmp_path / "new", "stem", {"rows": [float("nan")]}, table)
    assert [path.name for path in paths] == ["stem.json", "stem.md"]
    assert json.loads(paths[0].read_text()) == {"rows": [None]}
    assert paths[1].read_text() == "# Title\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n"
