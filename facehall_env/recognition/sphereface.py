"""SphereFace-20, the cognition network of IPFH (Liu et al., CVPR 2017, Table 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from facehall_env.enhancers.layers.checks import check_counts
from facehall_env.errors import ConfigurationError
from facehall_env.recognition.base import ChannelOrder, Recogniser

Pooling = Literal["fc", "gap"]
INPUT_SIZE = (112, 96)
UNITS = (1, 2, 4, 1)
"""Residual units of two convolutions each in a stage, behind the convolution that begins it."""
LAST_FEATURES = (7, 6)
"""Height and width of the last features: the input's, halved by each stage."""
LEVELS = 255.0
OFFSET, RANGE = 127.5, 128.0
"""A pixel x of 0-255 enters as (x - 127.5) / 128."""
SLOPE = 0.25
"""Where the learned slopes of the activations begin."""
UNIT_STD = 0.01
"""Standard deviation of a unit's first weights: the unit begins close to the identity, which a
network of twenty layers without normalisation needs."""


class SphereFace(Recogniser):
    """Twenty convolutions 3x3 with PReLU in four stages, each beginning with stride 2.

    The layers are named as in the published network (``conv1_1``, ``relu1_1``, ..., ``fc5``), so
    that its weights can be loaded; those expect ``channel_order="bgr"``.

    Args:
        width: Channels of the first stage; they double from stage to stage.
        embedding: Values of an embedding, with ``pooling="fc"``.
        pooling: How the last features become an embedding: ``"fc"``, a fully-connected layer, or
            ``"gap"``, their means over the image, as the IPFH paper says (section III-F); an
            embedding then has the 8 ``width`` values of the last stage.
        channel_order: In which order the first layer takes the channels.

    Raises:
        ConfigurationError: If a setting is out of its range.

    >>> SphereFace(width=4, embedding=16).embedding_size
    16
    """

    name = "sphereface"
    classifier: ClassVar[tuple[str, ...]] = ("fc6.",)

    def __init__(
        self,
        width: int = 64,
        embedding: int = 512,
        pooling: Pooling = "fc",
        channel_order: ChannelOrder = "rgb",
    ) -> None:
        check_counts("sphereface", width=width, embedding=embedding)
        if pooling not in get_args(Pooling):
            raise ConfigurationError(
                f"pooling={pooling!r} is unknown: use one of {get_args(Pooling)}."
            )
        last = width * 2 ** (len(UNITS) - 1)
        super().__init__(
            INPUT_SIZE,
            embedding if pooling == "fc" else last,
            mean=(OFFSET / LEVELS,) * 3,
            std=(RANGE / LEVELS,) * 3,
            channel_order=channel_order,
            config={
                "width": width,
                "embedding": embedding,
                "pooling": pooling,
                "channel_order": channel_order,
            },
        )
        self.pooling = pooling
        inputs = 3
        for stage, units in enumerate(UNITS, start=1):
            outputs = width * 2 ** (stage - 1)
            for number in range(1, 2 * units + 2):
                self._add_layer(stage, number, inputs, outputs)
                inputs = outputs
        if pooling == "fc":
            self.fc5 = nn.Linear(last * LAST_FEATURES[0] * LAST_FEATURES[1], embedding)

    def stages(self, normalised: Tensor) -> Iterator[Tensor]:
        """The four stages; see :meth:`Recogniser.stages`."""
        features = normalised
        for stage, units in enumerate(UNITS, start=1):
            features = self._layer(stage, 1, features)
            for number in range(2, 2 * units + 1, 2):
                inner = self._layer(stage, number, features)
                features = features + self._layer(stage, number + 1, inner)
            yield features

    def embedding_of(self, features: Tensor) -> Tensor:
        """The fully-connected layer, or the means; see :meth:`Recogniser.embedding_of`."""
        if self.pooling == "gap":
            return features.mean((2, 3))
        embedding: Tensor = self.fc5(features.flatten(1))
        return embedding

    def _add_layer(self, stage: int, number: int, inputs: int, outputs: int) -> None:
        begins = number == 1
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if begins else 1, padding=1)
        if begins:
            nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
        else:
            nn.init.normal_(convolution.weight, std=UNIT_STD)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # there is one
        self.add_module(f"conv{stage}_{number}", convolution)
        self.add_module(f"relu{stage}_{number}", nn.PReLU(outputs, init=SLOPE))

    def _layer(self, stage: int, number: int, features: Tensor) -> Tensor:
        convolved = self.get_submodule(f"conv{stage}_{number}")(features)
        activated: Tensor = self.get_submodule(f"relu{stage}_{number}")(convolved)
        return activated
