"""The engine behind every table: who is compared, on which faces, and what comes out.

All rows of a condition restore the same images. Scores are kept batch by batch under the
fingerprints of the networks, trained weights under their settings, so that an interrupted table
goes on where it stood. What cannot be had, a dataset, weights or a metric, is named with how to get
it, and the rest of the table is made all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from facehall_env import data
from facehall_env.benchmarks import tables
from facehall_env.benchmarks.apps.datasets import without_fetching
from facehall_env.benchmarks.cache import Store, in_batches
from facehall_env.benchmarks.embeddings import TRUTH
from facehall_env.benchmarks.papers import layout
from facehall_env.benchmarks.papers.changes import changed
from facehall_env.benchmarks.papers.layout import Condition, Faces, PaperTable, Row, Source
from facehall_env.benchmarks.papers.metrics import JUDGES, METRICS, Score, Settings, make_scores
from facehall_env.benchmarks.papers.parts import Parts, Workshop, given, restorer
from facehall_env.benchmarks.papers.trainers import as_words, duration
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.quality.patch_selection import first_images
from facehall_env.benchmarks.quality.sr import Entry, SRBenchConfig
from facehall_env.benchmarks.scoring import Cache, Scoring, image_checksums, measure
from facehall_env.benchmarks.statistics import Estimate, mean_ci, student_t_quantile
from facehall_env.data import FaceDataset
from facehall_env.errors import ConfigurationError, DatasetError, FacehallError
from facehall_env.recognition import embed
from facehall_env.registry import parse_settings, unknown_name
from facehall_env.spec import BICUBIC, Setup
from facehall_env.training.run import versions

SMALL_LIMIT = 64
"""Faces that small variants are trained on: more only take time to read."""

Values = NDArray[np.float64]
"""(N,), one number for each image, or each pair of images in verification; NaN where there is
none."""


@dataclass
class PaperConfig:
    """Settings of ``facehall bench PAPER``."""

    table: str | None = None
    """Number of a table, as the paper counts."""
    figure: str | None = None
    """Number of a figure instead."""
    list_: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the tables and figures that there are."""
    dataset: str | None = None
    """Take these faces for everything, whatever the paper has; it may also be the name of one that
    is fetched. By default the paper's where they are here, or else what stands in for them."""
    dataset_settings: tuple[str, ...] = ()
    """Options of --dataset, NAME=VALUE, such as images_per_person=10 of the synthetic faces, which
    gives them identities."""
    scale: int | None = None
    """Only the columns of this scale."""
    weights: tuple[str, ...] = ()
    """Files instead of trained networks: ROW=PATH, ROW:PART=PATH, or ROW:PART@CONDITION=PATH, with
    the short names that stand in the table's file. *:PART=PATH is for every row that would train
    that part and has no file of its own."""
    change: tuple[str, ...] = ()
    """Other settings of networks and of their training, WHO.NAME=VALUE, such as sparnet.width=8 or
    sparnet.batch=4; WHO is a network or an entry of networks.toml. The results say so."""
    budget: float | None = None
    """Minutes of all trainings of the table together, of which every row gets the same; by default
    nothing is trained."""
    action_stride: int = 1
    """Spacing in pixels of the locations of agents that learn nothing; the others have their own,
    which --change changes."""
    action_offset: int | None = None
    """With --action-stride: on which row and column of its cell a patch is centred; the middle by
    default."""
    limit: int = 1000
    """Number of test images, the first ones of a fixed random order."""
    fsim_limit: int = 200
    """Number of images on which FSIM, which is slow, is taken."""
    pairs: int | None = None
    """Matched pairs of each fold that verification takes, and as many mismatched ones; by default a
    twentieth of --limit. LFW has ten folds of 300."""
    batch: int = 32
    """Images that are restored at once."""
    time_batch: int = 1
    """Faces that are restored at once when time is measured."""
    seconds: float = 0.5
    """Least length of one measurement of time."""
    repetitions: int = 5
    """Measurements of each time, in turns; medians are reported."""
    mobilefacenet: Path | None = None
    """Weights of MobileFaceNet, the recogniser of some columns beside dlib's."""
    lpips: tuple[Path, Path] | None = None
    """Weights of LPIPS: those of its network and of its linear layers; see docs/perceptual.md."""
    small: bool = False
    """Take small variants of the networks, to see whether a command works: no numbers to keep."""
    device: str = "cpu"
    """Where to compute."""
    train_limit: int = 10_000
    """Use at most so many faces to train on; they are read before the time begins."""
    seed: int = 0
    """Seed of the trainings and of random agents."""
    out: Path = Path("benchmarks/results")
    """Folder for the results: JSON, Markdown, figures, and the cache with the trained weights."""
    fresh: bool = False
    """Score everything again, whatever an earlier run has left; trained weights stay."""

    def check(self) -> None:
        """Checks what needs no table.

        Raises:
            ConfigurationError: If a number is too small, not one of table and figure is given, or
                there are options of no dataset.
        """
        for name in ("limit", "pairs", "batch", "time_batch", "repetitions", "train_limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                option = name.replace("_", "-")
                raise ConfigurationError(f"--{option} {value}: give 1 or more.")
        if self.mobilefacenet is not None and not self.mobilefacenet.is_file():
            raise ConfigurationError(
                f"--mobilefacenet {self.mobilefacenet}: there is no such file; give the weights of "
                "MobileFaceNet."
            )
        if self.action_stride < 1 or not 0 <= (self.action_offset or 0) < self.action_stride:
            raise ConfigurationError(
                f"--action-stride {self.action_stride} --action-offset {self.action_offset}: give "
                "a stride of 1 or more, and an offset from 0 to one less than that."
            )
        if self.budget is not None and not self.budget > 0:
            raise ConfigurationError(f"--budget {self.budget}: give a number of minutes above 0.")
        if self.dataset_settings and self.dataset is None:
            raise ConfigurationError(
                f"--dataset-settings {' '.join(self.dataset_settings)} are options of --dataset, "
                "which is not given: name it, or leave them out."
            )
        if (self.table is None) == (self.figure is None):
            raise ConfigurationError(
                "Give one of --table and --figure with its number; --list shows what there is."
            )

    def load(self, paper: str) -> PaperTable:
        """The table that was asked for."""
        kind: layout.Kind = "table" if self.figure is None else "figure"
        table = layout.load(paper, kind, str(self.table or self.figure), self.small)
        table = changed(table, self.change)
        return table if self.scale is None else _of_scale(table, self.scale)


@dataclass(frozen=True)
class Cell:
    """What was found for a row and a column.

    Attributes:
        value: Mean over the images, or the cost.
        half_width: Of its 95 % interval; NaN where there is none.
        images: Over how many images.
        reason: Why there is no value.
    """

    value: float = float("nan")
    half_width: float = float("nan")
    images: int = 0
    reason: str = ""


Place = tuple[str, str, str]
"""Row, condition and metric."""


@dataclass
class Found:
    """Everything that was found.

    Attributes:
        table: What was asked for.
        config: The settings.
        values: For each image, by row, condition and metric.
        cells: By row, condition and metric.
        sources: Where the faces of each condition came from; absent ones are missing.
        missing: Why, by condition.
        sizes: Height and width of the faces, by condition.
        origins: Where the parts of each row came from, by row and condition.
        maps: Mean squared error at each pixel (H, W), by row and condition, if asked for.
        shares: Of a row's time, in all trainings; those of parts that rows share count once.
        notes: What the user should know.
    """

    table: PaperTable
    config: PaperConfig
    values: dict[Place, Values] = field(default_factory=dict)
    cells: dict[Place, Cell] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    origins: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    maps: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    shares: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def minutes(self) -> float | None:
        """Of training for each row under each condition; None without a budget or a need."""
        if self.config.budget is None or not self.shares:
            return None
        # Rounded, since trained weights are found again by it.
        return round(self.config.budget / self.shares, 6)


def run(
    paper: str, config: PaperConfig, command: str = "", console: Console | None = None
) -> Found | None:
    """Makes a table or a figure, prints it and writes it.

    Args:
        paper: Short name of the paper.
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Returns:
        What was found; None after a list.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    from facehall_env.benchmarks.papers import pages

    console = console or tables.terminal()
    if config.list_:
        console.print(pages.contents(paper).rich())
        return None
    config.check()
    table = config.load(paper)
    found = evaluate(table, config, console)
    content = pages.describe(found, command)
    for part in pages.terminal_tables(content):
        console.print(part.rich())
    for note in found.notes:
        console.print(f"- {note}", soft_wrap=True, highlight=False, markup=False)
    tables.say_written(console, *pages.write(found, content))
    return found


def evaluate(table: PaperTable, config: PaperConfig, console: Console) -> Found:
    """Trains what has to be trained and has every row restore the same faces.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    found = Found(table, config)
    datasets = _datasets(found)
    workshop = Workshop(
        cache=config.out / ".cache" / "papers",
        common={
            "protocol": table.protocol,
            "device": config.device,
            "seed": config.seed,
            "limit": min(config.train_limit, SMALL_LIMIT) if config.small else config.train_limit,
        },
        minutes=None,
        given=given(config.weights, table),
        say=lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False),
    )
    waiting = {
        (row.key, key): Parts(row, table.conditions[key], found.sources[key], size, workshop)
        for key, size in found.sizes.items()
        for row in table.rows
        if row.kind in ("model", "agent")
    }
    costs_only = {key: _sources(table, key) <= {"cost", "none"} for key in table.conditions}
    shares: dict[str, float] = {}
    for (_, key), parts in waiting.items():
        shares |= {} if costs_only[key] else parts.trainings()
    found.shares = sum(shares.values())
    shop = replace(workshop, minutes=found.minutes)
    for parts in waiting.values():
        parts.workshop = shop
    if found.minutes is not None:
        shop.say(f"{config.budget:g} minutes of training: {duration(found.minutes)} for each row.")
    for key, dataset in datasets.items():
        _condition(found, table.conditions[key], dataset, waiting)
    found.notes += _reasons(found)
    return found


def difference(found: Found, place: Place, other: Place) -> Estimate | None:
    """Paired difference of a row to another over the images that both have; None without any."""
    if place not in found.values or other not in found.values:
        return None
    own, theirs = found.values[place], found.values[other]
    number = min(len(own), len(theirs))
    gap = own[:number] - theirs[:number]
    return estimate(gap) if np.isfinite(gap).any() else None


def estimate(values: Values) -> Estimate:
    """Mean and half width of the 95 % interval of what is finite."""
    return mean_ci(values[np.isfinite(values)])


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
        if all(METRICS[name].source == "none" for name in table.of(key)):
            continue
        sources = condition.sources
        if config.dataset is not None:
            faces = Faces(config.dataset, parse_settings(config.dataset_settings))
            differs = f"{config.dataset} instead of the paper's faces"
            sources = (Source(faces, faces, differs),)
        problems = []
        for source in sources:
            try:
                dataset = _here(source, config)
            except DatasetError as error:
                problems.append(str(error))
                continue
            break
        else:
            found.missing[key] = problems[0]
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


def _here(source: Source, config: PaperConfig) -> FaceDataset:
    """The test faces; those to train on have to be here, too, if anything is to be trained."""
    make = data.make if config.dataset is not None else without_fetching
    if config.budget is not None:
        make(source.train.name, split="train", **_options(source.train))
    return make(source.test.name, split="test", **_options(source.test))


def _options(faces: Faces) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in faces.options.items()}


def _sources(table: PaperTable, condition: str) -> set[str]:
    """Where the metrics under a condition come from."""
    return {METRICS[name].source for name in table.of(condition)}


def _condition(
    found: Found,
    condition: Condition,
    dataset: FaceDataset,
    waiting: Mapping[tuple[str, str], Parts],
) -> None:
    """All rows under one condition."""
    table, config, key = found.table, found.config, condition.key
    metrics = table.of(key)
    settings = _bench(found, condition)
    setup = sr.still_setup(settings, dataset=dataset)
    sources = _sources(table, key)
    looks = bool(sources & {"protocol", "faces"}) or _maps(table)
    images = first_images(setup, config.limit if looks else config.time_batch)
    scores, reasons = make_scores(metrics, Settings(config.lpips, config.device))
    for row in table.rows:
        for name in metrics:
            found.cells[row.key, key, name] = Cell(reason=reasons.get(name, ""))
    entries: dict[str, Entry] = {}
    for row in table.rows:
        parts = waiting.get((row.key, key))
        judged = [name for name in metrics if METRICS[name].source != "cost"]
        restores = row.kind not in ("truth", "paper-only")
        if not restores:
            _blame(found, row, key, row.why or "it is the truth itself", metrics)
        there = row.kind == "truth"
        if restores and not sources <= {"cost", "none"}:
            try:
                entry = _entry(settings, setup, row, parts)
                if looks:
                    _score(found, row, key, entry, setup, images, scores)
                entries[row.key], there = entry, True
            except FacehallError as error:
                _blame(found, row, key, str(error).rstrip("."), judged)
        if "pairs" in sources and there:
            _verify(found, row, condition, settings, parts)
        if "cost" in sources and restores and row.key not in entries:
            # What it costs does not depend on its training.
            entries[row.key] = _entry(settings, setup, row, parts, untrained=True)
        if parts is not None:
            found.origins[row.key, key] = dict(parts.origin)
    if "cost" in sources and entries:
        _costs(found, condition, settings, setup, entries, images)


def _bench(found: Found, condition: Condition) -> SRBenchConfig:
    """The settings of the benchmark of whole faces, whose rows all of these are."""
    config, table = found.config, found.table
    return SRBenchConfig(
        dataset=found.sources[condition.key].test.name,
        scale=condition.scale,
        protocol=table.protocol,
        models=(),
        action_stride=config.action_stride,
        action_offset=config.action_offset,
        limit=config.limit,
        fsim_limit=config.fsim_limit if "fsim" in table.of(condition.key) else 0,
        batch=config.batch,
        time_batch=config.time_batch,
        seconds=config.seconds,
        repetitions=config.repetitions,
        memory=False,
        seed=config.seed,
        device=config.device,
        out=config.out,
    )


def _rows(
    settings: SRBenchConfig, row: Row, parts: Parts | None, untrained: bool = False
) -> SRBenchConfig:
    """The settings with one row."""
    files = str if parts is None else parts.untrained if untrained else parts.file
    text, plays = restorer(files, row)
    models, played = ((), (text,)) if plays else ((text,), ())
    return replace(settings, steps=row.steps, models=models, agents=played)


def _entry(
    settings: SRBenchConfig, setup: Setup, row: Row, parts: Parts | None, untrained: bool = False
) -> Entry:
    (entry,) = sr.gather(_rows(settings, row, parts, untrained), setup)
    return replace(entry, contestant=replace(entry.contestant, name=row.key))


def _score(
    found: Found,
    row: Row,
    key: str,
    entry: Entry,
    setup: Setup,
    images: Tensor,
    scores: Mapping[str, Score],
) -> None:
    """Scores of a row for each image, under the protocol and by what looks at restored faces."""
    config = found.config
    scale = setup.core.scale
    fsim_limit = config.fsim_limit if "fsim" in found.table.of(key) else 0
    steps = (entry.contestant.core.num_steps,)
    scoring = Scoring(setup.protocol, scale, steps, fsim_limit, entry.batch)
    cache = Cache(config.out / ".cache", config.fresh)
    measured = measure(entry.contestant, images[: entry.limit], scoring, cache)
    values = {name: getattr(measured, name)[:, -1].numpy() for name in ("psnr", "ssim", "fsim")}
    if scores or _maps(found.table):
        further = _looked_at(found, entry, setup, images[: entry.limit], scores)
        if "error" in further:
            found.maps[row.key, key] = further.pop("error").mean(0)
        values |= {name: tensor.numpy() for name, tensor in further.items()}
    for name in found.table.of(key):
        if name in values and np.isfinite(values[name]).any():
            found.values[row.key, key, name] = values[name]
            mean = estimate(values[name])
            number = int(np.isfinite(values[name]).sum())
            found.cells[row.key, key, name] = Cell(mean.value, mean.half_width, number)


def _looked_at(
    found: Found, entry: Entry, setup: Setup, images: Tensor, scores: Mapping[str, Score]
) -> dict[str, Tensor]:
    """What looks at the restored faces, batch by batch, kept like the protocol's scores."""
    config = found.config
    contestant, protocol = entry.contestant, setup.protocol

    def compute(rows: slice) -> dict[str, Tensor]:
        faces = protocol.degrade(images[rows].to(setup.core.device), setup.core.scale)
        with torch.no_grad():
            restored = sr.restored(contestant, faces, rows.start).clamp(0, 1)
        results = {name: score(restored, faces.hr) for name, score in scores.items()}
        if _maps(found.table):
            results["error"] = (restored - faces.hr).square().mean(1).cpu()
        return results

    return in_batches(
        compute,
        image_checksums(images),
        entry.batch,
        Store(config.out / ".cache", config.fresh),
        f"{contestant.name}-{'-'.join(scores)}",
        {
            **contestant.identity(),
            "protocol": asdict(protocol),
            "scale": setup.core.scale,
            "batch": entry.batch,
            "scores": sorted(scores),
            "lpips": None if config.lpips is None else [str(path) for path in config.lpips],
            "maps": _maps(found.table),
            "versions": versions(),
        },
    )


def _maps(table: PaperTable) -> bool:
    return table.figure is not None and table.figure.maps


def _verify(
    found: Found, row: Row, condition: Condition, settings: SRBenchConfig, parts: Parts | None
) -> None:
    """What verification says; what does not allow it is noted."""
    judges = _judges(found, row, condition.key)
    try:
        if judges:
            _verified(found, row, condition, _rows(settings, row, parts), judges)
    except FacehallError as error:
        _blame(found, row, condition.key, str(error).rstrip("."), list(judges))


def _verified(
    found: Found,
    row: Row,
    condition: Condition,
    settings: SRBenchConfig,
    judges: Mapping[str, str],
) -> None:
    """The same, by the benchmark that measures it."""
    import io

    from facehall_env.benchmarks.quality import identity

    results = identity.run(
        identity.IdentityBenchConfig(
            dataset=settings.dataset,
            dataset_settings=as_words(found.sources[condition.key].test.options),
            scale=condition.scale,
            protocol=settings.protocol,
            models=settings.models,
            agents=settings.agents,
            recognisers=tuple(dict.fromkeys(judges.values())),
            steps=row.steps,
            action_stride=settings.action_stride,
            action_offset=settings.action_offset,
            limit=found.config.pairs or max(2, found.config.limit // 20),
            batch=settings.batch,
            seed=settings.seed,
            device=settings.device,
            out=found.config.out / ".cache" / "identity",
        ),
        console=Console(file=io.StringIO()),
    )
    name = {"start": BICUBIC, "truth": TRUTH}.get(row.kind, row.key)
    said = {
        result["recogniser"]: (result, right, alike, by_fold)
        for result, right, alike, by_fold in zip(
            results.rows, results.right, results.alike, results.by_fold, strict=True
        )
        if result["model"] == name
    }
    number = len(results.faces.images)
    wide = student_t_quantile(results.faces.pairs.folds - 1, 0.95)
    for metric in judges:
        result, right, alike, by_fold = said[JUDGES[metric]]
        place = (row.key, condition.key, metric)
        if metric == "cosine":
            found.values[place] = alike
            found.cells[place] = Cell(result["cosine"], result["cosine_ci"], number)
            continue
        every = metric == "accuracy-all"
        key = "accuracy_all" if every else "accuracy"
        if np.isnan(result[key]):
            reason = f"its folds' faces make more than {identity.MOST_PAIRS:,} pairs"
            _blame(found, row, condition.key, reason, [metric])
            continue
        found.values[place] = 100 * (by_fold if every else right.astype(np.float64))
        found.cells[place] = Cell(100 * result[key], 100 * wide * result[f"{key}_se"], number)


def _judges(found: Found, row: Row, key: str) -> dict[str, str]:
    """By the columns of verification their recogniser, as `facehall bench identity` wants it."""
    judges: dict[str, str] = {}
    for metric in found.table.of(key):
        if METRICS[metric].source != "pairs":
            continue
        name, weights = JUDGES[metric], found.config.mobilefacenet
        if name == embed.DLIB:
            judges[metric] = name
        elif weights is not None:
            judges[metric] = f"{name}={weights}"
        else:
            _blame(found, row, key, "it needs --mobilefacenet WEIGHTS", [metric])
    return judges


def _costs(
    found: Found,
    condition: Condition,
    settings: SRBenchConfig,
    setup: Setup,
    entries: Mapping[str, Entry],
    images: Tensor,
) -> None:
    """Parameters, operations and time, the latter of all rows in turns."""
    config, key = found.config, condition.key
    faces = setup.protocol.degrade(
        images[: config.time_batch].to(setup.core.device), setup.core.scale
    )
    costs = sr.measure_costs(settings, setup.protocol, entries, faces)
    reference = costs.get(found.table.reference)
    for name, entry in entries.items():
        ms = costs[name]["ms_per_face"]
        values = {
            "mparams": entry.parameters / 1e6,
            "gmacs": costs[name]["macs_per_face"] / 1e9,
            "ms": ms,
            "time-ratio": ms / reference["ms_per_face"] if reference else float("nan"),
        }
        for metric in found.table.of(key):
            if metric in values:
                found.cells[name, key, metric] = Cell(values[metric])


def _blame(found: Found, row: Row, key: str, reason: str, metrics: Sequence[str]) -> None:
    for name in metrics:
        found.cells[row.key, key, name] = Cell(reason=reason)


def _reasons(found: Found) -> list[str]:
    """Why cells are empty, each reason once."""
    table = found.table
    by_reason: dict[str, list[str]] = {}
    rows = {row.key: row for row in table.rows}
    for name in {column.metric for column in table.columns}:
        if METRICS[name].source == "none":
            by_reason[METRICS[name].why] = [METRICS[name].title]
    for (row, key, name), cell in found.cells.items():
        if not cell.reason or rows[row].kind == "paper-only" or METRICS[name].source == "none":
            continue
        # A metric that cannot be had is the same for all rows.
        everywhere = all(
            found.cells[other.key, key, name].reason == cell.reason
            for other in table.rows
            if other.kind != "paper-only"
        )
        of_metric = METRICS[name].make is not None or METRICS[name].source == "pairs"
        blamed = METRICS[name].title if everywhere and of_metric else rows[row].name
        names = by_reason.setdefault(cell.reason, [])
        if blamed not in names:
            names.append(blamed)
    only: dict[str, list[str]] = {}
    for absent in table.rows:
        if absent.kind == "paper-only":
            only.setdefault(absent.why, []).append(absent.name)
    lines = [f"{', '.join(names)}: {reason}." for reason, names in by_reason.items()]
    return lines + [
        f"{', '.join(names)}: the paper's numbers alone, {why}." for why, names in only.items()
    ]
