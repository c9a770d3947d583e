"""The README's examples run, and the commands in it exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in "".join(blocks("bash")).splitlines()]
    return [line for line in lines if line.split()[:1] == [program]]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own for each: an example registers its agent or enhancer.
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("code", blocks("python"))
def test_example(code: str, tmp_path: Path) -> None:
    done = run(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr


def test_there_are_examples_and_commands() -> None:
    assert len(blocks("python")) >= 4
    assert commands("make") == ["make demo", "make test"]
    assert "facehall demo" in commands("facehall")


@pytest.mark.parametrize("command", commands("make"))
def test_make_target_exists(command: str, root: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (root / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert command.split()[1] in targets


@pytest.mark.parametrize("command", commands("facehall"))
def test_command_exists(command: str, tmp_path: Path) -> None:
    words = command.split()[1:]
    options = [word for word in words if word.startswith("--")]
    subcommands = words[: words.index(options[0])] if options else words
    done = run(["-m", "facehall_env.benchmarks", *subcommands, "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    for option in options:
        assert option in done.stdout
    assert f"{' '.join(subcommands)} " in done.stdout, "the help is not this command's"


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?:)[^)]+)\)", README))
def test_link_leads_to_a_file(target: str, root: Path) -> None:
    assert (root / target).is_file()
