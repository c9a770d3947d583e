"""The networks that the environment wraps.

>>> from facehall_env import enhancers
>>> sorted({"attention_fh", "bicubic", "compact"} & set(enhancers.available()))
['attention_fh', 'bicubic', 'compact']
"""

if __name__ == "enhancers":
    raise ImportError(
        "Import facehall_env.enhancers: the bare name 'enhancers' would load a second copy of it."
    )

from facehall_env.enhancers.attention_fh import AttentionFH
from facehall_env.enhancers.base import ENHANCERS, PATCH_SIZE, Enhancer, OneShot, parameter_count
from facehall_env.enhancers.bicubic import Bicubic
from facehall_env.enhancers.compact import Compact
from facehall_env.enhancers.weights import available, load, make, save, shipped

register = ENHANCERS.register

__all__ = [
    "ENHANCERS",
    "PATCH_SIZE",
    "AttentionFH",
    "Bicubic",
    "Compact",
    "Enhancer",
    "OneShot",
    "available",
    "load",
    "make",
    "parameter_count",
    "register",
    "save",
    "shipped",
]
