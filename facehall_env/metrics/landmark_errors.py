"""Are the parts of the face where they were? Errors of landmarks on restored faces.

The same detector marks the truth and the restored face; SPARNet (Chen et al., TIP 2020) reports
the area under the curve of the error so, with FAN's points and the size of the box as the unit.
Here the points are dlib's 68 (`facehall_env.photos.landmarks`) and the unit is the distance between
the outer corners of the eyes, so that numbers can be compared among each other but not with
theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facehall_env.photos.landmarks import OUTER_CORNERS, Landmarks

FloatArray = NDArray[np.float64]
LIMIT = 0.1
"""Faces with a larger error count as failed, as usual."""


class LandmarkScore(NamedTuple):
    """What `summarise` says of N faces.

    Attributes:
        nme: Mean error over the faces that were found; NaN without any.
        auc: Area under the curve of the cumulative errors up to the limit, divided by it: 1 if
            all errors are 0, 0 if all exceed the limit.
        failures: Share of the faces whose error exceeds the limit or that were not found.
        faces: Number of faces on which the truth's points were found, over which all this is.
        not_found: On how many of them the restored face was not found.
    """

    nme: float
    auc: float
    failures: float
    faces: int
    not_found: int


def normalised_mean_error(restored: Landmarks, truth: Landmarks) -> FloatArray:
    """The mean distance of the points from where they should be, in inter-ocular distances.

    Returns:
        (N,); infinite where the restored face was not found, NaN where the true one was not.

    Raises:
        ValueError: If the numbers of faces differ.

    >>> truth = np.zeros((1, 68, 2))
    >>> truth[0, 45] = 0.0, 40.0
    >>> normalised_mean_error(Landmarks(truth + (3.0, 4.0)), Landmarks(truth))
    array([0.125])
    """
    if len(restored) != len(truth):
        raise ValueError(
            f"the points are of {len(restored)} restored and {len(truth)} true faces; expected "
            "the same faces."
        )
    left, right = (truth.points[:, corner] for corner in OUTER_CORNERS)
    unit = np.linalg.norm(right - left, axis=1)
    errors = np.linalg.norm(restored.points - truth.points, axis=2).mean(axis=1) / unit
    return np.where(truth.found, np.where(restored.found, errors, np.inf), np.nan)


def summarise(errors: ArrayLike, limit: float = LIMIT) -> LandmarkScore:
    """Mean, area under the curve and failures.

    The area is exact: the integral of the empirical distribution up to the limit is the mean of
    what each error leaves of the limit.

    Args:
        errors: (N,) as `normalised_mean_error` gives them.
        limit: Where the curve ends.

    Raises:
        ValueError: If the limit is not positive or no true face was found.

    >>> summarise([0.025, 0.05, np.inf, np.nan, 0.3])
    LandmarkScore(nme=0.125, auc=0.3125, failures=0.5, faces=4, not_found=1)
    """
    values = np.asarray(errors, dtype=np.float64)
    if not limit > 0:
        raise ValueError(f"limit is {limit}; expected a positive error such as {LIMIT}.")
    values = values[~np.isnan(values)]
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(
            f"none of the {np.size(errors)} errors is a number; expected at least one face whose "
            "true points were found."
        )
    found = values[np.isfinite(values)]
    return LandmarkScore(
        nme=float(found.mean()) if len(found) else float("nan"),
        auc=float(np.maximum(0, 1 - values / limit).mean()),
        failures=float((values > limit).mean()),
        faces=len(values),
        not_found=len(values) - len(found),
    )
