"""What restoring each of several locations would gain, without pasting anything."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from facehall_env.core import HallucinationCore
from facehall_env.enhancers import OneShot
from facehall_env.enhancers.base import restore_current
from facehall_env.errors import ConfigurationError
from facehall_env.state import SMALLEST_MSE, CoreState


@torch.no_grad()
def mse_after_each(
    core: HallucinationCore, state: CoreState, actions: Tensor, chunk: int = 256
) -> Tensor:
    """Each image's error if the patch at each location were restored and pasted.

    Nothing is pasted: only pixels of the patch inside the image change, so the difference in
    their squared error is all that is needed.

    Args:
        core: The process.
        state: N episodes.
        actions: (K,) int64, the locations to try on every episode, or (N, K), its own for each.
        chunk: Most patches to restore at once; bounds the memory.

    Returns:
        (N, K) float64, mean squared errors over all pixels and channels.
    """
    number = state.num_envs
    columns = []
    for some in actions.expand(number, -1).split(max(1, chunk // number), dim=1):
        tries = some.shape[1]
        pairs = state.rows(torch.arange(number, device=actions.device).repeat_interleave(tries))
        action = some.reshape(-1)
        error = pairs.mse - core.gain(pairs, action, core.enhance(pairs, action))
        columns.append(error.view(number, tries))
    return torch.cat(columns, dim=1)


def restores_whole_faces(core: HallucinationCore) -> bool:
    """Whether one look at the whole restored face can judge all locations at once."""
    if isinstance(core.enhancer, OneShot):
        return True
    try:
        core.enhancer.whole_face()
    except ConfigurationError:
        return False
    return True


@torch.no_grad()
def mse_after_everywhere(core: HallucinationCore, state: CoreState) -> Tensor:
    """About what each image's error would be after restoring the patch at every location.

    The whole face is restored once and the difference in squared error summed over each patch. For
    a one-shot enhancer that is exact; a patch enhancer would see less around each patch.

    Returns:
        (N, num_locations) float64, mean squared errors over all pixels and channels.

    Raises:
        ConfigurationError: If the enhancer works on patches only.
    """
    actions = torch.arange(core.geometry.num_locations, device=core.device)
    corners = core.geometry.top_left(actions)
    gain = box_sums(gain_map(core, state), corners, core.geometry.patch_size)
    return (state.mse[:, None] - gain / state.hr[0].numel()).clamp_min(SMALLEST_MSE)


@torch.no_grad()
def gain_map(core: HallucinationCore, state: CoreState, restored: Tensor | None = None) -> Tensor:
    """By how much restoring the whole face would lower the squared error of each pixel, (N, H, W).

    The gains are summed over the channels. The restored faces (N, 3, H, W) can be given if they are
    known; otherwise an enhancer that works on patches only is a ConfigurationError.
    """
    if restored is None:
        restored = state.restored
    if restored is None:
        restored = restore_current(core.enhancer, state.image, state.initial)
    restored = restored.clamp(0, 1)
    # a^2 - b^2 as (a - b)(a + b), with a and b the errors before and after.
    return ((state.image - restored) * (restored + state.image - 2 * state.hr)).sum(1)


def check_lookahead(core: HallucinationCore) -> None:
    """Checks that an enhancer can restore the whole current face at each step.

    Raises:
        ConfigurationError: If it works on patches, restores once, at the start, or has to see the
            face that the episode began with, which agents do not.
    """
    check_sees_enough(core)
    if isinstance(core.enhancer, OneShot) or not restores_whole_faces(core):
        raise ConfigurationError(
            "Looking ahead has the enhancer restore the whole current face at each step, which "
            f"{core.enhancer.name!r} cannot: use 'compact', or an agent without lookahead."
        )


def check_sees_enough(core: HallucinationCore) -> None:
    """Raises a ConfigurationError if an enhancer needs the face that the episode began with."""
    if core.enhancer.sees_start:
        raise ConfigurationError(
            "Looking ahead has the enhancer restore the face that the agent sees, but this "
            f"{core.enhancer.name!r} also has to see the one that the episode began with: use one "
            "that does not ('compact' with base='current'), or an agent without lookahead."
        )


@torch.no_grad()
def look_ahead(core: HallucinationCore, image: Tensor) -> Tensor:
    """What the enhancer would change if it restored the whole face; the truth is not looked at.

    From the current faces as agents see them, (N, H, W, 3) uint8, to (N, 3, H, W) float16.
    """
    before = image.permute(0, 3, 1, 2).float() / 255
    restored: Tensor = core.enhancer.whole_face()(before)
    return (restored.clamp(0, 1) - before).half()


@torch.no_grad()
def errors_by_guess(image: Tensor, change: Tensor, lr: Tensor, guess: Tensor) -> Tensor:
    """The squared error of each pixel, and how much of it a change would take away, by a guess.

    Args:
        image: (N, 3, H, W), the current faces.
        change: (N, 3, H, W), what the enhancer would change of them.
        lr: (N, 3, H / scale, W / scale), the low-resolution faces.
        guess: (N, 3, H, W), what the truth might be.

    Returns:
        (N, 2, H, W) float16: error and gain, summed over the channels, in units of the mean error
        of the enlarged low-resolution face.
    """
    first = functional.interpolate(lr, size=image.shape[-2:], mode="bicubic", antialias=True)
    unit = (first - guess).square().sum(1, keepdim=True).mean((2, 3), keepdim=True)
    error = (image - guess).square().sum(1, keepdim=True)
    gain = -(change * (2 * (image - guess) + change)).sum(1, keepdim=True)
    return (torch.cat((error, gain), dim=1) / unit.clamp_min(SMALLEST_MSE)).half()


def box_sums(maps: Tensor, top_left: Tensor, size: tuple[int, int]) -> Tensor:
    """Sums of each map over rectangles, by an integral image.

    From maps (N, H, W) and the first rows and columns (K, 2) int64 of rectangles of this height and
    width to (N, K) float64; what lies outside counts as zero.
    """
    height, width = maps.shape[1:]
    # In double precision: differences of large sums decide between neighbouring locations.
    integral = functional.pad(maps.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    top, left = top_left[:, 0].clamp(0, height), top_left[:, 1].clamp(0, width)
    bottom = (top_left[:, 0] + size[0]).clamp(0, height)
    right = (top_left[:, 1] + size[1]).clamp(0, width)
    return (
        integral[:, bottom, right]
        - integral[:, top, right]
        - integral[:, bottom, left]
        + integral[:, top, left]
    )
