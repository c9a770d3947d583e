"""Statistics of the benchmark tables: intervals over images, areas and shares.

All intervals are over images: an image is the unit that was drawn at random, and methods are
compared on the same images. Inputs are anything numpy can read, CPU tensors included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value and the half width of its confidence interval, in the unit of the values."""

    value: float
    half_width: float


NONE = Estimate(math.nan, math.nan)
"""Where nothing could be estimated."""


def flat(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates as the fields of a row: the half width of NAME is NAME_ci.

    >>> flat({"psnr": Estimate(30.0, 0.5)})
    {'psnr': 30.0, 'psnr_ci': 0.5}
    """
    values = {name: estimate.value for name, estimate in estimates.items()}
    return values | {f"{name}_ci": estimate.half_width for name, estimate in estimates.items()}


def mean_ci(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the mean over images and the half width of its Student t interval.

    Args:
        values: One number per image (N,).
        level: Confidence level in (0, 1).

    Returns:
        The mean and the half width; the latter is NaN for a single image, and for values that
        are not all finite (the PSNR of a perfect image).

    Raises:
        ValueError: ``values`` is not a vector of at least one number, or ``level`` is not
            between 0 and 1.

    Example:
        >>> mean, half_width = mean_ci([1.0, 2.0, 3.0])
        >>> round(mean, 3), round(half_width, 3)
        (2.0, 2.484)
    """
    (sample,) = _vectors(values=values)
    mean = float(sample.mean())
    if len(sample) == 1 or not np.isfinite(sample).all():
        _check_level(level)
        return Estimate(mean, math.nan)
    quantile = student_t_quantile(len(sample) - 1, level)
    return Estimate(mean, quantile * float(sample.std(ddof=1)) / math.sqrt(len(sample)))


def paired_difference_ci(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the mean of ``a - b``, each (N,), over images and the half width of its interval.

    Pairing takes out how hard each image is, which is most of the variance; ``a`` is better than
    ``b`` beyond chance where the value exceeds the half width; see `mean_ci`.

    Raises:
        ValueError: The vectors differ in length; or see `mean_ci`.

    Example:
        >>> paired_difference_ci([3.0, 5.0], [2.0, 4.0])
        Estimate(value=1.0, half_width=0.0)
    """
    first, second = _vectors(a=a, b=b)
    return mean_ci(first - second, level)


def area_under_curve(psnr: ArrayLike) -> FloatArray:
    """Return the mean PSNR of each image after 1 to T patches.

    It says what a limited budget buys: the sooner a policy gains, the larger it is. The state
    before the first patch is the same for every policy and is left out.

    Args:
        psnr: PSNR in dB after 0, 1, ..., T patches (N, T + 1), T at least 1.

    Raises:
        ValueError: ``psnr`` has another shape.

    Example:
        >>> area_under_curve([[30.0, 31.0, 33.0]])
        array([32.])
    """
    curves = np.asarray(psnr, dtype=np.float64)
    if curves.ndim != 2 or curves.shape[1] < 2:
        raise ValueError(
            f"psnr has shape {curves.shape}; expected (N, T + 1), the PSNR of every image before "
            "the first patch and after each."
        )
    means: FloatArray = curves[:, 1:].mean(axis=1)
    return means


def oracle_share(
    agent: ArrayLike, random: ArrayLike, oracle: ArrayLike, level: float = 0.95
) -> Estimate:
    """Return what share of the gap between random and the oracle an agent closes.

    The share is (agent - random) / (oracle - random) of the means over images. Its interval is
    by the delta method: the ratio of two paired means varies, to first order, as the mean of
    ``(agent - random) - share * (oracle - random)`` over the gap.

    Args:
        agent: One PSNR per image (N,).
        random: The same images, patches chosen at random (N,).
        oracle: The same images, patches chosen by the oracle (N,).
        level: Confidence level in (0, 1).

    Returns:
        The share, 0 for random and 1 for the oracle, and its half width; NaN both where the
        oracle is not above random, for then there is no gap to share.

    Raises:
        ValueError: The vectors differ in length; or see `mean_ci`.

    Example:
        >>> oracle_share(agent=[31.0, 32.0], random=[30.0, 30.0], oracle=[32.0, 34.0])
        Estimate(value=0.5, half_width=0.0)
    """
    agents, randoms, oracles = _vectors(agent=agent, random=random, oracle=oracle)
    gain, gap = agents - randoms, oracles - randoms
    mean_gap = float(gap.mean())
    if not mean_gap > 0:
        return NONE
    share = float(gain.mean()) / mean_gap
    return Estimate(share, mean_ci(gain - share * gap, level).half_width / mean_gap)


@lru_cache(maxsize=128)
def student_t_quantile(degrees: int, level: float) -> float:
    """Return t such that a Student t variable lies within [-t, t] with probability ``level``.

    The finite series of Abramowitz and Stegun 26.7.3-4 is solved by bisection, so that SciPy, of
    which nothing else is needed, is not.

    Args:
        degrees: Degrees of freedom, at least 1.
        level: Central probability in (0, 1).

    Raises:
        ValueError: An argument lies outside its range.

    Example:
        >>> round(student_t_quantile(10, 0.95), 6)
        2.228139
    """
    _check_level(level)
    if degrees < 1:
        raise ValueError(f"degrees is {degrees}; expected at least 1, from two values or more.")
    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        if _central_probability(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(middle)


def _central_probability(theta: float, degrees: int) -> float:
    """Return P(|T| < sqrt(degrees) tan(theta)), Abramowitz and Stegun 26.7.3-4."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    return 2 / math.pi * (theta + sine * total) if odd else sine * total


def _vectors(**named: ArrayLike) -> list[FloatArray]:
    """Return the arguments as vectors of one length."""
    vectors = {name: np.asarray(values, dtype=np.float64) for name, values in named.items()}
    for name, vector in vectors.items():
        if vector.ndim != 1 or len(vector) == 0:
            raise ValueError(
                f"{name} has shape {vector.shape}; expected (N,), one number per image, at least "
                "one."
            )
    if len({len(vector) for vector in vectors.values()}) > 1:
        lengths = ", ".join(f"{name} {len(vector)}" for name, vector in vectors.items())
        raise ValueError(f"the numbers of images differ ({lengths}); expected the same images.")
    return list(vectors.values())


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a probability in (0, 1) such as 0.95.")
