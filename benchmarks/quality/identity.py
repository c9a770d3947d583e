"""Is it still the same person? Restored faces before recognisers: ``facehall bench identity``.

Every image of the verification pairs is looked at as `facehall_env.benchmarks.embeddings` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.cache import Cache
from facehall_env.benchmarks.embeddings import TRUTH, Views, missing_faces_note
from facehall_env.benchmarks.provenance import Row
from facehall_env.benchmarks.quality import opening
from facehall_env.benchmarks.quality.settings import IdentityBenchConfig
from facehall_env.benchmarks.restorers import Restorer
from facehall_env.benchmarks.scoring import TestFaces, read_images
from facehall_env.benchmarks.statistics import NONE, flat, mean_ci
from facehall_env.benchmarks.tables import Column, Table, section_starts
from facehall_env.data import FaceDataset, Protocol, pairs
from facehall_env.data.pairs import Pairs
from facehall_env.metrics import verification
from facehall_env.metrics.landmark_errors import summarise
from facehall_env.photos.landmarks import DlibLandmarks, Marker
from facehall_env.recognition import embed
from facehall_env.recognition.embed import FaceRecogniser

FARS = (0.001, 0.01)
"""The false accept rates."""

BLOCK = 65_536
"""Pairs whose similarities are computed at once, which bounds the memory."""
MOST_PAIRS = 10_000_000
"""With more pairs than this, all pairs are not looked at: on LFW's 3 million verification takes six
seconds and half a gigabyte for each row."""

NOTES = {
    "accuracy": "of verification, threshold from the other folds, mean over the folds; "
    "accuracy_se is its standard error over the folds",
    "accuracy_all": "balanced accuracy (the mean of that of matched and that of mismatched pairs) "
    f"on all pairs that the faces of each fold make with each other; none with over {MOST_PAIRS:,}",
    "tar": "by false accept rate, the share of matched pairs that pass where so small a share of "
    "the mismatched ones does; none where it would be less than one pair",
    "rank1": "share of the probes that are nearest to their person's face in the gallery, which "
    "has the first image of everyone among the pairs; the others' further images are the probes",
    "cosine": "between the embeddings of the restored face and its truth",
    "*_ci": "half width of the 95 % interval over images",
    "against": "what the other face of a pair and the gallery are: restored likewise, or the truth",
    "not_found": "faces without landmarks in the truth: cut out as a whole in all rows",
    "nme, auc": "of the landmarks found on the restored face, in distances between the outer "
    "corners of the eyes; the curve ends at 0.1; landmark_failures: beyond that or not found",
    "pairs": "LFW's official ones have people of both splits: networks trained on LFW's training "
    "images have seen some of them; drawn ones are of the test split",
}
"""What the columns of a results file mean."""


@dataclass(frozen=True)
class IdentityRow(Row):
    """What a recogniser says about a way of restoring; `NOTES` says what the fields mean."""

    model: str
    recogniser: str
    images: int
    accuracy: float
    accuracy_se: float
    accuracy_all: float
    accuracy_all_se: float
    tar: Mapping[str, float]
    rank1: float
    rank1_ci: float
    cosine: float
    cosine_ci: float
    psnr: float
    psnr_ci: float
    ssim: float
    ssim_ci: float
    nme: float = math.nan
    auc: float = math.nan
    landmark_failures: float = math.nan
    landmarks_not_found: int | None = None


@dataclass(frozen=True)
class PairFaces:
    """N faces, their keys in the dataset and who is on them, and the pairs of these images.

    The gallery is the first image of everyone, the probes are all others.
    """

    faces: TestFaces
    keys: Sequence[str]
    people: Sequence[str]
    pairs: Pairs
    gallery: Sequence[int]
    probes: Sequence[int]

    @cached_property
    def all_pairs(self) -> Pairs | None:
        """All that the faces of each fold make with each other; None with over `MOST_PAIRS`."""
        if self.pairs.number_of_all > MOST_PAIRS:
            return None
        return self.pairs.all_of_each(self.people)


@dataclass(frozen=True)
class Judged:
    """What a recogniser says about a way of restoring.

    Attributes:
        row: Its row in the table.
        right: (P,) whether each pair is told rightly.
        cosine: (N,) the cosine between each image's embedding and the truth's.
        by_fold: (F,) the balanced accuracy on all pairs of each fold's faces, NaN where these are
            not looked at.
    """

    row: IdentityRow
    right: NDArray[np.bool_]
    cosine: NDArray[np.float64]
    by_fold: NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        judged: One for each recogniser and way of restoring, the truth last of these.
        faces: What was restored.
        not_found: Names of the faces without landmarks in the truth.
        weights: What is known about the networks, by the rows' names.
    """

    config: IdentityBenchConfig
    judged: Sequence[Judged]
    faces: PairFaces
    not_found: Sequence[str]
    weights: Mapping[str, Any]

    @property
    def rows(self) -> list[IdentityRow]:
        """The table."""
        return [judged.row for judged in self.judged]

    @property
    def table(self) -> Table:
        """The rows as a table."""
        config, rows = self.config, self.rows
        number = f"{len(self.faces.pairs):,} {config.source} pairs"
        title = f"Identity: {config.faces_in_words}, {number}"
        starts = section_starts([row.recogniser for row in rows])
        return Table(title, columns(rows, config.landmarks), starts, _caption(self), keys=2)


def run(
    config: IdentityBenchConfig,
    command: str = "",
    console: Console | None = None,
    marker: Marker | None = None,
) -> Results:
    """Runs the benchmark, prints the table and writes the results.

    Args:
        config: The settings.
        command: What was typed, for the results file.
        console: Where to print; the standard output by default.
        marker: What finds landmarks; dlib by default.

    Raises:
        FacehallError: If the settings, the data or the weights do not allow it.
    """
    split = "all" if config.source == "official" else "test"
    dataset, restorers = opening.opened(config, split)
    if config.align == "landmarks" or config.landmarks:
        marker = marker or DlibLandmarks()
    judges = [embed.make(text, config.align, config.device, marker) for text in config.recognisers]
    faces = open_pairs(dataset, config.faces.degradation, config)
    results = evaluate(restorers, judges, faces, config, marker)
    console = console or tables.terminal()
    console.print(results.table)
    own, every = faces.pairs, faces.all_pairs
    content = {
        "notes": NOTES,
        "pairs": {
            "source": config.source,
            "number": len(own),
            "all": None if every is None else len(every),
            "all_matched": None if every is None else int(every.same.sum()),
            "folds": own.folds,
            "images": len(faces.keys),
            "people": len(set(faces.people)),
            "probes": len(faces.probes),
            "gallery": len(faces.gallery),
        },
        "not_found": results.not_found,
        "weights": results.weights,
        "rows": [row.to_json() for row in results.rows],
    }
    words = config.words("identity")
    written = opening.write("identity", config, words, command, content, results.table)
    tables.say_written(console, *written)
    return results


def evaluate(
    restorers: Sequence[Restorer],
    judges: Sequence[FaceRecogniser],
    faces: PairFaces,
    config: IdentityBenchConfig,
    marker: Marker | None = None,
) -> Results:
    """Shows the faces of pairs to recognisers, as each restorer restores them and as they are.

    Args:
        restorers: The rows, in their order.
        judges: The recognisers.
        faces: See `open_pairs`.
        config: What faces are compared with, and where the cache is.
        marker: Finds landmarks; None if they are not needed.
    """
    cache = Cache(config.out / ".cache", config.fresh)
    views = Views(faces.faces, judges, marker, cache, config.batch, config.landmarks, "pairs")
    shown = {who.name: views.of(who) for who in restorers} | {TRUTH: views.truth}
    return Results(
        config,
        [_judge(config, faces, shown, name, judge.name) for judge in judges for name in shown],
        faces,
        not_found=views.not_found(faces.keys),
        weights={who.name: who.provenance for who in restorers},
    )


def open_pairs(dataset: FaceDataset, protocol: Protocol, config: IdentityBenchConfig) -> PairFaces:
    """Reads the images of the pairs that the settings ask for.

    Args:
        dataset: All of it for the official pairs, else its test split.
        protocol: How the faces are degraded.
        config: Which pairs, and how many.

    Raises:
        ConfigurationError: If the dataset does not know who is on its images.
        DatasetError: If there are not enough people or images.
    """
    if config.source == "official":
        chosen = pairs.official(dataset).first_of_each(config.limit)
    else:
        chosen = pairs.drawn(dataset, config.limit, config.folds, config.seed)
    numbers = chosen.faces
    people = pairs.who(dataset, numbers)
    gallery = sorted(np.unique(people, return_index=True)[1].tolist())
    images = read_images(dataset, [int(number) for number in numbers])
    return PairFaces(
        faces=TestFaces(images, protocol, config.faces.scale, config.device),
        keys=[dataset.key(number) for number in numbers],
        people=people,
        pairs=Pairs(
            np.searchsorted(numbers, chosen.first),
            np.searchsorted(numbers, chosen.second),
            chosen.same,
            chosen.fold,
        ),
        gallery=gallery,
        probes=sorted({*range(len(people))} - {*gallery}),
    )


def _judge(
    config: IdentityBenchConfig,
    faces: PairFaces,
    shown: Mapping[str, Mapping[str, Tensor]],
    name: str,
    judge: str,
) -> Judged:
    own, truth = shown[name], shown[TRUTH]
    embedded = own[judge].numpy()
    other = (own if config.against == "restored" else truth)[judge].numpy()
    similarity = _similarity(embedded, other, faces.pairs)
    same = faces.pairs.same
    verified = verification.verification(similarity, same, faces.pairs.fold)
    of_all = None
    if (every := faces.all_pairs) is not None:
        alike = _similarity(embedded, other, every)
        of_all = verification.verification(alike, every.same, every.fold, balanced=True)
    cosine = verification.cosine_similarity(embedded, truth[judge].numpy())
    known, asked, people = list(faces.gallery), list(faces.probes), np.array(faces.people)
    ranked = (embedded[asked], other[known], people[asked].tolist(), people[known].tolist())
    estimates = {
        "rank1": mean_ci(verification.rank_one(*ranked)) if asked else NONE,
        "cosine": mean_ci(cosine),
        # The truth is infinitely good.
        "psnr": NONE if name == TRUTH else mean_ci(own["psnr"].numpy()),
        "ssim": NONE if name == TRUTH else mean_ci(own["ssim"].numpy()),
    }
    marks = summarise(own["nme"].numpy()) if config.landmarks else None
    others = int((~same).sum())
    # Below one mismatched pair false accept rates cannot be told from 0.
    tars = {
        f"{far:g}": verification.tar_at_far(similarity, same, far)
        if far * others >= 1
        else math.nan
        for far in FARS
    }
    row = IdentityRow(
        model=name,
        recogniser=judge,
        images=len(faces.keys),
        accuracy=verified.accuracy,
        accuracy_se=verified.standard_error,
        accuracy_all=of_all.accuracy if of_all else math.nan,
        accuracy_all_se=of_all.standard_error if of_all else math.nan,
        tar=tars,
        nme=marks.nme if marks else math.nan,
        auc=marks.auc if marks else math.nan,
        landmark_failures=marks.failures if marks else math.nan,
        landmarks_not_found=marks.not_found if marks else None,
        **flat(estimates),
    )
    by_fold = of_all.accuracies if of_all else np.full(faces.pairs.folds, np.nan)
    return Judged(row, verified.right, cosine, by_fold)


def _similarity(
    embedded: NDArray[np.float32], other: NDArray[np.float32], of: Pairs
) -> NDArray[np.float64]:
    """(P,) of one face's embedding and the other one's, of which there may be millions."""
    first, second = verification.directions(embedded), verification.directions(other)
    blocks = (slice(start, start + BLOCK) for start in range(0, len(of), BLOCK))
    products = [(first[of.first[b]] * second[of.second[b]]).sum(1) for b in blocks]
    cosines: NDArray[np.float64] = np.clip(np.concatenate(products), -1, 1)
    return cosines


def columns(rows: Sequence[IdentityRow], landmarks: bool) -> list[Column]:
    """The columns of the table, those of the landmarks only where they were looked for."""
    column = partial(Column.of, rows)
    shown = [
        column("model", "model"),
        column("recogniser", "recogniser"),
        column("PSNR", "psnr", ".2f", "higher", "psnr_ci"),
        column("SSIM", "ssim", ".4f", "higher"),
        column("accuracy", "accuracy", ".2%", "higher", "accuracy_se"),
        column("of all pairs", "accuracy_all", ".2%", "higher", "accuracy_all_se"),
        *(
            Column(f"TAR@FAR={far:g}", [row.tar[f"{far:g}"] for row in rows], None, ".2%", "higher")
            for far in FARS
        ),
        column("rank-1", "rank1", ".2%", "higher", "rank1_ci"),
        column("cosine to truth", "cosine", ".3f", "higher", "cosine_ci"),
    ]
    if landmarks:
        shown += [
            column("NME", "nme", ".4f", "lower"),
            column("AUC", "auc", ".3f", "higher"),
            column("failures", "landmark_failures", ".2%", "lower"),
        ]
    return shown


def _caption(results: Results) -> str:
    config, faces = results.config, results.faces
    every = faces.all_pairs
    of_all = (
        f"more than {MOST_PAIRS:,} and so not looked at"
        if every is None
        else f"balanced accuracy on the {len(every):,} that the folds' faces make with each other"
    )
    return (
        f"Accuracy: mean over {faces.pairs.folds} folds ± its standard error; of all pairs: "
        f"{of_all}; other ±: 95 % interval over images. "
        f"Rank-1: {len(faces.probes):,} probes among {len(faces.gallery):,} "
        f"people. {len(faces.keys):,} images; restored faces are compared with "
        f"{'the truth' if config.against == 'truth' else 'others restored likewise'}."
        f"{missing_faces_note(results.not_found)}"
    )
