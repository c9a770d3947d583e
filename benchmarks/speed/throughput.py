"""How fast the environments step, as ratios measured in one run.

Absolute figures depend on the machine and on who else uses it, so everything that is compared is
measured in turns, several times, and the medians are divided.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils.performance import benchmark_vector_step
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorEnv,
    VectorWrapper,
)
from gymnasium.vector.utils import batch_space
from rich.console import Console
from torch import nn
from tqdm.auto import tqdm

from facehall_env import data, enhancers
from facehall_env.agents.play import now
from facehall_env.benchmarks.provenance import header, write_json
from facehall_env.benchmarks.speed.peak_memory import peak_memory
from facehall_env.benchmarks.tables import Table, number, say_written, share, terminal
from facehall_env.core import HallucinationCore, Precision
from facehall_env.data import FaceDataset
from facehall_env.data.images import ImageArray
from facehall_env.enhancers import Enhancer
from facehall_env.errors import ConfigurationError, MissingExtraError
from facehall_env.registry import parse_settings
from facehall_env.spec import build_core
from facehall_env.vector import FaceHallucinationVectorEnv

Timings = dict[str, list[float]]
Kind = Literal["batched", "SyncVectorEnv", "AsyncVectorEnv", "DummyVecEnv", "SubprocVecEnv"]
IN_PROCESSES: tuple[Kind, ...] = ("AsyncVectorEnv", "SubprocVecEnv")
OF_SB3: tuple[Kind, ...] = ("DummyVecEnv", "SubprocVecEnv")
BARE = "network alone"
NUM_FACES = 32
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass
class ThroughputConfig:
    """Settings of ``facehall bench throughput``."""

    enhancer: str = "attention_fh"
    """The network inside the environments that are compared, and its settings if it has any:
    "attention_fh convolution=fourier"."""
    enhancers: tuple[str, ...] = ("compact", "attention_fh convolution=fourier", "attention_fh")
    """Networks whose patches per second are compared; ratios are to the last one."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    """Environments to compare: the batched one, and several of the single one side by side."""
    num_envs: tuple[int, ...] = (1, 8, 32, 128)
    """Numbers of environments N."""
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Precisions of the network."""
    processes: int = 8
    """Most processes to start at a time; what needs one for each of more environments is left
    out."""
    seconds: float = 0.5
    """Least length of one measurement."""
    repetitions: int = 3
    """Measurements of each kind; medians are reported."""
    memory: bool = True
    """Measure the peak memory, too, of each kind in a process of its own."""
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
            MissingExtraError: If Stable-Baselines3's environments are wanted without it.
        """
        for name in ("num_envs", "precisions", "enhancers", "kinds"):
            if not getattr(self, name):
                raise ConfigurationError(f"--{name.replace('_', '-')} is empty: give at least one.")
        if self.kinds[0] != "batched":
            raise ConfigurationError(
                f"--kinds begins with {self.kinds[0]!r}: all ratios are to 'batched', name it "
                "first."
            )
        least = min(*self.num_envs, self.repetitions)
        if least < 1 or not self.seconds > 0:
            raise ConfigurationError(
                f"Numbers of environments and repetitions must be at least 1, got {least}, and "
                f"--seconds above 0, got {self.seconds}."
            )
        if set(self.kinds) & set(OF_SB3):
            _vec_env()

    def kinds_at(self, number: int) -> list[Kind]:
        """The kinds that are measured with so many environments."""
        return [k for k in self.kinds if k not in IN_PROCESSES or number <= self.processes]


class Stopwatch:
    """Adds up the time that forward passes take, and the patches that they restore.

    Args:
        networks: Their forwards are timed, by hooks, from construction on; one may be there
            several times.
        device: Waited for before the clock is read, or its time would be somebody else's.
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        self.seconds = 0.0
        self.patches = 0
        self._device = device
        self._started = 0.0
        for network in dict.fromkeys(networks):
            network.register_forward_pre_hook(self._start)
            network.register_forward_hook(self._stop)

    def restart(self) -> None:
        """Begins to count anew."""
        self.seconds, self.patches = 0.0, 0

    def _start(self, *_: Any) -> None:
        self._started = now(self._device)

    def _stop(self, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.seconds += now(self._device) - self._started
        self.patches += len(output)


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
    kinds = sum(len(config.kinds_at(number)) for number in config.num_envs)
    timings = config.repetitions * (kinds + len(config.num_envs) + len(config.enhancers))
    steps = len(config.precisions) * (timings + config.memory * kinds)
    with tqdm(total=steps, desc="measuring") as bar:
        results = {
            **header("throughput", config, command),
            "vector_env": vector_rows(config, bar.update),
            "enhancers": enhancer_rows(config, bar.update),
        }
    for table in report(results):
        console.print(table.rich())
    path = config.out / "throughput.json"
    write_json(path, results)
    say_written(console, path)
    return results


def vector_rows(config: ThroughputConfig, advance: Callable[[], Any]) -> list[dict[str, Any]]:
    """Steps per second of the batched environment, of several single ones, and of the network.

    All restore faces of the same kind with the same network; measurements take turns.

    Args:
        config: The settings.
        advance: Called after each measurement.
    """
    cases = product(config.precisions, config.num_envs)
    return [row for case in cases for row in _compare(config, *case, advance)]


def _compare(
    config: ThroughputConfig, precision: Precision, number: int, advance: Callable[[], Any]
) -> list[dict[str, Any]]:
    """The rows of one precision and number of environments."""
    kinds = config.kinds_at(number)
    # In this precision already, or every single environment would keep a rounded copy.
    network = _core(config, config.enhancer, precision).enhancer
    envs = {
        kind: Watched(make_env(config, kind, number, precision, network), config) for kind in kinds
    }
    rates = take_turns(
        {
            BARE: partial(
                _patches_per_second,
                _core(config, config.enhancer, precision),
                number,
                config.seconds,
            ),
            **{kind: env.steps_per_second for kind, env in envs.items()},
        },
        config.repetitions,
        advance,
    )
    for env in envs.values():
        env.close()
    memory: dict[str, float | None] = {}
    if config.memory:
        for kind in kinds:
            work = (stepped, config, kind, number, precision)
            memory[kind] = peak_memory(START_METHOD, config.device, *work)
            advance()
    medians = {name: median(values) for name, values in rates.items()}
    shares: dict[str, float] = {
        name: median(env.shares) for name, env in envs.items() if env.shares
    }
    return [
        {
            "enhancer": config.enhancer,
            "precision": precision,
            "num_envs": number,
            "environment": name,
            "steps_per_second": rate,
            "ratio": medians["batched"] / rate,
            "network_share": shares.get(name),
            "peak_memory_mib": memory.get(name),
        }
        for name, rate in medians.items()
    ]


def enhancer_rows(config: ThroughputConfig, advance: Callable[[], Any]) -> list[dict[str, Any]]:
    """Patches per second of each network alone, and ratios to the last one.

    Args:
        config: The settings.
        advance: Called after each measurement.
    """
    batch = min(32, max(config.num_envs))
    rows = []
    for precision in config.precisions:
        timings = take_turns(
            {
                name: partial(
                    _patches_per_second, _core(config, name, precision), batch, config.seconds
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
                "batch": batch,
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


def make_enhancer(words: str, scale: int) -> Enhancer:
    """An untrained network from its name and settings.

    Untrained weights take as long as any others, and there is nothing to look for on the disk.

    >>> make_enhancer("compact width=8", 4).config["width"]
    8
    """
    name, *settings = words.split()
    return enhancers.make(name, scale=scale, weights=None, **parse_settings(settings))


def make_env(
    config: ThroughputConfig,
    kind: Kind,
    number: int,
    precision: Precision,
    network: Enhancer | None = None,
) -> VectorEnv[Any, Any, Any]:
    """One of the environments that are compared.

    Args:
        config: The settings.
        kind: Which.
        number: Of environments N.
        precision: Of the network.
        network: Shared by all single environments of this process, which is kind to them; those
            in processes have their own.
    """
    settings: dict[str, Any] = {
        "dataset": FacesInMemory(data.make("synthetic", split="train")),
        "scale": config.scale,
        "weights": None,
        "device": config.device,
        "precision": precision,
    }
    if kind in IN_PROCESSES:
        # Python and torch are then read once, and copied with all that they have read.
        multiprocessing.set_forkserver_preload([__name__])
        one = partial(_single_of_its_own, config.enhancer, settings)
        if kind == "AsyncVectorEnv":
            return AsyncVectorEnv([one] * number, context=START_METHOD)
        return Sb3VectorEnv(_vec_env().SubprocVecEnv([one] * number, start_method=START_METHOD))
    settings["enhancer"] = network or make_enhancer(config.enhancer, config.scale)
    if kind == "batched":
        return FaceHallucinationVectorEnv(num_envs=number, **settings)
    single = partial(_single, settings)
    if kind == "SyncVectorEnv":
        return SyncVectorEnv([single] * number)
    return Sb3VectorEnv(_vec_env().DummyVecEnv([single] * number))


@contextmanager
def stepped(
    config: ThroughputConfig, kind: Kind, number: int, precision: Precision
) -> Iterator[list[int]]:
    """An environment that has begun and taken a step, as the numbers of its processes."""
    with closing(make_env(config, kind, number, precision)) as env:
        env.reset(seed=config.seed)
        env.step(env.action_space.sample())
        inner = env.envs if isinstance(env, Sb3VectorEnv) else env
        yield [process.pid for process in getattr(inner, "processes", ())]


class Watched(VectorWrapper):
    """An environment whose network is timed.

    Args:
        env: The environment.
        config: The settings.

    Attributes:
        shares: Of each measurement, the share of the time that the network took; empty where it
            is not in this process.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], config: ThroughputConfig) -> None:
        super().__init__(env)
        self.shares: list[float] = []
        self._config = config
        self._cores = _cores(env)
        networks = [core.enhancer for core in self._cores]
        self._watch = Stopwatch(networks, torch.device(config.device))

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts new episodes, which is where a measurement begins."""
        self._watch.restart()
        return super().reset(seed=seed, options=options)

    def steps_per_second(self) -> float:
        """Measures once."""
        # Typed as an int, but only ever compared with the time that has passed.
        seconds: Any = self._config.seconds
        rate = float(benchmark_vector_step(self, seconds, self._config.seed))
        if self._cores:
            self.shares.append(self._watch.seconds / self._watch.patches * rate)
        return rate


class FacesInMemory(FaceDataset):
    """A few faces that cost nothing to read, so that environments are measured and not drawing.

    Args:
        faces: Its first ones are kept.
    """

    def __init__(self, faces: FaceDataset) -> None:
        self.name, self.split, self.image_size = faces.name, faces.split, faces.image_size
        self._images = [faces[index] for index in range(NUM_FACES)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> ImageArray:
        """The face at ``index``, (H, W, 3) uint8."""
        return self._images[self.checked(index)]

    def key(self, index: int) -> str:
        """The number of the face."""
        return str(self.checked(index))


class Sb3VectorEnv(VectorEnv[Any, Any, Any]):
    """A Stable-Baselines3 `VecEnv` as Gymnasium's function that measures steps expects it.

    Args:
        envs: Stepped as it is.
    """

    def __init__(self, envs: Any) -> None:
        self.envs = envs
        self.num_envs = envs.num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.action_space = batch_space(envs.action_space, envs.num_envs)
        self.single_action_space = envs.action_space

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts new episodes."""
        self.envs.seed(seed)
        return self.envs.reset(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Restores one patch of each face."""
        observation, reward, done, _ = self.envs.step(actions)
        return observation, reward, done, np.zeros_like(done), {}

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environments."""
        self.envs.close()


def report(results: Mapping[str, Any]) -> list[Table]:
    """The results as tables."""
    machine = results["machine"]
    emulated = machine["device"] == "cpu" and not machine["cpu_bfloat16"]
    note = " (in fp32: no bfloat16 here)" if emulated else ""
    return [
        _env_table(results["vector_env"], note),
        _enhancer_table(results["enhancers"], note),
    ]


def _env_table(rows: Sequence[Mapping[str, Any]], note: str) -> Table:
    cases = [(row["precision"], row["num_envs"]) for row in rows]
    return Table(
        f"Environments around {rows[0]['enhancer']}",
        (
            "environment",
            "precision",
            "N",
            "steps/s",
            "batched is faster by",
            "in the network",
            "beside it",
            "peak MiB",
        ),
        [
            (
                row["environment"],
                row["precision"] + (note if row["precision"] == "bf16" else ""),
                str(row["num_envs"]),
                f"{row['steps_per_second']:.0f}",
                f"{row['ratio']:.2f}",
                share(row["network_share"]),
                share(_beside(row["network_share"])),
                number(row["peak_memory_mib"], ".0f"),
            )
            for row in rows
        ],
        sections=[place for place in range(1, len(rows)) if cases[place] != cases[place - 1]],
        caption=(
            "In the network: share of the time of a step; beside it: the rest, as a share of the "
            "network's time. Not known of other processes."
        ),
    )


def _beside(inside: float | None) -> float | None:
    """All time but the network's, in units of the network's.

    >>> _beside(0.8)
    0.25
    """
    return None if not inside else round(1 / inside - 1, 12)


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


def _single(settings: Mapping[str, Any]) -> gym.Env[Any, Any]:
    return gym.make("facehall_env:FaceHallucination-v0", disable_env_checker=True, **settings)


def _single_of_its_own(enhancer: str, settings: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """A single environment in a process of its own, which has one thread."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    return _single({**settings, "enhancer": make_enhancer(enhancer, settings["scale"])})


def _vec_env() -> Any:
    try:
        from stable_baselines3.common import vec_env
    except ImportError as error:
        raise MissingExtraError("Stable-Baselines3", "sb3") from error
    return vec_env


def _core(config: ThroughputConfig, enhancer: str, precision: Precision) -> HallucinationCore:
    return build_core(
        enhancer=make_enhancer(enhancer, config.scale),
        scale=config.scale,
        device=config.device,
        precision=precision,
    ).core


def _cores(env: VectorEnv[Any, Any, Any]) -> list[HallucinationCore]:
    """The cores of an environment that are in this process."""
    if isinstance(env, FaceHallucinationVectorEnv):
        return [env.core]
    if isinstance(env, Sb3VectorEnv):
        env = env.envs
    return [single.unwrapped.core for single in getattr(env, "envs", ())]


@torch.no_grad()
def _patches_per_second(core: HallucinationCore, number: int, seconds: float) -> float:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(number, 3, *core.geometry.image_size, generator=generator).to(core.device)
    patch = torch.rand(number, 3, *core.geometry.patch_size, generator=generator).to(core.device)
    location = torch.tensor(core.geometry.image_size, device=core.device) // 2
    locations = location.expand(number, 2)
    seen = (patch, image, locations, *((image,) if core.enhancer.sees_start else ()))
    core.enhancer(*seen)
    done, started = 0, now(core.device)
    while (elapsed := now(core.device) - started) < seconds:
        core.enhancer(*seen)
        done += number
    return done / elapsed
