"""The list of packages: `facehall_env` with the three folders that are linked into it."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = "facehall_env"
LINKED = ("agents", "benchmarks", "enhancers")


def packages_of(folder: Path, name: str) -> list[str]:
    """A folder and the packages below it, by their import names."""
    return [name, *(f"{name}.{inner}" for inner in find_packages(str(folder)))]


def package_list(top: Path) -> list[str]:
    """All packages of a checkout, the same whether its links are links or plain files.

    Args:
        top: The folder of this file.
    """
    linked = {f"{ROOT}.{name}" for name in LINKED}
    own = {
        package
        for package in packages_of(top / ROOT, ROOT)
        if ".".join(package.split(".")[:2]) not in linked
    }
    return sorted(own.union(*(packages_of(top / name, f"{ROOT}.{name}") for name in LINKED)))


def package_folders(top: Path) -> dict[str, str]:
    """Where packages lie, as setuptools wants it.

    Where a link came out as a plain file, its folder is named. With the links in place an editable
    install is one line of a .pth file, which editors and type checkers understand.

    Args:
        top: The folder of this file.
    """
    plain = [name for name in LINKED if not (top / ROOT / name).is_dir()]
    return {"": "."} | {f"{ROOT}.{name}": name for name in plain}


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    setup(packages=package_list(here), package_dir=package_folders(here))
