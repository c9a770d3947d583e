"""The list of packages: `facehall_env` with the three folders that are linked into it."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = "facehall_env"
LINKED = ("agents", "benchmarks", "enhancers")


def packages_of(folder: str, name: str) -> list[str]:
    """A folder and the packages below it, by their import names."""
    return [name, *(f"{name}.{inner}" for inner in find_packages(folder))]


setup(
    packages=sorted(
        {
            *(p for p in packages_of(ROOT, ROOT) if p.split(".")[1:2] not in [[x] for x in LINKED]),
            *(package for x in LINKED for package in packages_of(x, f"{ROOT}.{x}")),
        }
    ),
    # Where a link came out as a plain file, its folder is named instead. With the links in place an
    # editable install is one line of a .pth file, which editors and type checkers understand.
    package_dir={"": "."} | {f"{ROOT}.{x}": x for x in LINKED if not Path(ROOT, x).is_dir()},
)
