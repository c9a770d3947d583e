"""Finding datasets that the user has put somewhere, and saying what is amiss with them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from facehall_env.errors import DatasetError
from facehall_env.files import cache_dir


@dataclass(frozen=True)
class Layout:
    """How the folder of a dataset looks.

    Attributes:
        name: Name of the dataset in the registry, of its folder in the user's cache, and one of
            the names of its folder in ``FACEHALL_DATA``.
        title: What people call it.
        folders: Further names of its folder.
        marks: Patterns of what lies in that folder; one of them suffices to recognise it.
        expected: What the folder should hold, in a few words.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    marks: tuple[str, ...]
    expected: str

    def find(self, root: Path | str | None = None) -> Path | None:
        """The dataset's folder, if it is on this machine.

        Args:
            root: Where to look; by default ``FACEHALL_DATA`` and then the user's cache.
        """
        for place in search_places(self.name, root):
            for folder in self._candidates(place):
                if self._matches(folder):
                    return folder
        return None

    def locate(self, root: Path | str | None = None) -> Path:
        """The dataset's folder.

        Args:
            root: As for `find`.

        Raises:
            DatasetError: If it is not there; says what was found and what was expected.
        """
        found = self.find(root)
        if found is not None:
            return found
        places = search_places(self.name, root)
        for place in places:
            for folder in _folders_in(place):
                for deeper in (folder, *_folders_in(folder)):
                    if self._matches(deeper):
                        raise DatasetError(
                            f"{place} is not the folder of {self.title}, but {deeper} below it "
                            f"looks like it: pass root={str(deeper)!r}, or move it up."
                        )
        looked = " and ".join(f"{place} ({_content(place)})" for place in places)
        raise DatasetError(
            f"No {self.title} in {looked}: expected {self.expected}; put it into a folder "
            f"{self.name!r}, set FACEHALL_DATA to the directory around that or pass root=..., and "
            "see docs/datasets.md for where to get it."
        )

    def _candidates(self, place: Path) -> Iterator[Path]:
        yield from (place / name for name in (self.name, *self.folders))
        yield place
        # One of its parts was given instead of the whole.
        if any(fnmatch(place.name, mark) for mark in self.marks):
            yield place.parent

    def _matches(self, folder: Path) -> bool:
        return folder.is_dir() and any(
            next(folder.glob(mark), None) is not None for mark in self.marks
        )


def search_places(name: str, root: Path | str | None = None) -> list[Path]:
    """Where a dataset is looked for.

    Args:
        name: Its name in the registry.
        root: Only there, if it is given.

    Returns:
        ``root``, or else the directory that ``FACEHALL_DATA`` names and the one in the cache.
    """
    if root is not None:
        return [Path(root).expanduser()]
    given = os.environ.get("FACEHALL_DATA")
    given_places = [Path(given).expanduser()] if given else []
    return [*given_places, cache_dir() / name]


def warn_if_partial(title: str, root: Path, found: int, whole: int) -> None:
    """Warns that results on so many images say nothing about the whole dataset."""
    if found != whole:
        warnings.warn(
            f"{root} holds {found:,} images instead of {title}'s {whole:,}: results are not "
            "comparable with those on all.",
            stacklevel=3,
        )


def read_table(path: Path, columns: int) -> list[list[str]]:
    """The rows of a text file whose fields are separated by blanks or commas.

    Args:
        path: The file; empty lines are passed over.
        columns: How many fields each row must have at least.

    Returns:
        The fields of every row.

    Raises:
        DatasetError: If the file cannot be read or a row is too short; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): get the file again.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if fields and len(fields) < columns:
            raise DatasetError(
                f"Line {number} of {path} is {line!r}, expected {columns} fields: get the file "
                "again."
            )
        if fields:
            rows.append(fields)
    return rows


def by_stem(keys: list[str], where: Path) -> Mapping[str, str]:
    """Images by the names of their files, without folders and suffixes.

    Lists name images by these, so that prepared copies of another type are found, too.

    Raises:
        DatasetError: If two images have the same name.
    """
    stems: dict[str, str] = {}
    for key in keys:
        other = stems.setdefault(Path(key).stem, key)
        if other != key:
            raise DatasetError(
                f"{where} has both {other} and {key}, and its lists name images by the file's "
                "name alone: remove one of them."
            )
    return stems


def _folders_in(place: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(place) if entry.is_dir())
    except OSError:
        return []


def _content(place: Path, limit: int = 4) -> str:
    """What is in a directory, in a few words."""
    if not place.is_dir():
        return "not a directory"
    names = sorted(entry.name for entry in os.scandir(place))
    if not names:
        return "empty"
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return f"holds {', '.join(names[:limit])}{more}"
