"""Progress where nobody watches: lines, not bars, and few of them."""

from __future__ import annotations

import io
import sys

import pytest
from tqdm.auto import tqdm

from facehall_env import progress as module
from facehall_env.progress import progress


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    monkeypatch.setattr(tqdm, "monitor_interval", 0)
    return clock


Captured = pytest.CaptureFixture[str]


def test_what_is_quick_says_nothing(capsys: Captured) -> None:
    assert list(progress(range(1000), desc="counting")) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_a_line_a_minute_and_a_last_one(clock: Clock, capsys: Captured) -> None:
    with progress(total=200, desc="measuring") as bar:
        for _ in range(200):
            clock.now += 1.0
            bar.update()
            bar.set_postfix_str("31.2 dB")
    said = capsys.readouterr().err
    lines = said.splitlines()
    # After one, two and three minutes, and at the end.
    assert len(lines) == 4
    assert "\r" not in said
    assert all(line.startswith("measuring:") for line in lines)
    assert "30%" in lines[0]
    assert "200/200" in lines[-1]


def test_an_interrupt_leaves_a_line(clock: Clock, capsys: Captured) -> None:
    with pytest.raises(KeyboardInterrupt), progress(total=10) as bar:  # noqa: PT012
        clock.now += 100
        bar.update(3)
        raise KeyboardInterrupt
    assert "3/10" in capsys.readouterr().err.splitlines()[-1]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    list(progress(range(3), desc="counting"))
    assert "\rcounting: 100%" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_it_can_be_switched_off(clock: Clock, capsys: Captured) -> None:
    for _ in progress(range(3), disable=True):
        clock.now += 100
    assert capsys.readouterr().err == ""
