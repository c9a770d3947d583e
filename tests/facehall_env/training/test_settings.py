"""Every option of a training says what it does: help behind a field is not inherited."""

from __future__ import annotations

import re

import pytest

from facehall_env.benchmarks.cli.program import main

COMMANDS = (
    *("sr", "enhancer", "ensemble", "cognition", "sparnet-hd", "ipfh"),
    *(f"agent {name}" for name in ("reinforce", "dagger", "qmap", "static", "rllib-ppo")),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        main(["train", *command.split(), "--help"])
    shown = capsys.readouterr().out
    assert "(default:" in shown
    assert not re.findall(r"--[a-z0-9-]+(?: [A-Z]+)?[ │]*(?:\n.)? +\(default.*", shown)
