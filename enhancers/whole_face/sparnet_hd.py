"""SPARNetHD: SPARNet for faces of 512 pixels whose degradation is not known (section III-C)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, given
from facehall_env.enhancers.layers.checks import check_counts
from facehall_env.enhancers.whole_face.sparnet import Activation, Layers, SPARNetwork

HALVINGS = 4
"""How often the body's resolution is half of the face's."""


class RecomputedUnits(nn.Sequential):
    """Units whose insides can be computed again on the way back instead of being kept.

    Attributes:
        recompute: Keep what lies between the units only: much less memory for about a third more
            time of a training step. The gradients are the same.
    """

    recompute = False

    def forward(self, features: Tensor) -> Tensor:
        """All units, one after the other."""
        for unit in self:
            if self.recompute and torch.is_grad_enabled():
                features = checkpoint(
                    unit, features, use_reentrant=False, context_fn=partial(_twice, unit)
                )
            else:
                features = unit(features)
        return features


def _twice(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first and of the second time that a unit is computed."""
    return nullcontext(), _frozen_parametrizations(unit)


@contextmanager
def _frozen_parametrizations(module: nn.Module) -> Iterator[None]:
    """Spectral norms as the last forward pass estimated them.

    In training each pass improves the estimate; a second pass would otherwise have other weights
    than the first, and the gradient would belong to neither.
    """
    lists = [part for part in module.modules() if isinstance(part, parametrize.ParametrizationList)]
    before = [part.training for part in lists]
    for part in lists:
        part.train(False)
    try:
        yield
    finally:
        for part, training in zip(lists, before, strict=True):
            part.train(training)


class SPARNetHD(OneShot):
    """The generator of SPARNetHD, from an up-sampled bad face of 512x512 to a good one.

    SPARNet with more channels (102, 204, 408, 512, 512 from full resolution down), four halvings,
    nine units in the body, instance normalisation and spectrally normalised convolutions:
    85,815,776 parameters, 85,793,412 with ``activation="leaky_relu"``. Hourglasses go down to
    16x16, which the paper does not say: it is the size for which the number of parameters comes
    to the 85.8 M of the authors' release.

    Train it with ``facehall train sparnet-hd``.

    Args:
        scale: What the environment is told; the network takes faces of unknown degradation.
        width: Channels at full resolution; each halving doubles them.
        most: Channels are never more than this.
        blocks: Units at the lowest resolution.
        bottleneck: Side that every hourglass goes down to, of a face of ``image_size``.
        image_size: Side of the faces that ``bottleneck`` is said for. Others can be restored if
            their sides are multiples of ``image_size / bottleneck``, from twice that on.

    >>> tiny = SPARNetHD(width=2, most=4, blocks=1, hourglass_width=2, bottleneck=2, image_size=32)
    >>> tiny.restore(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 3, 32, 32])
    """

    name = "sparnet_hd"
    trained_by: ClassVar[str] = "sparnet-hd"
    recipe: ClassVar[Recipe] = Recipe(
        loss="l1", learning_rate=1e-4, betas=(0.5, 0.99), batch=2, schedule="constant"
    )

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        width: int = 102,
        most: int = 512,
        blocks: int = 9,
        hourglass_width: int = 64,
        bottleneck: int = 16,
        image_size: int = 512,
        activation: Activation = "prelu",
    ) -> None:
        config = given(locals())
        check_counts(
            "sparnet_hd", width=width, most=most, blocks=blocks, hourglass_width=hourglass_width
        )
        network = SPARNetwork(
            [min(width << level, most) for level in range(HALVINGS + 1)],
            blocks,
            hourglass_width,
            bottleneck=bottleneck,
            image_size=image_size,
            layers=Layers(activation, "instance", spectral=True),
        )
        network.units = RecomputedUnits(OrderedDict(network.units.named_children()))
        super().__init__(network, scale, patch_size, **config)

    def recompute(self, recompute: bool = True) -> None:
        """Sets gradient checkpointing; see :class:`RecomputedUnits`. Not stored with weights."""
        for module in self.modules():
            if isinstance(module, RecomputedUnits):
                module.recompute = recompute
