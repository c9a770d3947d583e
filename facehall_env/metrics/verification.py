"""Is it still the same person? Verification and identification on embeddings of a recogniser.

Everything here takes embeddings or similarities as torch tensors or numpy arrays and computes in
float64 on the host. What makes the embeddings is in `facehall_env.recognition.embed`, what makes
the pairs in `facehall_env.data.pairs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Embeddings = Tensor | ArrayLike


class Verification(NamedTuple):
    """How often a threshold tells rightly whether two faces are of one person.

    Attributes:
        accuracy: Mean over the folds of their accuracies, balanced ones if these were asked for.
        standard_error: Standard error of ``accuracy``: the folds' standard deviation (F - 1 in the
            denominator) over the root of F, as LFW's protocol has it.
        accuracies: (F,) accuracy on each fold, at the threshold of the others.
        thresholds: (F,) these thresholds; at least so similar faces count as the same person's.
        right: (P,) whether each pair is told rightly at the threshold of its fold.
    """

    accuracy: float
    standard_error: float
    accuracies: FloatArray
    thresholds: FloatArray
    right: NDArray[np.bool_]


def cosine_similarity(first: Embeddings, second: Embeddings) -> FloatArray:
    """The cosine (N,) of the angles between two times N embeddings (N, D) (IPFH, eq. 19).

    Raises:
        ValueError: If the shapes differ, or an embedding is zero or not finite.

    >>> cosine_similarity([[3.0, 4.0], [1.0, 0.0]], [[3.0, 4.0], [0.0, 2.0]])
    array([1., 0.])
    """
    a, b = directions(first), directions(second)
    if a.shape != b.shape:
        raise ValueError(f"the embeddings have shapes {a.shape} and {b.shape}; expected the same.")
    cosines: FloatArray = np.clip(np.einsum("nd,nd->n", a, b), -1, 1)
    return cosines


def verification(
    similarity: ArrayLike, same: ArrayLike, fold: ArrayLike, balanced: bool = False
) -> Verification:
    """Verification accuracy by cross-validation: the threshold is that of the other folds.

    If several thresholds are best on the other folds, the middle one is taken.

    Args:
        similarity: (P,) similarity of each pair.
        same: (P,) bool, whether the pair is of one person.
        fold: (P,) the fold of each pair, at least two different ones.
        balanced: Balanced accuracies: the mean of that on the matched pairs and that on the
            mismatched ones, whichever are more, instead of the share of all pairs.

    Raises:
        ValueError: If the lengths differ, a similarity is not finite, there is only one fold, or
            the other folds of one (when balanced, also a fold itself) have no matched or no
            mismatched pair.

    >>> result = verification([0.9, 0.1, 0.8, 0.3], [1, 0, 1, 0], fold=[0, 0, 1, 1])
    >>> result.accuracy, result.thresholds.round(2)
    (1.0, array([0.55, 0.5 ]))
    """
    scores, matched = _pairs(similarity, same)
    folds = np.asarray(fold)
    if folds.shape != scores.shape:
        raise ValueError(f"fold has shape {folds.shape}; expected {scores.shape}, one per pair.")
    names, places = np.unique(folds, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            "all pairs are in one fold; expected at least two, for the threshold of one comes from "
            "the others."
        )
    best = [best_threshold(scores[folds != n], matched[folds != n], balanced) for n in names]
    thresholds = np.array(best)
    right = (scores >= thresholds[places]) == matched
    each = [_accuracy(right[folds == n], matched[folds == n], balanced, n) for n in names]
    accuracies = np.array(each)
    error = float(accuracies.std(ddof=1) / np.sqrt(len(names)))
    return Verification(float(accuracies.mean()), error, accuracies, thresholds, right)


def best_threshold(similarity: ArrayLike, same: ArrayLike, balanced: bool = False) -> float:
    """The threshold of the highest accuracy, or balanced accuracy; see `verification`.

    Pairs at least as similar count as matched. Thresholds half-way between neighbouring
    similarities, and those below and above all, are tried; of several best ones it is the middle
    one.

    >>> best_threshold([0.9, 0.75, 0.25], [1, 1, 0])
    0.5
    """
    scores, matched = _pairs(similarity, same)
    levels = np.unique(scores)
    candidates = np.concatenate(([-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]))
    genuine, impostors = np.sort(scores[matched]), np.sort(scores[~matched])
    accepted = len(genuine) - np.searchsorted(genuine, candidates)
    refused = np.searchsorted(impostors, candidates)
    # Whole numbers, so that equally good thresholds are equal.
    weights = (len(impostors), len(genuine)) if balanced else (1, 1)
    right = weights[0] * accepted + weights[1] * refused
    best = np.flatnonzero(right == right.max())
    return float(candidates[best[len(best) // 2]])


def tar_at_far(similarity: ArrayLike, same: ArrayLike, far: float) -> float:
    """True accept rate at a false accept rate: the share of matched pairs that pass a strict gate.

    The gate lets through what is more similar than a mismatched pair, chosen as low as the false
    accept rate allows. With M mismatched pairs only multiples of 1/M can be had: below 1/M none of
    them passes.

    Args:
        similarity: See `verification`.
        same: See `verification`.
        far: Share of the mismatched pairs that may pass, in [0, 1).

    Raises:
        ValueError: If ``far`` lies outside its range; or see `verification`.

    >>> pairs = [0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0]
    >>> tar_at_far(*pairs, far=0.0), tar_at_far(*pairs, far=0.5)
    (0.5, 1.0)
    """
    if not 0 <= far < 1:
        raise ValueError(f"far is {far}; expected a rate in [0, 1) such as 0.001.")
    scores, matched = _pairs(similarity, same)
    impostors = np.sort(scores[~matched])[::-1]
    # 0.29 x 100 is a little less than 29 in floating point.
    allowed = int(np.floor(far * len(impostors) + 1e-9))
    return float((scores[matched] > impostors[allowed]).mean())


def rank_one(
    probes: Embeddings, gallery: Embeddings, probe_people: Sequence[Any], people: Sequence[Any]
) -> NDArray[np.bool_]:
    """Rank-1 identification: is the most similar face of the gallery of the right person?

    Args:
        probes: (N, D) the faces to identify.
        gallery: (G, D) the faces of known people; of equally similar ones the first counts.
        probe_people: Who is on each probe; all of them in the gallery (closed set).
        people: Who is on each face of the gallery.

    Raises:
        ValueError: If the lengths do not fit, a probe's person is not in the gallery, or an
            embedding is zero or not finite.

    >>> rank_one([[1.0, 0.1], [0.2, 1.0]], [[1.0, 0.0], [0.0, 1.0]], "aa", "ab").tolist()
    [True, False]
    """
    wanted, known = directions(probes), directions(gallery)
    if len(wanted) != len(probe_people) or len(known) != len(people):
        raise ValueError(
            f"{len(wanted)} probes of {len(probe_people)} people and {len(known)} faces of "
            f"{len(people)} people in the gallery; expected one person for each face."
        )
    if wanted.shape[1] != known.shape[1]:
        raise ValueError(
            f"the probes have {wanted.shape[1]} numbers each and the gallery {known.shape[1]}; "
            "expected embeddings of one recogniser."
        )
    if strangers := set(probe_people) - set(people):
        raise ValueError(
            f"{min(strangers)!r} is on a probe and not in the gallery; expected a closed set of "
            "people."
        )
    nearest = (wanted @ known.T).argmax(axis=1)
    hits = [people[place] == own for place, own in zip(nearest, probe_people, strict=True)]
    return np.array(hits, dtype=np.bool_)


def directions(embeddings: Embeddings) -> FloatArray:
    """Embeddings (N, D) scaled to length one, float64.

    Raises:
        ValueError: If they have another shape, or one is zero or not finite.
    """
    values = embeddings.detach().cpu().numpy() if isinstance(embeddings, Tensor) else embeddings
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"the embeddings have shape {rows.shape}; expected (N, D), N at least 1.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(wrong):
        raise ValueError(
            f"embedding {wrong[0]} has length {lengths[wrong[0], 0]:g}; expected one that is "
            "neither zero nor infinite: look at the face that it was made of."
        )
    directed: FloatArray = rows / lengths
    return directed


def _accuracy(right: BoolArray, matched: BoolArray, balanced: bool, fold: Any) -> float:
    if not balanced:
        return float(right.mean())
    if matched.all() or not matched.any():
        raise ValueError(
            f"{matched.sum()} of the {len(matched)} pairs of fold {fold} are of one person; "
            "expected matched pairs and mismatched ones in every fold."
        )
    return float(right[matched].mean() + right[~matched].mean()) / 2


def _pairs(similarity: ArrayLike, same: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Similarities and whether they are of one person, checked."""
    scores = np.asarray(similarity, dtype=np.float64)
    matched = np.asarray(same).astype(np.bool_)
    if scores.ndim != 1 or scores.shape != matched.shape:
        raise ValueError(
            f"similarity has shape {scores.shape} and same {matched.shape}; expected (P,) of both."
        )
    if not np.isfinite(scores).all():
        raise ValueError("a similarity is not finite; expected numbers.")
    if matched.all() or not matched.any():
        raise ValueError(
            f"{matched.sum()} of {len(matched)} pairs are of one person; expected matched pairs "
            "and mismatched ones."
        )
    return scores, matched
