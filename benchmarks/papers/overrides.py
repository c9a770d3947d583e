"""Other settings for a trial: ``--set KEY=VALUE``, where KEY is a path into the experiment.

``limit=8`` is a key of the experiment, ``rows.ours.steps=5`` one of a row. ``ipfh.updates=150``
is short for ``networks.ipfh.training.updates=150``, and ``sparnet.width=8`` for
``networks.sparnet.settings.width=8``: a setting of the training where its trainer has one of that
name, or else of the network or agent.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from facehall_env.benchmarks.papers import reading
from facehall_env.benchmarks.papers.trainers import TRAINERS
from facehall_env.enhancers import ENHANCERS
from facehall_env.errors import ConfigurationError
from facehall_env.registry import unknown_name


def apply(content: Mapping[str, Any], change: str) -> dict[str, Any]:
    """What a change, as it is typed, adds to ``ours`` of an experiment.

    Raises:
        ConfigurationError: If the change is of another form.
        UnknownNameError: If the experiment has no such key; names the nearest ones.
    """
    key, separator, word = change.partition("=")
    path = key.split(".")
    if not (separator and all(path)):
        raise ConfigurationError(f"--set {change}: write KEY=VALUE, such as limit=8.")
    actual = reading.merged(content, content.get("ours", {}))
    own: Any = word
    with suppress(ValueError):  # A value as in JSON, or else a plain word.
        own = json.loads(word)
    for name in reversed(_whole_path(actual, path)):
        own = {name: own}
    return dict(own)


def _whole_path(actual: Mapping[str, Any], path: list[str]) -> list[str]:
    """The path with what may be left out of it."""
    networks = actual.get("networks", {})
    if path[0] in networks:
        path = ["networks", *path]
    elif path[0] not in reading.KEYS:
        raise unknown_name("key", path[0], {*reading.KEYS, *networks})
    if path[0] in reading.SECTIONS:
        known = actual.get(path[0], {})
        if len(path) < 3:
            raise ConfigurationError(f"--set {'.'.join(path)}: say which key, and of which entry.")
        if path[1] not in known:
            raise unknown_name(f"entry of {path[0]}", path[1], known)
    if path[0] == "networks" and len(path) == 3 and path[2] not in reading.NETWORK_KEYS:
        return [*path[:2], _kind_of_setting(reading.entry(actual, path[1]), *path[1:]), path[2]]
    return path


def _kind_of_setting(entry: Mapping[str, Any], who: str, name: str) -> str:
    trainer = TRAINERS.get(entry.get("trainer", ""))
    training = set() if trainer is None else trainer.settings
    if name in training:
        return "training"
    network = entry.get("network")
    settings = set(inspect.signature(ENHANCERS.get(network)).parameters) if network else set()
    # What settings an agent has is known only when it is made.
    if name in settings or "agent" in entry:
        return "settings"
    raise unknown_name(f"setting of {who}", name, training | settings)
