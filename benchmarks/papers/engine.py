"""The engine behind every table: who is compared, on which faces, and what comes out.

All rows of a condition restore the same images, which are degraded once. Scores are kept batch by
batch under the fingerprints of the networks, trained weights under their settings, so that an
interrupted table goes on where it stood. What cannot be had, a dataset, weights or a metric, is
named with how to get it, and the rest of the table is made all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from torch import Tensor

from facehall_env import data
from facehall_env.benchmarks import tables as shown
from facehall_env.benchmarks.cache import Advance, Cache
from facehall_env.benchmarks.papers import experiment, pages, results
from facehall_env.benchmarks.papers.experiment import Experiment
from facehall_env.benchmarks.papers.found import Cell, Found
from facehall_env.benchmarks.papers.metrics import METRICS, Score, Settings, make_scores
from facehall_env.benchmarks.papers.pairs import verify
from facehall_env.benchmarks.papers.settings import PaperConfig
from facehall_env.benchmarks.papers.tables import Condition, Faces, PaperTable, Row, Source
from facehall_env.benchmarks.papers.trainers import duration
from facehall_env.benchmarks.papers.weights import Parts, Workshop, given
from facehall_env.benchmarks.provenance import output_folder
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.quality.settings import SRBenchConfig
from facehall_env.benchmarks.restorers import Conditions, Restorer, WholeFace, build
from facehall_env.benchmarks.scoring import TestFaces, first_images, limit_of, score
from facehall_env.data import FaceDataset
from facehall_env.errors import DatasetError, FacehallError
from facehall_env.registry import parse_settings, unknown_name

SMALL_LIMIT = 64
"""Faces that small variants are trained on: more only take time to read."""

Say = Callable[[str], None]


def run(config: PaperConfig, command: str = "", console: Console | None = None) -> Found | None:
    """Makes a table or a figure, prints it and writes it.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Returns:
        What was found; None after a list.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    console = console or shown.terminal()
    if config.list:
        console.print(pages.contents())
        return None
    config.check()
    folder = output_folder(config.out, config.publish)
    asked = experiment.load(config.experiment, config.set, config.small)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    found = evaluate(asked, config, say)
    result = results.describe(found, command)
    console.print(pages.summary(result))
    for note in (*result.differences_in_words, *found.notes):
        say(f"- {note}")
    shown.say_written(console, *pages.write(found, result, folder))
    return found


def evaluate(asked: Experiment, config: PaperConfig, say: Say) -> Found:
    """Trains what has to be trained and has every row restore the same faces.

    Args:
        asked: The experiment.
        config: Further settings: given weights, other faces, device, where the cache is.
        say: Tells the user what is going on.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    table = asked.ours if config.scale is None else _of_scale(asked.ours, config.scale)
    found = Found(asked, table, config)
    datasets = _datasets(found)
    limit = table.measuring.train_limit
    workshop = Workshop(
        cache=config.out / ".cache" / "papers",
        common={
            "protocol": table.protocol,
            "device": config.device,
            "limit": min(limit, SMALL_LIMIT) if config.small else limit,
        },
        measuring=table.measuring,
        given=given(config.weights, table),
        say=say,
    )
    waiting = {
        (row.key, key): Parts(row, table.conditions[key], found.sources[key], size, workshop)
        for key, size in found.sizes.items()
        for row in table.rows
        if row.kind in ("model", "agent")
    }
    shares: dict[str, float] = {}
    for (_, key), parts in waiting.items():
        shares |= {} if _sources(table, key) <= {"cost", "none"} else parts.trainings()
    found.shares = sum(shares.values())
    if (minutes := found.minutes) is not None:
        each = duration(table.measuring.minutes or 0)
        say(f"{duration(minutes)} of training: {each} for each row.")
    for key, dataset in datasets.items():
        _condition(found, table.conditions[key], dataset, waiting)
    found.notes += found.reasons()
    return found


def _sources(table: PaperTable, condition: str) -> set[str]:
    """Where the metrics under a condition come from."""
    return {METRICS[name].source for name in table.of(condition)}


def _of_scale(table: PaperTable, scale: int) -> PaperTable:
    """The columns of one scale."""
    scales = {key: condition.scale for key, condition in table.conditions.items()}
    if scale not in scales.values():
        raise unknown_name("scale", str(scale), sorted({str(s) for s in scales.values()}))
    chosen = [n for n, column in enumerate(table.columns) if scales[column.condition] == scale]
    return replace(
        table,
        columns=tuple(table.columns[n] for n in chosen),
        conditions={k: c for k, c in table.conditions.items() if c.scale == scale},
        rows=tuple(replace(row, paper=tuple(row.paper[n] for n in chosen)) for row in table.rows),
    )


def _datasets(found: Found) -> dict[str, FaceDataset]:
    """The faces of each condition; names those that are missing, and says what stands in."""
    table, config = found.table, found.config
    datasets: dict[str, FaceDataset] = {}
    seen: dict[tuple[str, int], str] = {}
    for key, condition in table.conditions.items():
        if _sources(table, key) <= {"none"}:
            continue
        sources = condition.sources
        if config.dataset is not None:
            faces = Faces(config.dataset, parse_settings(config.dataset_settings))
            differs = f"{config.dataset} instead of the paper's faces"
            sources = (Source(faces, faces, differs),)
        problem = ""
        for source in sources:
            try:
                dataset = _here(source, found)
            except DatasetError as error:
                problem = problem or str(error)
            else:
                break
        else:
            found.missing[key] = problem
            continue
        what = (repr(source), condition.scale)
        if source.differs and what in seen:
            found.missing[key] = f"The same faces and scale as {seen[what]}."
            continue
        seen[what] = condition.title
        datasets[key], found.sources[key] = dataset, source
        found.sizes[key] = dataset.image_size
    for problem in dict.fromkeys(found.missing.values()):
        titles = [
            table.conditions[key].title for key, why in found.missing.items() if why == problem
        ]
        found.notes.append(f"Left out: {', '.join(titles)}. {problem}")
    return datasets


def _here(source: Source, found: Found) -> FaceDataset:
    """The test faces; those to train on have to be here, too, if anything is to be trained."""
    asked_for = found.config.dataset is not None
    if not asked_for and source.test.name == "lfw" and data.lfw.find() is None:
        raise DatasetError(
            "LFW is not on this machine: give --dataset lfw, and the first use fetches 232 MiB, or "
            "set FACEHALL_DATA to where it is."
        )
    if found.table.measuring.minutes is not None:
        data.make(source.train.name, split="train", **source.train.keywords)
    return data.make(source.test.name, split="test", **source.test.keywords)


def _condition(
    found: Found,
    condition: Condition,
    dataset: FaceDataset,
    waiting: Mapping[tuple[str, str], Parts],
) -> None:
    """All rows under one condition."""
    table, config, key = found.table, found.config, condition.key
    metrics, sources = table.of(key), _sources(table, key)
    scores, reasons = make_scores(metrics, Settings(table.measuring.lpips, config.device))
    for row in table.rows:
        for name in metrics:
            found.cells[row.key, key, name] = Cell(reason=reasons.get(name, ""))
        if row.kind in ("truth", "paper-only"):
            truth = row.kind == "truth"
            found.blame(row, key, "it is the truth itself" if truth else row.why, metrics)
    looks = bool(sources & {"protocol", "faces"}) or _maps(table)
    number = table.measuring.limit if looks else table.measuring.time_batch
    protocol = data.protocols.get(table.protocol)
    faces = TestFaces(
        first_images(dataset, number), protocol, condition.scale, device=config.device
    )
    place = Conditions(
        dataset.image_size, condition.scale, found.sources[key].test.name, config.device
    )
    restorers: dict[str, Restorer] = {}
    for row in table.rows:
        if row.kind in ("truth", "paper-only"):
            continue
        parts = waiting.get((row.key, key))
        try:
            # What a network costs does not depend on its training.
            untrained = sources <= {"cost", "none"}
            restorers[row.key] = own = _restorer(row, parts, place, untrained=untrained)
            if looks:
                _score(found, row, key, own, faces, scores)
        except FacehallError as error:
            judged = [name for name in metrics if METRICS[name].source != "cost"]
            found.blame(row, key, str(error), judged)
        if parts is not None:
            found.origins[row.key, key] = dict(parts.origin)
    if "pairs" in sources:
        verify(found, condition, dataset, restorers)
    if "cost" in sources:
        for row in table.rows:
            if row.kind not in ("truth", "paper-only") and row.key not in restorers:
                parts = waiting.get((row.key, key))
                restorers[row.key] = _restorer(row, parts, place, untrained=True)
        _costs(found, condition, restorers, faces)


def _restorer(row: Row, parts: Parts | None, place: Conditions, *, untrained: bool) -> Restorer:
    if parts is None:
        return WholeFace(row.key, None, place.device)
    if untrained:
        return parts.untrained()
    (restorer,) = build([parts.specification()], place)
    return restorer


def _score(
    found: Found,
    row: Row,
    key: str,
    restorer: Restorer,
    faces: TestFaces,
    scores: Mapping[str, Score],
) -> None:
    """Scores of a row for each image, under the protocol and by what looks at restored faces."""
    config, measuring = found.config, found.table.measuring
    fsim_limit = measuring.fsim_limit if "fsim" in found.table.of(key) else 0
    cache = Cache(config.out / ".cache", config.fresh)
    limit = limit_of(restorer, measuring.limit)
    how = ((restorer.steps,), fsim_limit, measuring.batch, cache)
    measured = score(restorer, faces, *how, limit=limit)
    values = {name: getattr(measured, name)[:, -1] for name in ("psnr", "ssim", "fsim")}
    if scores or _maps(found.table):
        values |= _looked_at(found, restorer, faces, limit, scores)
        if "error" in values:
            found.maps[row.key, key] = values.pop("error").mean(0)
    for name in found.table.of(key):
        if name in values:
            found.take((row.key, key, name), values[name].numpy())


def _looked_at(
    found: Found, restorer: Restorer, faces: TestFaces, limit: int, scores: Mapping[str, Score]
) -> dict[str, Tensor]:
    """What looks at the restored faces, batch by batch, kept like the protocol's scores."""
    config, measuring = found.config, found.table.measuring
    maps = _maps(found.table)
    batch = min(measuring.batch, restorer.most_at_once or measuring.batch)

    def compute(rows: slice, advance: Advance) -> dict[str, Tensor]:
        own = faces.rows(rows)
        restored = restorer.restore(own, rows.start).clamp(0, 1)
        tensors = {name: looks(restored, own.hr) for name, looks in scores.items()}
        if maps:
            tensors["error"] = (restored - own.hr).square().mean(1).cpu()
        return tensors

    settings: dict[str, Any] = {
        "restorer": restorer.fingerprint,
        "protocol": asdict(faces.protocol),
        "scale": faces.scale,
        "batch": batch,
        "scores": sorted(scores),
        "lpips": list(measuring.lpips or ()),
        "maps": maps,
    }
    return Cache(config.out / ".cache", config.fresh).rows(
        compute,
        faces.checksums[:limit],
        name="-".join((restorer.name, *scores)),
        settings=None if restorer.fingerprint is None else settings,
        batch=batch,
    )


def _maps(table: PaperTable) -> bool:
    return table.figure is not None and table.figure.maps


def _costs(
    found: Found, condition: Condition, restorers: Mapping[str, Restorer], faces: TestFaces
) -> None:
    """Parameters, operations and time, the latter of all rows in turns."""
    own, key = found.table.measuring, condition.key
    config = SRBenchConfig(
        time_batch=own.time_batch,
        seconds=own.seconds,
        repetitions=own.repetitions,
        memory=False,
        device=found.config.device,
    )
    costs = sr.measure_costs(list(restorers.values()), faces, config)
    reference = costs.get(found.table.reference)
    for name, restorer in restorers.items():
        ms = costs[name].milliseconds
        values = {
            "mparams": restorer.parameters / 1e6,
            "gmacs": costs[name].macs / 1e9,
            "ms": ms,
            "time-ratio": ms / reference.milliseconds if reference else float("nan"),
        }
        for metric in found.table.of(key):
            if metric in values:
                found.cells[name, key, metric] = Cell(values[metric])
