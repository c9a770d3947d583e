"""Restoring faces patch by patch: a Gymnasium environment, its networks and its agents.

Importing the package registers the environments and nothing else; the rest is imported when it
is used.

    >>> import gymnasium as gym
    >>> import facehall_env
    >>> env = gym.make("FaceHallucination-v0", enhancer="bicubic")
    >>> observation, info = env.reset(seed=0)
    >>> observation["image"].shape
    (128, 128, 3)
"""

from __future__ import annotations

from typing import Any

from gymnasium.envs.registration import register

__version__ = "0.2.0"


_IDS: dict[str, dict[str, Any]] = {
    "FaceHallucination-v0": {},
    "FaceHallucination-IPFH-v0": {"patch_size": (32, 32), "num_steps": 20},
}
# Entry points are strings, so that torch is imported by `gym.make` only. No `max_episode_steps` is
# given: Gymnasium would wrap the environment in a `TimeLimit`, and its truncation would have
# learners expect a future after the last reward.
for _id, _keywords in _IDS.items():
    register(
        id=_id,
        entry_point="facehall_env.env:FaceHallucinationEnv",
        vector_entry_point="facehall_env.vector:FaceHallucinationVectorEnv",
        kwargs=_keywords,
    )
