"""Errors of landmarks: units, faces that were not found, the area under the curve."""

from __future__ import annotations

import numpy as np
import pytest

from facehall_env.metrics.landmark_errors import normalised_mean_error, summarise
from facehall_env.photos.landmarks import Landmarks


def faces(number: int, eyes: float = 50.0) -> np.ndarray:
    """Random points whose outer corners of the eyes are so far apart."""
    points = np.random.default_rng(0).uniform(0, 100, (number, 68, 2))
    points[:, 36] = 30, 20
    points[:, 45] = 30 + 0.6 * eyes, 20 + 0.8 * eyes
    return points


def test_errors_are_in_inter_ocular_distances() -> None:
    truth = faces(3)
    restored = truth.copy()
    restored[1] += (0.0, 5.0)
    restored[2, :34] += (3.0, 4.0)  # Half of the points, by 5 pixels.
    errors = normalised_mean_error(Landmarks(restored), Landmarks(truth))
    np.testing.assert_allclose(errors, [0, 0.1, 0.05])
    doubled = normalised_mean_error(Landmarks(2 * restored), Landmarks(2 * truth))
    np.testing.assert_allclose(doubled, errors)


def test_faces_that_were_not_found() -> None:
    truth, restored = faces(4), faces(4)
    restored[1] = np.nan
    truth[2:] = np.nan
    restored[3] = np.nan
    errors = normalised_mean_error(Landmarks(restored), Landmarks(truth))
    np.testing.assert_array_equal(errors, [0, np.inf, np.nan, np.nan])
    # Those without truth do not count, that without a restored face failed.
    assert summarise(errors) == (0, 0.5, 0.5, 2, 1)


def test_the_area_is_that_of_the_curve() -> None:
    errors = np.random.default_rng(1).exponential(0.06, 500)
    curve = (errors[:, None] <= np.linspace(0, 0.1, 20_000)).mean(0)
    score = summarise(errors)
    assert score.auc == pytest.approx(curve.mean(), abs=1e-4)
    assert score.failures == pytest.approx(1 - curve[-1])
    assert score.nme == pytest.approx(errors.mean())
    assert summarise([0.0, 0.0]).auc == 1
    assert summarise([0.3]).auc == 0
    assert summarise([0.1, 0.3], limit=0.4).auc == pytest.approx(0.5)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="2 restored and 3 true faces"):
        normalised_mean_error(Landmarks(faces(2)), Landmarks(faces(3)))
    with pytest.raises(ValueError, match="none of the 1 errors is a number"):
        summarise([np.nan])
    with pytest.raises(ValueError, match="limit is 0"):
        summarise([0.1], 0)
