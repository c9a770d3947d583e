"""The README's examples run, and the commands in it and in the docs are understood."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from facehall_env.benchmarks.cli import program
from facehall_env.benchmarks.cli.commands import COMMANDS, GROUPS
from facehall_env.benchmarks.cli.program import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Pages whose command lines are held to the program."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in "".join(blocks("bash")).splitlines()]
    return [line for line in lines if line.split()[:1] == [program]]


def command_lines(path: Path) -> list[str]:
    """The lines of `facehall` in the fenced blocks of a page, continued ones joined."""
    text = path.read_text("utf-8")
    fenced = "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    lines = fenced.replace("\\\n", " ").splitlines()
    own = [re.sub(r"\s#.*", "", line).strip() for line in lines]
    return [line for line in own if line.startswith("facehall ")]


def test_the_examples_run(tmp_path: Path) -> None:
    """One after the other in a process of their own, since they register agents and enhancers."""
    code = "import sys\nfor number, code in enumerate(eval(sys.argv[1])):\n"
    code += "    print(number, flush=True)\n    exec(code, {'__name__': f'example_{number}'})"
    done = subprocess.run(
        [sys.executable, "-c", code, repr(blocks("python"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"example {done.stdout.split()[-1:]}: {done.stderr}"


def test_there_are_examples_and_commands() -> None:
    assert len(blocks("python")) >= 4
    assert commands("make") == ["make demo", "make test"]
    assert "facehall demo" in commands("facehall")


@pytest.mark.parametrize("command", commands("make"))
def test_make_target_exists(command: str, root: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (root / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert command.split()[1] in targets


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_commands_are_understood(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their options are parsed; nothing is run."""
    ran: list[object] = []
    monkeypatch.setattr(program, "load", lambda place: ran.append)
    monkeypatch.chdir(tmp_path)
    for line in command_lines(path):
        words = shlex.split(line.replace("$algo", "ppo"))[1:]
        assert main(words) == 0, line
        assert len(ran) == 1, line
        ran.clear()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_commands_in_the_text_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those between backticks: their words and the names of their options."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for line in re.findall(r"`facehall\s([^`]*)`", text):
        words = line.split()
        place = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
        found = [" ".join(words[:n]) for n in range(place, 0, -1)]
        command = next((name for name in found if name in COMMANDS or name in GROUPS), None)
        assert command is not None, line
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        if options:
            if command in GROUPS:  # as in "train agent NAME"
                command = next(name for name in COMMANDS if name.startswith(f"{command} "))
            with pytest.raises(SystemExit):
                main([*command.split(), "--help"])
            printed = capsys.readouterr().out
            assert all(f"{option} " in printed.replace(",", " ") for option in options), line


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?:)[^)]+)\)", README))
def test_link_leads_to_a_file(target: str, root: Path) -> None:
    assert (root / target).is_file()
