"""A table's results as tables of text, and as a page of Markdown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from facehall_env.benchmarks.embeddings import TRUTH
from facehall_env.benchmarks.papers import drawing, experiment
from facehall_env.benchmarks.papers.found import Found
from facehall_env.benchmarks.papers.results import PaperResult
from facehall_env.benchmarks.papers.trainers import duration
from facehall_env.benchmarks.plots import ORACLE
from facehall_env.benchmarks.provenance import without_places, write_json
from facehall_env.benchmarks.tables import NOTHING, Column, Table, cell
from facehall_env.files import write_text_atomic

DIFFERENCES = "Settings that are not known to be the paper's, ours first (the paper's in brackets)"


def contents() -> Table:
    """The experiments."""
    names = experiment.available()
    titles = [experiment.load(name).papers.title for name in names]
    return Table(
        "Experiments of facehall bench paper", [Column("name", names), Column("what", titles)]
    )


def summary(result: PaperResult, intervals: bool = False) -> Table:
    """As in the paper: ours, with the half widths of 95 % intervals if asked for, and the paper's.

    The paper's numbers stand in brackets.
    """
    titles = {own.key: own.title for own in result.conditions}
    columns = [Column("", [row.name for row in result.rows])]
    for place, own in enumerate(result.columns):
        cells = [row.cells[place] for row in result.rows]
        columns.append(
            Column(
                f"{titles[own.condition]} {own.title}",
                [each.value for each in cells],
                [each.ci for each in cells] if intervals else None,
                f".{own.digits}f",
                "lower" if own.lower else "higher",
                [each.paper or "" for each in cells],
            )
        )
    # Neither an agent that sees the truth nor the truth itself can be the best.
    aside = [n for n, row in enumerate(result.rows) if row.key in (ORACLE, TRUTH)]
    return Table(result.heading, columns, caption=caption(result), aside=aside)


def detail(result: PaperResult) -> Table:
    """One line for each row and column that was measured, with intervals and differences."""
    titles = {own.key: own.title for own in result.conditions}
    names = {row.key: row.name for row in result.rows}
    lines = [
        (
            f"{titles[own.condition]} {own.title}",
            row.name,
            cell(found.value, f".{own.digits}f", found.ci),
            found.paper or NOTHING,
            cell(found.minus, f"+.{own.digits + 1}f", found.minus_ci),
            str(found.images or NOTHING),
        )
        for place, own in enumerate(result.columns)
        for row in result.rows
        if (found := row.cells[place]).value is not None and found.value == found.value
    ]
    other = f"minus {names[result.reference]}"
    header = ("column", "method", "ours", "paper", other, "images")
    note = (
        "± is the half width of the 95 % interval over images, of verification over the folds of "
        "pairs; differences are paired over images, or over pairs as if these shared no faces, "
        "and those of all pairs over the folds, which share no people."
    )
    return Table.of_text(f"{result.heading}, in detail", header, lines, caption=note)


def order_table(result: PaperResult) -> Table:
    """The paper's orderings here."""
    lines = [
        [
            f"{line.better} before {line.worse}",
            f"{line.condition} {line.metric}",
            format(line.paper, f"+.{line.digits}f"),
            cell(line.difference, f"+.{line.digits + 1}f", line.ci),
            line.verdict,
        ]
        for line in result.orderings
    ]
    header = ("order in the paper", "column", "the paper's difference", "ours", "")
    return Table.of_text("Orders", header, lines)


def caption(result: PaperResult) -> str:
    """What one has to know: conventions, faces, time of the trainings."""
    parts = [f"Ours, and the paper's in brackets. Protocol {result.protocol}."]
    parts += [result.caption] if result.caption else []
    differing: dict[str, list[str]] = {}
    for own in result.conditions:
        if own.differs:
            differing.setdefault(own.differs, []).append(own.title)
    parts += [f"{', '.join(titles)}: {differs}." for differs, titles in differing.items()]
    if images := {own.images for own in result.conditions if own.images}:
        parts.append(f"{max(images)} test images.")
    budget = result.budget
    if budget.each is not None and budget.minutes is not None:
        parts.append(
            f"All trainings: {budget.minutes:g} minutes on {result.machine['device']}, "
            f"{duration(budget.each)} for each row; parts that rows share are trained once."
        )
    if result.settings.get("small"):
        parts.append("Small variants of the networks (--small): a trial of the command.")
    return " ".join(parts)


def differences(result: PaperResult) -> str:
    """A line for each group of networks that differ from the paper in the same settings."""
    return "".join(f"- {line}\n" for line in result.differences_in_words)


def markdown(result: PaperResult) -> str:
    """The whole page of a table."""
    notes = "".join(f"- {note}\n" for note in result.notes)
    text = f"# {result.heading}\n\n{summary(result).markdown()}\n{notes}"
    if result.differences:
        text += f"\n{DIFFERENCES}:\n\n{differences(result)}"
    if detail(result).rows:
        text += f"\n## In detail\n\n{detail(result).markdown()}"
    if result.orderings:
        text += f"\n## The paper's orders\n\n{order_table(result).markdown()}"
    return text


def stem(found: Found) -> str:
    """What the names of the results begin with: the experiment's, if it was made as it stands."""
    config, asked = found.config, found.experiment
    changes = [*config.set, *config.weights, *config.dataset_settings]
    words = (
        asked.name,
        config.dataset,
        config.scale and f"x{config.scale}",
        config.small and "small",
        changes and hashlib.sha256(json.dumps(changes).encode()).hexdigest()[:8],
    )
    return "-".join(str(word) for word in words if word)


def write(found: Found, result: PaperResult, folder: Path) -> list[Path]:
    """Writes JSON, Markdown and, of a figure, the drawing; returns their paths."""
    name = stem(found)
    paths = [folder / f"{name}{suffix}" for suffix in (".json", ".md")]
    write_json(paths[0], result.to_json())
    write_text_atomic(paths[1], without_places(markdown(result)))
    if found.table.figure is not None:
        paths += drawing.draw(found, folder / name)
    return paths
