"""Who may import whom, and under which name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOUNDATION = {
    f"facehall_env.{name}" for name in ("errors", "registry", "files", "checkpoints", "patches")
}
FOLDERS = ("agents", "benchmarks", "enhancers")
# Each layer may import itself and those before it.
LAYERS = ["foundation", "enhancers", "facehall_env", "agents", "benchmarks"]


def layer(module: str) -> str:
    if any(module == name or module.startswith(f"{name}.") for name in FOUNDATION):
        return "foundation"
    second = module.partition(".")[2].partition(".")[0]
    return second if second in FOLDERS else "facehall_env"


def imported(path: Path, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                member = f"{base}.{alias.name}"
                # `from facehall_env import agents` imports facehall_env.agents.
                yield node.lineno, member if member in modules else base


def test_imports_run_one_way(modules: dict[str, Path]) -> None:
    wrong = [
        f"{path}:{line}: {name} ({layer(name)}) imports {target} ({layer(target)})"
        for name, path in modules.items()
        for line, target in imported(path, modules)
        if target.partition(".")[0] == "facehall_env"
        and LAYERS.index(layer(target)) > LAYERS.index(layer(name))
    ]
    assert wrong == []


def test_imports_are_by_the_full_name(modules: dict[str, Path]) -> None:
    wrong = [
        f"{path}:{line}: {target or '.'}"
        for path in modules.values()
        for line, target in imported(path, modules)
        if target.partition(".")[0] in ("", *FOLDERS)
    ]
    assert wrong == []


def test_torchvision_is_not_needed(modules: dict[str, Path]) -> None:
    users = [
        name
        for name, path in modules.items()
        if any(target.partition(".")[0] == "torchvision" for _, target in imported(path, modules))
    ]
    assert users == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_bare_name_is_refused(folder: str, root: Path) -> None:
    run = python(f"import {folder}", root)
    assert run.returncode != 0
    assert "ImportError" in run.stderr
    assert f"facehall_env.{folder}" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_full_name_works_from_anywhere(folder: str, root: Path, tmp_path: Path) -> None:
    run = python(f"import facehall_env.{folder} as module; print(module.__name__)", tmp_path)
    assert run.stdout == f"facehall_env.{folder}\n", run.stderr


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    heavy = {"torch", "cv2", "matplotlib", "PIL", "stable_baselines3", "tensorboard"}
    run = python(
        "import sys; before = set(sys.modules); import gymnasium; import facehall_env\n"
        f"print(sorted(set(sys.modules) - before & {heavy!r} & set(sys.modules)))",
        tmp_path,
    )
    assert run.stdout == "[]\n", run.stderr


def test_every_folder_of_modules_is_packaged(root: Path, modules: dict[str, Path]) -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml on Python 3.11 or newer")
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packages = {name for name, path in modules.items() if path.name == "__init__.py"}
    assert packages == set(settings["packages"])
    for name, path in modules.items():
        assert name in packages or name.rpartition(".")[0] in packages, f"{path} is not packaged"


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
