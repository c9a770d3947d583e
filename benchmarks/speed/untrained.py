"""Networks without trained weights, whose speed is that of any others."""

from __future__ import annotations

from facehall_env import enhancers
from facehall_env.enhancers import Enhancer
from facehall_env.registry import parse_settings


def make_enhancer(words: str, scale: int) -> Enhancer:
    """An untrained network from its name and settings.

    Args:
        words: Such as ``"sparnet width=16"``.
        scale: Factor between low and high resolution.

    >>> make_enhancer("compact width=8", 4).config["width"]
    8
    """
    name, *settings = words.split()
    return enhancers.make(name, scale=scale, weights=None, **parse_settings(settings))
