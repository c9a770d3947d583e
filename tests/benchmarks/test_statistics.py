"""Intervals, areas and shares against hand-computed values and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from facehall_env.benchmarks.statistics import (
    area_under_curve,
    mean_ci,
    oracle_share,
    paired_difference_ci,
    student_t_quantile,
)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30, 199, 200, 201, 1000, 10**6])
def test_t_quantile_equals_scipy(degrees: int, level: float) -> None:
    expected = stats.t.ppf((1 + level) / 2, degrees)
    assert student_t_quantile(degrees, level) == pytest.approx(expected, rel=1e-10)


def test_mean_ci_by_hand() -> None:
    # Standard deviation sqrt(20 / 3), and t = 3.182446 for three degrees of freedom.
    mean, half_width = mean_ci([2.0, 4.0, 6.0, 8.0])
    assert mean == 5.0
    assert half_width == pytest.approx(3.182446 * math.sqrt(20 / 3) / 2, rel=1e-6)


def test_mean_ci_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 6))
    hits = [abs(mean - 3.0) < half for mean, half in (mean_ci(row, 0.9) for row in draws)]
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)


def test_pairing_removes_the_difficulty_of_the_images() -> None:
    b = np.array([20.0, 30.0, 40.0])
    difference = paired_difference_ci(b + np.array([0.1, 0.2, 0.3]), b)
    assert difference.value == pytest.approx(0.2)
    assert difference.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert difference.half_width < mean_ci(b).half_width / 50


def test_one_image_has_no_interval() -> None:
    mean, half_width = mean_ci([31.5])
    assert mean == 31.5
    assert math.isnan(half_width)


def test_a_perfect_image_makes_the_mean_infinite_without_a_warning() -> None:
    mean, half_width = mean_ci([30.0, math.inf])
    assert mean == math.inf
    assert math.isnan(half_width)


def test_area_leaves_out_the_start() -> None:
    curves = torch.tensor([[30.0, 31.0, 32.0, 36.0], [10.0, 20.0, 20.0, 20.0]])
    assert area_under_curve(curves).tolist() == [33.0, 20.0]


def test_oracle_share_is_of_the_means() -> None:
    # Means 2 of 4; the mean of the shares per image, (1 + 1/3) / 2, would be another number.
    share = oracle_share(agent=[32.0, 32.0], random=[30.0, 30.0], oracle=[32.0, 36.0])
    assert share.value == 0.5
    # Residuals 2 - 1 and 2 - 3: standard deviation sqrt(2), t = 12.7062 for one degree.
    assert share.half_width == pytest.approx(12.7062 * math.sqrt(2) / math.sqrt(2) / 4, rel=1e-5)


def test_oracle_share_interval_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    random = rng.normal(31, 2, 400)
    gap = rng.gamma(4.0, 0.2, 400)
    oracle = random + gap
    agent = random + 0.6 * gap + rng.normal(0, 0.2, 400)
    rows = rng.integers(0, 400, (4000, 400))
    means = [x[rows].mean(axis=1) for x in (agent, random, oracle)]
    low, high = np.quantile((means[0] - means[1]) / (means[2] - means[1]), [0.025, 0.975])
    share = oracle_share(agent, random, oracle)
    assert share.value == pytest.approx((agent - random).mean() / gap.mean())
    assert share.half_width == pytest.approx((high - low) / 2, rel=0.1)


def test_no_gap_has_no_share() -> None:
    share = oracle_share([30.0, 31.0], [30.0, 31.0], [30.0, 31.0])
    assert math.isnan(share.value)
    assert math.isnan(share.half_width)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 3.0])
def test_mean_ci_wants_a_vector(values: object) -> None:
    with pytest.raises(ValueError, match="one number per image"):
        mean_ci(values)  # type: ignore[arg-type]


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="agent 2, random 3"):
        oracle_share([1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"\(N, T \+ 1\)"):
        area_under_curve([[30.0]])
    with pytest.raises(ValueError, match="level is 95"):
        mean_ci([1.0, 2.0], level=95)
    with pytest.raises(ValueError, match="degrees is 0"):
        student_t_quantile(0, 0.95)
