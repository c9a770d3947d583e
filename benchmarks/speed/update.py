"""Where the time of one REINFORCE update goes.

The parts are the spans that the algorithm names (`facehall_env.training.trace`), which
`torch.profiler` shows, too; the enhancer's are its forward passes, wherever they are called. A
span's time is its own, without that of spans inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from facehall_env.agents.reinforce.training import ReinforceTrainer
from facehall_env.benchmarks.speed.contents import UpdateProfile
from facehall_env.benchmarks.speed.output import publish
from facehall_env.benchmarks.speed.settings import UpdateConfig
from facehall_env.clock import now
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress
from facehall_env.training.trace import listening

PARTS = ("policy", "enhancer", "env", "other")
REST = "other/rest"


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


def run(config: UpdateConfig, command: str = "") -> dict[str, Any]:
    """Measures, prints the table and writes ``profile.json``.

    Args:
        config: The settings.
        command: What was typed, for the results file.

    Returns:
        What was written.

    Raises:
        FacehallError: If the settings do not allow it.
    """
    if config.devices * config.num_nodes > 1:
        raise ConfigurationError(
            f"devices={config.devices} and num_nodes={config.num_nodes}: one process is looked "
            "at, leave both at 1."
        )
    trainer = ReinforceTrainer(config)
    with progress(total=config.updates + 1, desc="updates") as bar:
        seconds = profile(trainer, config.updates, bar.update)
    content = summarise(seconds, config.updates)
    return publish(config, command, content, UpdateProfile)


def profile(
    trainer: ReinforceTrainer, updates: int, advance: Callable[[], Any]
) -> dict[str, float]:
    """Seconds that some updates spent in each span, after one that does not count.

    Args:
        trainer: Makes the updates.
        updates: How many are measured.
        advance: Called after each.
    """
    trainer.update()
    advance()
    timer = SpanTimer(trainer.core.device)
    # The whole enhancer and, where only a part of it restores whole faces, its parts.
    enhancer = trainer.core.enhancer
    timer.watch([enhancer, *enhancer.children()], "enhancer/forward")
    with listening(timer):
        for _ in range(updates):
            with timer(REST):
                trainer.update()
            advance()
    return timer.seconds


def summarise(seconds: Mapping[str, float], updates: int) -> dict[str, Any]:
    """Shares of the time.

    Args:
        seconds: Time of each span in all updates.
        updates: Number of updates.

    >>> found = summarise({"policy/forward": 3.0, "env/step": 4.0, "other/rest": 1.0}, 2)
    >>> found["seconds_per_update"], found["shares"]["policy"], found["largest_other"]
    (4.0, 0.375, {'span': 'other/rest', 'share': 0.125})
    """
    total = sum(seconds.values())
    spans = [
        {"span": name, "seconds": value / updates, "share": value / total}
        for name, value in sorted(seconds.items(), key=_order)
    ]
    shares = {
        part: sum(value for name, value in seconds.items() if _part(name) == part) / total
        for part in PARTS
    }
    others = {name: value for name, value in seconds.items() if _part(name) == "other"}
    largest = max(others, key=lambda name: others[name])
    return {
        "seconds_per_update": total / updates,
        "shares": shares,
        "largest_other": {"span": largest, "share": others[largest] / total},
        "spans": spans,
    }


def _part(span: str) -> str:
    part = span.partition("/")[0]
    return part if part in PARTS else "other"


def _order(item: tuple[str, float]) -> tuple[int, float]:
    return PARTS.index(_part(item[0])), -item[1]
