"""What results files say, and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facehall_env.benchmarks.provenance import without_places, write_json


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose folders are known."""
    (tmp_path / "home" / "project").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home" / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path / "faces"))
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path / "home" / "kept"))
    return tmp_path


def test_folders_of_the_machine_have_names(machine: Path) -> None:
    said = {
        f"No LFW in {machine}/faces/lfw": "No LFW in FACEHALL_DATA/lfw",
        f"{machine}/home/kept/celeba is no folder": "the cache/celeba is no folder",
        f"train.py: {machine}/home/project/runs": "train.py: ./runs",
        f"{machine}/home/other": "~/other",
        "runs/sr and /usr/share": "runs/sr and /usr/share",
        f"({machine}/faces), see '{machine}/home'.": "(FACEHALL_DATA), see '~'.",
        # Neighbours whose names only begin alike, and parts of other paths.
        f"{machine}/faces-2 and {machine}/homes": f"{machine}/faces-2 and {machine}/homes",
        f"https://x.org{machine}/faces": f"https://x.org{machine}/faces",
    }
    assert [without_places(text) for text in said] == list(said.values())


def test_a_data_folder_near_the_root_of_everything_stays(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEHALL_DATA", "/")
    assert without_places("a / b") == "a / b"
    monkeypatch.setenv("FACEHALL_DATA", "data")
    assert without_places("the data of data/lfw") == "the data of data/lfw"


def test_files_name_no_folder_of_the_machine(machine: Path) -> None:
    content = {"notes": [f"{machine}/faces"], "deep": {"rows": ({"psnr": float("nan")},)}}
    write_json("results.json", content)
    assert json.loads(Path("results.json").read_text(encoding="utf-8")) == {
        "notes": ["FACEHALL_DATA"],
        "deep": {"rows": [{"psnr": None}]},
    }
