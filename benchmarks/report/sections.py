"""From results to the sections of the page: sentences, curves and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from facehall_env.benchmarks.embeddings import TRUTH
from facehall_env.benchmarks.plots import ORACLE
from facehall_env.benchmarks.provenance import Content
from facehall_env.benchmarks.quality import attributes, identity, sr
from facehall_env.benchmarks.report import selection
from facehall_env.benchmarks.report.contents import (
    Attributes,
    Identity,
    PaperResult,
    Settings,
    WholeFaces,
)
from facehall_env.benchmarks.report.layout import Block, Section, faces_of
from facehall_env.benchmarks.report.reading import Found
from facehall_env.benchmarks.speed.contents import (
    Environments,
    NetworkTime,
    TrainingMemory,
    UpdateProfile,
)
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.spec import BICUBIC

C = TypeVar("C", bound=Content)


def sections(found: Found) -> list[Section]:
    """What the page shows of all results, without sections that would be empty."""
    every = [
        selection.section(found),
        Section(
            "papers",
            "The papers’ tables",
            "Our numbers, with the papers’ in brackets. Faces, budgets and conventions differ, as "
            "each table says: compare rows with one another rather than ours with theirs.",
            _blocks(found, PaperResult, _paper),
        ),
        Section(
            "whole",
            "Networks that restore whole faces",
            "Restored at one go instead of patch by patch: quality, size, time and memory side by "
            "side.",
            _blocks(found, WholeFaces, _whole_faces),
        ),
        Section(
            "identity",
            "Is it still the same person?",
            "Recognisers are asked whether two restored faces are one person’s, and whose face a "
            "restored one is.",
            _blocks(found, Identity, _identity),
        ),
        Section(
            "attributes",
            "Does one still see who smiles?",
            "A classifier that was fitted to true faces tells the attributes of restored ones.",
            _blocks(found, Attributes, _attributes),
        ),
        Section(
            "speed",
            "Speed",
            "Ratios of one run are worth more than its numbers: these are of one machine.",
            [
                *_blocks(found, Environments, _environments),
                *_blocks(found, NetworkTime, _network_time),
                *_blocks(found, UpdateProfile, _update),
                *_blocks(found, TrainingMemory, _training_memory),
            ],
        ),
    ]
    return [section for section in every if section.blocks]


def _blocks(found: Found, kind: type[C], block: Callable[[C], Block]) -> list[Block]:
    return [block(result.content) for result in found.of(kind)]


def _paper(content: PaperResult) -> Block:
    short = f"{content.paper}, {content.kind} {content.number}"
    titles = {condition.key: condition.title for condition in content.conditions}
    cells = list(zip(*(row.cells for row in content.rows), strict=True))
    ours = [
        Column(
            f"{titles[column.condition]} {column.title}",
            [cell.value for cell in own],
            [cell.ci for cell in own],
            f".{column.digits}f",
            "lower" if column.lower else "higher",
            [cell.paper or "" for cell in own],
        )
        for column, own in zip(content.columns, cells, strict=True)
    ]
    paired = [
        Column(
            f"{titles[column.condition]} {column.title}",
            [cell.minus for cell in own],
            [cell.minus_ci for cell in own],
            f"+.{column.digits + 1}f",
        )
        for column, own in zip(content.columns, cells, strict=True)
    ]
    names = Column("method", [row.name for row in content.rows])
    reference = next(row.name for row in content.rows if row.key == content.reference)
    # Neither an agent that sees the truth nor the truth itself can be the best.
    aside = [n for n, row in enumerate(content.rows) if row.key in (ORACLE, TRUTH)]
    return Block(
        f"{short}: {content.title}",
        " ".join(_conventions(content)),
        [
            Table(
                f"{short}: ours (the paper’s)",
                [names, *ours],
                caption="± is the half width of the 95 % interval.",
                aside=aside,
            )
        ],
        [
            Table(
                f"{short}: differences from {reference}",
                [names, *paired],
                caption="Paired over the same images, with 95 % intervals.",
            ),
            *([_orders(content, short)] if content.orderings else []),
        ],
        notes=content.notes,
    )


def _orders(content: PaperResult, short: str) -> Table:
    """Whether rows that are neighbours in the paper's order stand in that order here, too."""
    lines = content.orderings
    return Table(
        f"{short}: the paper’s orders",
        [
            Column("order", [f"{line.better} before {line.worse}" for line in lines]),
            Column("column", [f"{line.condition} {line.metric}" for line in lines]),
            Column("the paper’s difference", [line.paper for line in lines], format="+.4g"),
            Column("ours", [i.difference for i in lines], [i.ci for i in lines], "+.4g"),
            Column("here it", [line.verdict for line in lines]),
        ],
    )


def _conventions(content: PaperResult) -> list[str]:
    """What one has to know to read a paper's table."""
    parts = [content.caption, f"Protocol {content.protocol}."]
    for condition in content.conditions:
        if condition.differs:
            parts.append(f"{condition.title}: {condition.differs}.")
        if condition.missing:
            parts.append(f"{condition.title} is not there: {condition.missing}.")
    images = max(cell.images for row in content.rows for cell in row.cells)
    if images:
        parts.append(f"{images:,} test images.")
    if content.budget.each >= 0:
        parts.append(
            f"Budget of all trainings: {content.budget.minutes:g} minutes, "
            f"{content.budget.each:.3g} for each row."
        )
    return [part for part in parts if part]


def _whole_faces(content: WholeFaces) -> Block:
    settings, rows = content.settings, content.rows
    images = max(row.images for row in rows)
    table = Table(
        f"Quality and cost: {_what(settings)}",
        sr.columns(rows, content.relative_to, images),
        caption=(
            "PSNR in dB; ± is the half width of the 95 % interval, differences are paired. Time "
            f"and memory in batches of {settings.time_batch}, measured in turns; {BICUBIC} does "
            "not compete."
        ),
        aside=_places([row.model for row in rows], BICUBIC),
    )
    return Block(
        f"{_what(settings)}, protocol {settings.protocol}",
        f"{images:,} test images ({faces_of(settings.dataset)}).",
        [table],
    )


def _identity(content: Identity) -> Block:
    settings, pairs, rows = content.settings, content.pairs, content.rows
    table = Table(
        f"Identity: {_what(settings)}",
        identity.columns(rows, any(row.landmarks_not_found is not None for row in rows)),
        caption="± of the accuracies is their standard error over the folds, of the others the "
        "half width of the 95 % interval. The truth does not compete.",
        keys=2,
        aside=_places([row.model for row in rows], TRUTH),
    )
    return Block(
        f"{_what(settings)}, protocol {settings.protocol}",
        f"{pairs.number:,} {pairs.source} pairs, {pairs.images:,} images of {pairs.people:,} "
        "people.",
        [table],
    )


def _attributes(content: Attributes) -> Block:
    settings, rows = content.settings, content.rows
    judge = settings.recogniser.partition("=")[0]
    what = f"{_what(settings)}, {judge}"

    def column(title: str, name: str, form: str) -> Column:
        values = [getattr(row, name) for row in rows]
        return Column(title, values, [getattr(row, f"{name}_ci") for row in rows], form, "higher")

    table = Table(
        f"Attributes: {what}",
        [
            Column("network", [row.model for row in rows]),
            column("balanced accuracy", "balanced_accuracy", ".1%"),
            column(f"minus {BICUBIC}", "minus_bicubic", "+.2%"),
            column("PSNR", "psnr", ".2f"),
        ],
        caption="The mean of the shares of those with and of those without an attribute that are "
        "told rightly, half being chance, over all attributes; with 95 % intervals over images, "
        "differences paired. The truth does not compete.",
        aside=_places([row.model for row in rows], TRUTH),
    )
    each = Table(
        f"Each attribute: {what}",
        attributes.columns(rows, content.share),
        [3],
        "Balanced accuracy, with 95 % intervals: too narrow where few have it, or few do not.",
    )
    return Block(
        f"{_what(settings)}, protocol {settings.protocol}",
        f"{rows[0].images:,} test images, {len(rows[0].attributes)} attributes, told from what "
        f"{judge} sees.",
        [table],
        [each],
    )


def _environments(content: Environments) -> Block:
    machine, rows = content.machine, content.vector_env
    # Many at once are what the batched environment is for; the rest is there for those who ask.
    many = max(row.num_envs for row in rows)
    first = tuple(r for r in rows if (r.num_envs, r.precision) == (many, rows[0].precision))
    every, networks = content.tables
    shown = replace(content, vector_env=first).tables[0]
    return Block(
        "Environments and networks",
        f"Measured in turns on {machine.device} with {machine.threads} threads.",
        [replace(shown, title=f"{every.title}, {many} at once"), networks],
        [every] if len(first) < len(rows) else [],
    )


def _network_time(content: NetworkTime) -> Block:
    return Block(
        "A network beside its convolutions",
        "Norms, activations and padding take the time that the convolutions do not.",
        content.tables,
    )


def _update(content: UpdateProfile) -> Block:
    settings = content.settings
    return Block(
        "Where the time of an update goes",
        f"One REINFORCE update of {settings.batch} faces with {settings.steps} patches each "
        f"({settings.enhancer}) takes {content.seconds_per_update:.1f} s.",
        content.tables,
    )


def _training_memory(content: TrainingMemory) -> Block:
    return Block(
        "Gradient checkpointing",
        "Features that are computed again in the backward pass cost time and save memory.",
        content.tables,
    )


def _what(settings: Settings) -> str:
    return f"{settings.dataset}, {settings.scale}×"


def _places(names: Sequence[str], aside: str) -> list[int]:
    """Numbers of the rows with a name."""
    return [place for place, name in enumerate(names) if name == aside]
