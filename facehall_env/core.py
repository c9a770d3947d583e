"""The MDP itself, batched, on one torch device: no Gymnasium and no NumPy."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facehall_env import patches, rewards
from facehall_env.enhancers.base import Enhancer, OneShot, restore_whole
from facehall_env.errors import ActionError, ConfigurationError, EnhancerError, EpisodeError
from facehall_env.limits import check_word
from facehall_env.literals import Border, Precision
from facehall_env.patches import PatchGeometry, Placement
from facehall_env.rewards import Reward
from facehall_env.state import CoreState, mean_squared_error

if TYPE_CHECKING:
    from facehall_env.data.faces import Faces


class HallucinationCore:
    """Faces, sharpened patch by patch (Attention-FH, section 3).

    The state is what :class:`CoreState` says; an action is a location
    (:class:`~facehall_env.patches.PatchGeometry`); a step restores the patch there, clamps it to
    [0, 1] and pastes it; the reward is a plug-in; an episode ends after ``num_steps`` patches.
    States are never changed in place, so that several continuations of one can be tried.

    Args:
        enhancer: Restores the patches; moved to ``device``, in evaluation mode.
        image_size: Height and width of the faces.
        reward: See :func:`facehall_env.rewards.base.make`.
        border: See :class:`~facehall_env.patches.PatchGeometry`, also for stride and offset.
        patch_size: Height and width of the patches; the enhancer's own by default.
        num_steps: Patches in an episode, T.
        device: Where everything lives.
        precision: ``"bf16"`` runs the enhancer's network in bfloat16; faces stay in float32. On
            processors without bfloat16 arithmetic only its weights are rounded.
        validate: Check actions, episode ends and the enhancer's output at every step. The checks
            wait for the device once a step; switch them off for the last bit of GPU throughput.
        initial: A network that restores whole faces, from whose result the episodes start, or
            None to start from the up-sampled low-resolution face.

    >>> import torch
    >>> from facehall_env import enhancers
    >>> from facehall_env.data import Faces
    >>> core = HallucinationCore(enhancers.make("bicubic"), reward="delta_mse", num_steps=2)
    >>> hr = torch.full((1, 3, 128, 128), 0.5)
    >>> state = core.reset(Faces(hr=hr, lr=hr[..., ::4, ::4], initial=hr - 0.25))
    >>> state.mse.item()
    0.0625
    >>> state, reward, done = core.step(state, torch.tensor([0]))
    >>> reward.item(), done.item()
    (0.0, False)
    """

    def __init__(
        self,
        enhancer: Enhancer,
        *,
        image_size: tuple[int, int] = (128, 128),
        reward: str | Reward | Mapping[str, float] = "delayed_mse",
        border: Border = "centre",
        patch_size: tuple[int, int] | None = None,
        num_steps: int = 25,
        action_stride: int = 1,
        action_offset: int | None = None,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        validate: bool = True,
        initial: Enhancer | None = None,
    ) -> None:
        if not isinstance(enhancer, Enhancer):
            raise ConfigurationError(
                f"The enhancer is a {type(enhancer).__name__}, expected an instance of "
                "facehall_env.enhancers.Enhancer: derive from it, or wrap a whole-face network "
                "in facehall_env.enhancers.OneShot."
            )
        if num_steps < 1:
            raise ConfigurationError(f"num_steps={num_steps}: an episode needs at least one step.")
        check_word("precision", precision, Precision)
        self.device = torch.device(device)
        height, width = patch_size or enhancer.patch_size
        self.geometry = PatchGeometry(
            image_size, (height, width), border, action_stride, action_offset
        )
        self.num_steps = num_steps
        self.precision = precision
        self.reward = rewards.make(reward)
        self.validate = validate
        self.enhancer = prepare_network(enhancer, self.device, precision)
        self.initial = None if initial is None else self._starts_from(initial)

    @property
    def scale(self) -> int:
        """Factor between low and high resolution."""
        return self.enhancer.scale

    @torch.no_grad()
    def reset(
        self, faces: Faces, state: CoreState | None = None, rows: Tensor | None = None
    ) -> CoreState:
        """Starts episodes with N faces, or with K of them in some ``rows`` (K,) of a ``state``.

        Returns:
            The state of all rows; the others go on.

        Raises:
            ConfigurationError: If the faces' size is not this core's.
        """
        fresh = self._fresh(faces)
        if state is None or rows is None:
            return fresh
        return state.replace_rows(rows.to(self.device), fresh)

    @torch.no_grad()
    def begin(self, faces: Faces) -> Faces:
        """The faces on the device, as episodes start with them: ``initial`` is I_0."""
        faces = faces.to(self.device)
        if self.initial is None:
            return faces
        restored = restore_whole(self.initial, faces.initial, faces.lr)
        return faces._replace(initial=restored.clamp(0, 1))

    @torch.no_grad()
    def step(self, state: CoreState, action: Tensor) -> tuple[CoreState, Tensor, Tensor]:
        """Enhances one patch of each face, at the location ``action`` (N,) int64.

        Returns:
            The next state, the reward (N,) float32, and whether the episode is over (N,) bool.

        Raises:
            ActionError: If an action is not an integer or lies outside the grid.
            EpisodeError: If an episode is already over.
            EnhancerError: If the enhancer returns another shape or values that are not finite.
        """
        after, done = self.advance(state, action)
        return after, self.reward(state, after, done).float(), done

    @torch.no_grad()
    def advance(self, state: CoreState, action: Tensor) -> tuple[CoreState, Tensor]:
        """:meth:`step` without its reward: the next state, and whether the episode is over."""
        self._check(state, action)
        place = self.geometry.place(action)
        current = place.crop(state.image)
        restored = self._checked(state, self._proposal(state, place, current))
        after = self._written(state, action, place, current, restored)
        return after, after.step >= self.num_steps

    def check_range(self, action: Tensor) -> None:
        """Raises an ActionError outside the grid; with ``validate=False`` it checks nothing."""
        if self.validate and bool((outside := self._outside(action)).any()):
            raise ActionError(
                f"Action {action[outside][0].item()} is outside the grid of "
                f"{self.geometry.num_locations} locations: choose an index from 0 to "
                f"{self.geometry.num_locations - 1}."
            )

    @torch.no_grad()
    def enhance(self, state: CoreState, action: Tensor) -> Tensor:
        """What the enhancer makes of the patches at ``action``: (N, 3, h, w) in [0, 1].

        Raises:
            EnhancerError: See :meth:`step`.
        """
        return self._checked(state, self.propose(state, action))

    def propose(self, state: CoreState, action: Tensor) -> Tensor:
        """The enhancer's own output for the patches at ``action``, unclamped, with gradients."""
        return self._proposal(state, self.geometry.place(action))

    @torch.no_grad()
    def write(self, state: CoreState, action: Tensor, restored: Tensor) -> CoreState:
        """The state after ``restored`` patches (N, 3, h, w) were pasted at ``action``."""
        place = self.geometry.place(action)
        return self._written(state, action, place, place.crop(state.image), restored)

    @torch.no_grad()
    def gain(self, state: CoreState, action: Tensor, restored: Tensor) -> Tensor:
        """By how much pasting ``restored`` at ``action`` lowers each face's MSE: (N,) float64."""
        place = self.geometry.place(action)
        return _gain(state, place, place.crop(state.image), restored)

    def _proposal(
        self, state: CoreState, place: Placement, current: Tensor | None = None
    ) -> Tensor:
        """The enhancer's output; ``current`` is what the patches hold, if somebody knows."""
        if isinstance(self.enhancer, OneShot) and state.restored is not None:
            return place.crop(state.restored)
        current = place.crop(state.image) if current is None else current
        began_with = (state.initial,) if self.enhancer.sees_start else ()
        proposal: Tensor = self.enhancer(current, state.image, place.location, *began_with)
        return proposal

    def _checked(self, state: CoreState, restored: Tensor) -> Tensor:
        """The enhancer's output, clamped to [0, 1], if it is of the right shape and finite."""
        expected = (state.num_envs, 3, *self.geometry.patch_size)
        if tuple(restored.shape) != expected:
            raise EnhancerError(
                f"The enhancer returned a tensor of shape {tuple(restored.shape)}, expected "
                f"{expected}: return one patch of the size that you were given for each face."
            )
        # One sum is enough to see a single NaN or infinity anywhere.
        if self.validate and not bool(torch.isfinite(restored.sum())):
            raise EnhancerError(
                "The enhancer returned values that are not finite: its weights or its input are "
                "broken; train with a lower learning rate, or load other weights."
            )
        return restored.clamp(0, 1)

    def _written(
        self, state: CoreState, action: Tensor, place: Placement, current: Tensor, restored: Tensor
    ) -> CoreState:
        """The state after ``restored`` patches took the place of ``current`` ones."""
        restored = restored.to(state.image.dtype)
        return dataclasses.replace(
            state,
            image=place.paste(state.image, restored),
            actions=state.actions.scatter(1, state.step[:, None], action[:, None]),
            location=place.location,
            patch=restored,
            coverage=place.cover(state.coverage),
            step=state.step + 1,
            mse=state.mse - _gain(state, place, current, restored),
        )

    def _fresh(self, faces: Faces) -> CoreState:
        faces = faces.to(self.device)
        given, faces = faces, self.begin(faces)
        height, width = self.geometry.image_size
        number = len(faces.hr)
        for name, tensor in (("hr", faces.hr), ("initial", faces.initial)):
            if tuple(tensor.shape) != (number, 3, height, width):
                raise ConfigurationError(
                    f"faces.{name} has shape {tuple(tensor.shape)}, expected "
                    f"({number}, 3, {height}, {width}): build the core with the faces' image_size."
                )
        restored = None
        if isinstance(self.enhancer, OneShot):
            seen = faces if self.enhancer.takes == "start" else given
            restored = self.enhancer.restore(seen.initial, seen.lr)
        return CoreState(
            image=faces.initial,
            hr=faces.hr,
            lr=faces.lr,
            initial=faces.initial,
            restored=restored,
            actions=torch.full((number, self.num_steps), -1, device=self.device),
            location=torch.full((number, 2), -1, device=self.device),
            patch=faces.hr.new_full((number, 3, *self.geometry.patch_size), patches.GREY),
            coverage=torch.zeros((number, 1, height, width), dtype=torch.bool, device=self.device),
            step=torch.zeros(number, dtype=torch.int64, device=self.device),
            mse=mean_squared_error(faces.initial, faces.hr),
            identity=faces.identity,
        )

    def _check(self, state: CoreState, action: Tensor) -> None:
        if action.shape != (state.num_envs,) or action.dtype != torch.int64:
            raise ActionError(
                f"The action has shape {tuple(action.shape)} and type {action.dtype}, expected "
                f"({state.num_envs},) and torch.int64: give one location index for each face."
            )
        if not self.validate:
            return
        if bool((self._outside(action) | (state.step >= self.num_steps)).any()):
            self.check_range(action)
            raise EpisodeError(
                f"An episode is over after {self.num_steps} steps and cannot take another: reset "
                "it first."
            )

    def _outside(self, action: Tensor) -> Tensor:
        return (action < 0) | (action >= self.geometry.num_locations)

    def _starts_from(self, initial: Enhancer) -> Enhancer:
        """The network that episodes start from, if it is one of whole faces and this scale."""
        initial.whole_face()  # Raises a clear error for networks that cannot.
        if initial.scale != self.scale:
            raise ConfigurationError(
                f"The initial faces come from a network for scale {initial.scale}, but the "
                f"enhancer's is {self.scale}: give both the same."
            )
        return prepare_network(initial, self.device, self.precision)


def prepare_network(enhancer: Enhancer, device: torch.device, precision: Precision) -> Enhancer:
    """The network on a device, in a precision and in evaluation mode; changed in place if fp32."""
    if precision == "bf16":
        enhancer = _rounded(enhancer, device)
    # Convolutions on the CPU are half as fast in the other layout.
    for module in enhancer.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return enhancer.to(device).eval()


def _gain(state: CoreState, place: Placement, current: Tensor, restored: Tensor) -> Tensor:
    """By how much ``restored`` patches lower each face's MSE below that of ``current`` ones."""
    truth = place.crop(state.hr)
    # a^2 - b^2 as (a - b)(a + b), with a and b the errors before and after.
    difference = (current - restored) * (current + restored - 2 * truth)
    return (difference * place.inside).flatten(1).sum(1, dtype=torch.float64) / state.hr[0].numel()


def _rounded(enhancer: Enhancer, device: torch.device) -> Enhancer:
    """The enhancer with its weights in bfloat16; itself, to be shared, if they already are."""
    emulated = device.type == "cpu" and not cpu_has_bfloat16()
    kept = torch.float32 if emulated else torch.bfloat16
    floating = [tensor for tensor in enhancer.state_dict().values() if tensor.is_floating_point()]
    if all(t.dtype == kept and torch.equal(t, t.bfloat16().to(kept)) for t in floating):
        return enhancer
    return copy.deepcopy(enhancer).bfloat16().to(kept)


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX-512 BF16 or AMX).

    Without, torch emulates it a hundred times slower than float32.
    """
    if not hasattr(torch.cpu, "get_capabilities"):
        return False  # An older torch that cannot tell: float32 is always right.
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
