"""What trains the parts of a row, by name, and what earlier trainings have left on disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from facehall_env import nested
from facehall_env.errors import ConfigurationError
from facehall_env.files import sha256, write_text_atomic
from facehall_env.nested import Place, typed
from facehall_env.training.run import CHECKPOINT, versions

FINISHED = "finished.json"
"""Written when a training has ended: its files with their checksums."""
GIVEN = frozenset(
    {"dataset", "dataset_settings", "device", "limit", "minutes", "out", "protocol", "resume"}
    | {"scale", "seed"}
)
"""Settings of trainings that the experiment decides for all of them."""


@dataclass(frozen=True)
class Trainer:
    """A training command as a function.

    Attributes:
        config: Its settings, ``"module:class"`` within `facehall_env`.
        function: The function, likewise.
        file: What it leaves in its folder.
        network: The settings for a network's name and for its keywords, if it takes any.
    """

    config: str
    function: str
    file: str
    network: tuple[str, str] | None = None

    @cached_property
    def types(self) -> dict[str, Any]:
        """All of its settings and their types."""
        return nested.leaf_types(self.config_class)

    @cached_property
    def settings(self) -> set[str]:
        """Names of the settings that an experiment may give."""
        return self.types.keys() - GIVEN - {*(self.network or ())}

    @property
    def config_class(self) -> type[Any]:
        """The dataclass of its settings."""
        return cast(type[Any], _named(self.config))

    def typed(self, settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Settings of an experiment as the trainer wants them.

        Raises:
            ConfigurationError: If it has no such setting, or the value is of a wrong type or
                outside of its limits; names the file, the key and the nearest names.
        """
        place.check_keys(settings, self.settings)
        parts = references(settings)
        values = {
            name: typed(self.types[name], settings[name], place / name)
            for name in settings
            if name not in parts
        }
        place.check_limits(self.configure(**values))
        return {**values, **parts}

    def configure(self, **values: Any) -> Any:
        """The trainer's own settings, typed."""
        return nested.build(self.config_class, **values)

    def __call__(self, settings: Mapping[str, Any]) -> None:
        """Trains."""
        _named(self.function)(self.configure(**settings))


def references(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings ``"@NAME"``, which stand for something of the row."""
    return {k: v for k, v in settings.items() if isinstance(v, str) and v.startswith("@")}


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(f"facehall_env.{module}"), attribute)


_ENHANCER = "enhancer.safetensors", ("enhancer", "enhancer_settings")
_BEST = "best.safetensors"
TRAINERS: dict[str, Trainer] = {
    "sr": Trainer("training.settings:TrainSRConfig", "training.sr:train_sr", *_ENHANCER),
    "enhancer": Trainer(
        "training.settings:TrainEnhancerConfig", "training.enhancer:train_enhancer", *_ENHANCER
    ),
    "agent": Trainer(
        "agents.settings:TrainAgentConfig", "agents.reinforce.training:train_agent", _BEST
    ),
    "cognition": Trainer(
        "training.settings:TrainCognitionConfig",
        "training.cognition:train_cognition",
        "cognition.safetensors",
    ),
    "ipfh": Trainer(
        "agents.settings:TrainIPFHConfig", "agents.ipfh.stages:train_ipfh", _BEST, _ENHANCER[1]
    ),
}
"""The trainers that experiments may name."""


@dataclass(frozen=True)
class Task:
    """A training by all that its result depends on: its settings, but the folder."""

    name: str
    trainer: str
    settings: Mapping[str, Any]

    @property
    def length(self) -> str:
        """How long it takes, in a few words."""
        minutes = self.settings.get("minutes")
        return f"{self.settings['updates']:,} updates" if minutes is None else duration(minutes)

    @property
    def digest(self) -> str:
        """Hash of the settings, where files count by their content."""
        described = {key: _described(value) for key, value in self.settings.items()}
        content = {"trainer": self.trainer, "settings": described, "versions": versions()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def folder(self, cache: Path) -> Path:
        """Where its run is kept."""
        name = re.sub(r"[^\w.-]+", "_", self.name)
        return cache / "training" / f"{name}-{self.digest[:16]}"


def finished(own: Task, cache: Path) -> tuple[Path | None, str | None]:
    """The folder of a training that has ended; None and a sentence where it is damaged."""
    folder = own.folder(cache)
    path = folder / FINISHED
    if not path.is_file():
        return None, None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        wrong = [name for name, known in content["files"].items() if sha256(folder / name) != known]
    except (OSError, ValueError, KeyError, AttributeError):
        wrong = [FINISHED]
    if wrong:
        return None, f"{folder / wrong[0]} is damaged: {own.name} is trained again."
    return folder, None


def train(own: Task, cache: Path) -> Path:
    """Trains, or goes on where an interrupted training stood; returns its folder.

    Raises:
        FacehallError: As the trainer does.
    """
    folder = own.folder(cache)
    if (folder / FINISHED).is_file():
        shutil.rmtree(folder)  # It is damaged, or it would not be trained.
    if not (ignore := cache / ".gitignore").is_file():
        write_text_atomic(ignore, "*\n")
    resume = (folder / CHECKPOINT).is_file()
    if not resume and folder.is_dir():
        shutil.rmtree(folder)  # Nothing to go on from; its log is of updates that are lost.
    TRAINERS[own.trainer]({**own.settings, "out": folder, "resume": resume})
    files = {path.name: sha256(path) for path in sorted(folder.glob("[!.]*.safetensors"))}
    files.pop(CHECKPOINT, None)
    write_text_atomic(folder / FINISHED, json.dumps({"files": files}, indent=1) + "\n")
    return folder


def duration(minutes: float) -> str:
    """Some minutes, or seconds where they are less than one.

    >>> duration(0.05), duration(12.5)
    ('3 s', '12.5 minutes')
    """
    return f"{60 * minutes:.3g} s" if minutes < 1 else f"{minutes:.3g} minutes"


def _described(value: Any) -> Any:
    names_weights = isinstance(value, str) and Path(value).suffix in (".safetensors", ".pth")
    if names_weights or isinstance(value, Path):
        if not Path(value).is_file():
            raise ConfigurationError(f"There is no file {value}, which a training starts from.")
        return sha256(value)
    return list(value) if isinstance(value, tuple) else value
