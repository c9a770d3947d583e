"""SISN (Lu et al., "Face Hallucination via Split-Attention in Split-Attention Network", 2021)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from facehall_env import patches
from facehall_env.enhancers.base import PATCH_SIZE, OneShot, Recipe, compute_dtype, given
from facehall_env.enhancers.layers.checks import check_counts, check_multiple
from facehall_env.errors import ConfigurationError

RADIX = 4


class SplitAttention(nn.Module):
    """Internal-feature split attention, ISA (section 3.2, equations 6 and 7).

    A grouped convolution makes ``RADIX`` splits of the features. From the mean of their sum over
    all pixels, two 1x1 convolutions find weights for each channel of each split, which a softmax
    over the splits makes add up to one. The splits are then added by these weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        splits = RADIX * width
        self.splits = nn.Sequential(
            nn.Conv2d(width, splits, 3, padding=1, groups=RADIX, bias=False),
            nn.BatchNorm2d(splits),
            nn.ReLU(inplace=True),
        )
        self.weights = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, splits, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, h, w) to the same."""
        splits = self.splits(features).unflatten(1, (RADIX, -1))
        mean = splits.sum(1).mean((2, 3), keepdim=True)
        weights = self.weights(mean).unflatten(1, (RADIX, -1)).softmax(1)
        fused: Tensor = (splits * weights).sum(1)
        return fused


class AttentionBlock(nn.Module):
    """Split attention between two 1x1 convolutions, around a shortcut (ISAB, Figure 1).

    Args:
        attention: Whether the split attention is there (Table 1: "SISN w/o detail" leaves it out).
    """

    def __init__(self, width: int, attention: bool = True) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            SplitAttention(width) if attention else nn.Identity(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, h, w) to the same."""
        return functional.relu(features + self.inner(features))


class AttentionGroup(nn.Module):
    """Two paths that are added (ESAG, section 3.3, equations 8 to 10).

    A chain of blocks and a convolution look for facial detail; one block on the group's own input
    for facial structure. Equation 9 has the attention alone on the second path; the authors'
    release, whose size this network has, a whole block.

    Args:
        blocks: Blocks on the first path.
        structure: Whether the second path is there.
        detail: Whether the first path's blocks have their split attention.
    """

    def __init__(self, blocks: int, width: int, structure: bool, detail: bool) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            *(AttentionBlock(width, attention=detail) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.structure = AttentionBlock(width) if structure else None

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, h, w) to the same."""
        detail: Tensor = self.detail(features)
        return detail if self.structure is None else detail + self.structure(features)


class SISNNetwork(nn.Module):
    """From the low-resolution face to the restored one (section 3.1, equations 1 to 4).

    Every pixel is given to the first convolution ``scale**2`` times: the release enlarges the face
    to the nearest pixel and folds it back (space-to-depth), which adds nothing that the
    convolution could express, only weights.
    """

    def __init__(
        self, scale: int, groups: int, blocks: int, width: int, structure: bool, detail: bool
    ) -> None:
        super().__init__()
        self.copies = scale**2
        self.head = nn.Conv2d(3 * self.copies, width, 3, padding=1)
        self.body = nn.Sequential(
            *(AttentionGroup(blocks, width, structure, detail) for _ in range(groups)),
            nn.Conv2d(width, width, 3, padding=1),
        )
        stages: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            stages += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2)]
        self.tail = nn.Sequential(*stages, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, lr: Tensor) -> Tensor:
        """Low-resolution faces (N, 3, h, w) in [0, 1] to (N, 3, scale h, scale w), not clamped.

        Raises:
            ConfigurationError: If these are no faces, or a single one in training, of which the
                attention's batch normalisation cannot learn.
        """
        check_multiple("sisn", lr, 1)
        if self.training and len(lr) == 1:
            raise ConfigurationError(
                "sisn got a batch of 1 face in training, expected at least 2 for its batch "
                "normalisation: enlarge the batch, or call eval() to restore a face."
            )
        centred = (lr - patches.GREY).to(compute_dtype(self))
        features = self.head(centred.repeat_interleave(self.copies, dim=1))
        restored: Tensor = self.tail(features + self.body(features))
        return restored.to(lr.dtype) + patches.GREY


class SISN(OneShot):
    """Split-Attention in Split-Attention Network: 10 groups of 10 blocks, on the small face.

    At 4x 8,073,795 parameters, those that the authors' release uses. Its two ablations (Table 1)
    are settings: ``structure=False`` leaves the groups' second path out, ``detail=False`` the
    split attention of all blocks on the first.

    Args:
        scale: Factor between the resolutions, a power of two: 2, 4 and 8 in practice.
        groups: Number of attention groups (ESAG).
        blocks: Attention blocks (ISAB) in each group.
        width: Channels, a multiple of 4.
        structure: Whether the groups have their path for facial structure.
        detail: Whether the blocks of the other path have their split attention.
    """

    name = "sisn"
    recipe: ClassVar[Recipe] = Recipe(
        loss="l1",
        learning_rate=1e-4,
        batch=10,
        schedule="step",
        step_updates=50_000,
        augment=("flip", "rotate"),
    )

    def __init__(
        self,
        scale: int = 4,
        patch_size: tuple[int, int] = PATCH_SIZE,
        *,
        groups: int = 10,
        blocks: int = 10,
        width: int = 64,
        structure: bool = True,
        detail: bool = True,
    ) -> None:
        config = given(locals())
        check_counts("sisn", groups=groups, blocks=blocks, width=width)
        if width % RADIX:
            raise ConfigurationError(
                f"sisn has width={width}: give a multiple of {RADIX}, the number of its splits."
            )
        if scale < 2 or scale & (scale - 1):
            raise ConfigurationError(
                f"sisn cannot enlarge {scale} times: it doubles the size, so give 2, 4 or 8."
            )
        super().__init__(SISNNetwork(scale, **config), scale, patch_size, takes="lr", **config)
