"""The command line, ``facehall``.

Only the command that was asked for is imported, after its options were understood, so that help
and complaints come up at once.
"""

from __future__ import annotations

import errno
import inspect
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from facehall_env.benchmarks.cli.commands import COMMANDS, GROUPS, load
from facehall_env.errors import ConfigurationError, FacehallError
from facehall_env.registry import unknown_name

BAD_INPUT, INTERRUPTED = 2, 130
OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command of some words; of those that the process was given by default.

    Returns:
        Exit status: 0, 2 after bad input (one sentence on the standard error), or 130 after an
        interrupt.

    Raises:
        SystemExit: With status 2 if options are not understood, with 0 after their help.
    """
    try:
        _dispatch(list(sys.argv[1:] if arguments is None else arguments))
    except FacehallError as error:
        _complain(str(error))
        return BAD_INPUT
    except OSError as error:
        if error.filename is not None:
            _complain(f"{error.filename}: {error.strerror}.")
        elif error.errno in OUT_OF_ROOM:
            _complain(
                f"could not write ({error.strerror}): free some space, or choose another --out; "
                "what was there before is as it was."
            )
        else:
            raise
        return BAD_INPUT
    except KeyboardInterrupt:
        _complain(
            "interrupted; what was finished is kept: the same command goes on with a benchmark, "
            "--resume with a training run."
        )
        return INTERRUPTED
    return 0


def _dispatch(arguments: list[str]) -> None:
    words, rest = "", arguments
    while words in GROUPS and rest and rest[0] in _below(words):
        words, rest = f"{words} {rest[0]}".strip(), rest[1:]
    if words in GROUPS:
        return _explain(words, rest)
    from facehall_env.benchmarks.cli.options import parse

    command = COMMANDS[words]
    settings = parse(command, f"facehall {words}", rest)
    run = load(command.run)
    if "command" in inspect.signature(run).parameters:
        result = run(settings, command=shlex.join(["facehall", *arguments]))
    else:
        result = run(settings)
    if isinstance(result, Path):
        sys.stdout.write(f"written: {result}\n")


def _below(words: str) -> dict[str, str]:
    """The words that may follow, each with what it stands for."""
    begun = len(words.split())
    everything = {**GROUPS, **{name: command.help for name, command in COMMANDS.items()}}
    return {
        name.split()[begun]: text.partition("\n")[0]
        for name, text in everything.items()
        if len(name.split()) == begun + 1 and f"{name} ".startswith(f"{words} ".lstrip())
    }


def _explain(words: str, rest: Sequence[str]) -> None:
    """Prints the help of a group of commands, or refuses a word or option that is none of them."""
    commands = _below(words)
    prog = f"facehall {words}".strip()
    if rest and rest[0] == "--version" and not words:
        from facehall_env import __version__

        sys.stdout.write(f"facehall {__version__}\n")
        return
    if rest and rest[0] not in ("-h", "--help"):
        if rest[0].startswith("-"):
            raise ConfigurationError(
                f"{rest[0]} stands where a command is expected: write {prog} and one of "
                f"{', '.join(commands)}; {prog} --help explains them."
            )
        raise unknown_name(f"{words} command".strip(), rest[0], commands)
    width = shutil.get_terminal_size().columns
    column = max(map(len, commands)) + 4
    lines = [f"usage: {prog} COMMAND ...", "", *textwrap.wrap(GROUPS[words], width), ""]
    for name, text in commands.items():
        lines += textwrap.wrap(
            text, width, initial_indent=f"  {name}".ljust(column), subsequent_indent=" " * column
        )
    lines += ["", f"{prog} COMMAND --help explains one."]
    sys.stdout.write("\n".join(lines) + "\n")


def _complain(sentence: str) -> None:
    sys.stderr.write(f"facehall: {sentence}\n")
