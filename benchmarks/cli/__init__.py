"""The command line, ``facehall``."""

from facehall_env.benchmarks.cli.program import COMMANDS, Group, main

__all__ = ["COMMANDS", "Group", "main"]
