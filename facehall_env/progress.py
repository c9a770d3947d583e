"""Progress bars that stay short where nobody watches them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

SECONDS = 60.0
"""Time between two lines where the standard error is no terminal."""


class _Lines(tqdm):  # type: ignore[type-arg]  # generic only for type checkers
    """A bar that writes a line a minute, and a last one, instead of drawing itself anew.

    What is over within a minute writes nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._said = time.monotonic()
        self._over = False
        super().__init__(*args, **{**kwargs, "delay": SECONDS, "mininterval": SECONDS, "ncols": 80})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Writes a line if the last one is a minute old."""
        if self._over or time.monotonic() - self._said >= SECONDS:
            self._said = time.monotonic()
            self.fp.write(f"{self if msg is None else msg}\n")
            self.fp.flush()
        return True

    def close(self) -> None:
        """Writes how far it has come, unless it was quick."""
        if not self.disable and time.time() - self.start_t >= SECONDS:
            self._over = True
            self.display()
        self.last_print_t = self.start_t  # tqdm then takes it for never shown, and adds no line.
        super().close()


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """A progress bar on the standard error; a line a minute where that is no terminal.

    Args:
        iterable: What to go through, if it is not updated by hand.
        **options: As of ``tqdm``: ``total``, ``initial``, ``desc``, ``unit``, ``disable``.
    """
    kind = tqdm if sys.stderr.isatty() else _Lines
    return kind(iterable, **options)
