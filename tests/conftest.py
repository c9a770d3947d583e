"""Which modules there are, and what tests need that a machine may not have."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "facehall_env": "facehall_env",
    "facehall_env.enhancers": "enhancers",
    "facehall_env.agents": "agents",
    "facehall_env.benchmarks": "benchmarks",
}


def source_modules() -> dict[str, Path]:
    """Every module of the project: import name to file."""
    modules = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


@pytest.fixture(scope="session")
def root() -> Path:
    """Top of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> dict[str, Path]:
    """Every module of the project: import name to file."""
    return source_modules()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "module_with_examples" in metafunc.fixturenames:
        names = [
            name for name, path in source_modules().items() if ">>> " in path.read_text("utf-8")
        ]
        metafunc.parametrize("module_with_examples", names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.get_closest_marker("lfw") and not _has_lfw():
            item.add_marker(pytest.mark.skip(reason="needs LFW: set FACEHALL_DATA"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_lfw() -> bool:
    from facehall_env.data import lfw

    return lfw.find() is not None
