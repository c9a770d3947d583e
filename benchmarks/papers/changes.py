"""Other settings of a table's networks and trainings, from the command line."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from facehall_env import limits
from facehall_env.benchmarks.papers.layout import PaperTable, Part
from facehall_env.benchmarks.papers.trainers import TRAINERS, Trainer
from facehall_env.enhancers import ENHANCERS
from facehall_env.errors import ConfigurationError
from facehall_env.registry import parse_settings, unknown_name

GOVERNED = frozenset(
    {
        "dataset",
        "dataset_settings",
        "device",
        "limit",
        "minutes",
        "out",
        "protocol",
        "resume",
        "scale",
        "seed",
    }
)
"""Settings of trainings that the table or its command decide."""


class Change(NamedTuple):
    """One setting.

    Attributes:
        who: An entry of ``networks.toml``, or a network, for all entries that build it.
        name: Of the setting: of the training if its trainer has one of this name, else of the
            network or agent; ``network`` takes another network, which has its own settings.
        value: What it is set to.
    """

    who: str
    name: str
    value: Any

    def concerns(self, part: Part) -> bool:
        """Whether it is about this part."""
        return self.who in (part.use, part.network)

    def settings_of(self, part: Part) -> list[str]:
        """The settings that the part's training and network have; none are known of agents."""
        trainer = TRAINERS.get(part.trainer or "")
        own = [] if trainer is None else [*trainer.fields()]
        network = inspect.signature(ENHANCERS.get(part.network)).parameters if part.network else {}
        return [*own, *network]

    def fits(self, part: Part) -> bool:
        """Whether the part has such a setting, or may have one, as an agent may."""
        if self.name == "network":
            return part.network is not None
        return part.agent is not None or self.name in self.settings_of(part)

    def to(self, part: Part) -> Part:
        """The part with this setting; the same part if it is about another."""
        if not (self.concerns(part) and self.fits(part)):
            return part
        if self.name == "network":
            ENHANCERS.get(str(self.value))  # Raises a clear error where there is none.
            return replace(part, network=str(self.value), settings={})
        trainer = TRAINERS.get(part.trainer or "")
        if trainer is not None and self.name in trainer.fields():
            if self.name in (*GOVERNED, *(trainer.network or ())):
                raise ConfigurationError(
                    f"--change {self.who}.{self.name}: the table says that; only other settings "
                    "can be changed."
                )
            self._check_value(trainer)
            try:
                limits.check(trainer.configure({self.name: self.value}))
            except ConfigurationError as error:
                raise ConfigurationError(f"--change {self.who}.{error}") from error
            return replace(part, with_={**part.with_, self.name: self.value})
        return replace(part, settings={**part.settings, self.name: self.value})

    def _check_value(self, trainer: Trainer) -> None:
        """Refuses a word where a list is wanted, and what is none of the few values there are."""
        several = "tuple" in str(trainer.fields()[self.name])
        if several and isinstance(self.value, str):
            raise ConfigurationError(
                f"--change {self.who}.{self.name}={self.value}: give a list, such as "
                f'["{self.value}"].'
            )
        choices = trainer.choices(self.name)
        values = self.value if several and isinstance(self.value, list) else [self.value]
        for value in values if choices else ():
            # 1 is no true here: it would be another setting with the same effect.
            if not any(type(value) is type(choice) and value == choice for choice in choices):
                words = " or ".join(
                    choice if isinstance(choice, str) else json.dumps(choice) for choice in choices
                )
                raise ConfigurationError(
                    f"--change {self.who}.{self.name}={self.value}: give {words}."
                )


def read(word: str) -> Change:
    """A change as it is typed, ``WHO.NAME=VALUE``, the value as in JSON or a plain word.

    Raises:
        ConfigurationError: If the word is of another form.

    >>> read("sparnet.width=8")
    Change(who='sparnet', name='width', value=8)
    """
    who, separator, setting = word.partition(".")
    if not (who and separator):
        raise ConfigurationError(f"--change {word!r} is not WHO.NAME=VALUE: write sparnet.width=8.")
    ((name, value),) = parse_settings([setting]).items()
    return Change(who, name, value)


def changed(table: PaperTable, words: Sequence[str]) -> PaperTable:
    """A table whose networks, agents or trainings have other settings.

    Args:
        table: As its file says.
        words: Changes as they are typed; see :func:`read`.

    Raises:
        ConfigurationError: If a word is of another form, is about what the table decides, or sets
            a setting to what it cannot be.
        UnknownNameError: If it is about nothing that the table or its network has.
    """
    for change in map(read, words):
        parts = [part for row in table.rows for part in row.parts.values()]
        known = {part.use for part in parts} | {part.network for part in parts if part.network}
        if change.who not in known:
            raise unknown_name(f"network of {table.heading}", change.who, known)
        concerned = [part for part in parts if change.concerns(part)]
        if not any(map(change.fits, concerned)):
            settings = {name for part in concerned for name in change.settings_of(part)}
            raise unknown_name(f"setting of {change.who}", change.name, settings - GOVERNED)
        rows = [
            replace(row, parts={role: change.to(part) for role, part in row.parts.items()})
            for row in table.rows
        ]
        table = replace(table, rows=tuple(rows))
    return table
