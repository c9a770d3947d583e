"""One face at a time: the environment as `gymnasium.make` returns it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from facehall_env.episodes import EpisodeBatch, HasEpisodes
from facehall_env.errors import ActionError, ConfigurationError
from facehall_env.observations import DEFAULT_KEYS, action_mask, observation_space
from facehall_env.rendering import Picture, Window
from facehall_env.spec import build_from_keywords

Observation = dict[str, npt.NDArray[Any]]
ONLY = np.zeros(1, dtype=np.int64)
"""The one row of a batch of one."""


class FaceHallucinationEnv(HasEpisodes, gym.Env[Observation, int]):
    """Restore a blurred face patch by patch, choosing where to look next.

    ## Description

    An episode starts from a face that was downsampled and upsampled again. At each step the agent
    names a location; a network, the *enhancer*, sharpens the patch around it, and the patch is
    pasted into the face. After ``num_steps`` patches the episode is over, and what counts is how
    close the face has come to the truth (Cao et al., "Attention-Aware Face Hallucination via Deep
    Reinforcement Learning", CVPR 2017). With fewer patches than cover the face, and an enhancer
    that uses what is sharp already, the order of the locations matters.

    ## Action Space

    ``Discrete((H / action_stride) * (W / action_stride))``: the cell ``row * columns + column``
    of a grid over the image; the patch is centred on the cell's middle pixel, or where
    ``action_offset`` says. With the default ``action_stride=1`` there is one action for each pixel,
    16,384 for an image of 128 x 128, as in the paper. `action_masks` tells those not visited yet.

    ## Observation Space

    A ``Dict`` with the entries that ``observation`` names:

    | Entry            | Space                            | Meaning                              |
    |------------------|----------------------------------|--------------------------------------|
    | `image`          | Box(0, 255, (H, W, 3), uint8)    | the current face                     |
    | `last_action`    | Box(-1, 1, (2,), float32)        | last patch's centre (y, x); at first 0 |
    | `step`           | Box(0, 1, (1,), float32)         | share of the steps taken             |
    | `coverage`       | Box(0, 255, (H, W, 1), uint8)    | 255 where a patch has been           |
    | `last_patch`     | Box(0, 255, (h, w, 3), uint8)    | the patch restored last              |
    | `lr`             | Box(0, 255, (H/s, W/s, 3), uint8) | the low-resolution face             |
    | `action_history` | Box(-1, n - 1, (T,), int64)      | the actions so far, then -1          |

    The first three are the default.

    ## Rewards

    ``reward`` names one of these, or a weighted sum such as ``"delayed_mse + 4*coverage"``:

    - `delayed_mse`: 0, and at the end minus the mean squared error (MSE) of the face, whose
      values lie in [0, 1]: the paper's.
    - `delta_mse`: by how much the step lowered the MSE. An episode's sum is MSE_0 - MSE_T: the
      same aim as the paper's, with far less variance.
    - `delta_psnr`: by how many dB the step raised the PSNR.
    - `coverage`: share of the face that was covered for the first time.
    - `ipfh`, the sum of eight terms: patch by patch `ipfh_patch_mse_hr`, `ipfh_patch_texture_hr`,
      `ipfh_patch_mse_lr` and `ipfh_patch_texture_lr`, and for the last step instead
      `ipfh_face_mse`, `ipfh_face_texture`, `ipfh_feature` and `ipfh_identity`, each minus a loss.
      All but the errors (`mse`) need a network that knows people; see `IPFHReward`.

    ## Starting State

    A face drawn uniformly from the dataset with the environment's generator, or the one asked for
    by ``reset(options={"index": i})``; nothing restored.

    ## Termination

    The episode terminates after ``num_steps`` steps. It is never truncated: nothing lies beyond.

    ## Information

    `reset` and `step` return in ``info``:

    - `psnr`, `mse`: of the current face against the truth, over all channels and pixels, not
      rounded to 8 bits; PSNR in dB, 100 at most.
    - `location`: centre (y, x) of the last patch in pixels; (-1, -1) before the first.
    - `index`, `key`: number and name of the face in the dataset.
    - `reward_terms`: each term of the reward by name; from `step`, if there are several.
    - `episode_summary`: from the last `step`: `psnr_initial`, `psnr_final`, `psnr_gain`,
      `psnr_auc` (mean of the PSNR after 1 ... T patches), `coverage` (share of the face),
      `return`, `length` and `actions`.

    ## Arguments

    ```python
    env = gym.make("FaceHallucination-v0", dataset="lfw", scale=4, reward="delta_mse")
    ```

    Args:
        dataset: A name out of `data.available()`, or a `FaceDataset`.
        split: ``"train"``, ``"test"`` or ``"all"``; of a dataset given by name.
        scale: Factor between the low and the high resolution.
        protocol: How faces are degraded: a name out of `data.protocols.PROTOCOLS`, or a
            `Protocol`.
        enhancer: A name out of `enhancers.available()`, or an `Enhancer` object.
        weights: ``"auto"`` for those that come with the project, a file, or None for an untrained
            network; of an enhancer given by name.
        reward: See above; also a mapping from names to weights, or a `Reward`.
        num_steps: Patches in an episode, T.
        patch_size: Height and width of the patch; the enhancer's own, 60 x 45, by default.
        border: ``"centre"``: patches may reach over the edge (mid-grey is read there, writes are
            discarded); ``"inside"``: they are moved so that they do not.
        action_stride: Width in pixels of a cell of the grid; divides both sides of the image.
        action_offset: On which row and column of its cell a patch is centred, the middle by
            default. With ``action_stride=8`` patches of 32 x 32 can tile the image exactly if it
            is 7.
        observation: Entries of the observation.
        device: Where everything is computed: ``"cpu"``, ``"cuda"``, ...
        precision: ``"fp32"``, or ``"bf16"`` for an enhancer with weights in bfloat16.
        validate: Whether to check actions and the enhancer's output at every step.
        initial: What episodes start from: ``"bicubic"``, the face as the protocol upsamples it, or
            what a network makes of it that restores whole faces: a name, for the weights that come
            with the project, a file, or an `Enhancer`.
        render_mode: ``"rgb_array"``: `render` returns the low-resolution face, the current one
            and the truth side by side, the newest patch in red and the earlier ones in dashed
            blue; ``"human"``: a window shows that after each step.

    Raises:
        UnknownNameError: On an unknown dataset, protocol, enhancer, reward or entry.
        ConfigurationError: On settings that contradict each other or lie outside their range.
        DatasetError: If the images are missing, unreadable or none.
        WeightsError: If the weights are missing, damaged, or made for something else.

    ## Registered Configurations

    - `FaceHallucination-v0`: the defaults, those of Attention-FH.
    - `FaceHallucination-IPFH-v0`: 20 patches of 32 x 32, as in identity-preserving face
      hallucination. Its own networks and reward have to be trained first, and are then named:
      ``scale=8, enhancer="ipfh", weights=FILE, initial=FILE, reward=IPFHReward(FILE)``.

    `gymnasium.make_vec` makes many at once; see `FaceHallucinationVectorEnv`.

    >>> import gymnasium as gym
    >>> env = gym.make("facehall_env:FaceHallucination-v0", enhancer="bicubic", num_steps=2)
    >>> observation, info = env.reset(seed=0)
    >>> sorted(observation)
    ['image', 'last_action', 'step']
    >>> observation, reward, terminated, truncated, info = env.step(64 * 128 + 32)
    >>> info["location"].tolist(), terminated
    ([64, 32], False)
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium declares it an instance's)
        "render_modes": ["human", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        *,
        observation: Sequence[str] = DEFAULT_KEYS,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigurationError(
                f"render_mode={render_mode!r} is unknown: use None or one of "
                f"{', '.join(self.metadata['render_modes'])}."
            )
        self.render_mode = render_mode
        setup = build_from_keywords(**settings)
        self._episodes = EpisodeBatch(setup, 1, observation)
        self.observation_space = observation_space(setup.core, self._episodes.keys)  # type: ignore[assignment]
        self.action_space = spaces.Discrete(setup.core.geometry.num_locations)  # type: ignore[assignment]
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode with a new face; returns observation and information.

        Args:
            seed: Seeds the generator that faces are drawn with; None goes on with it.
            options: ``{"index": i}`` asks for face number i instead; draws nothing.

        Raises:
            ConfigurationError: If there is no face of that number.
        """
        face = None
        if options is not None and "index" in options:
            face = self._episodes.check_face(options["index"])
        super().reset(seed=seed)
        face = self._episodes.draw_face(self.np_random) if face is None else face
        self._episodes.begin(np.array([face]), ONLY)
        self._show()
        return self._observation(), _only(self._episodes.standing())

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Restores the patch at a location, an integer in the action space.

        Returns:
            Observation, reward, whether the episode is over, False, and information.

        Raises:
            ActionError: If the action is not an integer or lies outside the action space.
            EpisodeError: Before the first reset, or if the episode is over.
            EnhancerError: If the enhancer returns another shape or values that are not finite.
        """
        episodes = self._episodes
        location = torch.tensor([_integer(action, episodes)], device=self.core.device)
        reward, done = episodes.step(location)
        info = episodes.standing()
        if terms := episodes.reward_terms():
            info["reward_terms"] = terms
        terminated = bool(done)
        if terminated:
            info["episode_summary"] = episodes.summary()
        self._show()
        return self._observation(), float(reward), terminated, False, _only(info)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which locations have not been visited in this episode: (num_locations,) bool.

        All of them, if all have been. `sb3_contrib.MaskablePPO` asks for this name. Before the
        first reset it raises an EpisodeError.
        """
        mask: npt.NDArray[np.bool_] = action_mask(self.core, self.state)[0].cpu().numpy()
        return mask

    def render(self) -> Picture | None:
        """The episode as a picture, uint8 (H', W', 3), with ``render_mode="rgb_array"``.

        Before the first reset it raises an EpisodeError.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render_mode: give render_mode='rgb_array' or "
                "'human' to gymnasium.make."
            )
        return self._episodes.frames()[0] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _observation(self) -> Observation:
        return {key: value[0].cpu().numpy() for key, value in self._episodes.observe().items()}

    def _show(self) -> None:
        if self.render_mode == "human":
            if self._window is None:
                self._window = Window(fps=self.metadata["render_fps"])
            self._window.show(self._episodes.frames()[0])


def _integer(action: object, episodes: EpisodeBatch) -> int:
    """The action as an integer; its range is the core's to check."""
    kind, dimensions = getattr(action, "dtype", type(action)), getattr(action, "ndim", 0)
    try:
        if kind in (bool, np.bool_, torch.bool) or dimensions > 0:
            raise TypeError
        return operator.index(action)  # type: ignore[arg-type]
    except TypeError:
        raise ActionError(
            f"The action is {action!r}, expected a single integer: choose a location from 0 to "
            f"{episodes.core.geometry.num_locations - 1}."
        ) from None


def _only(values: Mapping[str, Any]) -> dict[str, Any]:
    """The one row of (1, ...) values as Python numbers, NumPy arrays and strings, nested alike."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            row[name] = _only(value)
            continue
        array = value.cpu().numpy() if isinstance(value, Tensor) else value
        row[name] = array[0].copy() if array.ndim > 1 else array[:1].tolist()[0]
    return row
