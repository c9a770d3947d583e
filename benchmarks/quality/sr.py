"""Networks that restore whole faces side by side: quality, size, time and memory.

All restore the same test images in the same order as the patch-selection benchmark, so that rows
of agents, which this table may have too, are comparable. What has been scored is kept batch by
batch; sizes and times are measured anew, the latter in turns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console

from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.cache import Cache
from facehall_env.benchmarks.provenance import Row
from facehall_env.benchmarks.quality import opening
from facehall_env.benchmarks.quality.settings import SRBenchConfig
from facehall_env.benchmarks.restorers import Conditions, Restorer, Spec, WholeFace, build
from facehall_env.benchmarks.scoring import Measurements, TestFaces, limit_of, score
from facehall_env.benchmarks.speed.peak_memory import START_METHOD, peak_memory
from facehall_env.benchmarks.speed.timing import milliseconds
from facehall_env.benchmarks.statistics import NONE, flat, mean_ci, paired_difference_ci
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.data import Protocol
from facehall_env.enhancers import OneShot
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress

NOTES = {
    "weights": "auto for those that come with the project, files, or none if untrained",
    "psnr": "in dB under the protocol",
    "psnr_ci": "half width of the 95 % interval over images; so are the other *_ci",
    "psnr_minus": "minus the row `relative_to`, paired over the images that both have",
    "fsim": "over `fsim_images` images",
    "parameters": "of the networks that restore and, of an agent, of its own",
    "macs_per_face": "multiply-accumulates of convolutions and matrix products; of an agent, of "
    "all its steps; Fourier transforms are not counted",
    "ms_per_face": "from the low resolution, up-sampling included where it is needed, in batches "
    "of `time_batch` with the threads named under machine; medians of measurements in turns",
    "time_ratio": "to the row `relative_to`",
    "peak_memory_mib": "most that a process of its own takes for the weights and `time_batch` "
    "faces",
    "images": "the first of the test split in a fixed random order",
}
"""What the columns of a results file mean."""


@dataclass(frozen=True)
class SRRow(Row):
    """What a restorer reached and what it costs; `NOTES` says what the fields mean."""

    model: str
    parameters: int
    images: int
    fsim_images: int
    macs_per_face: int
    ms_per_face: float
    time_ratio: float
    psnr: float
    psnr_ci: float
    ssim: float
    ssim_ci: float
    fsim: float
    fsim_ci: float
    psnr_minus: float
    psnr_minus_ci: float
    peak_memory_mib: float = math.nan
    weights: str | None = None


@dataclass(frozen=True)
class Cost:
    """What a face costs: multiply-accumulates, time, and most MiB, NaN if not measured."""

    macs: int
    milliseconds: float
    peak_memory: float = math.nan


@dataclass(frozen=True)
class Results:
    """Everything that was measured: the rows, the table made of them, and the scores by name."""

    rows: Sequence[SRRow]
    table: Table
    measured: Mapping[str, Measurements]


def run(config: SRBenchConfig, command: str = "", console: Console | None = None) -> Results:
    """Runs the benchmark, prints the table and writes the results.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Raises:
        FacehallError: If the settings, the data or the weights do not allow it.
    """
    dataset, restorers = opening.opened(config)
    names = [who.name for who in restorers]
    relative_to = config.relative_to or names[0]
    if relative_to not in names:
        raise ConfigurationError(
            f"--relative-to {relative_to!r} is none of the rows {', '.join(names)}: give one of "
            "them."
        )
    figured = _with_attention(restorers) if config.attention_figure else []
    faces = opening.open_faces(config, dataset)
    cache = Cache(config.out / ".cache", config.fresh)
    measured = {}
    for who in restorers:
        how = ((who.steps,), config.fsim_limit, config.batch, cache)
        measured[who.name] = score(who, faces, *how, limit=limit_of(who, config.limit))
    costs = measure_costs(restorers, faces, config)
    rows = [_row(who, measured, costs, relative_to) for who in restorers]
    table = _table(config, rows, relative_to)
    content = {
        "relative_to": relative_to,
        "notes": NOTES,
        "weights": {who.name: who.provenance for who in restorers},
        "rows": [row.to_json() for row in rows],
    }
    console = console or tables.terminal()
    console.print(table)
    written = opening.write("sr", config, config.words("sr"), command, content, table)
    for restorer, network in figured:
        word = re.sub(r"[^\w.-]+", "_", restorer.name)
        path = written[0].with_name(f"{written[0].stem}-attention-{word}.png")
        plots.save_attention(network, faces.rows(slice(config.figure_faces)), path)
        written.append(path)
    tables.say_written(console, *written)
    return Results(rows, table, measured)


def measure_costs(
    restorers: Sequence[Restorer], faces: TestFaces, config: SRBenchConfig
) -> dict[str, Cost]:
    """Multiplications, time and memory of each restorer, by its name.

    Args:
        restorers: The rows; memory is measured of those that `build` made.
        faces: The first ones are restored.
        config: How often and how long is measured.
    """
    given = faces.rows(slice(config.time_batch))
    runs = {who.name: partial(who.from_lr, given, faces.protocol) for who in restorers}
    number = len(runs) * (config.repetitions + config.memory)
    with progress(total=number, desc="time and memory") as bar:
        times = milliseconds(
            runs,
            len(given.hr),
            seconds=config.seconds,
            repetitions=config.repetitions,
            device=given.hr.device,
            advance=bar.update,
        )
        costs = {}
        for who in restorers:
            peak = None
            if config.memory and who.description is not None:
                work = (restored_once, *who.description, faces.protocol, config.time_batch)
                peak = peak_memory(START_METHOD, config.device, *work)
                bar.update()
            memory = math.nan if peak is None else peak
            costs[who.name] = Cost(who.macs(given), times[who.name], memory)
    return costs


@contextmanager
def restored_once(
    spec: Spec, place: Conditions, protocol: Protocol, number: int
) -> Iterator[list[int]]:
    """Builds a restorer and has it restore some degraded noise, for `peak_memory`."""
    (restorer,) = build([spec], place)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(number, 3, *place.image_size, generator=generator)
    faces = protocol.degrade(noise.to(place.device), place.scale)
    with torch.no_grad():
        restorer.from_lr(faces, protocol)
    yield []


def _with_attention(restorers: Sequence[Restorer]) -> list[tuple[Restorer, OneShot]]:
    """The restorers whose network can say where it looks."""
    found: list[tuple[Restorer, OneShot]] = [
        (who, who.network)
        for who in restorers
        if isinstance(who, WholeFace)
        and isinstance(who.network, OneShot)
        and hasattr(who.network.network, "attention_maps")
    ]
    if not found:
        raise ConfigurationError(
            "--attention-figure, but none of the rows is a network with attention maps: give one "
            "such as sparnet, or leave the option out."
        )
    return found


def _row(
    restorer: Restorer,
    measured: Mapping[str, Measurements],
    costs: Mapping[str, Cost],
    relative_to: str,
) -> SRRow:
    name = restorer.name
    own, other, cost = measured[name], measured[relative_to], costs[name]
    number = min(len(own), len(other))
    fsim = own.fsim[:, -1]
    fsim = fsim[~fsim.isnan()]
    estimates = {
        "psnr": mean_ci(own.psnr[:, -1]),
        "ssim": mean_ci(own.ssim[:, -1]),
        "fsim": mean_ci(fsim) if len(fsim) else NONE,
        "psnr_minus": NONE
        if name == relative_to
        else paired_difference_ci(own.psnr[:number, -1], other.psnr[:number, -1]),
    }
    return SRRow(
        model=name,
        weights=restorer.weights,
        parameters=restorer.parameters,
        images=len(own),
        fsim_images=len(fsim),
        macs_per_face=cost.macs,
        ms_per_face=cost.milliseconds,
        peak_memory_mib=cost.peak_memory,
        time_ratio=cost.milliseconds / costs[relative_to].milliseconds,
        **flat(estimates),
    )


def _table(config: SRBenchConfig, rows: Sequence[SRRow], relative_to: str) -> Table:
    images = max(row.images for row in rows)
    title = f"Whole faces: {config.faces_in_words}, {images} test images"
    caption = (
        "± is the half width of the 95 % interval over images; differences are paired. Time: "
        f"batches of {config.time_batch}, {torch.get_num_threads()} threads, measured in turns."
    )
    scored = max(row.fsim_images for row in rows)
    if 0 < scored < images:
        caption += f" FSIM on the first {scored} images."
    return Table(title, columns(rows, relative_to, images), caption=caption)


def columns(rows: Sequence[SRRow], other: str, images: int) -> list[Column]:
    """The columns of the table; rows are compared with ``other``, and say if they lack images."""
    names = [
        row.model
        + (f" (first {row.images})" if row.images < images else "")
        + ("" if row.weights else " (untrained)")
        for row in rows
    ]
    column = partial(Column.of, rows)
    return [
        Column("model", names),
        column("parameters", "parameters", ",", "lower"),
        Column("GMACs", [row.macs_per_face / 1e9 for row in rows], None, ".3f", "lower"),
        column("PSNR", "psnr", ".2f", "higher", "psnr_ci"),
        column(f"minus {other}", "psnr_minus", "+.3f", "higher", "psnr_minus_ci"),
        column("SSIM", "ssim", ".4f", "higher", "ssim_ci"),
        column("FSIM", "fsim", ".4f", "higher", "fsim_ci"),
        column("ms/face", "ms_per_face", ".1f", "lower"),
        column(f"time / {other}", "time_ratio", ".2f", "lower"),
        column("peak MiB", "peak_memory_mib", ".0f", "lower"),
    ]
