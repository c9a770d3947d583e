"""Settings that the benchmarks of restored faces have in common."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from facehall_env.benchmarks.cli.program import main
from facehall_env.benchmarks.embeddings import JudgingConfig
from facehall_env.benchmarks.provenance import header
from facehall_env.benchmarks.quality import attributes, sr
from facehall_env.benchmarks.quality.attributes import AttributesBenchConfig
from facehall_env.benchmarks.quality.identity import IdentityBenchConfig
from facehall_env.benchmarks.quality.sr import SRBenchConfig
from facehall_env.benchmarks.restoring import RestoringConfig, write_results
from facehall_env.benchmarks.tables import Table
from facehall_env.errors import ConfigurationError

COMMANDS: dict[str, type[RestoringConfig]] = {
    "sr": SRBenchConfig,
    "identity": IdentityBenchConfig,
    "attributes": AttributesBenchConfig,
}
OF_OTHERS: dict[str, Any] = {
    "dataset": "tiny",
    "scale": 2,
    "protocol": "ipfh",
    "agents": ("row=compact,even",),
    "steps": 7,
    "action_stride": 4,
    "action_offset": 1,
    "batch": 3,
    "seed": 5,
    "trust_pickle": True,
    "device": "cuda",
    "precision": "bf16",
    "out": Path("elsewhere"),
    "fresh": True,
}


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, dict[str, str]]:
    """What ``--help`` of each command says of each option, in a line."""
    # So wide that no line of help begins with the name of an option that it is about.
    monkeypatch.setenv("COLUMNS", "400")
    return {command: help_of(command, capsys) for command in COMMANDS}


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    with pytest.raises(SystemExit, match="0"):
        main(["bench", command, "--help"])
    options: list[str] = []
    for line in capsys.readouterr().out.splitlines():
        words = " ".join(line.strip(" │").split())
        if re.match("--[a-z]", words):
            options.append(words)
        elif options:
            options[-1] += f" {words}"
    return {re.split("[ ,]", option)[0].removeprefix("--"): option for option in options}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str, told: dict[str, dict[str, str]]) -> None:
    assert set(told[command]) == {
        field.name.replace("_", "-") for field in fields(COMMANDS[command])
    }
    for name, text in told[command].items():
        # A sentence before the default; an inherited setting keeps its own.
        assert re.search(r"\S\. \(default: ", text), name


def test_options_have_the_words_of_their_own_command(told: dict[str, dict[str, str]]) -> None:
    words = "--scale INT Factor between low and high resolution. (default: "
    for command, scale in (("sr", 4), ("identity", 8), ("attributes", 8)):
        assert told[command]["scale"].startswith(f"{words}{scale})")
    assert "(default: synthetic)" in told["sr"]["dataset"]
    assert "it has to know who is on them. (default: lfw)" in told["identity"]["dataset"]
    assert "it has to know their attributes" in told["attributes"]["dataset"]
    assert "Seed of the random agent." in told["attributes"]["seed"]
    assert "Seed of the pairs that are drawn and" in told["identity"]["seed"]
    assert "NAME=None, untrained" in told["sr"]["models"]
    assert "as for `facehall bench sr`" in told["identity"]["models"]
    assert "figures, and the cache" in told["sr"]["out"]
    assert "JSON, Markdown, and the cache" in told["attributes"]["out"]


def test_results_name_the_settings_that_they_always_have(root: Path) -> None:
    for file in ("sr-lfw-x4-bicubic.json", "sr-lfw-x8-bicubic.json"):
        there = json.loads((root / "benchmarks" / "results" / file).read_text("utf-8"))["settings"]
        own = header("sr", SRBenchConfig(), "", sr.NOT_IN_THE_NUMBERS)["settings"]
        assert set(there) == set(own)
    own = header("", AttributesBenchConfig(), "", attributes.NOT_IN_THE_NUMBERS)["settings"]
    assert not {"out", "fresh", "trust_pickle", "save_head"} & set(own)
    assert {"dataset", "dataset_settings", "head", "recogniser"} <= set(own)


@pytest.mark.parametrize("make", [IdentityBenchConfig, AttributesBenchConfig])
def test_who_restores_has_the_same_settings(make: type[JudgingConfig]) -> None:
    assert {*OF_OTHERS, "models"} == {field.name for field in fields(RestoringConfig)}
    restoring = make(**OF_OTHERS, models=("light",), dataset_settings=("a=b",)).restoring()
    own = {field.name: getattr(SRBenchConfig(), field.name) for field in fields(SRBenchConfig)}
    assert asdict(restoring) == {**own, **OF_OTHERS, "models": ("bicubic", "light")}
    assert make(models=("light", "bicubic")).restoring().models == ("light", "bicubic")


@pytest.mark.parametrize(
    ("name", "message"), [("steps", "--steps 0"), ("time_batch", "--time-batch 0")]
)
def test_counts_begin_at_one(name: str, message: str) -> None:
    SRBenchConfig().check()
    with pytest.raises(ConfigurationError, match=f"^{message}: give 1 or more.$"):
        SRBenchConfig(**{name: 0}).check()


def test_names_of_results() -> None:
    where: dict[str, Any] = {"dataset": "lfw", "scale": 4}
    assert SRBenchConfig(**where).stem == "sr-lfw-x4-bicubic"
    bf16 = {**where, "precision": "bf16"}
    assert IdentityBenchConfig(**bf16).stem == "identity-lfw-x4-bicubic-bf16"
    own = AttributesBenchConfig(**bf16, recogniser="mobilefacenet=a/b.safetensors")
    assert own.stem == "attributes-lfw-x4-bicubic-mobilefacenet-bf16"


def test_results_are_for_machines_and_for_people(tmp_path: Path) -> None:
    table = Table("Title", ("a", "b"), [("x", "1")])
    paths = write_results(tmp_path / "new", "stem", {"rows": [float("nan")]}, table)
    assert [path.name for path in paths] == ["stem.json", "stem.md"]
    assert json.loads(paths[0].read_text()) == {"rows": [None]}
    assert paths[1].read_text() == "# Title\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n"
