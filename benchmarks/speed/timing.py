"""Time measured in turns, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch

from facehall_env.clock import now

Run = Callable[[], object]
Timings = dict[str, list[float]]


def take_turns(
    measurements: Mapping[str, Callable[[], float]],
    repetitions: int,
    advance: Callable[[], Any] = lambda: None,
) -> Timings:
    """Calls each measurement in turn, several times, so that all see the same interference.

    Args:
        measurements: What to measure, by name.
        repetitions: How often.
        advance: Called after each measurement.

    >>> take_turns({"a": lambda: 1.0, "b": lambda: 2.0}, 2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    results: Timings = {name: [] for name in measurements}
    for _ in range(repetitions):
        for name, measurement in measurements.items():
            results[name].append(measurement())
            advance()
    return results


def milliseconds(
    runs: Mapping[str, Run],
    faces: int,
    *,
    seconds: float,
    repetitions: int,
    device: torch.device,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Milliseconds for each face, medians of measurements that take turns.

    Ratios can be trusted where the times themselves cannot.

    Args:
        runs: What to time, by name.
        faces: How many faces each one restores when it is called.
        seconds: Least length of one measurement; at least one call.
        repetitions: Measurements of each.
        device: Where they compute.
        advance: Called after each measurement.
    """
    for run in runs.values():
        seconds_per_call(run, 0.0, device)  # What the first call sets up is not counted.
    timings = take_turns(
        {name: partial(seconds_per_call, run, seconds, device) for name, run in runs.items()},
        repetitions,
        advance,
    )
    return {name: 1000 * median(values) / faces for name, values in timings.items()}


@torch.no_grad()
def seconds_per_call(run: Run, least: float, device: torch.device) -> float:
    """How long a call takes.

    Args:
        run: Called again and again.
        least: Seconds after which no further call begins; there is at least one.
        device: Device that computes, which is waited for.
    """
    calls, started, elapsed = 0, now(device), 0.0
    while calls == 0 or elapsed < least:
        run()
        calls += 1
        elapsed = now(device) - started
    return elapsed / calls
