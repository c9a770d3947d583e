"""The command line: help, errors, and the commands that no other test runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facehall_env
from facehall_env import agents, data, enhancers
from facehall_env.benchmarks.cli import program
from facehall_env.benchmarks.cli.commands import COMMANDS, GROUPS, load
from facehall_env.benchmarks.cli.options import FIRST
from facehall_env.benchmarks.cli.program import main
from facehall_env.data import protocols
from facehall_env.errors import DatasetError
from facehall_env.rewards import catalog as rewards

FAMILIES = ("train agent", "profile")
"""Commands whose last word says which algorithm, or what is measured."""


def help_of(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([*words.split(), "--help"])
    assert exit_.value.code == 0
    return capsys.readouterr().out


def text_of(help_: str) -> list[str]:
    """The words of a help without its frames; lines may break after a comma."""
    frames = r"[│╭╮╰╯─|+]|(?<=[\s│|])-+(?=[\s│|])"
    return re.sub(frames, " ", help_).replace(",", ", ").split()


def test_the_commands_fit_in_a_head() -> None:
    names = {
        next((family for family in FAMILIES if words.startswith(f"{family} ")), words)
        for words in COMMANDS
    }
    assert len(names) <= 20
    for words in COMMANDS:
        assert words.rpartition(" ")[0] in GROUPS


@pytest.mark.parametrize("words", COMMANDS)
def test_what_the_table_names_exists(words: str) -> None:
    command = COMMANDS[words]
    config, run = load(command.settings), load(command.run)
    fields = config.__dataclass_fields__
    assert {*command.positional, *command.preset} <= fields.keys()
    assert callable(run)
    assert command.help.partition("\n")[0][-1] in ".?"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_explains_itself(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wide = help_of(words, capsys)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = help_of(words, capsys)
    assert f"\nusage: facehall {words} [-h]" in wide
    for width, printed in ((200, wide), (80, narrow)):
        assert max(map(len, printed.splitlines())) <= width
    # No word is broken, and none gets lost; the usage line alone may be abbreviated.
    # Wide terminals show two panels side by side.
    shown = [re.sub(r"\nusage: .*?\n\n", "", help_, flags=re.DOTALL) for help_ in (wide, narrow)]
    assert sorted(text_of(shown[0])) == sorted(text_of(shown[1]))
    first = narrow.partition("╭─ options")[2].partition("╰")[0]
    assert len(re.findall(r"^[│|] --", first, re.MULTILINE)) <= FIRST + 2
    own = {name.replace("_", "-") for name in load(COMMANDS[words].settings).__dataclass_fields__}
    assert any(f"--{name}" in narrow or name.upper() in narrow for name in own)


def test_help_and_complaints_need_no_heavy_libraries(tmp_path: Path) -> None:
    code = """
import io, sys
from contextlib import redirect_stderr, redirect_stdout
from facehall_env.benchmarks.cli.commands import COMMANDS
from facehall_env.benchmarks.cli.program import main

heavy = {"torch", "cv2", "matplotlib", "stable_baselines3", "ray", "dlib"}
wrong = [
    "train sr --dataset lwf", "train agent reinforce --updates 0", "bench sr --limit none",
    "profile envs --seconds 0", "train enhancer --enhancer compat", "demo --film-faces 0",
    "mos build --folders a=b --limit 0", "data check lwf", "enhance a.png --margin -1", "enhance",
    "bench patch-selection --protocol bicubik", "train agent ppo --reward delta_psn", "nothing",
]
lines = [f"{words} --help" for words in (*COMMANDS, "", "train", "train agent")] + wrong
for line in lines:
    said, asked = io.StringIO(), line.endswith("--help")
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            status = main(line.split())
    except SystemExit as exit:
        status = exit.code
    assert status == (0 if asked else 2), (line, status, said.getvalue())
    assert not heavy & set(sys.modules), (line, heavy & set(sys.modules))
print(len(lines))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.stdout == f"{len(COMMANDS) + 16}\n", done.stderr


@pytest.mark.parametrize("words", GROUPS)
@pytest.mark.parametrize("asked", [[], ["--help"]])
def test_groups_list_their_commands(
    words: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), *asked]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: facehall {words}".strip())
    for command in COMMANDS:
        if f"{command} ".startswith(f"{words} ".lstrip()):
            word = command.split()[len(words.split())]
            assert re.search(rf"^  {word}  ", printed, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"facehall {facehall_env.__version__}\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("bnech", "Unknown command 'bnech': did you mean 'bench'?"),
        ("bench identitty", "did you mean 'identity'?"),
        ("train agent --limit 3", "write facehall train agent and one of reinforce, qmap,"),
        ("train agent re1nforce", "did you mean 'reinforce'?"),
        ("demo --film-fases 3", "has no option --film-fases: did you mean --film-faces?"),
        ("train sr --upd=3", "has no option --upd: did you mean --updates or"),
        ("train sr --dataset lwf", "Unknown dataset 'lwf': did you mean 'lfw'?"),
        ("train enhancer --enhancer compat", "did you mean 'compact' or"),
        ("bench sr --protocol bicubik", "did you mean 'bicubic'?"),
        ("train agent qmap --reward 2*delta_psn+coverage", "Unknown reward 'delta_psn': did you"),
        ("train agent dqn --border center", "center"),
        ("train agent reinforce --updates 0", "updates=0: give a whole number of 1 or more."),
        ("profile envs --seconds -1", "seconds=-1.0: give a number above 0."),
    ],
)
def test_what_is_not_understood_ends_with_two(
    line: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(line.split())
    except SystemExit as exit_:
        status = int(str(exit_.code))
    captured = capsys.readouterr()
    assert status == 2
    assert complaint in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("words", "option", "names"),
    [
        ("bench sr", "--dataset", data.available),
        ("train enhancer", "--enhancer", enhancers.available),
        ("train sr", "--protocol", lambda: list(protocols.PROTOCOLS)),
        ("bench patch-selection", "--agents", agents.available),
        ("train agent reinforce", "--reward", rewards.available),
    ],
)
def test_options_list_the_names_that_they_take(
    words: str,
    option: str,
    names: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = " ".join(text_of(help_of(words, capsys)))
    own = printed.partition(f"{option} ")[2].partition(" --")[0]
    assert f"Names: {', '.join(sorted(names()))}." in own


def command_that_raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: object) -> None:
        raise error

    monkeypatch.setattr(program, "load", lambda place: fail)


def test_errors_of_ours_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(DatasetError("There is nothing: get something."), monkeypatch)
    assert main(["demo"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "facehall: There is nothing: get something.\n"
    assert captured.out == ""


def test_an_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(KeyboardInterrupt(), monkeypatch)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err.startswith("facehall: interrupted; what was finished is kept")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that_raises(ZeroDivisionError(), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    arguments = "bench patch-selection --dataset tiny --enhancer tiny --weights None --agents even"
    out = tmp_path / "file" / "folder"
    assert main([*arguments.split(), "--steps", "1", "--limit", "1", "--out", str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("facehall: ")
    assert str(tmp_path / "file") in error


def test_a_command_is_given_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str] = []

    def run(settings: object, command: str = "") -> Path:
        given.append(command)
        return Path("a")

    monkeypatch.setattr(program, "load", lambda place: run)
    assert main(["profile", "envs", "--out", "a folder"]) == 0
    assert given == ["facehall profile envs --out 'a folder'"]
    assert capsys.readouterr().out == "written: a\n"


def test_nested_settings_are_flat_options(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []
    monkeypatch.setattr(program, "load", lambda place: lambda settings: found.append(settings))
    line = "train agent reinforce --dataset lfw --steps 7 --reward coverage --updates 3"
    assert main(line.split()) == 0
    (settings,) = found
    episode = settings.episode  # type: ignore[attr-defined]
    assert (episode.faces.dataset, episode.steps, episode.reward) == ("lfw", 7, "coverage")
    assert (episode.action_stride, settings.updates) == (8, 3)  # type: ignore[attr-defined]
    found.clear()
    assert main(["train", "agent", "a2c", "--timesteps", "10"]) == 0
    assert found[0].algo == "a2c"  # type: ignore[attr-defined]


def test_train_static_writes_a_sequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "static.safetensors"
    arguments = (
        "train agent static --dataset synthetic --enhancer tiny --weights None --steps 2 "
        f"--limit 2 --stride 64 --out {out}"
    )
    assert main(arguments.split()) == 0
    assert capsys.readouterr().out == f"written: {out}\n"
    assert out.is_file()


def test_a_report_in_markdown_is_that_of_the_papers_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["report", "--results", str(tmp_path), "--out", str(tmp_path / "page.md")]
    assert main(line) == 2
    assert "run `facehall bench paper" in capsys.readouterr().err


def test_data_check_lists_every_dataset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path))
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")  # The folders of some runs are long.
    assert main(["data", "check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[1]: line for line in lines if line.startswith("│")}
    assert "not on this machine" in found["lfw"]
    assert str(tmp_path)[:20] in found["folder"]
    assert "drawn" in found["synthetic"]
    assert "another package" in found["tiny"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((140, 130, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def test_data_check_reads_everything(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "folder", "--root", str(pictures)]) == 0
    assert "3 of 3 images of 128x128 pixels" in " ".join(capsys.readouterr().out.split())


def test_data_check_names_what_is_broken(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "b.png").write_bytes((pictures / "b.png").read_bytes()[:60])
    (pictures / "d.jpg").write_bytes(b"no image")
    assert main(["data", "check", "folder", "--root", str(pictures)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search("2 of 4 images .*b.png.*d.jpg", error)
    assert "a.png" not in error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["folder", "--root", "nowhere"], "nowhere"), (["lwf"], "did you mean 'lfw'")],
)
def test_data_check_of_nothing(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
