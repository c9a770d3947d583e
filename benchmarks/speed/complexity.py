"""What a network costs: multiplications, and time measured in turns with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from facehall_env.agents.play import now
from facehall_env.benchmarks.speed.throughput import take_turns

Run = Callable[[], object]


@torch.no_grad()
def multiply_accumulates(run: Run) -> int:
    """Multiply-accumulate operations of the convolutions and matrix products in a computation.

    Element-wise operations, normalisation, Fourier transforms and interpolation are left out, as
    is usual.

    Args:
        run: What to count; called once.

    >>> layer = torch.nn.Conv2d(3, 8, 5, padding=2)
    >>> multiply_accumulates(lambda: layer(torch.zeros(1, 3, 10, 10))) == 10 * 10 * 8 * 3 * 25
    True
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2


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

    Whatever else the machine does so falls on all alike, and ratios can be trusted where the times
    themselves cannot.

    Args:
        runs: What to time, by name.
        faces: How many faces each one restores when it is called.
        seconds: Least length of one measurement; at least one call.
        repetitions: Measurements of each.
        device: Where they compute.
        advance: Called after each measurement.
    """
    for run in runs.values():
        _milliseconds(run, faces, 0.0, device)  # What the first call sets up is not counted.
    timings = take_turns(
        {name: partial(_milliseconds, run, faces, seconds, device) for name, run in runs.items()},
        repetitions,
        advance,
    )
    return {name: median(values) for name, values in timings.items()}


@torch.no_grad()
def _milliseconds(run: Run, faces: int, seconds: float, device: torch.device) -> float:
    calls, started, elapsed = 0, now(device), 0.0
    while calls == 0 or elapsed < seconds:
        run()
        calls += 1
        elapsed = now(device) - started
    return 1000 * elapsed / (calls * faces)
