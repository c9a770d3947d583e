"""How fast the environments step, as ratios measured in one run.

Absolute figures depend on the machine and on who else uses it, so everything that is compared is
measured in turns, several times, and the medians are divided.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import torch

from facehall_env.benchmarks.speed.contents import EnvironmentRow, Environments, PatchRateRow
from facehall_env.benchmarks.speed.env_kinds import Watched, make_env, sb3_environments, stepped
from facehall_env.benchmarks.speed.output import publish
from facehall_env.benchmarks.speed.peak_memory import START_METHOD, peak_memory
from facehall_env.benchmarks.speed.settings import OF_SB3, EnvsConfig
from facehall_env.benchmarks.speed.timing import seconds_per_call, take_turns
from facehall_env.benchmarks.speed.untrained import make_enhancer
from facehall_env.core import HallucinationCore
from facehall_env.literals import Precision
from facehall_env.progress import progress
from facehall_env.spec import EpisodeSpec, FacesSpec

BARE = "network alone"


def run(config: EnvsConfig, command: str = "") -> dict[str, Any]:
    """Measures, prints the tables and writes ``throughput.json``; returns what was written.

    Raises:
        ConfigurationError: If the settings do not allow it.
        MissingExtraError: If Stable-Baselines3's environments are wanted without it.
    """
    config.check()
    if set(config.kinds) & set(OF_SB3):
        sb3_environments()
    kinds = sum(len(config.kinds_at(number)) for number in config.num_envs)
    timings = config.repetitions * (kinds + len(config.num_envs) + len(config.enhancers))
    steps = len(config.precisions) * (timings + config.memory * kinds)
    cases = product(config.precisions, config.num_envs)
    with progress(total=steps, desc="measuring") as bar:
        content = {
            "vector_env": [r for case in cases for r in vector_rows(config, *case, bar.update)],
            "enhancers": enhancer_rows(config, bar.update),
        }
    return publish(config, command, content, Environments)


def vector_rows(
    config: EnvsConfig, precision: Precision, number: int, advance: Callable[[], Any]
) -> list[EnvironmentRow]:
    """Steps per second of the batched environment, of several single ones, and of the network.

    All restore faces of the same kind with the same network; measurements take turns, and
    ``advance`` is called after each.
    """
    kinds = config.kinds_at(number)
    # In this precision already, or every single environment would keep a rounded copy.
    network = _core(config, config.enhancer, precision).enhancer
    envs = {
        kind: Watched(make_env(config, kind, number, precision, network), config) for kind in kinds
    }
    timed: dict[str, Callable[[], float]] = {
        BARE: _alone(config, config.enhancer, precision, number)
    }
    timed.update((kind, env.steps_per_second) for kind, env in envs.items())
    rates = take_turns(timed, config.repetitions, advance)
    for env in envs.values():
        env.close()
    memory: dict[str, float] = {}
    if config.memory:
        for kind in kinds:
            work = (stepped, config, kind, number, precision)
            found = peak_memory(START_METHOD, config.device, *work)
            memory[kind] = math.nan if found is None else found
            advance()
    shares = {str(name): median(env.shares) for name, env in envs.items() if env.shares}
    return [
        EnvironmentRow(
            enhancer=config.enhancer,
            precision=precision,
            num_envs=number,
            environment=name,
            steps_per_second=rate,
            ratio=rates["batched"] / rate,
            network_share=shares.get(name, math.nan),
            peak_memory_mib=memory.get(name, math.nan),
        )
        for name, rate in rates.items()
    ]


def enhancer_rows(config: EnvsConfig, advance: Callable[[], Any]) -> list[PatchRateRow]:
    """Patches per second of each network alone, and ratios to the last one."""
    batch, to = min(32, max(config.num_envs)), config.enhancers[-1]
    rows: list[PatchRateRow] = []
    for precision in config.precisions:
        measurements = {name: _alone(config, name, precision, batch) for name in config.enhancers}
        rates = take_turns(measurements, config.repetitions, advance)
        rows += [
            PatchRateRow(name, precision, batch, rate, rate / rates[to], to)
            for name, rate in rates.items()
        ]
    return rows


def _core(config: EnvsConfig, enhancer: str, precision: Precision) -> HallucinationCore:
    spec = EpisodeSpec(FacesSpec(scale=config.scale), device=config.device, precision=precision)
    return spec.build(enhancer=make_enhancer(enhancer, config.scale)).core


def _alone(
    config: EnvsConfig, enhancer: str, precision: Precision, number: int
) -> Callable[[], float]:
    """Measures how many patches per second a network restores, so many at once."""
    core = _core(config, enhancer, precision)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(number, 3, *core.geometry.image_size, generator=generator).to(core.device)
    patch = torch.rand(number, 3, *core.geometry.patch_size, generator=generator).to(core.device)
    location = torch.tensor(core.geometry.image_size, device=core.device) // 2
    seen = (patch, image, location.expand(number, 2), *([image] * core.enhancer.sees_start))

    def measure() -> float:
        with torch.no_grad():
            core.enhancer(*seen)
        return number / seconds_per_call(lambda: core.enhancer(*seen), config.seconds, core.device)

    return measure
