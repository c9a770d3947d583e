"""Figures: views of a table's rows, with the paper's numbers as hollow dots beside ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from facehall_env.benchmarks.papers.found import Found
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.tables import Column, Row, number_of
from facehall_env.files import atomic_path

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which readers with any colour vision can tell apart."""

Point = tuple[Any, float, float, float | None]
"""Where it stands, ours, the half width of its interval, and the paper's."""


def draw(found: Found, stem: Path) -> list[Path]:
    """Draws a figure, and the maps of errors if it has them.

    Args:
        found: What was measured.
        stem: Path of the files without their endings.

    Returns:
        Paths of the PNG files.
    """
    from matplotlib.figure import Figure

    figure_of = found.table.figure
    if figure_of is None:
        return []
    names = list(dict.fromkeys(column.metric for column in found.table.columns))
    figure = Figure(figsize=(4.4 * len(names), 3.8), dpi=150, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        if figure_of.draw == "bars":
            _bars(axes, found, name)
        elif figure_of.across == "rows":
            _lines_of_rows(axes, found, name)
        else:
            _lines_of_conditions(axes, found, name)
        axes.set_title(METRICS[name].title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(found.table.heading, fontsize=10, x=0.01, horizontalalignment="left")
    path = stem.with_name(f"{stem.name}.png")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return [path, *_maps(found, stem)]


def _bars(axes: Any, found: Found, name: str) -> None:
    column = next(c for c in found.table.columns if c.metric == name)
    rows = found.table.rows
    for place, row in enumerate(rows):
        value, half, paper = _point(found, row, column)
        if not math.isnan(value):
            axes.bar(place, value, 0.6, color=COLOURS[place % len(COLOURS)], yerr=_error(half))
        if paper is not None:
            axes.plot(place, paper, "o", markerfacecolor="white", markeredgecolor="black")
    axes.set_xticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    _frame(axes, [_point(found, row, column) for row in rows])


def _lines_of_rows(axes: Any, found: Found, name: str) -> None:
    """A line for each series, through its rows."""
    column = next(c for c in found.table.columns if c.metric == name)
    series = list(dict.fromkeys(row.series for row in found.table.rows))
    for place, label in enumerate(series):
        rows = sorted(
            (row for row in found.table.rows if row.series == label), key=lambda row: row.x or 0
        )
        points = [(row.x, *_point(found, row, column)) for row in rows]
        _line(axes, points, label, COLOURS[place % len(COLOURS)])
    _finish(axes, found)


def _lines_of_conditions(axes: Any, found: Found, name: str) -> None:
    """A line for each row, through the scales."""
    columns = [c for c in found.table.columns if c.metric == name]
    for place, row in enumerate(found.table.rows):
        points = [
            (found.table.conditions[c.condition].scale, *_point(found, row, c)) for c in columns
        ]
        _line(axes, points, row.name, COLOURS[place % len(COLOURS)])
    _finish(axes, found)


def _line(axes: Any, points: list[Point], label: str, colour: str) -> None:
    own = [(x, value, _error(half)) for x, value, half, _ in points if not math.isnan(value)]
    if own:
        xs, values, errors = zip(*own, strict=True)
        axes.errorbar(
            xs, values, [e or 0 for e in errors], color=colour, marker="o", label=label, capsize=2
        )
    theirs = [(x, paper) for x, _, _, paper in points if paper is not None]
    if theirs:
        axes.plot(
            *zip(*theirs, strict=True),
            "o--",
            color=colour,
            markerfacecolor="white",
            linewidth=0.8,
            label=f"{label}, the paper",
        )


def _finish(axes: Any, found: Found) -> None:
    axes.set_xlabel(found.table.figure.x if found.table.figure else "")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def _frame(axes: Any, points: list[tuple[float, float, float | None]]) -> None:
    """Bars begin at a value a little below the least: differences are small beside the values."""
    values = [v for value, _, paper in points for v in (value, paper) if v is not None]
    values = [value for value in values if not math.isnan(value)]
    if len(values) > 1 and (gap := max(values) - min(values)) > 0:
        axes.set_ylim(min(values) - 0.3 * gap, max(values) + 0.3 * gap)


def _point(found: Found, row: Row, column: Column) -> tuple[float, float, float | None]:
    """Ours, the half width of its interval, and the paper's."""
    cell = found.cells.get((row.key, column.condition, column.metric))
    paper = number_of(row.paper[found.table.columns.index(column)])
    if cell is None:
        return math.nan, math.nan, paper
    return _number(cell.value), _number(cell.ci), paper


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _error(half_width: float) -> float | None:
    return None if math.isnan(half_width) else half_width


def _maps(found: Found, stem: Path) -> list[Path]:
    """Mean squared error at each pixel, of every row and what it gains on the first."""
    from matplotlib.figure import Figure

    if not found.maps:
        return []
    names = {row.key: row.name for row in found.table.rows}
    maps = [(names[row], error.numpy()) for (row, _), error in found.maps.items()]
    first_name, first = maps[0]
    figure = Figure(figsize=(3.2 * len(maps), 6.2), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(maps), squeeze=False)
    highest = max(error.max() for _, error in maps)
    gained = [first - error for _, error in maps]
    most = max(float(abs(gain).max()) for gain in gained) or 1.0
    for place, (name, error) in enumerate(maps):
        errors = axes[0][place].imshow(error, vmin=0, vmax=highest, cmap="inferno")
        gains = axes[1][place].imshow(gained[place], vmin=-most, vmax=most, cmap="RdBu")
        axes[0][place].set_title(f"{name}: error", fontsize=9)
        axes[1][place].set_title(f"less than {first_name}", fontsize=9)
    figure.colorbar(errors, ax=axes[0], shrink=0.7)
    figure.colorbar(gains, ax=axes[1], shrink=0.7)
    for own in axes.flat:
        own.axis("off")
    path = stem.with_name(f"{stem.name}-errors.png")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return [path]
