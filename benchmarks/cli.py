"""The command line, ``facehall``.

Only the command that was asked for is imported, so that the help comes up at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from facehall_env.errors import FacehallError

Config = TypeVar("Config")
BAD_INPUT, INTERRUPTED = 2, 130


@dataclass(frozen=True)
class Invocation:
    """What was typed.

    Attributes:
        words: The command, such as ``("bench", "throughput")``.
        arguments: What stands behind it.
        help: What the command does, for its help.
    """

    words: tuple[str, ...]
    arguments: Sequence[str]
    help: str

    @property
    def line(self) -> str:
        """The whole command line."""
        return shlex.join(["facehall", *self.words, *self.arguments])

    def parse(self, config: type[Config]) -> Config:
        """The settings of a command.

        Raises:
            SystemExit: With status 2 after naming what is wrong, with 0 after printing the help.
        """
        import tyro

        prog = " ".join(("facehall", *self.words))
        return tyro.cli(
            config,
            prog=prog,
            description=self.help,
            args=self.arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )


Command = Callable[[Invocation], None]


@dataclass
class NoConfig:
    """Settings of a command that has none."""


def demo(invocation: Invocation) -> None:
    """Restore drawn faces with every agent: a table, figures and a GIF in under a minute."""
    from facehall_env.benchmarks.demo import DemoConfig, run

    run(invocation.parse(DemoConfig), invocation.line)


def train_enhancer(invocation: Invocation) -> None:
    """Train a network that sharpens patches: fresh faces first, then staggered rollouts."""
    from facehall_env.training.enhancer import TrainEnhancerConfig, train_enhancer

    _written(train_enhancer(invocation.parse(TrainEnhancerConfig)))


def train_agent(invocation: Invocation) -> None:
    """Train a policy that chooses the patches, by REINFORCE; with --joint the enhancer, too."""
    from facehall_env.agents.training import TrainAgentConfig, train_agent

    _written(train_agent(invocation.parse(TrainAgentConfig)))


def train_static(invocation: Invocation) -> None:
    """Fit one sequence of patches for all faces, greedily on training images."""
    from facehall_env.agents.training import TrainStaticConfig, train_static

    _written(train_static(invocation.parse(TrainStaticConfig)))


def bench_patch_selection(invocation: Invocation) -> None:
    """Compare the agents on the same test images and enhancer: how much is looking well worth?"""
    from facehall_env.benchmarks.patch_selection import PatchSelectionConfig, run

    run(invocation.parse(PatchSelectionConfig), invocation.line)


def bench_throughput(invocation: Invocation) -> None:
    """Measure how fast the environments step and the networks restore, as ratios of one run."""
    from facehall_env.benchmarks.throughput import ThroughputConfig, run

    run(invocation.parse(ThroughputConfig), invocation.line)


def data_list(invocation: Invocation) -> None:
    """List the datasets and where their images are."""
    invocation.parse(NoConfig)
    from facehall_env.benchmarks.datasets import list_datasets

    list_datasets()


def data_check(invocation: Invocation) -> None:
    """Read every image of a dataset and name those that cannot be used."""
    from facehall_env.benchmarks.datasets import CheckConfig, check

    check(invocation.parse(CheckConfig))


@dataclass(frozen=True)
class Group:
    """Commands under one word."""

    help: str
    commands: Mapping[str, Command | Group]


COMMANDS = Group(
    "Restoring faces patch by patch: train and compare agents that choose where to look.",
    {
        "demo": demo,
        "train": Group(
            "Train an enhancer or an agent.",
            {"enhancer": train_enhancer, "agent": train_agent, "static": train_static},
        ),
        "bench": Group(
            "Run a benchmark: a table on the terminal, results on disk.",
            {"patch-selection": bench_patch_selection, "throughput": bench_throughput},
        ),
        "data": Group("Look after the datasets.", {"list": data_list, "check": data_check}),
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The words after ``facehall``; those of the process by default.

    Returns:
        Exit status: 0, 2 after bad input (one sentence on the standard error), or 130 after an
        interrupt.
    """
    try:
        _dispatch(COMMANDS, (), list(sys.argv[1:] if arguments is None else arguments))
    except FacehallError as error:
        _complain(str(error))
        return BAD_INPUT
    except OSError as error:
        if error.filename is None:
            raise
        _complain(f"{error.filename}: {error.strerror}.")
        return BAD_INPUT
    except KeyboardInterrupt:
        _complain(
            "interrupted; what was finished is kept: the same command goes on with a benchmark, "
            "--resume with a training run."
        )
        return INTERRUPTED
    return 0


def _dispatch(group: Group, words: tuple[str, ...], arguments: list[str]) -> None:
    if not arguments or arguments[0] not in group.commands:
        _parse_group(group, words, arguments or ["--help"])
        return
    chosen = group.commands[arguments[0]]
    words, arguments = (*words, arguments[0]), arguments[1:]
    if isinstance(chosen, Group):
        _dispatch(chosen, words, arguments)
    else:
        chosen(Invocation(words, arguments, chosen.__doc__ or ""))


def _parse_group(group: Group, words: tuple[str, ...], arguments: list[str]) -> None:
    """Has tyro print the help of a group, or what is wrong with its arguments."""
    import tyro

    stubs = {name: _stub(command) for name, command in group.commands.items()}
    tyro.extras.subcommand_cli_from_dict(
        stubs, prog=" ".join(("facehall", *words)), description=group.help, args=arguments
    )


def _stub(command: Command | Group) -> Callable[[], None]:
    def stub() -> None:
        pass

    stub.__doc__ = command.help if isinstance(command, Group) else command.__doc__
    return stub


def _written(path: object) -> None:
    sys.stdout.write(f"written: {path}\n")


def _complain(sentence: str) -> None:
    sys.stderr.write(f"facehall: {sentence}\n")
