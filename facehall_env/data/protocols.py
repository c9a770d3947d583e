"""Protocol presets: how papers degrade a face, and how they then measure the result.

"Bicubic" differs by over 2 dB and "PSNR" by 1 to 2 dB between papers, so no number is worth
anything without its convention. A `Protocol` is that convention, as data. Listing them imports no
torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facehall_env.errors import ConfigurationError
from facehall_env.literals import Kernel
from facehall_env.registry import named

if TYPE_CHECKING:
    from torch import Tensor

    from facehall_env.data.faces import Faces


@dataclass(frozen=True)
class Protocol:
    """A degradation and the convention of the metrics that belong to it.

    Attributes:
        name: The name under which `get` finds it.
        down: Kernel that downsamples the truth.
        up: Kernel that upsamples the result to the starting image.
        round_lr: Whether the low resolution is rounded to 8 bits, as in a file.
        colour: Metrics on ``"rgb"``, or on ``"y"``: ITU-R BT.601 luma in the limited range 16-235.
        shave_scales: Border left out by the metrics, in units of the scale...
        shave_pixels: ...plus this many pixels; see `shave`.
        round_sr: Whether the metrics round the restored image to 8 bits.
        source: Where the convention comes from, in one line.

    Example:
        >>> import torch
        >>> get("sisn").shave(scale=4)
        10
        >>> faces = get("bicubic").degrade(torch.zeros(2, 3, 16, 16), scale=4)
        >>> faces.lr.shape, faces.initial.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 3, 16, 16]))
    """

    name: str
    down: Kernel
    up: Kernel
    round_lr: bool = True
    colour: Literal["rgb", "y"] = "rgb"
    shave_scales: int = 0
    shave_pixels: int = 0
    round_sr: bool = False
    source: str = ""

    def shave(self, scale: int) -> int:
        """Pixels on each side that the metrics leave out at ``scale``."""
        return self.shave_scales * scale + self.shave_pixels

    def degrade(self, hr: Tensor, scale: int) -> Faces:
        """Downsamples faces and upsamples them again.

        Args:
            hr: The truth, (N, 3, H, W): uint8 in 0-255 or floating point in [0, 1].
            scale: How many times smaller; divides H and W.

        Returns:
            The faces on the device of ``hr``; ``lr`` and ``initial`` are clamped to [0, 1].

        Raises:
            ConfigurationError: If ``hr`` is not such a batch or ``scale`` does not divide it.
        """
        import torch

        from facehall_env.data.faces import Faces
        from facehall_env.data.resize import resize

        if hr.ndim != 4 or hr.shape[1] != 3:
            raise ConfigurationError(
                f"Faces must have the shape (N, 3, H, W), got {tuple(hr.shape)}."
            )
        height, width = hr.shape[-2:]
        if scale < 1 or height % scale or width % scale:
            raise ConfigurationError(
                f"Scale {scale} does not divide the image size {height}x{width}: "
                "choose one that divides both, or crop the images to a multiple of it."
            )
        if hr.dtype == torch.uint8:
            truth = hr.float() / 255
        elif hr.is_floating_point():
            truth = hr.float()
        else:
            raise ConfigurationError(f"Faces must be uint8 or floating point, got {hr.dtype}.")
        with torch.no_grad():
            lr = resize(truth, (height // scale, width // scale), self.down).clamp(0, 1)
            if self.round_lr:
                # Halves go up, as in Pillow and MATLAB; torch.round would go to the even number.
                lr = (lr * 255 + 0.5).floor() / 255
            return Faces(truth, lr, resize(lr, (height, width), self.up).clamp(0, 1))


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="bicubic",
            down="bicubic",
            up="bicubic",
            source="antialiased bicubic as in Pillow and torch; RGB, the whole image",
        ),
        Protocol(
            name="afh",
            down="area",
            up="catmull-rom-corners",
            round_lr=False,
            source="Attention-FH (Cao et al., CVPR 2017): area, then corner-aligned Catmull-Rom",
        ),
        Protocol(
            name="afh-torch7",
            down="area",
            up="torch7-bicubic",
            round_lr=False,
            source="as afh, with the borders of the Torch7 release's image.scale",
        ),
        Protocol(
            name="sparnet",
            down="bicubic",
            up="bicubic",
            colour="y",
            round_sr=True,
            source="SPARNet (Chen et al., TIP 2020): Pillow bicubic; luma, the whole image",
        ),
        Protocol(
            name="sisn",
            down="matlab-bicubic",
            up="matlab-bicubic",
            shave_scales=1,
            shave_pixels=6,
            round_sr=True,
            source="SISN (Lu et al., ACM MM 2021): MATLAB bicubic; RGB, shaved by scale + 6",
        ),
        Protocol(
            name="matlab-y",
            down="matlab-bicubic",
            up="matlab-bicubic",
            colour="y",
            shave_scales=1,
            round_sr=True,
            source="the usual super-resolution convention: MATLAB bicubic; luma, shaved by scale",
        ),
    )
}
"""All presets by name."""


def get(name: str) -> Protocol:
    """The preset of this name, a key of `PROTOCOLS`.

    Raises:
        UnknownNameError: If there is none.
    """
    return named("protocol", name, PROTOCOLS)
