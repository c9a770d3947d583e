"""Where the time of one REINFORCE update goes.

The parts are the spans that the algorithm names (`facehall_env.training.trace`), which
`torch.profiler` shows, too; the enhancer's are its forward passes, wherever they are called. A
span's time is its own, without that of spans inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from facehall_env.agents.reinforce.training import ReinforceTrainer
from facehall_env.benchmarks.speed.contents import UpdateProfile
from facehall_env.benchmarks.speed.output import publish
from facehall_env.benchmarks.speed.settings import UpdateConfig
from facehall_env.benchmarks.speed.timing import SpanTimer
from facehall_env.errors import ConfigurationError
from facehall_env.progress import progress
from facehall_env.training.trace import listening

PARTS = ("policy", "enhancer", "env", "other")
REST = "other/rest"


def run(config: UpdateConfig, command: str = "") -> dict[str, Any]:
    """Measures, prints the table and writes ``profile.json``; returns what was written.

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
    return publish(config, command, summarise(seconds, config.updates), UpdateProfile)


def profile(
    trainer: ReinforceTrainer, updates: int, advance: Callable[[], Any]
) -> dict[str, float]:
    """Seconds that some updates spent in each span, after one that does not count."""
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
    """Shares of the time, from the seconds of each span in all updates.

    >>> found = summarise({"policy/forward": 3.0, "env/step": 4.0, "other/rest": 1.0}, 2)
    >>> found["seconds_per_update"], found["shares"]["policy"], found["largest_other"]
    (4.0, 0.375, {'span': 'other/rest', 'share': 0.125})
    """
    total = sum(seconds.values())
    parts: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for name, value in seconds.items():
        parts.get(name.partition("/")[0], parts["other"])[name] = value
    ordered = {part: sorted(own.items(), key=lambda item: -item[1]) for part, own in parts.items()}
    largest, longest = ordered["other"][0]
    return {
        "seconds_per_update": total / updates,
        "shares": {part: sum(own.values()) / total for part, own in parts.items()},
        "largest_other": {"span": largest, "share": longest / total},
        "spans": [
            {"span": name, "seconds": value / updates, "share": value / total}
            for own in ordered.values()
            for name, value in own
        ],
    }
