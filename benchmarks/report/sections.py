"""From results to the sections of the page: sentences, curves and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from facehall_env.benchmarks.embeddings import TRUTH
from facehall_env.benchmarks.papers import pages
from facehall_env.benchmarks.papers.results import PaperResult
from facehall_env.benchmarks.quality import attributes, identity, sr
from facehall_env.benchmarks.report import selection
from facehall_env.benchmarks.report.contents import Attributes, Identity, Settings, WholeFaces
from facehall_env.benchmarks.report.layout import Block, Section, faces_of
from facehall_env.benchmarks.report.reading import C, Found
from facehall_env.benchmarks.speed.contents import (
    Environments,
    NetworkTime,
    TrainingMemory,
    UpdateProfile,
)
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.spec import BICUBIC


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
            "They restore the face in one step instead of patch by patch: quality, size, time and "
            "memory side by side.",
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
            "Can one still see who smiles?",
            "A classifier that was trained on true faces predicts the attributes of restored ones.",
            _blocks(found, Attributes, _attributes),
        ),
        Section(
            "speed",
            "Speed",
            "All times are of one machine: compare those of one run with each other.",
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
    name = f"{content.paper}, {content.kind} {content.number}"
    detail = replace(pages.detail(content), keys=2)
    orders = replace(pages.order_table(content), title=f"{name}: the paper’s orders", keys=2)
    table = pages.summary(content, intervals=True)
    names, *values = table.columns
    shown = replace(
        table,
        title=f"{name}: ours (the paper’s)",
        columns=[replace(names, title="method"), *values],
        caption="± is the half width of the 95 % interval.",
    )
    return Block(
        content.heading,
        pages.caption(content),
        [shown],
        [own for own in (detail, orders) if own.rows],
        notes=content.notes,
        settings=content.differences_in_words,
    )


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
        caption="Balanced accuracy: mean of the accuracy on faces with and on faces without an "
        "attribute, over all attributes; 50 % is chance. ± is the half width of the 95 % interval "
        "over images, differences are paired. The truth does not compete.",
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
        f"{rows[0].images:,} test images, {len(rows[0].attributes)} attributes, predicted "
        f"from the embeddings of {judge}.",
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
        "The rest of the time goes into normalisation, activations and padding.",
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
