"""How fast the environment steps, as ratios measured in one run.

Absolute figures depend on the machine and on who else uses it, so everything that is compared is
measured in turns, several times, and the medians are divided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gymnasium.utils.performance import benchmark_vector_step
from gymnasium.vector import SyncVectorEnv, VectorEnv
from rich.console import Console
from torch import nn
from tqdm.auto import tqdm

from facehall_env.benchmarks.results import provenance, write_json
from facehall_env.benchmarks.tables import Table, terminal
from facehall_env.build import build_core
from facehall_env.core import HallucinationCore, Precision
from facehall_env.env import FaceHallucinationEnv
from facehall_env.errors import ConfigurationError
from facehall_env.vector import FaceHallucinationVectorEnv

Timings = dict[str, list[float]]


@dataclass
class ThroughputConfig:
    """Settings of ``facehall bench throughput``."""

    enhancer: str = "attention_fh"
    """The network inside the environments that are compared."""
    enhancers: tuple[str, ...] = ("compact", "attention_fh")
    """Networks whose patches per second are compared; ratios are to the last one."""
    num_envs: tuple[int, ...] = (1, 8, 32)
    """Numbers of environments N."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Precisions of the network."""
    share_envs: int = 32
    """N at which the share of time inside the network is taken, in fp32."""
    seconds: float = 2.0
    """Least length of one measurement."""
    repetitions: int = 5
    """Measurements of each kind; medians are reported."""
    scale: int = 4
    """Factor between low and high resolution."""
    seed: int = 0
    """Seed of faces and actions."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("benchmarks/results")
    """Folder for throughput.json."""

    def check(self) -> None:
        """Checks the settings.

        Raises:
            ConfigurationError: If a list is empty or a number too small.
        """
        for name in ("num_envs", "precisions", "enhancers"):
            if not getattr(self, name):
                raise ConfigurationError(f"--{name.replace('_', '-')} is empty: give at least one.")
        least = min(*self.num_envs, self.share_envs, self.repetitions)
        if least < 1 or not self.seconds > 0:
            raise ConfigurationError(
                f"Numbers of environments and repetitions must be at least 1, got {least}, and "
                f"--seconds above 0, got {self.seconds}."
            )


class Stopwatch:
    """Adds up the time that a network's forward passes take.

    Args:
        network: Its forward is timed, by hooks, from construction on.
        device: Waited for before the clock is read, or its time would be somebody else's.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.seconds = 0.0
        self._device = device
        self._started = 0.0
        network.register_forward_pre_hook(self._start)
        network.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self._started = now(self._device)

    def _stop(self, *_: Any) -> None:
        self.seconds += now(self._device) - self._started


def now(device: torch.device) -> float:
    """The time in seconds, when the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def run(
    config: ThroughputConfig, command: str = "", console: Console | None = None
) -> dict[str, Any]:
    """Measures, prints the tables and writes ``throughput.json``.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.

    Returns:
        What was written.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    config.check()
    console = console or terminal()
    steps = len(config.num_envs) * len(config.precisions) * 2 + len(config.precisions) * len(
        config.enhancers
    )
    with tqdm(total=config.repetitions * (steps + 1), desc="measuring") as bar:
        results = {
            "benchmark": "throughput",
            **provenance(command, config.device),
            "settings": {k: v for k, v in asdict(config).items() if k != "out"},
            "network_share": network_share(config, bar.update),
            "vector_env": vector_rows(config, bar.update),
            "enhancers": enhancer_rows(config, bar.update),
        }
    for table in report(results):
        console.print(table.rich())
    path = config.out / "throughput.json"
    write_json(path, results)
    console.print(f"written: {path}", soft_wrap=True, highlight=False)
    return results


def network_share(config: ThroughputConfig, advance: Callable[[], Any]) -> dict[str, Any]:
    """Share of the time of the batched environment's steps that its network takes, in fp32.

    Args:
        config: The settings.
        advance: Called after each measurement.
    """
    env = _batched(config, config.share_envs, "fp32")
    device = env.core.device
    watch = Stopwatch(env.core.enhancer, device)
    env.action_space.seed(config.seed)
    env.reset(seed=config.seed)
    env.step(env.action_space.sample())
    shares = []
    for _ in range(config.repetitions):
        watch.seconds, started = 0.0, now(device)
        while (elapsed := now(device) - started) < config.seconds:
            env.step(env.action_space.sample())
        shares.append(watch.seconds / elapsed)
        advance()
    return {
        "enhancer": config.enhancer,
        "num_envs": config.share_envs,
        "precision": "fp32",
        "share": median(shares),
        "lowest": min(shares),
        "highest": max(shares),
    }


def vector_rows(config: ThroughputConfig, advance: Callable[[], Any]) -> list[dict[str, Any]]:
    """Steps per second of the batched environment and of Gymnasium's over the single one.

    Both restore the same faces with the same actions; measurements take turns.

    Args:
        config: The settings.
        advance: Called after each measurement.
    """
    rows = []
    for precision in config.precisions:
        for number in config.num_envs:
            kinds = {"batched": _batched, "sync": _sync}
            envs: dict[str, VectorEnv[Any, Any, Any]] = {
                name: make(config, number, precision) for name, make in kinds.items()
            }
            timings = take_turns(
                {
                    name: partial(_steps_per_second, env, config.seconds, config.seed)
                    for name, env in envs.items()
                },
                config.repetitions,
                advance,
            )
            for env in envs.values():
                env.close()
            batched, sync = median(timings["batched"]), median(timings["sync"])
            rows.append(
                {
                    "enhancer": config.enhancer,
                    "precision": precision,
                    "num_envs": number,
                    "batched_steps_per_second": batched,
                    "sync_steps_per_second": sync,
                    "ratio": batched / sync,
                }
            )
    return rows


def enhancer_rows(config: ThroughputConfig, advance: Callable[[], Any]) -> list[dict[str, Any]]:
    """Patches per second of each network alone, and ratios to the last one.

    Args:
        config: The settings.
        advance: Called after each measurement.
    """
    number = max(config.num_envs)
    rows = []
    for precision in config.precisions:
        timings = take_turns(
            {
                name: partial(
                    _patches_per_second, _core(config, name, precision), number, config.seconds
                )
                for name in config.enhancers
            },
            config.repetitions,
            advance,
        )
        last = median(timings[config.enhancers[-1]])
        rows += [
            {
                "enhancer": name,
                "precision": precision,
                "batch": number,
                "patches_per_second": median(rates),
                "ratio": median(rates) / last,
                "ratio_to": config.enhancers[-1],
            }
            for name, rates in timings.items()
        ]
    return rows


def take_turns(
    measurements: Mapping[str, Callable[[], float]], repetitions: int, advance: Callable[[], Any]
) -> Timings:
    """Calls each measurement in turn, several times, so that all see the same interference.

    >>> take_turns({"a": lambda: 1.0, "b": lambda: 2.0}, 2, lambda: None)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    results: Timings = {name: [] for name in measurements}
    for _ in range(repetitions):
        for name, measurement in measurements.items():
            results[name].append(measurement())
            advance()
    return results


def report(results: Mapping[str, Any]) -> list[Table]:
    """The results as tables."""
    share = results["network_share"]
    machine = results["machine"]
    emulated = machine["device"] == "cpu" and not machine["cpu_bfloat16"]
    note = " (in fp32: no bfloat16 here)" if emulated else ""
    envs = Table(
        "Batched environment and Gymnasium's SyncVectorEnv",
        ("enhancer", "precision", "N", "batched steps/s", "sync steps/s", "ratio"),
        [
            (
                row["enhancer"],
                row["precision"] + (note if row["precision"] == "bf16" else ""),
                str(row["num_envs"]),
                f"{row['batched_steps_per_second']:.0f}",
                f"{row['sync_steps_per_second']:.0f}",
                f"{row['ratio']:.2f}",
            )
            for row in results["vector_env"]
        ],
        caption=(
            f"The batched environment at N = {share['num_envs']} in fp32 spends "
            f"{share['share']:.0%} of its time inside the network."
        ),
    )
    return [envs, _enhancer_table(results["enhancers"], note)]


def _enhancer_table(rows: Sequence[Mapping[str, Any]], note: str) -> Table:
    return Table(
        f"Networks alone, {rows[0]['batch']} patches at once",
        ("enhancer", "precision", "patches/s", f"ratio to {rows[0]['ratio_to']}"),
        [
            (
                row["enhancer"],
                row["precision"] + (note if row["precision"] == "bf16" else ""),
                f"{row['patches_per_second']:.0f}",
                f"{row['ratio']:.1f}",
            )
            for row in rows
        ],
    )


def _settings(config: ThroughputConfig, precision: Precision) -> dict[str, Any]:
    # Untrained weights take as long as any others, and there is nothing to look for on the disk.
    return {
        "enhancer": config.enhancer,
        "weights": None,
        "scale": config.scale,
        "device": config.device,
        "precision": precision,
    }


def _batched(
    config: ThroughputConfig, number: int, precision: Precision
) -> FaceHallucinationVectorEnv:
    return FaceHallucinationVectorEnv(num_envs=number, **_settings(config, precision))


def _sync(config: ThroughputConfig, number: int, precision: Precision) -> SyncVectorEnv:
    single = partial(FaceHallucinationEnv, **_settings(config, precision))
    return SyncVectorEnv([single] * number)


def _core(config: ThroughputConfig, enhancer: str, precision: Precision) -> HallucinationCore:
    return build_core(**{**_settings(config, precision), "enhancer": enhancer}).core


def _steps_per_second(env: VectorEnv[Any, Any, Any], seconds: float, seed: int) -> float:
    # Typed as an int, but only ever compared with the time that has passed.
    return float(benchmark_vector_step(env, seconds, seed))  # type: ignore[arg-type]


@torch.no_grad()
def _patches_per_second(core: HallucinationCore, number: int, seconds: float) -> float:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(number, 3, *core.geometry.image_size, generator=generator).to(core.device)
    patch = torch.rand(number, 3, *core.geometry.patch_size, generator=generator).to(core.device)
    location = torch.tensor(core.geometry.image_size, device=core.device) // 2
    locations = location.expand(number, 2)
    core.enhancer(patch, image, locations)
    done, started = 0, now(core.device)
    while (elapsed := now(core.device) - started) < seconds:
        core.enhancer(patch, image, locations)
        done += number
    return done / elapsed
