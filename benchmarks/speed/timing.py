"""Time measured in turns, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from facehall_env.clock import now

Run = Callable[[], object]


def take_turns(
    measurements: Mapping[str, Callable[[], float]],
    repetitions: int,
    advance: Callable[[], Any] = lambda: None,
) -> dict[str, float]:
    """Medians of measurements that take turns, so that all see the same interference.

    ``advance`` is called after each measurement.

    >>> take_turns({"a": lambda: 1.0, "b": lambda: 2.0}, 2)
    {'a': 1.0, 'b': 2.0}
    """
    results: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repetitions):
        for name, measurement in measurements.items():
            results[name].append(measurement())
            advance()
    return {name: median(values) for name, values in results.items()}


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
    timed = {name: partial(seconds_per_call, run, seconds, device) for name, run in runs.items()}
    found = take_turns(timed, repetitions, advance)
    return {name: 1000 * value / faces for name, value in found.items()}


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


class SpanTimer:
    """Adds up the time of spans, each without those inside it.

    Args:
        device: Waited for whenever a span begins or ends, or its time would be another's.

    Attributes:
        seconds: Time of each span, by its name.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._open: list[str] = []
        self._resumed = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Times a span."""
        self._begin(name)
        try:
            yield
        finally:
            self._end()

    def watch(self, networks: Sequence[nn.Module], name: str) -> None:
        """Times the forward passes of networks as spans of one name, by hooks."""
        for network in dict.fromkeys(networks):
            network.register_forward_pre_hook(lambda *_: self._begin(name))
            network.register_forward_hook(lambda *_: self._end())

    def _begin(self, name: str) -> None:
        self._charge()
        self._open.append(name)

    def _end(self) -> None:
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        time = now(self._device)
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + time - self._resumed
        self._resumed = time
