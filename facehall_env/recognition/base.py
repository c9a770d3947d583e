"""What a recogniser is: a network from faces to embeddings, close together for one person."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from facehall_env.errors import ConfigurationError
from facehall_env.limits import check_word
from facehall_env.literals import ChannelOrder as ChannelOrder


class Recogniser(nn.Module, ABC):
    """Base of all recognisers.

    A subclass implements :meth:`stages`, convolutions that work on images of any size, and
    :meth:`embedding_of`, what they end in. Faces in [0, 1] go through :meth:`embed`; the steps it
    is made of are there for losses that look at a part: :meth:`standardise` and :meth:`stages`
    for patches in their own size, :meth:`normalise` and :meth:`forward` for whole faces.

    Args:
        input_size: Height and width of the faces that it embeds.
        embedding_size: D, the values of an embedding.
        mean: What is taken off a value in [0, 1] of each channel, red first.
        std: What is left is divided by this, red first.
        channel_order: In which order its first layer takes the channels.
        config: Keywords that build the same recogniser again; stored beside its weights.

    Attributes:
        classifier: How the names of those tensors begin that a file of weights may hold besides
            the network's, since it was trained with them; they are left out.
    """

    name: ClassVar[str] = "recogniser"
    classifier: ClassVar[tuple[str, ...]] = ()
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        input_size: tuple[int, int],
        embedding_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        channel_order: ChannelOrder = "rgb",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_word("channel_order", channel_order, ChannelOrder)
        self.input_size = input_size
        self.embedding_size = embedding_size
        self.channel_order = channel_order
        self.config: dict[str, Any] = dict(config or {})
        self.provenance: dict[str, Any] = {}
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @abstractmethod
    def stages(self, normalised: Tensor) -> Iterable[Tensor]:
        """Activations (N, C_i, h_i, w_i) after each stage of convolutions, for texture losses too.

        ``normalised``, (N, 3, h, w), holds faces or patches of any size as :meth:`standardise`
        leaves them. A generator computes no stage before it is asked for.
        """

    @abstractmethod
    def embedding_of(self, features: Tensor) -> Tensor:
        """(N, C, h, w), the last of the stages of faces of ``input_size``, to (N, D)."""

    def forward(self, normalised: Tensor) -> Tensor:
        """Embeds faces (N, 3, *input_size) that are normalised already, as :meth:`normalise` does.

        Returns:
            (N, D), not scaled to unit length.

        Raises:
            ConfigurationError: If they are of another shape.
        """
        self._check_channels(normalised)
        if tuple(normalised.shape[-2:]) != self.input_size:
            height, width = normalised.shape[-2:]
            raise ConfigurationError(
                f"The recogniser {self.name!r} got faces of {height}x{width} pixels, expected "
                f"{self.input_size[0]}x{self.input_size[1]}: give those that normalise(faces) "
                "returns, or use embed(faces)."
            )
        return self.embedding_of(deque(self.stages(normalised), maxlen=1).pop())

    def embed(self, faces: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1], RGB, of any size to embeddings (N, D); differentiable."""
        return self.forward(self.normalise(faces))

    def normalise(self, faces: Tensor) -> Tensor:
        """Whole faces (N, 3, H, W) in [0, 1], RGB, as the network takes them; differentiable.

        They are resized (bilinear, antialiased) to ``input_size`` where they are of another.

        Raises:
            ConfigurationError: If they are no RGB images.
        """
        self._check_channels(faces)
        if tuple(faces.shape[-2:]) != self.input_size:
            faces = functional.interpolate(
                faces, size=self.input_size, mode="bilinear", antialias=True
            )
        return self.standardise(faces)

    def standardise(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) in [0, 1], RGB, in the scale and channel order of the network."""
        standard = (images - self.mean) / self.std
        return standard.flip(1) if self.channel_order == "bgr" else standard

    def _check_channels(self, faces: Tensor) -> None:
        if faces.ndim != 4 or faces.shape[1] != 3:
            raise ConfigurationError(
                f"The recogniser {self.name!r} got a tensor of shape {tuple(faces.shape)}, "
                "expected faces (N, 3, H, W)."
            )
