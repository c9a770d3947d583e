"""A table's results as JSON, and from that as text: for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from facehall_env.benchmarks.papers import drawing, layout
from facehall_env.benchmarks.papers.engine import Found, difference
from facehall_env.benchmarks.papers.layout import Column, number_of
from facehall_env.benchmarks.papers.metrics import METRICS
from facehall_env.benchmarks.papers.trainers import duration
from facehall_env.benchmarks.provenance import header, without_places, write_json
from facehall_env.benchmarks.restoring import grid_words
from facehall_env.benchmarks.tables import NOTHING, Table, number
from facehall_env.files import write_text_atomic

BENCHMARK = "paper-table"
NOT_IN_THE_NUMBERS = frozenset({"out", "fresh", "list_"})
WIDEST = 6
"""Columns that a terminal has room for."""

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"

Content = Mapping[str, Any]


def contents(paper: str) -> Table:
    """The tables and figures of a paper."""
    rows = []
    for name, kind, num in layout.available():
        if name == paper:
            table = layout.load(paper, kind, num)
            faces = ", ".join(condition.title for condition in table.conditions.values())
            rows.append((f"--{kind} {num}", table.title, faces))
    return Table(f"Tables and figures of {paper}", ("option", "what", "faces"), rows)


def describe(found: Found, command: str = "") -> dict[str, Any]:
    """All that was found, JSON-serialisable but for numbers that are not finite."""
    table, config = found.table, found.config
    return {
        **header(BENCHMARK, config, command, NOT_IN_THE_NUMBERS),
        "version": 1,
        "paper": table.paper,
        "kind": table.kind,
        "number": table.number,
        "title": table.title,
        "caption": table.caption,
        "protocol": table.protocol,
        "reference": table.reference,
        "budget": {"minutes": config.budget, "shares": found.shares, "each": found.minutes},
        "notes": found.notes,
        "conditions": [_condition(found, key) for key in table.conditions],
        "columns": [
            {
                "condition": column.condition,
                "metric": column.metric,
                "title": METRICS[column.metric].title,
                "digits": METRICS[column.metric].digits,
                "lower": METRICS[column.metric].lower,
            }
            for column in table.columns
        ],
        "rows": [
            {
                "key": row.key,
                "name": row.name,
                "kind": row.kind,
                "series": row.series,
                "x": row.x,
                "weights": {
                    key: found.origins[row.key, key]
                    for key in table.conditions
                    if found.origins.get((row.key, key))
                },
                "cells": [
                    _cell(found, row.key, column, paper)
                    for column, paper in zip(table.columns, row.paper, strict=True)
                ],
            }
            for row in table.rows
        ],
        "orderings": orderings(found),
    }


def orderings(found: Found) -> list[dict[str, Any]]:
    """Rows that are neighbours in the paper's order, and whether that is theirs here, too.

    An order holds where the paired difference exceeds its 95 % interval, and does not where it
    does so the other way round.
    """
    table = found.table
    lines = []
    for place, column in enumerate(table.columns):
        metric = METRICS[column.metric]
        known = [
            (value, row)
            for row in table.rows
            if (value := number_of(row.paper[place])) is not None
            and (row.key, column.condition, column.metric) in found.values
        ]
        known.sort(key=lambda item: item[0], reverse=not metric.lower)
        for (high, better), (low, worse) in pairwise(known):
            gap = difference(
                found,
                (better.key, column.condition, column.metric),
                (worse.key, column.condition, column.metric),
            )
            if gap is None or high == low:
                continue
            ahead = -gap.value if metric.lower else gap.value
            lines.append(
                {
                    "condition": _on(found, column.condition),
                    "metric": metric.title,
                    "better": better.name,
                    "worse": worse.name,
                    "paper": high - low,
                    "difference": gap.value,
                    "ci": gap.half_width,
                    "digits": metric.digits,
                    "verdict": _verdict(ahead, gap.half_width),
                }
            )
    return lines


def summary(content: Content, condition: str | None = None) -> Table:
    """As in the paper: ours, and the paper's number in brackets.

    Args:
        content: What `describe` returns.
        condition: Only the columns of this one.
    """
    places = [
        place
        for place, column in enumerate(content["columns"])
        if condition in (None, column["condition"])
    ]
    titles = {own["key"]: own["title"] for own in content["conditions"]}
    header = ["", *(_header(content["columns"][place], titles, condition) for place in places)]
    rows = [
        [row["name"], *(_text(row["cells"][place], content["columns"][place]) for place in places)]
        for row in content["rows"]
    ]
    title = heading(content) + ("" if condition is None else f", {titles[condition]}")
    return Table(title, header, rows, caption=caption(content))


def terminal_tables(content: Content) -> list[Table]:
    """The same, a table for each condition where one would be too wide."""
    if len(content["columns"]) <= WIDEST:
        return [summary(content)]
    keys = dict.fromkeys(column["condition"] for column in content["columns"])
    parts = [summary(content, key) for key in keys]
    return [*(replace(part, caption="") for part in parts[:-1]), parts[-1]]


def detail(content: Content) -> Table:
    """One line for each row and column that was measured, with intervals and differences."""
    titles = {own["key"]: own["title"] for own in content["conditions"]}
    names = {row["key"]: row["name"] for row in content["rows"]}
    other = names[content["reference"]]
    lines = []
    for place, column in enumerate(content["columns"]):
        for row in content["rows"]:
            cell = row["cells"][place]
            if cell["value"] is not None and not math.isnan(cell["value"]):
                lines.append(
                    [
                        f"{titles[column['condition']]} {column['title']}",
                        row["name"],
                        _with(cell["value"], cell["ci"], column["digits"]),
                        cell["paper"] or NOTHING,
                        _with(cell["minus"], cell["minus_ci"], column["digits"], signed=True),
                        str(cell["images"] or NOTHING),
                    ]
                )
    header = ("column", "method", "ours", "paper", f"minus {other}", "images")
    note = (
        "± is the half width of the 95 % interval over images, of verification over the folds of "
        "pairs; differences are paired over images, or over pairs as if these shared no faces, "
        "and those of all pairs over the folds, which share no people."
    )
    return Table(f"{heading(content)}, in detail", header, lines, caption=note)


def order_table(content: Content) -> Table:
    """The paper's orderings here."""
    lines = [
        [
            f"{line['better']} before {line['worse']}",
            f"{line['condition']} {line['metric']}",
            format(line["paper"], f"+.{line['digits']}f"),
            _with(line["difference"], line["ci"], line["digits"], signed=True),
            line["verdict"],
        ]
        for line in content["orderings"]
    ]
    header = ("order in the paper", "column", "the paper's difference", "ours", "")
    return Table("Orders", header, lines)


def heading(content: Content) -> str:
    """Title with the table's number."""
    kind = str(content["kind"]).capitalize()
    return f"{content['paper']}, {kind} {content['number']}: {content['title']}"


def caption(content: Content) -> str:
    """What one has to know: conventions, faces, budget."""
    parts = [f"Ours, and the paper's in brackets. Protocol {content['protocol']}."]
    if content["caption"]:
        parts.append(content["caption"])
    differing: dict[str, list[str]] = {}
    for own in content["conditions"]:
        if own.get("differs"):
            differing.setdefault(own["differs"], []).append(own["title"])
    parts += [f"{', '.join(titles)}: {differs}." for differs, titles in differing.items()]
    images = {own["images"] for own in content["conditions"] if own.get("images")}
    if images:
        parts.append(f"{max(images)} test images.")
    budget, changes = content["budget"], content["settings"].get("change") or ()
    if budget["each"] is not None:
        parts.append(
            f"Budget of all trainings: {budget['minutes']:g} minutes on "
            f"{content['machine']['device']}, {duration(budget['each'])} for each row; parts that "
            "rows share are trained once."
        )
        if any(word.partition("=")[0].endswith(".updates") for word in changes):
            parts.append("Trainings given a number of updates below have that length instead.")
    if grid := _grid(content["settings"]):
        parts.append(f"Agents that learn nothing choose among locations {grid}.")
    if changes:
        parts.append(
            f"Settings changed, in every row that has them and whose weights were not given: "
            f"{', '.join(changes)}."
        )
    if content["settings"].get("small"):
        parts.append("Small variants of the networks (--small): a trial of the command.")
    return " ".join(parts)


def markdown(content: Content) -> str:
    """The whole page of a table."""
    notes = "".join(f"- {note}\n" for note in content["notes"])
    text = f"# {heading(content)}\n\n{summary(content).markdown()}\n{notes}"
    if detail(content).rows:
        text += f"\n## In detail\n\n{detail(content).markdown()}"
    if content["orderings"]:
        text += f"\n## The paper's orders\n\n{order_table(content).markdown()}"
    return text


def stem(found: Found) -> str:
    """What the names of the results begin with."""
    config = found.config
    words = [found.table.name]
    words += [config.dataset] if config.dataset else []
    words += [f"x{config.scale}"] if config.scale else []
    words += grid_words(config.action_stride, config.action_offset)
    words += ["changed"] if config.change else []
    words += ["small"] if config.small else []
    return "-".join(words)


def write(found: Found, content: Content) -> list[Path]:
    """Writes JSON, Markdown and, of a figure, the drawing; returns their paths."""
    folder, name = found.config.out, stem(found)
    content = without_places(content)
    paths = [folder / f"{name}{suffix}" for suffix in (".json", ".md")]
    write_json(paths[0], content)
    write_text_atomic(paths[1], markdown(content))
    if found.table.figure is not None:
        paths += drawing.draw(found, folder / name)
    return paths


def _on(found: Found, condition: str) -> str:
    """What the paper calls some faces, and whose they are if they only stand in."""
    title, source = found.table.conditions[condition].title, found.sources[condition]
    return f"{title} (on {source.test.name})" if source.differs else title


def _verdict(ahead: float, half_width: float) -> str:
    if math.isnan(half_width) or abs(ahead) <= half_width:
        return OPEN
    return HOLDS if ahead > 0 else FAILS


def _condition(found: Found, key: str) -> dict[str, Any]:
    condition, source = found.table.conditions[key], found.sources.get(key)
    own: dict[str, Any] = {"key": key, "title": condition.title, "scale": condition.scale}
    if source is None:
        return {**own, "missing": found.missing.get(key, "nothing of it can be measured")}
    cells = [cell for (_, where, _), cell in found.cells.items() if where == key]
    return {
        **own,
        "test": {"dataset": source.test.name, **source.test.options},
        "train": {"dataset": source.train.name, **source.train.options},
        "differs": source.differs,
        "image_size": list(found.sizes[key]),
        "images": max((cell.images for cell in cells), default=0),
    }


def _cell(found: Found, row: str, column: Column, paper: str | None) -> dict[str, Any]:
    place = (row, column.condition, column.metric)
    cell = found.cells.get(place)
    reference = (found.table.reference, column.condition, column.metric)
    gap = None if place == reference else difference(found, place, reference)
    return {
        "value": None if cell is None else cell.value,
        "ci": None if cell is None else cell.half_width,
        "images": 0 if cell is None else cell.images,
        "paper": paper,
        "minus": None if gap is None else gap.value,
        "minus_ci": None if gap is None else gap.half_width,
        "reason": "" if cell is None else cell.reason,
    }


def _grid(settings: Content) -> str:
    """Where the locations of agents that learn nothing lie, if not at every pixel."""
    stride, offset = settings.get("action_stride", 1), settings.get("action_offset")
    if stride == 1:
        return ""
    where = "in the middle" if offset is None else f"at pixel {offset}"
    return f"{stride} pixels apart, {where} of their cells"


def _header(column: Content, titles: Mapping[str, str], condition: str | None) -> str:
    return column["title"] if condition else f"{titles[column['condition']]} {column['title']}"


def _text(cell: Content, column: Content) -> str:
    own = number(cell["value"], f".{column['digits']}f")
    if cell["paper"] is None:
        return own
    return f"({cell['paper']})" if own == NOTHING else f"{own} ({cell['paper']})"


def _with(value: float | None, half_width: float | None, digits: int, signed: bool = False) -> str:
    text = number(value, f"{'+' if signed else ''}.{digits + signed}f")
    interval = number(half_width, f".{digits + signed}f")
    return text if NOTHING in (text, interval) else f"{text} ± {interval}"
