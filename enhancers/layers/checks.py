"""What networks check before they start: settings and the sizes of faces."""

from __future__ import annotations

from torch import Tensor

from facehall_env.errors import ConfigurationError


def check_counts(name: str, **settings: int) -> None:
    """Refuses settings that count something and are less than one.

    Args:
        name: The network, as an error should call it.
        **settings: Names and values.

    Raises:
        ConfigurationError: Naming the first such setting.
    """
    for setting, value in settings.items():
        if value < 1:
            raise ConfigurationError(f"{name} has {setting}={value}: give at least 1.")


def check_multiple(name: str, image: Tensor, divisor: int) -> None:
    """Refuses faces (N, 3, H, W) whose sides are not multiples of ``divisor``, or are none.

    Raises:
        ConfigurationError: If that, or the number of channels, is not so.
    """
    _check_faces(name, image)
    height, width = image.shape[-2:]
    if min(height, width) < divisor or height % divisor or width % divisor:
        raise ConfigurationError(
            f"{name} got faces of {height}x{width} pixels, expected multiples of {divisor}: crop "
            "or resize them."
        )


def check_size(name: str, image: Tensor, size: tuple[int, int]) -> None:
    """Refuses faces (N, 3, H, W) that are not of the one size that a network is built for.

    Raises:
        ConfigurationError: If they are of another size or number of channels.
    """
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
