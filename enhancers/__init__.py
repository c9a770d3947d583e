"""The networks that the environment wraps.

>>> from facehall_env import enhancers
>>> sorted({"attention_fh", "bicubic", "compact"} & set(enhancers.available()))
['attention_fh', 'bicubic', 'compact']
"""

if __name__ == "enhancers":
    raise ImportError(
        "Import facehall_env.enhancers: the bare name 'enhancers' would load a second copy of it."
    )

from facehall_env.enhancers import recognition
from facehall_env.enhancers.attention_fh import AttentionFH
from facehall_env.enhancers.base import (
    ENHANCERS,
    PATCH_SIZE,
    Enhancer,
    OneShot,
    Recipe,
    parameter_count,
)
from facehall_env.enhancers.bicubic import Bicubic
from facehall_env.enhancers.coarse import Coarse
from facehall_env.enhancers.compact import Compact
from facehall_env.enhancers.ensemble import Ensemble
from facehall_env.enhancers.fusion import for_inference, fuse_batch_norm
from facehall_env.enhancers.gln import GLN
from facehall_env.enhancers.ipfh import IPFHRestorer
from facehall_env.enhancers.light import Light
from facehall_env.enhancers.sisn import SISN
from facehall_env.enhancers.sparnet import SPARNet
from facehall_env.enhancers.sparnet_hd import SPARNetHD
from facehall_env.enhancers.srcnn import SRCNN
from facehall_env.enhancers.vdsr import CNN16, VDSR
from facehall_env.enhancers.weights import available, load, make, save, shipped
from facehall_env.enhancers.whole import RecurrentWhole, SpatialTransform

register = ENHANCERS.register

__all__ = [
    "CNN16",
    "ENHANCERS",
    "GLN",
    "PATCH_SIZE",
    "SISN",
    "SRCNN",
    "VDSR",
    "AttentionFH",
    "Bicubic",
    "Coarse",
    "Compact",
    "Enhancer",
    "Ensemble",
    "IPFHRestorer",
    "Light",
    "OneShot",
    "Recipe",
    "RecurrentWhole",
    "SPARNet",
    "SPARNetHD",
    "SpatialTransform",
    "available",
    "for_inference",
    "fuse_batch_norm",
    "load",
    "make",
    "parameter_count",
    "recognition",
    "register",
    "save",
    "shipped",
]
