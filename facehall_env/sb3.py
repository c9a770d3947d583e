"""Many faces at once for Stable-Baselines3: a `VecEnv` over the batched environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from facehall_env.episodes import HasEpisodes
from facehall_env.errors import ActionError, ConfigurationError, MissingExtraError
from facehall_env.rendering import Picture
from facehall_env.vector import FaceHallucinationVectorEnv

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices as Indices
except ImportError as error:
    raise MissingExtraError("Stable-Baselines3", "sb3") from error

Infos = list[dict[str, Any]]


class FaceHallucinationVecEnv(HasEpisodes, VecEnv):
    """Restore N faces patch by patch, all in one batch, as Stable-Baselines3 wants it.

    Sub-environment k, seeded with s, behaves as `FaceHallucinationEnv` seeded with s + k, and an
    ended one starts its next episode at once. Nothing has to be wrapped around it: ``info`` holds
    what `Monitor` would add, images stay uint8 (SB3 itself puts the channels first), and episodes
    are never truncated, so that no value is expected behind the last reward.

    ## Information

    ``info`` of each sub-environment is the single environment's, and in addition

    - `TimeLimit.truncated`: always False;
    - at the end of an episode `terminal_observation`, the last observation, while the one returned
      is the next episode's already; `episode_summary` as in the single environment; and `episode`
      with return `r`, length `l` and seconds `t` since the environment was made. What the reset
      returned is in ``reset_infos``.

    Args:
        num_envs: Number of sub-environments N.
        **settings: Those of `FaceHallucinationVectorEnv`, but its autoreset mode and output.

    Raises:
        ConfigurationError: On settings that contradict each other or lie outside their range.
        MissingExtraError: On importing this module without Stable-Baselines3.

    >>> envs = FaceHallucinationVecEnv(2, enhancer="bicubic", num_steps=1)
    >>> observation = envs.reset()
    >>> observation, reward, done, infos = envs.step(np.array([0, 64 * 128 + 64]))
    >>> done.tolist(), infos[1]["episode"]["l"]
    ([True, True], 1)
    """

    def __init__(self, num_envs: int = 1, **settings: Any) -> None:
        for name in ("autoreset_mode", "output"):
            if name in settings:
                raise ConfigurationError(
                    f"{name}={settings[name]!r} cannot be chosen here: Stable-Baselines3 takes "
                    "arrays and has ended episodes start again in the same step; leave it out."
                )
        envs = FaceHallucinationVectorEnv(num_envs, autoreset_mode="SameStep", **settings)
        self._envs, self._episodes = envs, envs._episodes
        self._actions: npt.NDArray[Any] | None = None
        self._made = time.time()
        super().__init__(num_envs, envs.single_observation_space, envs.single_action_space)
        self.metadata = {**envs.metadata}

    def reset(self) -> VecEnvObs:
        """Starts new episodes everywhere, with the seeds and options that were set before.

        Returns:
            The observation: (N, ...) arrays by name.

        Raises:
            ConfigurationError: If only some of the options have an ``"index"``.
        """
        asked = [options["index"] for options in self._options if "index" in options]
        if asked and len(asked) < self.num_envs:
            raise ConfigurationError(
                f"The options of {len(asked)} of {self.num_envs} sub-environments have an "
                "'index': give all of them a face, or none."
            )
        seeds = None if all(seed is None for seed in self._seeds) else self._seeds
        options = {"index": asked} if asked else {}
        observation, infos = self._envs.reset(seed=seeds, options=options)
        self.reset_infos = unbatched(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keeps the actions (N,) for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Takes the step.

        Returns:
            Observation, rewards (N,) float32, whether each episode has ended (N,) bool, and a
            list of N dictionaries.

        Raises:
            ActionError: If there are no actions, or other than N integers in the action space.
        """
        if self._actions is None:
            raise ActionError("No actions are waiting: call step_async() or step() with N of them.")
        actions, self._actions = self._actions, None
        observation, reward, over, _, infos = self._envs.step(actions)
        final_observations = infos.pop("final_obs", None)
        last = unbatched(infos.pop("final_info", {}), self.num_envs)
        rows = unbatched(infos, self.num_envs)
        seconds = round(time.time() - self._made, 6)
        for row in np.flatnonzero(over).tolist():
            # What stands in the row is of the episode that has just begun.
            self.reset_infos[row], rows[row] = rows[row], last[row]
            summary = last[row]["episode_summary"]
            rows[row]["terminal_observation"] = final_observations[row]
            rows[row]["episode"] = {"r": summary["return"], "l": summary["length"], "t": seconds}
        for info in rows:
            info["TimeLimit.truncated"] = False
        return observation, reward.astype(np.float32), over, rows

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which locations have not been visited, (N, num_locations) bool."""
        return np.asarray(self._envs.action_masks())

    def get_images(self) -> Sequence[Picture | None]:
        """A picture of each sub-environment, uint8 (H', W', 3)."""
        return self._envs.render() or [None] * self.num_envs

    def close(self) -> None:
        """Frees what the environment holds."""
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of each sub-environment; all but generators and methods are shared.

        Raises:
            AttributeError: If there is none of that name.
        """
        rows = list(self._get_indices(indices))
        if attr_name in self._methods:
            return [partial(self._call, attr_name, row) for row in rows]
        single = "single_" if attr_name in ("observation_space", "action_space") else ""
        value: Any = getattr(self._envs, single + attr_name)
        if attr_name in ("np_random", "np_random_seed"):
            return [value[row] for row in rows]
        return [value] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Sets an attribute of all sub-environments, which share it.

        Raises:
            ConfigurationError: If only some are asked for.
        """
        rows = list(self._get_indices(indices))
        if sorted(set(rows)) != list(range(self.num_envs)):
            raise ConfigurationError(
                f"The {self.num_envs} sub-environments are one batch and share {attr_name!r}, but "
                f"it was to be set in {rows} only: leave indices out."
            )
        setattr(self._envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls ``action_masks`` or ``render`` once for all and returns a list of their rows.

        Raises:
            AttributeError: If the method is none that single sub-environments have.
        """
        if method_name not in self._methods:
            raise AttributeError(
                f"{method_name!r} is no method of single sub-environments, which are one batch: "
                f"use one of {', '.join(self._methods)}, or the vector environment's own."
            )
        results = self._methods[method_name](*method_args, **method_kwargs)
        return [results[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Whether a wrapper has been applied: none, but `Monitor`'s work is done here."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    @property
    def _methods(self) -> dict[str, Callable[[], Any]]:
        return {"action_masks": self.action_masks, "render": self.get_images}

    def _call(self, name: str, row: int) -> Any:
        return self.env_method(name, indices=row)[0]


def unbatched(infos: Mapping[str, Any], number: int) -> Infos:
    """Information in Gymnasium's vector form as one dictionary for each of N sub-environments.

    From (N, ...) arrays by name, each with its mask ``_name`` beside it, each gets the entries
    whose mask is True, as Python numbers, strings and arrays.
    """
    rows: Infos = [{} for _ in range(number)]
    for name, values in infos.items():
        if name.startswith("_"):
            continue
        each: Iterable[Any]
        if isinstance(values, Mapping):
            each = unbatched(values, number)
        else:
            each = values.copy() if values.ndim > 1 else values.tolist()
        for row, meant, value in zip(rows, infos[f"_{name}"], each, strict=True):
            if meant:
                row[name] = value
    return rows
