"""Verification and identification against brute force and values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facehall_env.metrics.verification import (
    best_threshold,
    cosine_similarity,
    rank_one,
    tar_at_far,
    verification,
)

SCORES = st.lists(
    st.tuples(st.sampled_from([round(0.1 * k, 1) for k in range(-10, 11)]), st.booleans()),
    min_size=2,
    max_size=30,
).filter(lambda pairs: len({same for _, same in pairs}) == 2)


def right(scores: np.ndarray, same: np.ndarray, threshold: float) -> int:
    return sum((score >= threshold) == own for score, own in zip(scores, same, strict=True))


def test_cosine_is_that_of_torch() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 20, 16)
    found = cosine_similarity(a, b.numpy())
    expected = torch.nn.functional.cosine_similarity(a.double(), b.double())
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(cosine_similarity(5 * a, a), 1, atol=1e-12)
    np.testing.assert_allclose(cosine_similarity(a, -a), -1, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(pairs=SCORES)
def test_no_threshold_is_better(pairs: list[tuple[float, bool]]) -> None:
    scores, same = np.array([s for s, _ in pairs]), np.array([own for _, own in pairs])
    found = right(scores, same, best_threshold(scores, same))
    tried = [right(scores, same, t) for t in np.arange(-1.05, 1.1, 0.05)]
    assert found == max(tried)


def test_of_several_best_thresholds_the_middle_one() -> None:
    # Between 0.2 and 0.8 all thresholds are right; 0.5 is half-way.
    assert best_threshold([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == pytest.approx(0.5)
    # Two are right below all, half-way, and above all.
    assert best_threshold([0.1, 0.3, 0.5, 0.7], [1, 0, 1, 0]) == pytest.approx(0.4)


def test_folds_use_the_others_threshold() -> None:
    # Fold 0 alone is separated at 0.5, fold 1 at 0.25, fold 2 at 0.75.
    scores = [0.6, 0.4, 0.3, 0.2, 0.8, 0.7]
    same = [1, 0, 1, 0, 1, 0]
    result = verification(scores, same, ["a", "a", "b", "b", "c", "c"])
    # Of folds b and c: 0.2- 0.3+ 0.7- 0.8+ has one error at 0.25 and at 0.75; the later is taken.
    # Of a and c: 0.4- 0.6+ 0.7- 0.8+: 0.5 and 0.75. Of a and b: 0.2- 0.3+ 0.4- 0.6+: 0.25 and 0.5.
    np.testing.assert_allclose(result.thresholds, [0.75, 0.75, 0.5])
    np.testing.assert_allclose(result.accuracies, [0.5, 0.5, 0.5])
    assert result.right.tolist() == [False, True, False, True, True, False]
    assert result.accuracy == 0.5
    assert result.standard_error == 0


@settings(max_examples=80, deadline=None)
@given(pairs=SCORES)
def test_no_threshold_is_better_when_both_kinds_count_the_same(
    pairs: list[tuple[float, bool]],
) -> None:
    scores, same = np.array([s for s, _ in pairs]), np.array([own for _, own in pairs])

    def rate(threshold: float) -> float:
        accepted = scores >= threshold
        return float(accepted[same].mean() + (~accepted[~same]).mean())

    found = rate(best_threshold(scores, same, balanced=True))
    assert found == pytest.approx(max(rate(t) for t in np.arange(-1.05, 1.1, 0.05)))


def test_balanced_accuracies_by_hand() -> None:
    # One matched pair against three mismatched ones in both folds. Refusing everything is right
    # three times in four, which is best unless both kinds count the same.
    scores = [0.5, 0.1, 0.6, 0.7, 0.5, 0.2, 0.3, 0.9]
    same, fold = [1, 0, 0, 0] * 2, [0] * 4 + [1] * 4
    plain, balanced = (verification(scores, same, fold, balanced=own) for own in (False, True))
    # Of fold 1 at 0.4: the matched pair and two of three; of fold 0 at 0.3: it and one of three.
    np.testing.assert_allclose(balanced.thresholds, [0.4, 0.3])
    np.testing.assert_allclose(balanced.accuracies, [(1 + 1 / 3) / 2, (1 + 1 / 3) / 2])
    assert balanced.right.tolist() == [True, True, False, False, True, True, False, False]
    assert plain.accuracies.tolist() != balanced.accuracies.tolist()
    with pytest.raises(ValueError, match="0 of the 1 pairs of fold 9 are of one person"):
        verification([*scores, 0.4], [*same, 0], [*fold, 9], balanced=True)


def test_the_error_is_over_folds() -> None:
    scores = [0.9, 0.1, 0.8, 0.2, 0.7, 0.8]
    result = verification(scores, [1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 2, 2])
    # The last fold's mismatched pair is more similar than its matched one.
    np.testing.assert_allclose(result.accuracies[2], 0.5)
    expected = np.std(result.accuracies, ddof=1) / np.sqrt(3)
    assert result.standard_error == pytest.approx(expected)
    assert result.accuracy == pytest.approx(np.mean(result.accuracies))


def test_chance_and_certainty() -> None:
    rng = np.random.default_rng(0)
    same, fold = np.tile([True, False], 500), np.repeat(np.arange(10), 100)
    assert verification(same + 0.1 * rng.random(1000), same, fold).accuracy == 1
    assert 0.45 < verification(rng.random(1000), same, fold).accuracy < 0.55
    # Turned round: all thresholds but the extreme ones are worse than guessing.
    assert verification(-same.astype(float), same, fold).accuracy == 0.5


@settings(max_examples=80, deadline=None)
@given(pairs=SCORES, far=st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.29, 0.5, 0.9]))
def test_the_gate_is_as_low_as_it_may_be(pairs: list[tuple[float, bool]], far: float) -> None:
    scores, same = np.array([s for s, _ in pairs]), np.array([own for _, own in pairs])
    gates = [-np.inf, *np.unique(scores)]
    allowed = [g for g in gates if (scores[~same] > g).mean() <= far + 1e-12]
    expected = max((scores[same] > gate).mean() for gate in allowed)
    assert tar_at_far(scores, same, far) == pytest.approx(expected)


def test_rates_with_many_pairs() -> None:
    impostors = np.arange(1000) / 1000
    genuine = np.array([0.9985, 0.9975, 0.5, 0.9995])
    scores, same = np.concatenate((impostors, genuine)), np.repeat([False, True], [1000, 4])
    assert tar_at_far(scores, same, 0.0) == 0.25  # Above 0.999.
    assert tar_at_far(scores, same, 0.001) == 0.5  # Above 0.998.
    assert tar_at_far(scores, same, 0.002) == 0.75
    assert tar_at_far(scores, same, 0.6) == 1


def test_identification_by_hand() -> None:
    gallery = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    probes = torch.tensor([[9.0, 1.0], [1.0, 1.1], [-1.0, 5.0], [1.0, 1.0]])
    hits = rank_one(probes, gallery, ["ada", "bob", "cyd", "ada"], ["ada", "bob", "cyd"])
    # The last one is as near to bob; the first of the gallery counts.
    assert hits.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: cosine_similarity([[1.0]], [[1.0, 2.0]]), "expected the same"),
        (lambda: cosine_similarity([[0.0, 0.0]], [[1.0, 2.0]]), "embedding 0 has length 0"),
        (lambda: cosine_similarity([[np.nan]], [[1.0]]), "embedding 0 has length nan"),
        (lambda: cosine_similarity([1.0], [1.0]), r"expected \(N, D\)"),
        (lambda: verification([0.1, 0.2], [1, 0], [0, 0]), "all pairs are in one fold"),
        (lambda: verification([0.1, 0.2], [1, 0], [0]), "fold has shape"),
        (lambda: verification([0.1, 0.2], [1, 0], [0, 1]), "expected matched pairs"),
        (
            lambda: verification([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 1], [0, 0, 1, 1], balanced=True),
            "expected matched pairs",
        ),
        (
            lambda: verification(
                [0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 1, 0, 1], [0, 0, 1, 1, 2], balanced=True
            ),
            "in every fold",
        ),
        (lambda: best_threshold([0.1, np.inf], [1, 0]), "not finite"),
        (lambda: best_threshold([0.1], [1, 0]), r"expected \(P,\)"),
        (lambda: tar_at_far([0.1, 0.2], [1, 0], 1.0), "expected a rate"),
        (lambda: tar_at_far([0.1, 0.2], [0, 0], 0.1), "0 of 2 pairs are of one person"),
        (lambda: rank_one([[1.0]], [[1.0]], "a", "b"), "'a' is on a probe"),
        (lambda: rank_one([[1.0]], [[1.0, 0.0]], "a", "a"), "embeddings of one recogniser"),
        (lambda: rank_one([[1.0]], [[1.0]], "ab", "a"), "one person for each face"),
    ],
)
def test_what_cannot_be(attempt: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attempt()
