"""Mean opinion scores from the files that raters have saved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.apps.mos_page import read_key
from facehall_env.benchmarks.apps.settings import MosScoreConfig
from facehall_env.benchmarks.provenance import write_results
from facehall_env.benchmarks.statistics import mean_ci
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.errors import DatasetError

RATINGS_FORMAT = "facehall-mos-1"
WORST, BEST = 1, 5


def score(config: MosScoreConfig, console: Console | None = None) -> list[dict[str, Any]]:
    """Prints the mean opinion score of every method; names files that are left out.

    Returns:
        A row for each method, the best first: ``method``, ``mos``, ``mos_ci`` (half width of the
        95 % interval over faces), ``mos_ci_raters`` (over raters), ``ratings``, ``raters``,
        ``faces``, and ``counts`` of the ratings 1 to 5.

    Raises:
        DatasetError: If the key cannot be used or no file of ratings can.
    """
    identity, items = read_key(config.key)
    ratings, left_out = read_ratings(config.ratings, identity, items)
    console = console or tables.terminal()
    for path, reason in left_out.items():
        console.print(f"left out: {path}: {reason}", soft_wrap=True, highlight=False)
    if not ratings:
        raise DatasetError(
            f"None of the {len(config.ratings)} files of ratings can be used: have the raters save "
            "them on the page that belongs to this key."
        )
    rows = mean_opinions(ratings, items)
    table = _table(rows, len(ratings))
    console.print(table)
    if config.out is not None:
        content = {"benchmark": "mos", "rows": rows, "left_out": left_out}
        tables.say_written(console, *write_results(config.out, "mos", content, table))
    return rows


def mean_opinions(
    ratings: Mapping[str, Mapping[str, int]], items: Mapping[str, tuple[str, str]]
) -> list[dict[str, Any]]:
    """The mean opinion scores, the best first; see `score`, `read_ratings` and `read_key`."""
    given = [
        (*items[image], rater, n) for rater, own in ratings.items() for image, n in own.items()
    ]
    rows = [
        _scored(method, [opinion[1:] for opinion in given if opinion[0] == method])
        for method in dict.fromkeys(opinion[0] for opinion in given)
    ]
    return sorted(rows, key=lambda row: -row["mos"])


def read_ratings(
    paths: Sequence[Path], page: str, items: Mapping[str, tuple[str, str]]
) -> tuple[dict[str, Mapping[str, int]], dict[str, str]]:
    """The ratings in the files that raters have saved, and the files that cannot be used.

    If a rater has saved several files, the one with the most ratings counts.

    Args:
        paths: The files.
        page: The page that they have to be of.
        items: Its images by their hidden names.

    Returns:
        For each rater the ratings by the hidden name of the image; for each file that is left out
        the reason.
    """
    ratings: dict[str, Mapping[str, int]] = {}
    source: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for path in paths:
        try:
            rater, own = _one_file(path, page, items)
        except DatasetError as error:
            left_out[str(path)] = str(error)
            continue
        other = source.get(rater)
        if other is not None:
            older, newer = (path, other) if len(own) <= len(ratings[rater]) else (other, path)
            left_out[str(older)] = f"{newer} has as many ratings of the same rater, or more."
            if newer == other:
                continue
        ratings[rater], source[rater] = own, path
    return ratings, left_out


def _one_file(
    path: Path, page: str, items: Mapping[str, tuple[str, str]]
) -> tuple[str, dict[str, int]]:
    """A rater and the ratings; the error says why they cannot be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"it cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DatasetError(f"it is damaged ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != RATINGS_FORMAT:
        raise DatasetError("it is no file of ratings.")
    if content.get("page") != page:
        raise DatasetError("it is of another page.")
    given, rater = content.get("ratings"), content.get("rater")
    if not isinstance(given, dict) or not isinstance(rater, str) or not given:
        raise DatasetError("it has no ratings or no rater.")
    for name, rating in given.items():
        if name not in items:
            raise DatasetError(f"it rates an image {name!r} that the page does not have.")
        # True is an int to Python.
        if type(rating) is not int or not WORST <= rating <= BEST:
            raise DatasetError(f"it has the rating {rating!r}, not one of {WORST} to {BEST}.")
    return rater, given


def _scored(method: str, opinions: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    faces, raters, ratings = zip(*opinions, strict=True)
    return {
        "method": method,
        "mos": float(np.mean(ratings)),
        "mos_ci": _half_width(faces, ratings),
        "mos_ci_raters": _half_width(raters, ratings),
        "ratings": len(ratings),
        "raters": len({*raters}),
        "faces": len({*faces}),
        "counts": [ratings.count(value) for value in range(WORST, BEST + 1)],
    }


def _half_width(names: Sequence[str], ratings: Sequence[int]) -> float:
    """That of the interval over faces, or raters, each with the mean of its ratings."""
    own: dict[str, list[int]] = {}
    for name, rating in zip(names, ratings, strict=True):
        own.setdefault(name, []).append(rating)
    return mean_ci([float(np.mean(values)) for values in own.values()]).half_width


def _table(rows: Sequence[Mapping[str, Any]], raters: int) -> Table:
    counts = list(zip(*(row["counts"] for row in rows), strict=True))
    names = ("1 bad", "2", "3", "4", "5 excellent")
    return Table(
        f"Mean opinion scores of {raters} raters",
        [
            Column("method", [row["method"] for row in rows]),
            Column("MOS", [row["mos"] for row in rows], format=".2f"),
            Column("± over faces", [row["mos_ci"] for row in rows], format=".2f"),
            Column("± over raters", [row["mos_ci_raters"] for row in rows], format=".2f"),
            Column("ratings", [row["ratings"] for row in rows]),
            *(Column(name, own) for name, own in zip(names, counts, strict=True)),
        ],
        caption="±: half width of the 95 % interval.",
    )
