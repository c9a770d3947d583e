"""Networks that restore whole faces side by side: quality, size, time and memory.

All restore the same test images in the same order as the patch-selection benchmark, so that rows
of agents, which this table may have too, are comparable. What has been scored is kept batch by
batch; sizes and times are measured anew, the latter in turns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from tqdm.auto import tqdm

from facehall_env import enhancers
from facehall_env.agents import AGENTS, rollout
from facehall_env.benchmarks import plots, restoring, tables
from facehall_env.benchmarks.players import LEARNED, gather_players
from facehall_env.benchmarks.provenance import header
from facehall_env.benchmarks.quality.patch_selection import PatchSelectionConfig, first_images
from facehall_env.benchmarks.quality.patch_selection_table import NONE
from facehall_env.benchmarks.restoring import RestoringConfig, write_results
from facehall_env.benchmarks.scoring import Cache, Contestant, Measurements, Scoring, measure
from facehall_env.benchmarks.speed.complexity import milliseconds, multiply_accumulates
from facehall_env.benchmarks.speed.peak_memory import peak_memory
from facehall_env.benchmarks.speed.throughput import START_METHOD
from facehall_env.benchmarks.statistics import mean_ci, paired_difference_ci
from facehall_env.benchmarks.tables import Table
from facehall_env.data import FaceDataset, Faces, Protocol
from facehall_env.data.resize import resize
from facehall_env.enhancers import Enhancer, OneShot, parameter_count
from facehall_env.enhancers.base import restore_whole
from facehall_env.errors import ConfigurationError
from facehall_env.spec import BICUBIC, Setup, build_core

UNTRAINED = "None"
NOT_IN_THE_NUMBERS = restoring.NOT_IN_THE_NUMBERS | {"faces", "attention_figure"}

NOTES = {
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


@dataclass
class SRBenchConfig(RestoringConfig):
    """Settings of ``facehall bench sr``."""

    relative_to: str | None = None
    """The row that differences and time ratios are to; the first one by default."""
    limit: int = 1000
    """Number of test images, the first ones of a fixed random order."""
    fsim_limit: int = 200
    """Number of images on which FSIM, which is slow, is taken."""
    time_batch: int = 1
    """Faces that are restored at once when time and memory are measured."""
    seconds: float = 0.5
    """Least length of one measurement of time; 0 restores one batch."""
    repetitions: int = 5
    """Measurements of each time, in turns; medians are reported."""
    memory: bool = True
    """Measure the peak memory, of each row in a process of its own."""
    attention_figure: bool = False
    """Draw the attention maps of the networks that have them."""
    faces: int = 3
    """Number of faces in the figure of attention maps."""

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            ConfigurationError: If a number is too small or there are no rows.
        """
        self.check_counts("steps", "limit", "batch", "time_batch", "repetitions", "faces")
        if not self.models and not self.agents:
            raise ConfigurationError("--models and --agents are empty: give at least one row.")

    @property
    def stem(self) -> str:
        """What the names of the results begin with."""
        return self.stem_of("sr")


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        contestant: What is scored.
        weights: Where the weights come from: "auto", the names of files, or None if untrained.
        restore: From faces to whatever it makes of them; what is counted and timed.
        upsampled: Whether it needs the up-sampled face, whose making is then part of its time.
        limit: On how many images it is scored.
        batch: On how many of them at once.
    """

    contestant: Contestant
    weights: str | None
    restore: Callable[[Faces], object]
    upsampled: bool
    limit: int
    batch: int

    @property
    def name(self) -> str:
        """Of the row."""
        return self.contestant.name

    @property
    def parameters(self) -> int:
        """Of all networks that take part."""
        core, make_agent = self.contestant.core, self.contestant.make_agent
        agent = [] if make_agent is None else list(vars(make_agent(0)).values())
        parts = [core.enhancer, core.initial, *agent]
        return sum(parameter_count(part) for part in parts if isinstance(part, nn.Module))

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of the weights that restore, of an agent those that it starts from."""
        core = self.contestant.core
        return (core.initial or core.enhancer).provenance

    def from_lr(self, faces: Faces, protocol: Protocol) -> object:
        """Restores faces, of which ``initial`` is made anew if it is needed."""
        if self.upsampled:
            size = (faces.hr.shape[2], faces.hr.shape[3])
            initial = resize(faces.lr, size, protocol.up).clamp(0, 1)
            faces = faces._replace(initial=initial)
        return self.restore(faces)


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        entries: The rows' networks and agents, by name.
        measured: Their scores, by name.
        rows: The table.
        relative_to: Name of the row that others are compared with.
    """

    config: SRBenchConfig
    entries: Mapping[str, Entry]
    measured: Mapping[str, Measurements]
    rows: Sequence[Mapping[str, Any]]
    relative_to: str

    @property
    def table(self) -> Table:
        """As text."""
        config, images = self.config, max(row["images"] for row in self.rows)
        return _table(
            self.rows,
            f"Whole faces: {config.dataset} {config.scale}x, protocol {config.protocol}, "
            f"{images} test images",
            self.relative_to,
            config.time_batch,
        )


def run(config: SRBenchConfig, command: str = "", console: Console | None = None) -> Results:
    """Runs the benchmark, prints the table and writes the results.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Raises:
        FacehallError: If the settings, the data or the weights do not allow it.
    """
    config.check()
    setup = still_setup(config)
    entries = {entry.name: entry for entry in gather(config, setup)}
    relative_to = _reference(config, list(entries))
    figured = _with_attention(entries) if config.attention_figure else {}
    images = first_images(setup, config.limit)
    cache = Cache(config.out / ".cache", config.fresh)
    measured = {
        name: measure(
            entry.contestant, images[: entry.limit], _scoring(config, setup, entry), cache
        )
        for name, entry in entries.items()
    }
    place = setup.core.device
    faces = setup.protocol.degrade(images[: config.time_batch].to(place), config.scale)
    costs = measure_costs(config, setup.protocol, entries, faces)
    rows = [_row(entry, measured, costs, relative_to) for entry in entries.values()]
    results = Results(config, entries, measured, rows, relative_to)
    console = console or tables.terminal()
    console.print(results.table.rich())
    written = write(results, command)
    shown = setup.protocol.degrade(images[: config.faces].to(place), config.scale)
    for name, network in figured.items():
        word = re.sub(r"[^\w.-]+", "_", name)
        path = config.out / f"{config.stem}-attention-{word}.png"
        plots.save_attention(network, shown, path)
        written.append(path)
    tables.say_written(console, *written)
    return results


def gather(config: SRBenchConfig, setup: Setup) -> list[Entry]:
    """The rows, in their order; weights are read, so that what is wrong comes out.

    Raises:
        FacehallError: If a row cannot be understood, is there twice, or its weights cannot be used.
    """
    entries = [_whole_face(config, setup, text) for text in config.models]
    entries += [_patch_by_patch(config, setup, text) for text in config.agents]
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"The rows would be called {', '.join(names)}: give each one a name of its own, as in "
            "NAME=PATH."
        )
    return entries


def measure_costs(
    config: SRBenchConfig, protocol: Protocol, entries: Mapping[str, Entry], faces: Faces
) -> dict[str, dict[str, Any]]:
    """Multiplications, time and memory of each row, by its name.

    Args:
        config: The settings.
        protocol: Makes the up-sampled faces.
        entries: The rows, in the order of the settings.
        faces: What they restore.
    """
    number = len(faces.hr)
    runs = {name: partial(entry.from_lr, faces, protocol) for name, entry in entries.items()}
    one = faces.rows(slice(1))
    macs = {n: multiply_accumulates(partial(e.restore, one)) for n, e in entries.items()}
    steps = len(entries) * (config.repetitions + config.memory)
    with tqdm(total=steps, desc="time and memory") as bar:
        times = milliseconds(
            runs,
            number,
            seconds=config.seconds,
            repetitions=config.repetitions,
            device=faces.hr.device,
            advance=bar.update,
        )
        memory: dict[str, float | None] = dict.fromkeys(entries)
        for place, name in enumerate(entries if config.memory else ()):
            memory[name] = peak_memory(START_METHOD, config.device, restored_once, config, place)
            bar.update()
    return {
        name: {
            "macs_per_face": macs[name],
            "ms_per_face": times[name],
            "peak_memory_mib": memory[name],
        }
        for name in entries
    }


@contextmanager
def restored_once(config: SRBenchConfig, place: int) -> Iterator[list[int]]:
    """Has a row restore some noise, for `peak_memory`.

    Args:
        config: The settings.
        place: Number of the row.
    """
    setup = still_setup(config)
    text = (*config.models, *config.agents)[place]
    make = _whole_face if place < len(config.models) else _patch_by_patch
    entry = make(config, setup, text)
    height, width = setup.dataset.image_size
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(config.time_batch, 3, height, width, generator=generator)
    faces = setup.protocol.degrade(noise.to(setup.core.device), config.scale)
    with torch.no_grad():
        entry.from_lr(faces, setup.protocol)
    yield []


def write(results: Results, command: str) -> list[Path]:
    """Writes JSON and Markdown; returns their paths."""
    config = results.config
    content = {
        **header("sr", config, command, NOT_IN_THE_NUMBERS),
        "relative_to": results.relative_to,
        "notes": NOTES,
        "weights": {name: entry.provenance for name, entry in results.entries.items()},
        "rows": results.rows,
    }
    return write_results(config.out, config.stem, content, results.table)


def still_setup(config: SRBenchConfig, dataset: FaceDataset | None = None, **changes: Any) -> Setup:
    """Dataset, protocol and a core; unless changed, one that leaves faces as they start.

    Args:
        config: The settings.
        dataset: Instead of the test split of theirs.
        **changes: Other arguments for `build_core`.
    """
    still: dict[str, Any] = {
        "enhancer": BICUBIC,
        "weights": None,
        "num_steps": 1,
        "patch_size": (1, 1),
    }
    return build_core(
        dataset=dataset or config.dataset,
        split="test",
        scale=config.scale,
        protocol=config.protocol,
        device=config.device,
        precision=config.precision,
        **{**still, **changes},
    )


def _whole_face(config: SRBenchConfig, setup: Setup, text: str) -> Entry:
    name, separator, weights = text.partition("=")
    network = _network(config, name, weights) if separator else _named(config, text)
    if not separator and Path(text).is_file():
        name, weights = Path(text).stem, text
    core = still_setup(config, dataset=setup.dataset, initial=network).core
    # The core's own: it may have been rounded to bf16 and laid out anew.
    initial = core.initial
    return Entry(
        Contestant(name, core, None),
        weights=None if weights == UNTRAINED else Path(weights).name or "auto",
        restore=_untouched if initial is None else partial(_by, initial),
        upsampled=not (isinstance(initial, OneShot) and initial.takes == "lr"),
        limit=config.limit,
        batch=config.batch,
    )


def _by(network: Enhancer, faces: Faces) -> Tensor:
    return restore_whole(network, faces.initial, faces.lr)


def _untouched(faces: Faces) -> Tensor:
    return faces.initial


def _network(config: SRBenchConfig, name: str, weights: str) -> Enhancer:
    """The network in a file; if ``name`` is that of one, it has to be this one."""
    if weights == UNTRAINED:
        return enhancers.make(name, scale=config.scale, weights=None)
    if name in enhancers.available():
        return enhancers.make(name, scale=config.scale, weights=weights)
    return enhancers.load(weights)


def _named(config: SRBenchConfig, text: str) -> Enhancer | str:
    """A network by its name, or in a file; "bicubic" stands for itself."""
    if text == BICUBIC:
        return text
    if Path(text).is_file():
        return enhancers.load(text)
    return enhancers.make(text, scale=config.scale, weights="auto", dataset=config.dataset)


def _patch_by_patch(config: SRBenchConfig, setup: Setup, text: str) -> Entry:
    name, separator, rest = text.partition("=")
    words = rest.split(",")
    if not (name and separator and len(words) in (2, 3) and all(words)):
        raise ConfigurationError(
            f"--agents {text!r} is not ROW=ENHANCER,AGENT or ROW=ENHANCER,AGENT,INITIAL: give the "
            "row's name, the enhancer's name or file, and the name or file of an agent."
        )
    given, agent, initial = (*words, BICUBIC)[:3]
    enhancer = _named(config, given)
    by_name = agent in AGENTS.available() or not Path(agent).is_file()
    has_a_grid = agent in LEARNED or not by_name
    played = PatchSelectionConfig(
        dataset=config.dataset,
        scale=config.scale,
        protocol=config.protocol,
        enhancer=getattr(enhancer, "name", BICUBIC),
        weights=given,
        initial=initial,
        agents=(agent,) if by_name else (),
        policy=() if by_name else (f"{name}={agent}",),
        trust_pickle=config.trust_pickle,
        steps=(config.steps,),
        action_stride=None if has_a_grid else config.action_stride,
        action_offset=config.action_offset,
        limit=config.limit,
        batch=config.batch,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )
    own = still_setup(
        config,
        dataset=setup.dataset,
        enhancer=enhancer,
        initial=initial,
        num_steps=config.steps,
        patch_size=None,
    )
    (player,) = gather_players(played, own)
    contestant = replace(player.contestant, name=name)
    files = (Path(given).name, player.weights or agent, Path(initial).name)
    return Entry(
        contestant,
        weights=", ".join(files[: len(words)]),
        restore=partial(restored, contestant),
        upsampled=True,
        limit=player.limit,
        batch=player.batch,
    )


def restored(contestant: Contestant, faces: Faces, first: int = 0) -> Tensor:
    """What a contestant makes of faces: (N, 3, H, W) in [0, 1], on its device.

    Args:
        contestant: Who restores them.
        faces: N faces.
        first: Number of the first of them, for agents that draw at random.
    """
    if contestant.make_agent is None:
        return contestant.core.reset(faces).image
    return rollout(contestant.core, contestant.make_agent(first), faces).state.image


def _reference(config: SRBenchConfig, names: Sequence[str]) -> str:
    name = config.relative_to or names[0]
    if name not in names:
        raise ConfigurationError(
            f"--relative-to {name!r} is none of the rows {', '.join(names)}: give one of them."
        )
    return name


def _with_attention(entries: Mapping[str, Entry]) -> dict[str, OneShot]:
    """The networks that can say where they look."""
    initials = {
        name: entry.contestant.core.initial
        for name, entry in entries.items()
        if entry.contestant.make_agent is None
    }
    found = {
        name: initial
        for name, initial in initials.items()
        if isinstance(initial, OneShot) and hasattr(initial.network, "attention_maps")
    }
    if not found:
        raise ConfigurationError(
            "--attention-figure, but none of the rows is a network with attention maps: give one "
            "such as sparnet, or leave the option out."
        )
    return found


def _scoring(config: SRBenchConfig, setup: Setup, entry: Entry) -> Scoring:
    steps = (entry.contestant.core.num_steps,)
    return Scoring(setup.protocol, config.scale, steps, config.fsim_limit, entry.batch)


def _row(
    entry: Entry,
    measured: Mapping[str, Measurements],
    costs: Mapping[str, Mapping[str, Any]],
    relative_to: str,
) -> dict[str, Any]:
    own, other = measured[entry.name], measured[relative_to]
    number = min(len(own), len(other))
    scores = {"psnr": own.psnr[:, -1], "ssim": own.ssim[:, -1], "fsim": own.fsim[:, -1]}
    scores["fsim"] = scores["fsim"][~scores["fsim"].isnan()]
    row: dict[str, Any] = {
        "model": entry.name,
        "weights": entry.weights,
        "parameters": entry.parameters,
        "images": len(own),
        "fsim_images": len(scores["fsim"]),
        **costs[entry.name],
        "time_ratio": costs[entry.name]["ms_per_face"] / costs[relative_to]["ms_per_face"],
    }
    for name, values in scores.items():
        row[name], row[f"{name}_ci"] = mean_ci(values) if len(values) else NONE
    gain = paired_difference_ci(own.psnr[:number, -1], other.psnr[:number, -1])
    row["psnr_minus"], row["psnr_minus_ci"] = NONE if entry.name == relative_to else gain
    return row


def _table(rows: Sequence[Mapping[str, Any]], title: str, other: str, batch: int) -> Table:
    images = max(row["images"] for row in rows)
    header = (
        "model",
        "parameters",
        "GMACs",
        "PSNR",
        f"minus {other}",
        "SSIM",
        "FSIM",
        "ms/face",
        f"time / {other}",
        "peak MiB",
    )
    lines = [
        (
            row["model"]
            + (f" (first {row['images']})" if row["images"] < images else "")
            + ("" if row["weights"] else " (untrained)"),
            f"{row['parameters']:,}",
            f"{row['macs_per_face'] / 1e9:.3f}",
            tables.decibels(row["psnr"], row["psnr_ci"]),
            tables.decibels(row["psnr_minus"], row["psnr_minus_ci"], signed=True),
            _similarity(row["ssim"], row["ssim_ci"]),
            _similarity(row["fsim"], row["fsim_ci"]),
            f"{row['ms_per_face']:.1f}",
            f"{row['time_ratio']:.2f}",
            tables.number(row["peak_memory_mib"], ".0f"),
        )
        for row in rows
    ]
    caption = (
        "± is the half width of the 95 % interval over images; differences are paired. Time: "
        f"batches of {batch}, {torch.get_num_threads()} threads, measured in turns."
    )
    scored = max(row["fsim_images"] for row in rows)
    if 0 < scored < images:
        caption += f" FSIM on the first {scored} images."
    return Table(title, header, lines, caption=caption)


def _similarity(value: float | None, half_width: float | None) -> str:
    text, interval = tables.number(value, ".4f"), tables.number(half_width, ".4f")
    return text if tables.NOTHING in (text, interval) else f"{text} ± {interval}"
