"""The enhancers by name; listing them imports none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facehall_env.registry import Registry

if TYPE_CHECKING:
    from facehall_env.enhancers.base import Enhancer

ENHANCERS: Registry[Enhancer] = Registry(
    "enhancer",
    "facehall_env.enhancers",
    {
        "attention_fh": "facehall_env.enhancers.patch.attention_fh:AttentionFH",
        "bicubic": "facehall_env.enhancers.patch.bicubic:Bicubic",
        "cnn16": "facehall_env.enhancers.whole_face.vdsr:CNN16",
        "coarse": "facehall_env.enhancers.whole_face.coarse:Coarse",
        "compact": "facehall_env.enhancers.patch.compact:Compact",
        "ensemble": "facehall_env.enhancers.whole_face.ensemble:Ensemble",
        "gln": "facehall_env.enhancers.whole_face.gln:GLN",
        "ipfh": "facehall_env.enhancers.patch.ipfh_restorer:IPFHRestorer",
        "light": "facehall_env.enhancers.whole_face.light:Light",
        "light-l": "facehall_env.enhancers.whole_face.ladder:LightL",
        "light-m": "facehall_env.enhancers.whole_face.ladder:LightM",
        "light-s": "facehall_env.enhancers.whole_face.ladder:LightS",
        "light-xl": "facehall_env.enhancers.whole_face.ladder:LightXL",
        "recurrent_whole": "facehall_env.enhancers.whole_face.recurrent_whole:RecurrentWhole",
        "sisn": "facehall_env.enhancers.whole_face.sisn:SISN",
        "sparnet": "facehall_env.enhancers.whole_face.sparnet:SPARNet",
        "sparnet_hd": "facehall_env.enhancers.whole_face.sparnet_hd:SPARNetHD",
        "spatial_transform": "facehall_env.enhancers.whole_face.spatial_transform:SpatialTransform",
        "srcnn": "facehall_env.enhancers.whole_face.srcnn:SRCNN",
        "vdsr": "facehall_env.enhancers.whole_face.vdsr:VDSR",
    },
)
"""Other packages join by the entry-point group ``facehall_env.enhancers``."""
register = ENHANCERS.register


def available() -> list[str]:
    """Names that :func:`facehall_env.enhancers.make` accepts."""
    return ENHANCERS.available()
