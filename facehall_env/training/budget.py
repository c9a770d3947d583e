"""Trainings that end after some wall time instead of after a number of updates.

So networks whose updates cost different amounts can be given the same. The length of the training
in updates, which schedules need, is what the pace so far makes of the time: a cosine then follows
the share of the time that has gone. How many updates fit depends on the machine and on what else
it does, so such a run does not repeat exactly; its weights say how many there were.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from facehall_env.errors import ConfigurationError


class Budget:
    """How long a training goes on.

    Its clock starts when it is first asked, so that reading the faces does not count.

    Args:
        minutes: Wall time of the updates, with what is measured and saved between them; None for
            a given number of updates.
        spent: Seconds that earlier parts of a resumed run have taken.
        processes: How many share the training; their clocks differ, so it has to be one.
        clock: Seconds since some moment.

    Raises:
        ConfigurationError: If ``minutes`` is not positive, or several processes would measure it.

    >>> seconds = iter([0.0, 6.0, 12.0, 70.0])
    >>> budget = Budget(minutes=1.0, clock=lambda: next(seconds))
    >>> [budget.total(done, 500) for done in (0, 1, 2, 9)]
    [500, 10, 10, 9]
    """

    def __init__(
        self,
        minutes: float | None,
        spent: float = 0.0,
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if minutes is not None and not minutes > 0:
            raise ConfigurationError(f"minutes={minutes}: give a positive number, or none.")
        if minutes is not None and processes > 1:
            raise ConfigurationError(
                f"minutes={minutes} cannot be measured by {processes} processes alike: give a "
                "number of updates, or use one device."
            )
        self.minutes = minutes
        self._before = spent
        self._clock = clock
        self._started: float | None = None

    @property
    def spent(self) -> float:
        """Seconds so far, those of earlier parts included."""
        return self._before + (0.0 if self._started is None else self._clock() - self._started)

    def total(self, done: int, updates: int, begin: float = 0.0, end: float = 1.0) -> int:
        """Updates that a stage of the training has in all, as it looks by now.

        Args:
            done: Its updates so far.
            updates: Its length where there is no limit of time, and before there is a pace.
            begin: Share of the time after which it begins...
            end: ...and after which it ends.

        Returns:
            ``done`` when the time is over; at least one update is made of a stage that begins
            with the training.
        """
        if self.minutes is None:
            return updates
        if self._started is None:
            self._started = self._clock()
        if done == 0 and begin == 0.0:
            return max(1, updates)
        share = (self.spent / (60 * self.minutes) - begin) / (end - begin)
        if share >= 1:
            return done
        return max(done + 1, round(done / share)) if done and share > 0 else max(1, updates)
