"""Errors of one sentence: what arrived, what was expected, what to do."""

from __future__ import annotations


class FacehallError(Exception):
    """Base of all errors that a user of the project can correct."""


class UnknownNameError(FacehallError, ValueError):
    """A name that no registry entry has; the message lists the nearest ones."""


class ConfigurationError(FacehallError, ValueError):
    """Settings that contradict each other or lie outside their range."""


class DatasetError(FacehallError):
    """A dataset that is missing, empty, incomplete or unreadable."""


class WeightsError(FacehallError):
    """A weights or checkpoint file that is missing, damaged or made for something else."""


class EnhancerError(FacehallError, RuntimeError):
    """An enhancer that returned the wrong shape or values that are not finite."""


class ActionError(FacehallError, ValueError):
    """An action outside the action space."""


class EpisodeError(FacehallError, RuntimeError):
    """A step before the first reset or after the end of an episode."""


class MissingExtraError(FacehallError, ImportError):
    """An optional package that is not installed; the message says how to get it.

    Args:
        package: What cannot be imported, as people call it.
        extra: The extra of this project that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed, which this part of the project needs: "
            f"pip install 'facehall-env[{extra}]'."
        )
