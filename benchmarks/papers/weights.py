"""From the parts of a row to weights: given, shipped, kept from before, or trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from facehall_env import agents, enhancers
from facehall_env.benchmarks.papers import trainers
from facehall_env.benchmarks.papers.tables import (
    SHOWN_ROLES,
    Condition,
    Measuring,
    PaperTable,
    Part,
    Row,
    Source,
)
from facehall_env.benchmarks.papers.trainers import TRAINERS, Task
from facehall_env.benchmarks.restorers import (
    LEARNED,
    NetworkSpec,
    PatchByPatch,
    PatchByPatchSpec,
    Restorer,
    Spec,
    WholeFace,
    WholeFaceSpec,
)
from facehall_env.checkpoints import kind_of
from facehall_env.core import HallucinationCore
from facehall_env.enhancers import ENHANCERS, Enhancer
from facehall_env.errors import ConfigurationError, WeightsError
from facehall_env.files import sha256
from facehall_env.recognition.weights import COGNITION_KIND

Say = Callable[[str], None]

EVERY_ROW = "*"
"""Instead of a row's name on the command line."""


Given = Mapping[tuple[str, str, str], Path]
"""Files by row or ``*``, part and condition; the latter is empty where a file is for all."""


def _learned(part: Part) -> bool:
    """Whether training makes the part, its own or another's."""
    return part.trainer is not None or part.of is not None


def _kind(part: Part) -> str:
    """What the files of a part hold, as `kind_of` calls it."""
    if part.trainer == "cognition":
        return COGNITION_KIND
    return "enhancer" if part.agent is None else "agent"


def given(words: tuple[str, ...], table: PaperTable) -> Given:
    """Files from the command line: ``ROW=PATH``, ``ROW:PART=PATH``, ``ROW:PART@CONDITION=PATH``.

    With ``*`` for the row they are for every row that would train the part and has no file of its
    own.

    Raises:
        ConfigurationError: If a word names no part of the table, no file, or a file of others.
    """
    files: dict[tuple[str, str, str], Path] = {}
    rows = {row.key: row for row in table.rows}
    for word in words:
        place, separator, path = word.partition("=")
        name, _, condition = place.partition("@")
        key, _, role = name.partition(":")
        role = role or "model"
        meant = table.rows if key == EVERY_ROW else [rows[key]] if key in rows else []
        known = any(role in row.parts for row in meant)
        if key == EVERY_ROW:
            known = any(_learned(row.parts[role]) for row in meant if role in row.parts)
        if not (separator and known and (not condition or condition in table.conditions)):
            parts = [f"{r.key}:{role}" for r in table.rows for role in r.parts]
            raise ConfigurationError(
                f"--weights {word!r} is not ROW:PART=PATH, *:PART=PATH nor ROW:PART@CONDITION=PATH "
                f"of this table: its parts are {', '.join(parts)}, its conditions "
                f"{', '.join(table.conditions)}."
            )
        if not Path(path).is_file():
            raise ConfigurationError(f"--weights {word!r}: there is no file {path}.")
        # Said now: the part may be needed only after others have trained for hours.
        expected = {_kind(row.parts[role]) for row in meant if role in row.parts}
        found = "archive" if is_zipfile(path) else kind_of(path) or "nothing of this project"
        if found not in expected and not (found == "archive" and expected == {"agent"}):
            raise ConfigurationError(
                f"--weights {word!r}: {path} holds {found}, expected {' or '.join(expected)}: give "
                "a .safetensors file that `facehall train` wrote; an agent may also be an archive "
                "of Stable-Baselines3 (.zip)."
            )
        files[key, role, condition] = Path(path)
    return files


@dataclass(frozen=True)
class Workshop:
    """What parts are made with: ``common`` are settings that every trainer gets."""

    cache: Path
    common: Mapping[str, Any]
    measuring: Measuring
    given: Given
    say: Say


@dataclass(eq=False)
class Parts:
    """The parts of a row under a condition, each made when it is asked for.

    Attributes:
        source: Where the condition's faces come from.
        image_size: Height and width of these.
        origin: Where each part that was asked for came from, in a few words.
    """

    row: Row
    condition: Condition
    source: Source
    image_size: tuple[int, int]
    workshop: Workshop
    origin: dict[str, str] = field(default_factory=dict)
    _files: dict[str, str] = field(default_factory=dict)

    def file(self, role: str) -> str:
        """File of a part, or its name where it needs none.

        Raises:
            WeightsError: If there are no weights; says how to get them.
            FacehallError: As training does.
        """
        if role not in self._files:
            self._files[role], self.origin[role] = self._find(role, self.row.parts[role])
        return self._files[role]

    def specification(self) -> Spec:
        """What restores, with the weights of its parts; raises what `file` does."""
        row, measuring = self.row, self.workshop.measuring
        if row.kind == "model":
            return WholeFaceSpec(row.key, NetworkSpec.of(self.file("model")))
        enhancer, agent = self.file("enhancer"), self.file("agent")
        initial = self.file("initial") if "initial" in row.parts else None
        learned = agent in LEARNED or agent not in agents.available()
        return PatchByPatchSpec(
            row.key,
            agent,
            NetworkSpec.of(enhancer),
            NetworkSpec.of(initial),
            steps=row.steps,
            seed=measuring.seed,
            action_stride=None if learned else measuring.action_stride,
            action_offset=measuring.action_offset,
        )

    def untrained(self) -> Restorer:
        """The same with networks that nobody has trained: these cost as much as any other."""
        row, device = self.row, str(self.workshop.common["device"])
        if row.kind == "model":
            return WholeFace(row.key, self._untrained("model"), device)
        agent = row.parts["agent"]
        learned = _learned(agent) or agent.agent in LEARNED
        grid = agent.training if learned else vars(self.workshop.measuring)
        core = HallucinationCore(
            self._untrained("enhancer"),
            image_size=self.image_size,
            num_steps=row.steps,
            action_stride=grid.get("action_stride", 8),
            action_offset=grid.get("action_offset"),
            initial=self._untrained("initial") if "initial" in row.parts else None,
            device=device,
        )
        player = agents.make(str(agent.agent), core, **self._filled(agent.settings))
        return PatchByPatch(row.key, core, lambda _: player, agent=str(agent.agent))

    def _untrained(self, role: str) -> Enhancer:
        part = self.row.parts[role]
        scale = self.condition.scale
        return enhancers.make(str(part.network), scale=scale, **self._filled(part.settings))

    def trainings(self) -> dict[str, float]:
        """Shares of the row's time that trainings have, whatever earlier runs have left.

        Each by a text that says all that its result depends on: parts that rows share have the
        same.
        """
        found: dict[str, float] = {}
        for role in SHOWN_ROLES:
            if role in self.row.parts:
                self._describe(role, found)
        return found

    def _describe(self, role: str, found: dict[str, float]) -> str:
        """What a part's result depends on; adds its training, and those that it needs."""
        part = self.row.parts[role]
        if (path := self._given(role)) is not None:
            return str(path)
        if part.of is not None:
            return f"{part.file} of {self._describe(part.of, found)}"
        words = [str(value) for value in (*part.settings.values(), *part.training.values())]
        needed = [word[1:] for word in words if word.startswith("@") and word[1:] in self.row.parts]
        stands_for = {"@image_size": self.image_size, "@steps": self.row.steps}
        depends = (
            part,
            [self._describe(other, found) for other in needed],
            [stands_for[word] for word in words if word in stands_for],
            self.condition.scale,
            self.source.train,
        )
        text = repr(depends)
        if part.trainer is not None:
            found[text] = part.share
        return text

    def _given(self, role: str) -> Path | None:
        names = (self.row.key, EVERY_ROW) if _learned(self.row.parts[role]) else (self.row.key,)
        places = product(names, [role], (self.condition.key, ""))
        return next((self.workshop.given[p] for p in places if p in self.workshop.given), None)

    def _find(self, role: str, part: Part) -> tuple[str, str]:
        if (path := self._given(role)) is not None:
            return str(path), f"given: {path.name}, sha256 {sha256(path)[:16]}"
        if part.of is not None:
            other = self.row.parts[part.of]
            if self._given(part.of) is not None:
                raise WeightsError(
                    f"its {part.of} was given, which usually leaves its {role}: give that by "
                    f"--weights {self.row.key}:{role}=PATH, too"
                )
            path = self._trained(other) / str(part.file)
            return str(path), f"trained with the {part.of}, sha256 {sha256(path)[:16]}"
        if part.trainer is not None:
            path = self._trained(part) / (part.file or TRAINERS[part.trainer].file)
            return str(path), f"trained, sha256 {sha256(path)[:16]}"
        return self._shipped(part)

    def _shipped(self, part: Part) -> tuple[str, str]:
        """A part that nothing trains: an agent by its name, or weights that come along."""
        if part.network is None:
            return str(part.agent), str(part.agent)
        if getattr(ENHANCERS.get(part.network), "weightless", False):
            return part.network, part.network
        path = enhancers.shipped(part.network, self.condition.scale, self.source.test.name)
        return str(path), f"comes with the project: {path.name}"

    def _trained(self, part: Part) -> Path:
        """Folder of the part's training."""
        shop = self.workshop
        if shop.measuring.minutes is None:
            raise WeightsError(
                "it has no weights: give --set minutes=MINUTES to train it, or its files by "
                "--weights "
                + " ".join(f"{self.row.key}:{r}=PATH" for r in SHOWN_ROLES if r in self.row.parts)
            )
        own = self._task(part, round(shop.measuring.minutes * part.share, 6))
        folder, problem = trainers.finished(own, shop.cache)
        if problem:
            shop.say(problem)
        if folder is None:
            shop.say(
                f"{self.row.name}, {self.condition.title}: {part.use} is trained for {own.length}."
            )
            folder = trainers.train(own, shop.cache)
        return folder

    def _task(self, part: Part, minutes: float) -> Task:
        """The part's training; a number of updates takes the place of the time."""
        trainer, faces = TRAINERS[str(part.trainer)], self.source.train
        given = {
            **self.workshop.common,
            "seed": self.workshop.measuring.seed,
            "scale": self.condition.scale,
            "minutes": None if "updates" in part.training else minutes,
            "dataset": faces.name,
            "dataset_settings": tuple(faces.options.items()),
        }
        settings = {key: value for key, value in given.items() if key in trainer.types}
        if part.network is not None and trainer.network is not None:
            name, keywords = trainer.network
            filled = tuple(self._filled(part.settings).items())
            settings |= {name: part.network, keywords: filled}
        return Task(part.use, str(part.trainer), settings | self._filled(part.training))

    def _filled(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with what their ``"@NAME"`` stand for."""
        named = trainers.references(settings)
        return {**settings, **{key: self._value(value) for key, value in named.items()}}

    def _value(self, value: str) -> Any:
        name = value[1:]
        if name == "image_size":
            return self.image_size
        if name == "steps":
            return self.row.steps
        if name == "mobilefacenet" and self.workshop.measuring.mobilefacenet is not None:
            return Path(self.workshop.measuring.mobilefacenet)
        role, _, what = name.partition("-")
        if role not in self.row.parts:
            raise ConfigurationError(f"{value} stands for nothing in the row {self.row.key!r}.")
        if what == "network":
            return self.row.parts[role].network
        return self.file(role)
