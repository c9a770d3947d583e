"""The command line: help, errors, and the commands that no other test runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facehall_env.benchmarks.cli.program import COMMANDS, Group, main
from facehall_env.errors import DatasetError


def leaves(group: Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, Group):
            yield from leaves(command, (*words, name))
        else:
            yield (*words, name)


OPTIONS = {
    "demo": "--out",
    "enhance": "--max-face",
    "report": "--results",
    "train enhancer": "--rollout-steps",
    "train sr": "--model",
    "train sparnet-hd": "--vgg19",
    "train cognition": "--embedding",
    "train ipfh": "--without",
    "train agent": "--policy",
    "train static": "--faces",
    "train ensemble": "--members",
    "bench patch-selection": "--oracle-limit",
    "bench sr": "--relative-to",
    "bench attention-fh": "--budget",
    "bench ipfh": "--budget",
    "bench sparnet": "--figure",
    "bench sisn": "--lpips",
    "bench results": "--results",
    "bench identity": "--recognisers",
    "bench attributes": "--save-head",
    "bench throughput": "--num-envs",
    "bench profile": "--foresight",
    "bench network": "--precisions",
    "bench training-memory": "--size",
    "mos build": "--folders",
    "mos score": "--out",
    "data list": "--help",
    "data check": "--split",
    "data prepare": "--margin",
}


@pytest.mark.parametrize("words", list(leaves(COMMANDS)), ids=" ".join)
def test_every_command_explains_itself(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0
    assert printed.startswith(f"usage: facehall {' '.join(words)} [-h]")
    assert OPTIONS[" ".join(words)] in printed


@pytest.mark.parametrize("words", [(), ("train",), ("bench",), ("mos",), ("data",)])
@pytest.mark.parametrize("asked", [[], ["--help"]])
def test_groups_list_their_commands(
    words: tuple[str, ...], asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*words, *asked])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for command in leaves(COMMANDS):
        if command[: len(words)] == words:
            assert f"• {command[len(words)]} " in printed


@pytest.mark.parametrize(
    "arguments", [["bnech"], ["bench", "speed"], ["demo", "--imags", "3"], ["data", "check"]]
)
def test_what_is_not_understood_ends_with_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert "--help" in captured.err
    assert captured.out == ""


def test_the_help_needs_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom facehall_env.benchmarks.cli.program import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'matplotlib', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.stdout.rstrip().endswith("set()"), done.stdout + done.stderr


def command_that_raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(invocation: main.Invocation) -> None:
        """Fails."""
        raise error

    monkeypatch.setattr(main, "COMMANDS", Group("", {"fail": fail}))


def test_errors_of_ours_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(DatasetError("There is nothing: get something."), monkeypatch)
    assert main(["fail"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "facehall: There is nothing: get something.\n"
    assert captured.out == ""


def test_an_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(KeyboardInterrupt(), monkeypatch)
    assert main(["fail"]) == 130
    assert capsys.readouterr().err.startswith("facehall: interrupted; what was finished is kept")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that_raises(ZeroDivisionError(), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


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


def test_the_line_can_be_typed_again() -> None:
    line = main.Invocation(("bench", "throughput"), ["--out", "a folder"], "").line
    assert line == "facehall bench throughput --out 'a folder'"


def test_train_static_writes_a_sequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "static.safetensors"
    arguments = (
        "train static --dataset synthetic --enhancer tiny --enhancer-weights None --num-steps 2 "
        f"--faces 2 --stride 64 --out {out}"
    )
    assert main(arguments.split()) == 0
    assert capsys.readouterr().out == f"written: {out}\n"
    assert out.is_file()


def test_data_list_names_every_dataset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FACEHALL_DATA", str(tmp_path))
    monkeypatch.setenv("FACEHALL_CACHE", str(tmp_path / "cache"))
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[1]: line for line in lines if line.startswith("│")}
    assert "not on this machine" in found["lfw"]
    assert str(tmp_path) in found["folder"]
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
