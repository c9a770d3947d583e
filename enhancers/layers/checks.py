"""Checks of networks' settings and of the sizes of faces."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from facehall_env.errors import ConfigurationError


def check_counts(name: str, **settings: int) -> None:
    """Raises a ConfigurationError of the network ``name`` for the first setting below 1."""
    for setting, value in settings.items():
        if value < 1:
            raise ConfigurationError(f"{name} has {setting}={value}: give at least 1.")


def one_of(setting: str, value: str, known: Sequence[str]) -> None:
    """Raises a ConfigurationError if a setting's value is not among those known."""
    if value not in known:
        raise ConfigurationError(f"{setting}={value!r} is unknown: use one of {tuple(known)}.")


def check_multiple(name: str, image: Tensor, divisor: int) -> None:
    """Checks that the sides of faces (N, 3, H, W) are positive multiples of ``divisor``.

    Raises:
        ConfigurationError: If they are not, or the faces do not have three channels.
    """
    _check_faces(name, image)
    height, width = image.shape[-2:]
    if min(height, width) < divisor or height % divisor or width % divisor:
        raise ConfigurationError(
            f"{name} got faces of {height}x{width} pixels, expected multiples of {divisor}: crop "
            "or resize them."
        )


def check_size(name: str, image: Tensor, size: tuple[int, int]) -> None:
    """Raises a ConfigurationError unless faces (N, 3, H, W) have the size that a network is for."""
    _check_faces(name, image)
    if tuple(image.shape[-2:]) != size:
        height, width = image.shape[-2:]
        raise ConfigurationError(
            f"{name} got faces of {height}x{width} pixels and has fully-connected layers for "
            f"{size[0]}x{size[1]}: build and train it with image_size=[{height}, {width}]."
        )


def _check_faces(name: str, image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ConfigurationError(
            f"{name} got a tensor of shape {tuple(image.shape)}, expected faces (N, 3, H, W)."
        )
