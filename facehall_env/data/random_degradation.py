"""Degradations of natural low-resolution faces: blur, shrinking, noise, compression (eq. 14).

SPARNetHD is trained on faces that are made bad by chance (Chen et al., TIP 2020, section IV-C):

    I_l = JPEG_q((I_h * k_rho) shrunk by s + n_delta)

A `Degradation` holds the ranges of the four parameters, as data; `Degradation.draw` draws a
`Drawn` from a seeded generator, and `Drawn.apply` is then a plain function of the image.

Example:
    >>> import numpy as np
    >>> face = np.full((64, 64, 3), 128, np.uint8)
    >>> drawn = get("paper").draw(np.random.default_rng(0))
    >>> drawn.apply(face).shape, drawn.shrink(face).shape[0] <= 16
    ((64, 64, 3), True)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facehall_env.data.images import ImageArray
from facehall_env.errors import ConfigurationError
from facehall_env.registry import named

Blur = Literal["none", "gaussian", "average", "median", "motion"]
SIDE = 512
"""Side of the faces for which the paper gives the blur; on others it is scaled with the side."""


@dataclass(frozen=True)
class Drawn:
    """The parameters of eq. 14 for one face.

    Attributes:
        blur: Which kernel.
        rho: Its size in pixels of a face of 512: the standard deviation of the Gaussian, the side
            of the window of the others. The paper does not say which; these are the parameters
            that the kernels have.
        angle: Direction of the motion blur in degrees.
        fraction: Side of the small face as a part of the face's, s.
        delta: Standard deviation of the noise in levels of 0-255, independent in every value.
        noise_seed: Seed of the noise itself.
        quality: Quality of the JPEG file, 1-100 (100 minus the paper's compression level); 0
            leaves compression out.
        grey: Whether the face, the truth included, has lost its colours.
    """

    blur: Blur = "none"
    rho: float = 0.0
    angle: float = 0.0
    fraction: float = 1.0
    delta: float = 0.0
    noise_seed: int = 0
    quality: int = 0
    grey: bool = False

    def truth(self, image: ImageArray) -> ImageArray:
        """What restoration should arrive at: the face, without colours where they are lost.

        Faces are uint8 (H, W, 3), RGB, here and below.
        """
        if not self.grey:
            return image
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return np.repeat(np.asarray(luma, np.uint8)[..., None], 3, axis=2)

    def shrink(self, image: ImageArray) -> ImageArray:
        """The degraded face at its low resolution.

        Returns:
            uint8 (h, w, 3); h and w are the sides times ``fraction``, rounded down, at least 2:
            nothing can be learned from a face of one colour, whose gradients through instance
            normalisation overflow.

        Raises:
            ConfigurationError: If the image is none of those.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ConfigurationError(
                f"A face to degrade must be uint8 of the shape (H, W, 3), got {image.dtype} "
                f"{image.shape}: convert it, channels last."
            )
        height, width = (min(n, max(2, int(n * self.fraction))) for n in image.shape[:2])
        rho = self.rho * min(image.shape[:2]) / SIDE
        blurred = _blur(self.truth(image), self.blur, rho, self.angle)
        small = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_AREA)
        noisy = _noise(np.asarray(small, np.uint8), self.delta, self.noise_seed)
        return _jpeg(noisy, self.quality)

    def apply(self, image: ImageArray) -> ImageArray:
        """The degraded face, made as large as it was by bicubic interpolation (I_LR-UP).

        Raises:
            ConfigurationError: If the image is none of those.
        """
        small = self.shrink(image)
        height, width = image.shape[:2]
        large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(large, np.uint8)


@dataclass(frozen=True)
class Degradation:
    """Ranges of the parameters of eq. 14; each is drawn uniformly.

    Attributes:
        name: The name under which `get` finds it.
        blur_chance: How often a face is blurred, by one of the four kernels.
        window: Smallest and largest rho of the Gaussian, average and median blur, in pixels of a
            face of 512.
        motion: The same of the motion blur.
        fraction: Smallest and largest s; the upper end is not reached.
        noise_chance: How often there is noise.
        delta: Smallest and largest standard deviation of the noise, in levels of 0-255.
        jpeg_chance: How often the face is compressed.
        quality: Lowest and highest JPEG quality.
        grey_chance: How often the face loses its colours.
        source: Where the ranges come from, in one line.
    """

    name: str
    blur_chance: float = 1.0
    window: tuple[int, int] = (3, 15)
    motion: tuple[int, int] = (5, 25)
    fraction: tuple[float, float] = (16 / SIDE, 128 / SIDE)
    noise_chance: float = 1.0
    delta: tuple[float, float] = (0.0, 25.5)
    jpeg_chance: float = 1.0
    quality: tuple[int, int] = (15, 40)
    grey_chance: float = 0.0
    source: str = ""

    def draw(self, generator: np.random.Generator) -> Drawn:
        """The parameters for one face; every draw takes as many values from the generator."""
        # All are drawn, also where chance leaves them out: seeds so mean the same in all presets.
        chances = (self.blur_chance, self.noise_chance, self.jpeg_chance, self.grey_chance)
        blurred, noisy, compressed, grey = generator.random(4) < chances
        blur: Blur = ("gaussian", "average", "median", "motion")[generator.integers(4)]
        rho = self._rho(blur, generator.random())
        angle = generator.uniform(0, 180)
        fraction = generator.uniform(*self.fraction)
        delta = generator.uniform(*self.delta)
        quality = generator.integers(*self.quality, endpoint=True)
        return Drawn(
            blur=blur if blurred else "none",
            rho=rho if blurred else 0.0,
            angle=float(angle),
            fraction=float(fraction),
            delta=float(delta) if noisy else 0.0,
            noise_seed=int(generator.integers(2**31)),
            quality=int(quality) if compressed else 0,
            grey=bool(grey),
        )

    def pair(
        self, image: ImageArray, generator: np.random.Generator
    ) -> tuple[ImageArray, ImageArray]:
        """The truth and the degraded face of the same size, with parameters from the generator.

        Raises:
            ConfigurationError: If the image is not uint8 (H, W, 3).
        """
        drawn = self.draw(generator)
        return drawn.truth(image), drawn.apply(image)

    def _rho(self, blur: Blur, uniform: float) -> float:
        """A size between the kernel's limits: real, whole, or odd, as the kernel needs it."""
        low, high = self.motion if blur == "motion" else self.window
        if blur == "gaussian":
            return low + (high - low) * uniform
        step = 1 if blur == "average" else 2
        return low + step * int(uniform * ((high - low) // step + 1))


DEGRADATIONS: dict[str, Degradation] = {
    degradation.name: degradation
    for degradation in (
        Degradation(
            name="paper",
            source="SPARNetHD (Chen et al., TIP 2020), eq. 14 with the ranges below it",
        ),
        Degradation(
            name="released",
            blur_chance=0.5,
            fraction=(32 / SIDE, 128 / SIDE),
            noise_chance=0.2,
            jpeg_chance=0.7,
            quality=(35, 90),
            grey_chance=0.3,
            source="the paper's parts, each by chance, as in what its authors trained",
        ),
    )
}
"""All presets by name."""


def get(name: str) -> Degradation:
    """The preset of this name, a key of `DEGRADATIONS`.

    Raises:
        UnknownNameError: If there is none.
    """
    return named("degradation", name, DEGRADATIONS)


def degrade(image: ImageArray, preset: str, seed: int) -> ImageArray:
    """A face, degraded by a preset and a seed: the same for the same three, always.

    Args:
        image: uint8 (H, W, 3), RGB, as is the result.
        preset: A key of `DEGRADATIONS`.
        seed: Seed of the parameters.

    Raises:
        UnknownNameError: If there is no such preset.
        ConfigurationError: If the image is none of those.

    Example:
        >>> degrade(np.zeros((16, 16, 3), np.uint8), "released", seed=0).shape
        (16, 16, 3)
    """
    return get(preset).draw(np.random.default_rng(seed)).apply(image)


def motion_kernel(length: int, angle: float) -> NDArray[np.float32]:
    """A line of ``length`` pixels through the middle of a square, as a blur kernel.

    Args:
        length: Side of the square, odd.
        angle: Counter-clockwise from the horizontal, in degrees.

    Returns:
        (length, length), not negative, sums to 1.

    Example:
        >>> motion_kernel(3, 0) * 3
        array([[0., 0., 0.],
               [1., 1., 1.],
               [0., 0., 0.]], dtype=float32)
    """
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    centre = (length // 2, length // 2)
    rotation = cv2.getRotationMatrix2D(centre, angle, 1.0)
    turned = cv2.warpAffine(line, rotation, (length, length), flags=cv2.INTER_LINEAR)
    return np.asarray(turned / turned.sum(), np.float32)


def _blur(image: ImageArray, blur: Blur, rho: float, angle: float) -> ImageArray:
    window = max(1, round(rho))
    odd = window | 1
    blurred: cv2.typing.MatLike = image
    if blur == "gaussian":
        # On small faces rho may come near 0, which OpenCV takes for "choose one yourself".
        blurred = cv2.GaussianBlur(image, (0, 0), max(rho, 1e-3))
    elif blur == "average":
        blurred = cv2.blur(image, (window, window))
    elif blur == "median":
        blurred = cv2.medianBlur(image, odd)
    elif blur == "motion":
        blurred = cv2.filter2D(image, -1, motion_kernel(odd, angle))
    return np.asarray(blurred, np.uint8)


def _noise(image: ImageArray, delta: float, seed: int) -> ImageArray:
    if delta == 0:
        return image
    noise = np.random.default_rng(seed).normal(0, delta, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def _jpeg(image: ImageArray, quality: int) -> ImageArray:
    if quality == 0:
        return image
    # OpenCV's files are blue first.
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
