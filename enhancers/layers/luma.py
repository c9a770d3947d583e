"""Networks of one channel on the faces' luma, as papers from before RGB training have them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from facehall_env.errors import ConfigurationError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of JPEG files (BT.601, full range)."""


class OnLuma(nn.Module):
    """A network of one channel, applied to the luma of RGB faces; their chroma stays.

    Converting to YCbCr (BT.601, full range), exchanging Y for Y' and converting back adds Y' - Y
    to red, green and blue, which is all that happens here.

    Args:
        network: Maps (N, 1, H, W) in [0, 1] to the same shape.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Faces (N, 3, H, W) in [0, 1] to restored ones, not clamped."""
        luma = (image * image.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        restored: Tensor = image + (self.network(luma) - luma)
        return restored


def for_faces(build: Callable[[int], nn.Module], channels: int) -> nn.Module:
    """A network of RGB faces: one of three channels, or one of one channel on the luma.

    Raises:
        ConfigurationError: If ``channels`` is neither.
    """
    if channels not in (1, 3):
        raise ConfigurationError(
            f"channels={channels} is unknown: use 3 for RGB or 1 for the luma alone."
        )
    network = build(channels)
    return network if channels == 3 else OnLuma(network)
