"""Figures: views of a table's rows, with the paper's numbers as hollow dots beside ours."""

from __future__ import annotations

import math
from itertools import cycle
from pathlib import Path
from typing import Any

from facehall_env.benchmarks.papers.found import Cell, Found
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.tables import Column, Figure, Row, number_of
from facehall_env.benchmarks.plots import COLOURS, INK, MUTED, dress, save_figure

Point = tuple[Any, float, float, float | None]
"""Where it stands, ours, the half width of its interval, and the paper's."""


def draw(found: Found, stem: Path) -> list[Path]:
    """Draws a figure, and the maps of errors if it has them, into PNG files; returns their paths.

    The files are called as ``stem`` says, which has no ending.
    """
    from matplotlib.figure import Figure as Canvas

    if (view := found.table.figure) is None:
        return []
    names = list(dict.fromkeys(column.metric for column in found.table.columns))
    canvas = Canvas(figsize=(4.4 * len(names), 3.8), layout="constrained")
    for axes, name in zip(canvas.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        columns = [column for column in found.table.columns if column.metric == name]
        if view.draw == "bars":
            _bars(axes, [(row.name, _point(found, row, columns[0])) for row in found.table.rows])
        else:
            _lines(axes, _series(found, view, columns))
            axes.set_xlabel(view.x, color=MUTED)
        dress(axes, METRICS[name].title)
    path = stem.with_name(f"{stem.name}.png")
    save_figure(canvas, path, found.table.heading)
    return [path, *_maps(found, stem)]


def _series(found: Found, view: Figure, columns: list[Column]) -> dict[str, list[Point]]:
    """The points of each line: the rows of a series, or the scales of a row."""
    table, lines = found.table, dict[str, list[Point]]()
    if view.across == "rows":
        for row in sorted(table.rows, key=lambda row: row.x or 0):
            lines.setdefault(row.series, []).append(_point(found, row, columns[0], row.x))
        return {label: lines[label] for label in dict.fromkeys(row.series for row in table.rows)}
    for row in table.rows:
        lines[row.name] = [
            _point(found, row, own, table.conditions[own.condition].scale) for own in columns
        ]
    return lines


def _point(found: Found, row: Row, column: Column, x: float | None = None) -> Point:
    cell = found.cells.get((row.key, column.condition, column.metric), Cell())
    ours, half = (math.nan if own is None else own for own in (cell.value, cell.ci))
    return x, ours, half, number_of(row.paper[found.table.columns.index(column)])


def _bars(axes: Any, points: list[tuple[str, Point]]) -> None:
    """Bars begin at a value a little below the least: differences are small beside the values."""
    values = []
    for place, ((_, (_, ours, half, paper)), colour) in enumerate(
        zip(points, cycle(COLOURS.values()), strict=False)
    ):
        if not math.isnan(ours):
            axes.bar(place, ours, 0.6, color=colour, yerr=None if math.isnan(half) else half)
            values.append(ours)
        if paper is not None:
            axes.plot(place, paper, "o", markerfacecolor="white", markeredgecolor=INK)
            values.append(paper)
    axes.set_xticks(range(len(points)), [name for name, _ in points])
    if len(values) > 1 and (gap := max(values) - min(values)) > 0:
        axes.set_ylim(min(values) - 0.3 * gap, max(values) + 0.3 * gap)


def _lines(axes: Any, lines: dict[str, list[Point]]) -> None:
    for (label, points), colour in zip(lines.items(), cycle(COLOURS.values()), strict=False):
        own = [(x, y, 0 if math.isnan(half) else half) for x, y, half, _ in points if y == y]
        if own:
            axes.errorbar(*zip(*own, strict=True), color=colour, marker="o", label=label, capsize=2)
        theirs = [(x, paper) for x, _, _, paper in points if paper is not None]
        if theirs:
            style = {"color": colour, "markerfacecolor": "white", "linewidth": 0.8}
            axes.plot(*zip(*theirs, strict=True), "o--", label=f"{label}, the paper", **style)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def _maps(found: Found, stem: Path) -> list[Path]:
    """Mean squared error at each pixel, of every row and what it gains on the first."""
    from matplotlib.figure import Figure as Canvas

    if not found.maps:
        return []
    names = {row.key: row.name for row in found.table.rows}
    maps = [(names[row], error.numpy()) for (row, _), error in found.maps.items()]
    first_name, first = maps[0]
    canvas = Canvas(figsize=(3.2 * len(maps), 6.2), layout="constrained")
    axes = canvas.subplots(2, len(maps), squeeze=False)
    highest = max(error.max() for _, error in maps)
    most = max(float(abs(first - error).max()) for _, error in maps) or 1.0
    for (name, error), upper, lower in zip(maps, *axes, strict=True):
        errors = upper.imshow(error, vmin=0, vmax=highest, cmap="inferno")
        gains = lower.imshow(first - error, vmin=-most, vmax=most, cmap="RdBu")
        upper.set_title(f"{name}: error", fontsize=9)
        lower.set_title(f"less than {first_name}", fontsize=9)
    canvas.colorbar(errors, ax=axes[0], shrink=0.7)
    canvas.colorbar(gains, ax=axes[1], shrink=0.7)
    for own in axes.flat:
        own.axis("off")
    path = stem.with_name(f"{stem.name}-errors.png")
    save_figure(canvas, path)
    return [path]
