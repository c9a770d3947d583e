"""What an agent may see of an episode: as Gymnasium spaces and as batched tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from facehall_env.errors import ConfigurationError
from facehall_env.registry import unknown_name

if TYPE_CHECKING:
    from facehall_env.core import HallucinationCore
    from facehall_env.state import CoreState

DEFAULT_KEYS: tuple[str, ...] = ("image", "last_action", "step")
STATE_KEY = "core_state"


def to_uint8(images: Tensor) -> Tensor:
    """Turns images (N, C, H, W) in [0, 1] into 8-bit images (N, H, W, C); halves go up.

    >>> to_uint8(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1)).flatten().tolist()
    [0, 128, 255]
    """
    number, channels, height, width = images.shape
    pixels = torch.empty((number, height, width, channels), dtype=torch.uint8, device=images.device)
    half = torch.full((), 0.5, dtype=images.dtype, device=images.device)
    # Channel by channel the intermediate values stay in the cache, which makes it three times as
    # fast as scaling, converting and permuting the whole batch.
    for channel in range(channels):
        pixels[..., channel] = torch.add(half, images[:, channel], alpha=255.0)
    return pixels


def _pixels(height: int, width: int, channels: int) -> spaces.Box:
    return spaces.Box(0, 255, (height, width, channels), np.uint8)


def _last_action(core: HallucinationCore, state: CoreState) -> Tensor:
    sides = zip(state.location.unbind(1), core.geometry.image_size, strict=True)
    scaled = torch.stack([place / max(side - 1, 1) for place, side in sides], 1) * 2.0 - 1.0
    return torch.where(state.step[:, None] > 0, scaled, 0.0).to(torch.float32).clamp_(-1.0, 1.0)


def _spaces(core: HallucinationCore) -> dict[str, spaces.Space[Any]]:
    geometry = core.geometry
    height, width = geometry.image_size
    return {
        "image": _pixels(height, width, 3),
        "last_action": spaces.Box(-1.0, 1.0, (2,), np.float32),
        "step": spaces.Box(0.0, 1.0, (1,), np.float32),
        "coverage": _pixels(height, width, 1),
        "last_patch": _pixels(*geometry.patch_size, 3),
        "lr": _pixels(height // core.scale, width // core.scale, 3),
        "action_history": spaces.Box(-1, geometry.num_locations - 1, (core.num_steps,), np.int64),
    }


_VALUES: dict[str, Callable[[HallucinationCore, CoreState], Any]] = {
    "image": lambda core, state: to_uint8(state.image),
    "last_action": _last_action,
    "step": lambda core, state: (state.step[:, None] / core.num_steps).to(torch.float32),
    "coverage": lambda core, state: state.coverage.permute(0, 2, 3, 1).to(torch.uint8) * 255,
    "last_patch": lambda core, state: to_uint8(state.patch),
    "lr": lambda core, state: to_uint8(state.lr),
    "action_history": lambda core, state: state.actions.clone(),
    STATE_KEY: lambda core, state: state,
}
KEYS: tuple[str, ...] = tuple(key for key in _VALUES if key != STATE_KEY)
"""All keys that have a Gymnasium space, in the order of the documentation."""


def check_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """The names of an observation's entries, out of `KEYS`, as a tuple.

    Raises:
        UnknownNameError: If a name is not one of `KEYS`.
        ConfigurationError: If there is none, or one twice.
    """
    names = (keys,) if isinstance(keys, str) else tuple(keys)
    for name in names:
        if name not in KEYS:
            raise unknown_name("observation key", str(name), KEYS)
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"observation={names!r} must name each entry once and at least one: "
            f"choose from {', '.join(KEYS)}."
        )
    return names


def observation_space(core: HallucinationCore, keys: Sequence[str] = DEFAULT_KEYS) -> spaces.Dict:
    """The space of one episode's observation: one entry for each key, in the order given."""
    known = _spaces(core)
    return spaces.Dict([(key, known[key]) for key in check_keys(keys)])


def observe(
    core: HallucinationCore, state: CoreState, keys: Sequence[str] = DEFAULT_KEYS
) -> dict[str, Any]:
    """What agents see of a batch of episodes, as tensors on the core's device.

    =================  ===================  ====================================================
    key                dtype, shape         meaning
    =================  ===================  ====================================================
    ``image``          uint8 (N, H, W, 3)   current image I_t
    ``last_action``    float32 (N, 2)       last centre (y, x) in [-1, 1]; zeros before the first
    ``step``           float32 (N, 1)       t / T
    ``coverage``       uint8 (N, H, W, 1)   255 where a patch has been, else 0
    ``last_patch``     uint8 (N, h, w, 3)   the patch restored last
    ``lr``             uint8 (N, H/s, W/s, 3)  the low-resolution image
    ``action_history`` int64 (N, T)         actions so far, then -1
    ``core_state``     `CoreState`          everything, the truth included: for oracles only
    =================  ===================  ====================================================

    The N episodes may stand at different steps. No entry shares memory with ``state`` but
    ``core_state``.
    """
    return {key: _VALUES[key](core, state) for key in keys}


def action_mask(core: HallucinationCore, state: CoreState) -> Tensor:
    """Which locations an agent has not visited yet in each episode, (N, num_locations) bool.

    Where all locations have been visited all are allowed again: a distribution over no action at
    all is none.
    """
    locations = core.geometry.num_locations
    # Steps not taken yet hold -1: they mark a spare column behind the last location.
    visited = state.actions.where(state.actions >= 0, locations)
    free = state.actions.new_ones((state.num_envs, locations + 1), dtype=torch.bool)
    free = free.scatter_(1, visited, False)[:, :locations]
    return free | ~free.any(dim=1, keepdim=True)
