"""What trains the parts of a row, by name, and what earlier trainings have left on disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from facehall_env import nested
from facehall_env.benchmarks.papers.layout import Faces
from facehall_env.errors import ConfigurationError
from facehall_env.files import sha256, write_text_atomic
from facehall_env.registry import unknown_name
from facehall_env.training.run import CHECKPOINT, versions

FINISHED = "finished.json"
"""Written when a training has ended: its files with their checksums."""


@dataclass(frozen=True)
class Trainer:
    """A training command as a function.

    Attributes:
        module: Where it is.
        config: Name of its settings there.
        function: Its name there.
        file: What it leaves in its folder.
        network: The settings for a network's name and for its keywords, if it takes any.
    """

    module: str
    config: str
    function: str
    file: str
    network: tuple[str, str] | None = None

    def fields(self) -> dict[str, Any]:
        """The settings that it has and their types."""
        return nested.leaf_types(getattr(import_module(self.module), self.config))

    def configure(self, settings: Mapping[str, Any]) -> Any:
        """The settings as its function takes them."""
        return nested.build(getattr(import_module(self.module), self.config), **settings)

    def choices(self, name: str) -> tuple[Any, ...]:
        """What a setting, or each of a list of them, may be; nothing unless these are a few."""
        hint = self.fields()[name]
        if hint is bool:
            return (True, False)
        kinds = list(_kinds(hint))
        values = [
            value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)
        ]
        return (*values, *([None] if NoneType in kinds else [])) if values else ()

    def __call__(self, settings: Mapping[str, Any]) -> None:
        """Trains."""
        getattr(import_module(self.module), self.function)(self.configure(settings))


def _kinds(hint: Any) -> Iterator[Any]:
    """The alternatives of a type, and for lists what they hold."""
    if get_origin(hint) in (Union, UnionType):
        for alternative in get_args(hint):
            yield from _kinds(alternative)
    elif get_origin(hint) in (tuple, Annotated):
        yield from _kinds(get_args(hint)[0])
    else:
        yield hint


TRAINERS: dict[str, Trainer] = {
    "sr": Trainer(
        "facehall_env.training.sr",
        "TrainSRConfig",
        "train_sr",
        "enhancer.safetensors",
        ("enhancer", "enhancer_settings"),
    ),
    "enhancer": Trainer(
        "facehall_env.training.enhancer",
        "TrainEnhancerConfig",
        "train_enhancer",
        "enhancer.safetensors",
        ("enhancer", "enhancer_settings"),
    ),
    "agent": Trainer(
        "facehall_env.agents.reinforce.training",
        "TrainAgentConfig",
        "train_agent",
        "best.safetensors",
    ),
    "cognition": Trainer(
        "facehall_env.training.cognition",
        "TrainCognitionConfig",
        "train_cognition",
        "cognition.safetensors",
    ),
    "ipfh": Trainer(
        "facehall_env.agents.ipfh.stages",
        "TrainIPFHConfig",
        "train_ipfh",
        "best.safetensors",
        ("enhancer", "enhancer_settings"),
    ),
}
"""The trainers that tables may name."""


@dataclass(frozen=True)
class Task:
    """A training, described by all that its result depends on.

    Attributes:
        name: What is trained, for its folder.
        trainer: What trains it.
        settings: Its settings, but the folder.
    """

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


def task(
    name: str,
    trainer: str,
    network: str | None,
    network_settings: Mapping[str, Any],
    settings: Mapping[str, Any],
    faces: Faces,
    common: Mapping[str, Any],
) -> Task:
    """A training from what a table says of it.

    Args:
        name: What is trained.
        trainer: Name of what trains it.
        network: Name of the network, of a trainer that takes one.
        network_settings: Its keywords.
        settings: The trainer's own settings; a number of ``updates`` takes the place of the time.
        faces: To train on.
        common: Settings that every trainer gets that has them: scale, protocol, device, seed,
            limit, minutes.

    Raises:
        UnknownNameError: If there is no such trainer.
        ConfigurationError: If it does not have one of the settings, or no limit of time.
    """
    if trainer not in TRAINERS:
        raise unknown_name("trainer", trainer, TRAINERS)
    known = TRAINERS[trainer].fields()
    if "minutes" not in known:
        raise ConfigurationError(
            f"The trainer {trainer!r} cannot be given a time: train {name!r} yourself and give its "
            "file by --weights."
        )
    given = {**common, "dataset": faces.name, "dataset_settings": as_words(faces.options)}
    chosen = {key: value for key, value in given.items() if key in known}
    if network is not None and (fields := TRAINERS[trainer].network):
        chosen |= {fields[0]: network, fields[1]: as_words(network_settings)}
    if unknown := settings.keys() - known.keys():
        raise ConfigurationError(
            f"The trainer {trainer!r} has no setting {', '.join(sorted(unknown))}: see "
            "networks.toml."
        )
    chosen |= {key: _typed(value, known[key]) for key, value in settings.items()}
    if "updates" in settings:
        chosen["minutes"] = None
    return Task(name, trainer, chosen)


def finished(own: Task, cache: Path) -> tuple[Path | None, str | None]:
    """The folder of a training that has ended, and what is wrong with it.

    Returns:
        The folder, or None where there is none or it is damaged; in the latter case a sentence
        that names it.
    """
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


def as_words(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as they are typed, NAME=VALUE.

    >>> as_words({"size": [216, 176], "crop": "stretch"})
    ('size=[216, 176]', 'crop="stretch"')
    """
    return tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())


def _typed(value: Any, kind: Any) -> Any:
    """A value out of a table, as its field wants it."""
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and "Path" in str(kind) else value


def _described(value: Any) -> Any:
    names_weights = isinstance(value, str) and Path(value).suffix in (".safetensors", ".pth")
    if names_weights or isinstance(value, Path):
        if not Path(value).is_file():
            raise ConfigurationError(f"There is no file {value}, which a training starts from.")
        return sha256(value)
    return list(value) if isinstance(value, tuple) else value
