"""Who may import whom, and under which name."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

Modules = Mapping[str, Path]
FOUNDATION = {
    f"facehall_env.{name}"
    for name in ("errors", "registry", "files", "checkpoints", "patches", "limits", "literals")
}
FOLDERS = ("agents", "benchmarks", "enhancers")
# Each layer may import itself and those before it.
LAYERS = ["foundation", "enhancers", "facehall_env", "agents", "benchmarks"]
# The same inside of benchmarks/, as CONTRIBUTING.md draws it.
BENCHMARKS: tuple[set[str], ...] = (
    {"provenance", "statistics", "tables", "plots", "cache", "fingerprint"},
    {"restorers", "scoring", "embeddings"},
    {"quality", "speed"},
    {"papers"},
    {"report"},
    {"apps"},
    {"cli", "__main__"},
)
HEAVY = {"torch", "cv2", "matplotlib", "PIL", "stable_baselines3", "tensorboard", "tyro"}


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


def test_no_modules_import_each_other(modules: dict[str, Path]) -> None:
    found = cycles(import_graph(modules))
    assert not found, "\n".join(" <-> ".join(group) for group in found)


def test_benchmarks_import_one_way(modules: dict[str, Path]) -> None:
    rank = {name: number for number, names in enumerate(BENCHMARKS) for name in names}
    own = {
        name: name.split(".")[2] for name in modules if name.startswith("facehall_env.benchmarks.")
    }
    assert set(own.values()) - set(rank) == set(), "give them a place in BENCHMARKS"
    wrong = [
        f"{name} imports {target}"
        for name, targets in import_graph(modules).items()
        for target in targets
        if name in own and target in own and rank[own[target]] > rank[own[name]]
    ]
    assert not wrong, "\n".join(wrong)


def test_cycles_are_found_inside_of_functions_and_behind_lazy_packages(tmp_path: Path) -> None:
    sources = {
        "p": "",
        "p.lazy": "import lazy_loader",
        "p.lazy.inner": "from p.user import thing",
        "p.user": "def f():\n    from p.lazy import Name",
        "p.by_attribute": "from p import lazy\nx = lazy.Other",
        "p.lazy.other": "from p.by_attribute import x",
        "p.hints": "if TYPE_CHECKING:\n    from p.hinted import a",
        "p.hinted": "from p.hints import b",
    }
    modules = {}
    for name, source in sources.items():
        modules[name] = tmp_path / f"{name}.py"
        modules[name].write_text(source, encoding="utf-8")
    stub = "from .inner import Name as Name\nfrom .other import Other as Other"
    (tmp_path / "p.lazy.pyi").write_text(stub, encoding="utf-8")
    found = sorted(cycles(import_graph(modules)))
    assert found == [["p.by_attribute", "p.lazy.other"], ["p.lazy.inner", "p.user"]]


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


def test_importing_the_package_and_its_settings_is_light(
    modules: dict[str, Path], tmp_path: Path
) -> None:
    light = ["facehall_env", "facehall_env.spec"]
    light += [name for name in modules if name.endswith(".settings")]
    run = python(
        "import sys; before = set(sys.modules); import gymnasium\n"
        f"import {', '.join(light)}\n"
        f"print(sorted(set(sys.modules) - before & {HEAVY!r} & set(sys.modules)))",
        tmp_path,
    )
    assert run.stdout == "[]\n", run.stderr


def test_every_folder_of_modules_is_packaged(root: Path, modules: dict[str, Path]) -> None:
    packages = {name for name, path in modules.items() if path.name == "__init__.py"}
    assert packages == set(setup_of(root).package_list(root))
    for name, path in modules.items():
        assert name in packages or name.rpartition(".")[0] in packages, f"{path} is not packaged"


def test_links_that_came_out_as_plain_files_lose_no_package(root: Path, tmp_path: Path) -> None:
    setup, copy = setup_of(root), copy_of(root, tmp_path)
    assert setup.package_folders(copy) == {"": "."}
    packages = setup.package_list(copy)
    assert packages == setup.package_list(root)
    for name in FOLDERS:
        (copy / "facehall_env" / name).unlink()
        (copy / "facehall_env" / name).write_text(f"../{name}", encoding="utf-8")
    assert setup.package_list(copy) == packages
    folders = setup.package_folders(copy)
    assert folders == {"": ".", **{f"facehall_env.{name}": name for name in FOLDERS}}
    for package in packages:
        mapped = max((part for part in folders if f"{package}.".startswith(f"{part}.")), default="")
        rest = package.removeprefix(mapped).strip(".").replace(".", "/")
        assert (copy / folders[mapped] / rest / "__init__.py").is_file(), package


def test_a_bare_checkout_is_importable(root: Path, tmp_path: Path) -> None:
    copy = copy_of(root, tmp_path)
    names = ", ".join(["facehall_env", *(f"facehall_env.{name}" for name in FOLDERS)])
    run = python(
        "import importlib.metadata as metadata, sys\n"
        "metadata.Distribution.discover = classmethod(lambda *a, **b: iter(()))\n"
        f"sys.path.insert(0, {str(copy)!r})\n"
        f"import {names}; print(facehall_env.__file__, facehall_env.__version__)",
        tmp_path,
    )
    file, version = run.stdout.split()
    assert Path(file) == copy / "facehall_env" / "__init__.py", run.stderr
    assert version[0].isdigit()


def setup_of(root: Path) -> ModuleType:
    """The module setup.py, without building anything."""
    spec = importlib.util.spec_from_file_location("setup_of_the_project", root / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_of(root: Path, folder: Path) -> Path:
    """The modules of the four folders, with links in the first to the others."""
    copy = folder / "checkout"
    for name in ("facehall_env", *FOLDERS):
        for path in (root / name).rglob("*.py*"):
            inner = path.relative_to(root / name)
            if name != "facehall_env" or inner.parts[0] not in FOLDERS:
                target = copy / name / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    for name in FOLDERS:
        (copy / "facehall_env" / name).symlink_to(Path("..", name), target_is_directory=True)
    return copy


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=here,
        capture_output=True,
        text=True,
        timeout=120,
    )


def import_graph(modules: Modules) -> dict[str, set[str]]:
    """For each module the project's modules that it imports.

    Imports inside of functions count; those under ``if TYPE_CHECKING`` do not, since they never
    run. Whatever is imported of a package, its ``__init__`` is too. A name that a lazy
    ``__init__.pyi`` re-exports is resolved to the module that defines it.
    """
    stubs = {name: _stub_of(name, path) for name, path in modules.items()}
    return {name: _imports_of(name, modules, stubs) for name in modules}


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other, each sorted (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        waiting.append(module)
        for target in graph[module]:
            if target not in number:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in waiting:
                lowest[module] = min(lowest[module], number[target])
        if lowest[module] == number[module]:
            place = waiting.index(module)
            group = waiting[place:]
            del waiting[place:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def _imports_of(name: str, modules: Modules, stubs: Mapping[str, Mapping[str, str]]) -> set[str]:
    nodes = list(_nodes_that_run(ast.parse(modules[name].read_text("utf-8"))))
    targets: set[str] = set()
    packages: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                target = _defining(node.module, alias.name, modules, stubs)
                targets.add(target)
                packages[alias.asname or alias.name] = target
    for node in nodes:  # `from facehall_env import data` and then `data.make`
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            package = packages.get(node.value.id)
            if package is not None and stubs.get(package):
                targets.add(_defining(package, node.attr, modules, stubs))
    with_parents = {
        ".".join(parts[:length])
        for parts in (target.split(".") for target in targets)
        for length in range(1, len(parts) + 1)
    }
    return {target for target in with_parents if target in modules} - {name}


def _defining(
    package: str, member: str, modules: Modules, stubs: Mapping[str, Mapping[str, str]]
) -> str:
    """The module that ``from package import member`` is about."""
    if f"{package}.{member}" in modules:
        return f"{package}.{member}"
    return stubs.get(package, {}).get(member, package)


def _stub_of(package: str, path: Path) -> dict[str, str]:
    """The modules that define the names of a lazy package."""
    stub = path.with_suffix(".pyi")
    if not stub.is_file():
        return {}
    nodes = [
        node for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)
    ]
    return {
        alias.asname or alias.name: f"{package}.{node.module or alias.name}"
        for node in nodes
        for alias in node.names
    }


def _nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for child in node.orelse:
            yield from _nodes_that_run(child)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _nodes_that_run(child)


@pytest.mark.parametrize(
    "package", ["agents", "data", "enhancers", "metrics", "recognition", "rewards"]
)
def test_every_name_of_a_lazy_package_is_there(package: str) -> None:
    module = importlib.import_module(f"facehall_env.{package}")
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
