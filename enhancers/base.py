"""What an enhancer is: a network that sharpens one patch of a face at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.layers.checks import one_of
from facehall_env.errors import ConfigurationError
from facehall_env.literals import Augmentation, Loss, Optimizer, Schedule

Takes = Literal["initial", "lr", "start"]
PATCH_SIZE = (60, 45)
"""Height and width of the attended patch in the Attention-FH paper, section 3."""


class Enhancer(nn.Module, ABC):
    """Base of all enhancers.

    An enhancer sees the current content of the attended patch, the whole current face and where
    the patch is (with ``sees_start``, also the face that the episode began with), and returns the
    patch's new content. It knows nothing of rewards or agents, and it does not clamp: the
    environment does.

    Where an enhancer does not say otherwise, its network is the same for all scales, and a setting
    that is unknown or out of range is a ConfigurationError.

    Args:
        scale: Factor between the low and the high resolution that it is made, or trained, for.
        patch_size: Height and width in pixels of its patches, or of the pieces of a whole restored
            face that an environment pastes.
        config: Keywords that build the same enhancer again; stored beside its weights.
    """

    name = "enhancer"
    trained_by: ClassVar[str] = "enhancer --enhancer {name}"
    """The command behind ``facehall train`` that trains it."""
    sees_start = False
    """Whether :meth:`forward` takes a fourth, optional argument: (N, 3, H, W), the face I_0 that
    the episode began with; its whole-face network then takes it as a second. Without, the current
    face is the first of an episode."""

    def __init__(self, scale: int, patch_size: tuple[int, int] = PATCH_SIZE, **config: Any) -> None:
        super().__init__()
        self.scale = scale
        self.patch_size = (int(patch_size[0]), int(patch_size[1]))
        self.config: dict[str, Any] = {"patch_size": self.patch_size, **config}
        self.provenance: dict[str, Any] = {}

    @abstractmethod
    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        """Sharpens one patch per face.

        Args:
            patch: (N, 3, h, w) current content, in [0, 1], mid-grey outside the image.
            image: (N, 3, H, W) the whole current face, in [0, 1].
            location: (N, 2) int64, (y, x) of the patch's centre in pixels.

        Returns:
            (N, 3, h, w), not clamped.
        """

    def whole_face(self) -> nn.Module:
        """A network from a whole up-sampled face (N, 3, H, W) to a restored one, if it has one.

        Raises:
            ConfigurationError: If this enhancer works on patches only.
        """
        raise ConfigurationError(
            f"The enhancer {self.name!r} works on patches of {self.patch_size} only: a one-shot "
            "run needs a network that restores whole faces, 'compact' for example."
        )

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Parameters for an optimiser, with learning rates of their own where that is needed."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]


@dataclass(frozen=True)
class Recipe:
    """How a network's paper or its authors' release trains it: a trainer's defaults.

    Attributes:
        loss: Pixel loss between the restored and the true face.
        learning_rate: Learning rate of Adam at the start.
        betas: Momenta of Adam.
        batch: Faces per update.
        schedule: How the learning rate falls: along a half ``"cosine"`` to nearly nothing, to
            its half every ``step_updates`` updates (``"step"``), or not at all (``"constant"``).
        step_updates: Updates between two steps of the ``"step"`` schedule.
        augment: How the training faces are varied: ``"flip"`` mirrors half of them left to
            right, ``"scale"`` resizes them by a random factor before cropping, ``"rotate"``
            turns them by a random multiple of 90 degrees.
        optimizer: ``"adam"``, or ``"muon"``, which is Muon for the matrices inside the network
            and Adam for the rest.
    """

    loss: Loss = "l1"
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    batch: int = 16
    schedule: Schedule = "cosine"
    step_updates: int = 50_000
    augment: tuple[Augmentation, ...] = ("flip",)
    optimizer: Optimizer = "adam"


class OneShot(Enhancer):
    """A whole-face network as an enhancer: restores once, then hands out pieces.

    The environment calls :meth:`restore` at the start of an episode and pastes patches of the
    result, so that a step costs next to nothing.

    Args:
        network: Maps faces to restored ones (N, 3, H, W), from what ``takes`` says.
        scale: Factor that the network is made for.
        patch_size: Height and width of the pieces.
        takes: What the network is given: ``"initial"``, the up-sampled faces (N, 3, H, W);
            ``"lr"``, the low-resolution ones (N, 3, H / scale, W / scale); or ``"start"``, the
            faces that episodes start from, where another network has restored these before.
        **config: Keywords that build the same enhancer again, for subclasses.

    Attributes:
        network: The network.
        takes: What it is given.
        recipe: How its paper trains it, for every network of the class.

    >>> bicubic = OneShot(nn.Identity(), scale=4, patch_size=(2, 2))
    >>> face = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4) / 16
    >>> bicubic(face[..., :2, :2], face, torch.tensor([[1, 1]]))[0, 0] * 16
    tensor([[ 5.,  6.],
            [ 9., 10.]])
    """

    name = "one_shot"
    trained_by: ClassVar[str] = "sr --enhancer {name}"
    recipe: ClassVar[Recipe] = Recipe()

    def __init__(
        self,
        network: nn.Module,
        scale: int,
        patch_size: tuple[int, int] = PATCH_SIZE,
        takes: Takes = "initial",
        **config: Any,
    ) -> None:
        super().__init__(scale, patch_size, **config)
        one_of("takes", takes, get_args(Takes))
        self.network = network
        self.takes = takes

    def restore(self, initial: Tensor, lr: Tensor | None = None) -> Tensor:
        """The whole restored face.

        Args:
            initial: (N, 3, H, W), up-sampled faces in [0, 1].
            lr: (N, 3, H / scale, W / scale), the low-resolution ones that they come from; where
                they are needed and not given, ``initial`` is downsampled.

        Returns:
            (N, 3, H, W), not clamped.
        """
        given = initial
        if self.takes == "lr":
            given = shrink(initial, self.scale) if lr is None else lr
        restored: Tensor = self.network(given)
        return restored

    def whole_face(self) -> nn.Module:
        """A network of up-sampled faces; see :meth:`Enhancer.whole_face`."""
        return _FromInitial(self) if self.takes == "lr" else self.network

    def forward(self, patch: Tensor, image: Tensor, location: Tensor) -> Tensor:
        """Restores ``image`` and cuts the patch out; see :meth:`Enhancer.forward`."""
        return self.cut(self.restore(image), location)

    def cut(self, restored: Tensor, location: Tensor) -> Tensor:
        """The piece of an already restored face around ``location``."""
        return patches.crop(restored, patches.corner_of(location, self.patch_size), self.patch_size)


class _FromInitial(nn.Module):
    """A network of low-resolution faces, given up-sampled ones."""

    def __init__(self, enhancer: OneShot) -> None:
        super().__init__()
        self.enhancer = enhancer

    def forward(self, initial: Tensor) -> Tensor:
        """(N, 3, H, W) to the restored faces, of the same shape."""
        return self.enhancer.restore(initial)


def restore_whole(enhancer: Enhancer, initial: Tensor, lr: Tensor | None = None) -> Tensor:
    """Whole faces (N, 3, H, W), restored in one go, not clamped.

    From up-sampled faces in [0, 1] and, if they are at hand, the low-resolution ones that they
    come from, (N, 3, H / scale, W / scale).

    Raises:
        ConfigurationError: If the enhancer works on patches only.
    """
    if isinstance(enhancer, OneShot):
        return enhancer.restore(initial, lr)
    restored: Tensor = enhancer.whole_face()(initial)
    return restored


def restore_current(enhancer: Enhancer, image: Tensor, start: Tensor) -> Tensor:
    """Whole faces (N, 3, H, W) in the middle of an episode, restored in one go, not clamped.

    From the current faces in [0, 1] and those that the episodes began with.

    Raises:
        ConfigurationError: If the enhancer works on patches only.
    """
    network = enhancer.whole_face()
    restored: Tensor = network(image, start) if enhancer.sees_start else network(image)
    return restored


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor was given, from its ``locals()`` at its start, for ``config``."""
    common = ("self", "__class__", "scale", "patch_size")
    return {name: value for name, value in arguments.items() if name not in common}


def shrink(image: Tensor, scale: int) -> Tensor:
    """Faces ``scale`` times smaller, antialiased bicubic: (N, 3, H, W) in [0, 1]."""
    height, width = image.shape[-2:]
    small = functional.interpolate(
        image, size=(height // scale, width // scale), mode="bicubic", antialias=True
    )
    return small.clamp(0, 1)


def parameter_count(module: nn.Module) -> int:
    """Number of values in a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def multiply_accumulates(run: Callable[[], object]) -> int:
    """Multiply-accumulate operations of the convolutions and matrix products in a computation.

    Element-wise operations, normalisation, Fourier transforms and interpolation are left out, as
    is usual. What to count, ``run``, is called once.

    >>> layer = torch.nn.Conv2d(3, 8, 5, padding=2)
    >>> multiply_accumulates(lambda: layer(torch.zeros(1, 3, 10, 10))) == 10 * 10 * 8 * 3 * 25
    True
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2


def compute_dtype(module: nn.Module) -> torch.dtype:
    """The type of a module's weights, in which its input has to arrive."""
    return next(module.parameters()).dtype


EnhancerFactory = Callable[..., Enhancer]
