"""Names for what a program is doing, for `torch.profiler` and for whoever measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch.profiler import record_function

Span = Callable[[str], AbstractContextManager[object]]
_listeners: list[Span] = []


def span(name: str) -> AbstractContextManager[object]:
    """Names the work of a ``with`` block by part and piece, such as ``"policy/forward"``."""
    return _listeners[-1](name) if _listeners else record_function(name)


@contextmanager
def listening(listener: Span) -> Iterator[None]:
    """Has spans go to ``listener`` instead of to `torch.profiler`.

    >>> heard = []
    >>> @contextmanager
    ... def listener(name):
    ...     heard.append(name)
    ...     yield
    >>> with listening(listener), span("policy/forward"):
    ...     pass
    >>> heard
    ['policy/forward']
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()
