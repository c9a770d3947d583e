"""The rewards by name; listing them imports none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facehall_env.registry import Registry

if TYPE_CHECKING:
    from facehall_env.rewards.base import Reward

IPFH_TERMS = (
    "ipfh_patch_mse_hr",
    "ipfh_patch_texture_hr",
    "ipfh_patch_mse_lr",
    "ipfh_patch_texture_lr",
    "ipfh_face_mse",
    "ipfh_face_texture",
    "ipfh_feature",
    "ipfh_identity",
)
"""The terms of `facehall_env.rewards.ipfh.IPFHReward`, each of which is a reward by itself."""

REWARDS: Registry[Reward] = Registry(
    "reward",
    "facehall_env.rewards",
    {
        "delayed_mse": "facehall_env.rewards.fidelity:DelayedMSE",
        "delta_mse": "facehall_env.rewards.fidelity:DeltaMSE",
        "delta_psnr": "facehall_env.rewards.fidelity:DeltaPSNR",
        "coverage": "facehall_env.rewards.fidelity:Coverage",
        **{name: f"facehall_env.rewards.ipfh:{name}" for name in IPFH_TERMS},
        "ipfh": "facehall_env.rewards.ipfh:IPFHReward",
    },
)
"""Other packages join by the entry-point group ``facehall_env.rewards``."""


def available() -> list[str]:
    """Names that :func:`facehall_env.rewards.make` accepts."""
    return REWARDS.available()
