"""Options of a command, made from the dataclass of its settings.

The options that matter most come first, the others in groups by what they are about. Since one
word means one thing in all commands, the groups are the same for all and stand here once.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import tyro
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from facehall_env import limits
from facehall_env.agents import catalog as agents
from facehall_env.benchmarks.cli.commands import Command, load
from facehall_env.data import catalog as datasets
from facehall_env.data.protocols import PROTOCOLS
from facehall_env.enhancers import catalog as enhancers
from facehall_env.errors import ConfigurationError
from facehall_env.nested import build
from facehall_env.recognition import catalog as recognisers
from facehall_env.registry import unknown_name
from facehall_env.rewards import catalog as rewards

FEW = 12
"""A command with at most so many options needs no groups."""
FIRST = 10
"""Options before the groups."""
ESSENTIAL = (
    "out model recogniser members dataset scale enhancer models agents agent policy steps updates "
    "timesteps minutes limit weights init resume reward initial device batch seed"
)
"""What most people want to set, the most important first."""
GROUPS = {
    "faces": "dataset_settings protocol split flip augment limit people min_images margin "
    "degradation train_limit pairs against root",
    "episode": "steps border patch_size action_stride action_offset one_shot initial weights "
    "enhancer_settings reward",
    "learning": "learning_rate final_learning_rate value_learning_rate enhancer_learning_rate "
    "discriminator_learning_rate betas beta1 momentum weight_decay milestones schedule warm_up "
    "step_updates ema loss grad_clip batch gamma entropy final_entropy baseline normalise "
    "enhancer_loss samples_per_face epochs minibatch clip gae_lambda gradient_steps learn_batch",
    "progress": "validation_faces validation_people validate_every log_every checkpoint_every "
    "resume fresh overwrite keep",
    "computing": "device devices num_nodes precision seed address num_env_runners "
    "envs_per_runner gpus_per_runner gpus_per_learner recompute processes",
    "measuring": "seconds repetitions memory time_batch fsim_limit oracle_limit oracle_stride "
    "oracle_refine lpips landmarks folds relative_to",
}
"""What the other options are about, each group with the names of its settings."""
FURTHER = "further"
"""The group of all others, which stands first: they are the command's own."""


CHOICES: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "dataset": ("dataset", datasets.available),
    "protocol": ("protocol", lambda: list(PROTOCOLS)),
    "enhancer": ("enhancer", enhancers.available),
    "model": ("enhancer", enhancers.available),
    "reward": ("reward", rewards.available),
    "agent": ("agent", agents.available),
    "agents": ("agent", agents.available),
    "recogniser": ("recogniser", recognisers.available),
    "recognisers": ("recogniser", recognisers.available),
}
"""Settings whose help lists names: what these name, and a list of them that imports nothing."""
CHECKED = ("dataset", "protocol", "enhancer", "model", "reward")
"""Settings whose names are checked at once: they hold nothing else but factors and settings."""


class _Panel:
    """Options under one title: subclasses are what tyro takes for nested settings."""

    fields: tuple[StructFieldSpec, ...] = ()


def parse(command: Command, prog: str, arguments: list[str]) -> Any:
    """The settings of a command, from the arguments that were typed after the words ``prog``.

    Raises:
        SystemExit: With status 2 after naming what is wrong, with 0 after printing the help.
        ConfigurationError: If there is no such option, a value is outside the limits of its
            field, or settings contradict each other.
        UnknownNameError: If a dataset, enhancer, protocol or reward does not exist.
    """
    config = load(command.settings)
    options = [o for o in _options(config, command) if o[0].name not in command.preset]
    _check_options([option.name for option, _ in options], prog, arguments)
    if {"-h", "--help"} & {*arguments}:
        # tyro would neither wrap it nor leave its lines as they are.
        width = shutil.get_terminal_size().columns
        for part in (*command.help.split("\n\n"), *filter(None, [command.more()])):
            sys.stdout.write(textwrap.fill(part, width) + "\n\n")
    registry = ConstructorRegistry()
    registry.struct_rule(_panel_spec)
    how: Any = {"config": (tyro.conf.OmitArgPrefixes,), "registry": registry}
    typed: Any = tyro.cli(_arranged(options), prog=prog, description="", args=arguments, **how)
    for name, value in typed.items():
        _check_names(name, value)
    settings = build(config, **typed, **command.preset)
    getattr(settings, "check", lambda: limits.check(settings))()
    return settings


def _options(
    config: type, command: Command, default: Any = MISSING_NONPROP, of: str = FURTHER
) -> Iterator[tuple[StructFieldSpec, str]]:
    """The fields of a dataclass and of those nested in it, and the names of the nested ones."""
    info = StructTypeInfo.make(config, default, in_union_context=False)
    spec = ConstructorRegistry.get_struct_spec(info)
    assert isinstance(spec, StructConstructorSpec), config
    for field in spec.fields:
        kind: Any = field.type
        if dataclasses.is_dataclass(kind):
            yield from _options(field.type, command, field.default, field.name)
            continue
        if field.name in command.positional:
            kind = Annotated[kind, tyro.conf.Positional]
        yield dataclasses.replace(field, type=kind, helptext=_help(field)), of


def _help(field: StructFieldSpec) -> str:
    """The sentences under a field, and the names that it chooses among."""
    text = field.helptext() if callable(field.helptext) else field.helptext
    words = (text or "").split()
    if field.name in CHOICES:
        words += f"Names: {', '.join(sorted(CHOICES[field.name][1]()))}.".split()
    return " ".join(words)


def _arranged(options: list[tuple[StructFieldSpec, str]]) -> type[_Panel]:
    """The options in their order, those that matter most first and the others in groups."""
    if len(options) <= FEW:
        return _panel("Options", [option for option, _ in options])
    needed = [option for option, _ in options if option.default is MISSING_NONPROP]
    known = {option.name: option for option, _ in options if option not in needed}
    essential = [known[name] for name in ESSENTIAL.split() if name in known]
    first = (needed + essential)[: max(FIRST, len(needed))]
    panels: dict[str, list[StructFieldSpec]] = {name: [] for name in (FURTHER, *GROUPS)}
    for option, of in options:
        if option not in first:
            named = (group for group, names in GROUPS.items() if option.name in names.split())
            panels.setdefault(next(named, of), []).append(option)
    for name, fields in list(panels.items()):
        if name != FURTHER and len(fields) < 2:
            panels[FURTHER] += panels.pop(name)
    panel = [
        StructFieldSpec(name, _panel(name, fields), MISSING_NONPROP)
        for name, fields in panels.items()
        if fields
    ]
    return _panel("Options", [*first, *panel])


def _panel(title: str, fields: list[StructFieldSpec]) -> type[_Panel]:
    return type(title, (_Panel,), {"fields": tuple(fields), "__doc__": ""})


def _panel_spec(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Tells tyro what the options of a panel are; their values come back in one mapping."""
    if not (inspect.isclass(info.type) and issubclass(info.type, _Panel)):
        return None

    def collect(**values: Any) -> dict[str, Any]:
        collected: dict[str, Any] = {}
        for field in info.type.fields:
            nested = inspect.isclass(field.type) and issubclass(field.type, _Panel)
            collected |= values[field.name] if nested else {field.name: values[field.name]}
        return collected

    return StructConstructorSpec(collect, info.type.fields)


def _check_options(options: list[str], prog: str, arguments: list[str]) -> None:
    """Refuses an option that the command does not have, and names the nearest ones."""
    known = sorted({f"--{name.strip('_').replace('_', '-')}" for name in options})
    for word in arguments:
        given = word.partition("=")[0].replace("_", "-")
        plain = given.replace("--no-", "--", 1)
        if not given.startswith("--") or {given, plain} & {*known, "--help", "--"}:
            continue
        nearest = difflib.get_close_matches(given, known, n=2, cutoff=0.6)
        hint = f": did you mean {' or '.join(nearest)}?" if nearest else "."
        raise ConfigurationError(f"{prog} has no option {given}{hint} {prog} --help has them all.")


def _check_names(name: str, value: Any) -> None:
    """Refuses a name that nothing is registered under, and names the nearest ones."""
    if name not in CHECKED or not isinstance(value, str):
        return
    kind, available = CHOICES[name]
    words = re.findall(r"(?<![\w.])[A-Za-z_]\w*", value) if name == "reward" else value.split()[:1]
    for word in words:
        if word not in available():
            raise unknown_name(kind, word, available())
