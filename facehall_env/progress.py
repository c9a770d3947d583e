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
        self._began = self._said = time.monotonic()
        self._shown = -1.0
        super().__init__(*args, **{**kwargs, "mininterval": 0, "miniters": 1, "ncols": 80})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Writes a line if the last one is a minute old."""
        if time.monotonic() - self._said >= SECONDS:
            self._write()

    def close(self) -> None:
        """Writes how far it has come, unless it was quick or that stands there already."""
        if not self.disable:
            if time.monotonic() - self._began >= SECONDS and self.n != self._shown:
                self._write()
            # Has tqdm take it for never shown, which adds no line of its own.
            self.last_print_t = self.start_t - 1
        super().close()

    def _write(self) -> None:
        self._said, self._shown = time.monotonic(), self.n
        self.fp.write(f"{self}\n")
        self.fp.flush()


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """A progress bar on the standard error; a line a minute where that is no terminal.

    Args:
        iterable: What to go through, if it is not updated by hand.
        **options: Options of ``tqdm``: ``total``, ``initial``, ``desc``, ``unit``, ``disable``.
    """
    bar: tqdm[Any] = (tqdm if sys.stderr.isatty() else _Lines)(iterable, **options)
    return bar
