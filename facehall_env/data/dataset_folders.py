"""Finding datasets that the user has put somewhere, and saying what is amiss with them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

from facehall_env.errors import ConfigurationError, DatasetError
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
        images: How many images the whole dataset has; None if that does not matter.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    marks: tuple[str, ...]
    expected: str
    images: int | None = None

    def find(self, root: Path | str | None = None) -> Path | None:
        """The dataset's folder, if it is on this machine.

        Args:
            root: Where to look; by default ``FACEHALL_DATA`` and then the user's cache.
        """
        candidates = chain.from_iterable(map(self._candidates, search_places(self.name, root)))
        return next(filter(self._matches, candidates), None)

    def locate(self, root: Path | str | None = None) -> Path:
        """The dataset's folder, looked for as by `find`.

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

    def forms(self, home: Path, wanted: str | None) -> list[str]:
        """Which of `marks` are folders in ``home``, or the wanted one of them alone.

        Raises:
            ConfigurationError: If the wanted one is not there.
        """
        present = [name for name in self.marks if (home / name).is_dir()]
        if wanted is not None and wanted not in present:
            raise ConfigurationError(
                f"images={wanted!r} is not in {home}: use one of {', '.join(map(repr, present))}."
            )
        return present if wanted is None else [wanted]

    def check_number(self, found: int, where: Path) -> None:
        """Warns that results on some of the images say nothing about the whole dataset.

        Raises:
            DatasetError: If there are none at all.
        """
        if not found:
            raise DatasetError(f"{where} has no images of {self.title}: expected {self.expected}.")
        if self.images not in (None, found):
            warnings.warn(
                f"{where} holds {found:,} images instead of {self.title}'s {self.images:,}: "
                "results are not comparable with those on all.",
                stacklevel=5,
            )

    def _candidates(self, place: Path) -> Iterator[Path]:
        yield from (place / name for name in (self.name, *self.folders))
        yield place
        # One of its parts was given instead of the whole.
        if any(fnmatch(place.name, mark) for mark in self.marks):
            yield place.parent

    def _matches(self, folder: Path) -> bool:
        return folder.is_dir() and any(any(folder.glob(mark)) for mark in self.marks)


def search_places(name: str, root: Path | str | None = None) -> list[Path]:
    """Where a dataset is looked for: in ``root``, or else ``FACEHALL_DATA`` and then the cache."""
    if root is not None:
        return [Path(root).expanduser()]
    given = os.environ.get("FACEHALL_DATA")
    return [*([Path(given).expanduser()] if given else []), cache_dir() / name]


def given_directory(name: str, root: Path | str | None) -> Path:
    """The directory of a dataset that may be anywhere: ``root``, or else ``FACEHALL_DATA``.

    Args:
        name: The dataset's name, for the errors.
        root: The directory, if one is given.

    Raises:
        ConfigurationError: If neither is given.
        DatasetError: If it is not a directory.
    """
    given = root if root is not None else os.environ.get("FACEHALL_DATA")
    if given is None:
        raise ConfigurationError(
            f"Dataset {name!r} needs a directory: pass root=..., or set FACEHALL_DATA to it."
        )
    path = Path(given).expanduser()
    if not path.is_dir():
        raise DatasetError(f"{path} is not a directory: expected one with images in it.")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a list that comes with a dataset.

    Raises:
        DatasetError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): get the file again.") from error


def read_table(path: Path, columns: int) -> list[list[str]]:
    """The fields of each row of a text file, separated by blanks or commas; no empty rows.

    Raises:
        DatasetError: If the file cannot be read or a row has fewer than ``columns``; names it.
    """
    lines = read_lines(path)
    rows = [line.replace(",", " ").split() for line in lines]
    for number, (line, fields) in enumerate(zip(lines, rows, strict=True), 1):
        if fields and len(fields) < columns:
            raise DatasetError(
                f"Line {number} of {path} is {line!r}, expected {columns} fields: get the file "
                "again."
            )
    return [fields for fields in rows if fields]


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
