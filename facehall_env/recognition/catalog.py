"""The recognisers by name; listing them imports none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facehall_env.registry import Registry

if TYPE_CHECKING:
    from facehall_env.recognition.base import Recogniser

RECOGNISERS: Registry[Recogniser] = Registry(
    "recogniser",
    "facehall_env.recognisers",
    {
        "mobilefacenet": "facehall_env.recognition.mobilefacenet:MobileFaceNet",
        "sphereface": "facehall_env.recognition.sphereface:SphereFace",
    },
)
"""Other packages join by the entry-point group ``facehall_env.recognisers``."""
register = RECOGNISERS.register
available = RECOGNISERS.available
"""Names that :func:`facehall_env.recognition.make` and ``load`` accept."""
