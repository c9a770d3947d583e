"""Many faces at once: the environment as `gymnasium.make_vec` returns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from facehall_env.episodes import BoolArray, EpisodeBatch, HasEpisodes, IntArray
from facehall_env.errors import ActionError, ConfigurationError, EpisodeError
from facehall_env.limits import check_word
from facehall_env.observations import DEFAULT_KEYS, action_mask, observation_space
from facehall_env.rendering import Picture
from facehall_env.spec import build_from_keywords

Output = Literal["numpy", "torch"]


class FaceHallucinationVectorEnv(HasEpisodes, VectorEnv[dict[str, Any], Any, Any]):
    """Restore N faces patch by patch, all of them in one batch.

    The spaces, rewards and settings are those of `FaceHallucinationEnv`; sub-environment k,
    seeded with s, behaves as that one seeded with s + k. Nothing loops over the sub-environments:
    faces are batched when episodes start, and a step is one call of the enhancer.

    ## Information

    Each entry of the single environment's ``info`` is an array with one row for each
    sub-environment, beside a mask ``_entry`` that tells in which rows it is meant, as Gymnasium's
    vector environments have it. With ``AutoresetMode.SAME_STEP``, ``final_obs`` (an array of N
    objects, each an observation or None) and ``final_info`` hold what the episodes that have just
    ended returned last.

    Args:
        num_envs: Number of sub-environments N.
        autoreset_mode: When an ended sub-environment starts its next episode, as an
            `AutoresetMode` or its name: ``"NextStep"`` (the action of that step is ignored),
            ``"SameStep"``, or ``"Disabled"`` (call ``reset(options={"reset_mask": mask})``).
        output: ``"numpy"`` for arrays, or ``"torch"`` for tensors on ``device``, which nothing
            copies to the host.
        num_steps: Patches in an episode, T.
        max_episode_steps: The limit that `gymnasium.make_vec` passes where one is set. It shortens
            ``num_steps``: an episode that may take fewer steps ends with its last one, and is
            not truncated.
        observation: Entries of the observation.
        render_mode: ``"rgb_array"`` for pictures of all sub-environments, or None.
        **settings: All others, and what is raised if they are wrong; see `FaceHallucinationEnv`.

    >>> import gymnasium as gym
    >>> envs = gym.make_vec("facehall_env:FaceHallucination-v0", num_envs=3, enhancer="bicubic")
    >>> observation, info = envs.reset(seed=0)
    >>> observation["image"].shape
    (3, 128, 128, 3)
    >>> observation, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
    >>> terminated.tolist()
    [False, False, False]
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (an instance gets its own)
        "render_modes": ["rgb_array"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: Output = "numpy",
        num_steps: int = 25,
        max_episode_steps: int | None = None,
        observation: Sequence[str] = DEFAULT_KEYS,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigurationError(f"num_envs={num_envs}: give at least one sub-environment.")
        check_word("output", output, Output)
        if render_mode not in (None, "rgb_array"):
            raise ConfigurationError(
                f"render_mode={render_mode!r} is not one of a vector environment: use None or "
                "'rgb_array'; gymnasium.wrappers.vector.HumanRendering shows those pictures in a "
                "window."
            )
        if max_episode_steps is not None:
            num_steps = min(num_steps, max_episode_steps)
        setup = build_from_keywords(num_steps=num_steps, **settings)
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.output = output
        self._episodes = EpisodeBatch(setup, num_envs, observation)
        self.single_observation_space = observation_space(setup.core, self._episodes.keys)
        self.single_action_space = spaces.Discrete(setup.core.geometry.num_locations)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int] = [-1] * num_envs

    @property  # type: ignore[override]
    def np_random(self) -> tuple[np.random.Generator, ...]:
        """Each sub-environment's generator."""
        return tuple(self._generator(row) for row in range(self.num_envs))

    @np_random.setter  # type: ignore[override]
    def np_random(self, value: Sequence[np.random.Generator]) -> None:
        self._generators, self._seeds = list(value), [-1] * self.num_envs

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each sub-environment's generator."""
        return tuple(self._seeds[row] for row, _ in enumerate(self.np_random))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts new episodes in all sub-environments or in some.

        Args:
            seed: s seeds sub-environment k with s + k; a sequence has one for each; None goes on
                with the generators there are.
            options: ``"reset_mask"``: (N,) bool array, which ones to reset; the others go on.
                ``"index"``: number of the face asked for, the same for all or one for each.

        Returns:
            Observation of all sub-environments, and information on those reset.

        Raises:
            TypeError: If the mask is not a bool array.
            ConfigurationError: If mask, seeds or face numbers do not fit the sub-environments.
            EpisodeError: If the first reset is one of some only.
        """
        options = options or {}
        mask = self._reset_mask(options)
        seeds = self._seed_each(seed)
        if not self._episodes.started and not mask.all():
            raise EpisodeError(
                "No episode has begun yet: call reset() without a reset_mask before resetting "
                "some sub-environments."
            )
        rows = np.flatnonzero(mask)
        faces = self._faces_asked_for(options["index"], rows) if "index" in options else None
        for row in rows.tolist():
            if seeds[row] is not None:
                self._generators[row], self._seeds[row] = seeding.np_random(seeds[row])
        self._begin(rows, faces)
        return self._observe(), self._masked(self._episodes.standing(), mask)

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """Restores one patch of each face, at (N,) integers: array, list or tensor.

        Returns:
            Observation, rewards (N,), terminations (N,), truncations (N,), all False, and
            information. Rewards are float64 arrays or float32 tensors.

        Raises:
            ActionError: If the actions are not N integers or lie outside the action space.
            EpisodeError: Before the first reset, or, with ``AutoresetMode.DISABLED``, if an
                episode is over.
            EnhancerError: If the enhancer returns another shape or values that are not finite.
        """
        episodes = self._episodes
        action = self._actions(actions)
        next_step = self.autoreset_mode is AutoresetMode.NEXT_STEP
        begun = episodes.over if next_step else np.zeros(self.num_envs, dtype=np.bool_)
        if begun.any():
            # Before an episode begins: a refused step changes nothing.
            goes_on = torch.from_numpy(np.flatnonzero(~begun)).to(action.device)
            self.core.check_range(action[goes_on])
            self._begin(np.flatnonzero(begun))
        if begun.all():
            reward = torch.zeros(self.num_envs, device=self.core.device)
            done = torch.zeros_like(reward, dtype=torch.bool)
        else:
            reward, done = episodes.step(action, hold=begun)
        infos = self._step_info(~begun)
        reward = self._out(reward if self.output == "torch" else reward.double())
        return self._observe(), reward, self._out(done), self._out(torch.zeros_like(done)), infos

    def action_masks(self) -> Any:
        """Which locations have not been visited: (N, num_locations) bool, array or tensor.

        Where all have been, all of them. `sb3_contrib.MaskablePPO` asks for this name. Before the
        first reset it raises an EpisodeError.
        """
        return self._out(action_mask(self.core, self.state))

    def render(self) -> tuple[Picture, ...] | None:
        """A picture of each sub-environment, uint8 (H', W', 3); EpisodeError before a reset."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render_mode: give render_mode='rgb_array' to "
                "gymnasium.make_vec."
            )
            return None
        return tuple(self._episodes.frames())

    def _generator(self, row: int) -> np.random.Generator:
        if (generator := self._generators[row]) is None:
            generator, self._seeds[row] = seeding.np_random()
            self._generators[row] = generator
        return generator

    def _begin(self, rows: IntArray, faces: IntArray | None = None) -> None:
        """Starts episodes, by default with faces drawn by each row's own generator."""
        if faces is None:
            faces = np.array([self._episodes.draw_face(self._generator(row)) for row in rows])
        self._episodes.begin(faces, rows)

    def _step_info(self, stepped: BoolArray) -> dict[str, Any]:
        """Information after a step of some rows; starts the next episodes with SAME_STEP."""
        episodes = self._episodes
        over, everyone = episodes.over, np.ones(self.num_envs, dtype=np.bool_)
        terms = {"reward_terms": terms} if (terms := episodes.reward_terms()) else {}
        last: dict[str, Any] = {"episode_summary": episodes.summary()} if over.any() else {}
        if over.any() and self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = {**episodes.standing(), **terms, **last}
            last = {"final_obs": self._final_observations(over), "final_info": final}
            self._begin(np.flatnonzero(over))
            stepped = stepped & ~over
        info = self._masked(episodes.standing(), everyone)
        return info | self._masked(terms, stepped) | self._masked(last, over)

    def _final_observations(self, over: BoolArray) -> npt.NDArray[np.object_]:
        rows = np.flatnonzero(over)
        batch = {key: self._out(value) for key, value in self._episodes.observe(rows).items()}
        final = np.full(self.num_envs, None, dtype=object)
        for place, row in enumerate(rows):
            final[row] = {key: value[place] for key, value in batch.items()}
        return final

    def _observe(self) -> dict[str, Any]:
        return {key: self._out(value) for key, value in self._episodes.observe().items()}

    def _out(self, values: Any) -> Any:
        """An array or tensor as this environment returns them."""
        if self.output == "numpy":
            return values.cpu().numpy() if isinstance(values, Tensor) else values
        if isinstance(values, Tensor) or values.dtype == np.object_:
            return values
        return torch.from_numpy(values).to(self.core.device)

    def _masked(self, values: Mapping[str, Any], mask: BoolArray) -> dict[str, Any]:
        """Information in Gymnasium's form: zero where ``mask`` is False, and the mask beside it."""
        infos: dict[str, Any] = {}
        if not mask.any():
            return infos
        for name, value in values.items():
            nested = isinstance(value, Mapping)
            infos[name] = self._masked(value, mask) if nested else self._out(_blank(value, ~mask))
            infos[f"_{name}"] = self._out(mask.copy())
        return infos

    def _actions(self, actions: Any) -> Tensor:
        given = actions if isinstance(actions, Tensor) else np.asarray(actions)
        if isinstance(given, Tensor):
            integer = not (
                given.is_floating_point() or given.is_complex() or given.dtype == torch.bool
            )
        else:
            integer = given.dtype.kind in "iu"
        if not integer or tuple(given.shape) != (self.num_envs,):
            raise ActionError(
                f"The actions have shape {tuple(given.shape)} and type {given.dtype}, expected "
                f"({self.num_envs},) integers: give one location from 0 to "
                f"{self.core.geometry.num_locations - 1} for each sub-environment."
            )
        if not isinstance(given, Tensor):
            given = torch.from_numpy(given.astype(np.int64, copy=False))
        return given.to(self.core.device, torch.int64)

    def _reset_mask(self, options: Mapping[str, Any]) -> BoolArray:
        """Which rows to reset, validated as `gymnasium.vector.SyncVectorEnv` does."""
        mask = options.get("reset_mask", np.ones(self.num_envs, dtype=np.bool_))
        if isinstance(mask, Tensor):
            mask = mask.cpu().numpy()
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(
                f"options['reset_mask'] is {mask!r}, expected an array of type bool: give one "
                "value for each sub-environment, True where it should be reset."
            )
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigurationError(
                f"options['reset_mask'] has shape {mask.shape} and {int(mask.sum())} True values, "
                f"expected shape ({self.num_envs},) and at least one: give one value for each "
                "sub-environment."
            )
        return mask

    def _seed_each(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ConfigurationError(
                f"{len(seed)} seeds came for {self.num_envs} sub-environments: give one for each, "
                "or a single integer."
            )
        return seed

    def _faces_asked_for(self, index: Any, rows: IntArray) -> IntArray:
        each = np.ndim(index) > 0
        if each and len(index) != self.num_envs:
            raise ConfigurationError(
                f"options['index'] names {len(index)} faces for {self.num_envs} sub-environments: "
                "give one for each, or a single integer."
            )
        faces = [self._episodes.check_face(index[row] if each else index) for row in rows]
        return np.array(faces)


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The mode itself, from its value ("SameStep") or its name ("SAME_STEP")."""
    for known in AutoresetMode:
        if mode in (known, known.value, known.name):
            return known
    names = ", ".join(repr(known.value) for known in AutoresetMode)
    raise ConfigurationError(f"autoreset_mode={mode!r} is unknown: use one of {names}.")


def _blank(values: Any, where: BoolArray) -> Any:
    """Rows of an array or tensor set to zero, or to None in an array of objects."""
    if not where.any():
        return values
    if isinstance(values, Tensor):
        mask = torch.from_numpy(where).to(values.device)
        return values.masked_fill(mask.view(-1, *[1] * (values.ndim - 1)), 0)
    values = values.copy()
    values[where] = None if values.dtype == np.object_ else 0
    return values
