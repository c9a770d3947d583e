"""Is it still the same person? Restored faces before recognisers: ``facehall bench identity``.

Every image of the verification pairs is looked at as `facehall_env.benchmarks.embeddings` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env.benchmarks import embeddings, restoring, tables
from facehall_env.benchmarks.embeddings import TRUTH, JudgingConfig, Views
from facehall_env.benchmarks.provenance import header
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.quality.patch_selection_table import NONE
from facehall_env.benchmarks.restoring import write_results
from facehall_env.benchmarks.statistics import Estimate, mean_ci
from facehall_env.benchmarks.tables import Table
from facehall_env.data import FaceDataset, pairs
from facehall_env.data.pairs import Pairs
from facehall_env.errors import ConfigurationError
from facehall_env.metrics import verification
from facehall_env.metrics.landmark_errors import summarise
from facehall_env.photos.landmarks import DlibLandmarks, Marker
from facehall_env.recognition import embed
from facehall_env.spec import Setup

FARS = (0.001, 0.01)
"""The false accept rates."""
PairSource = Literal["auto", "official", "drawn"]

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
    "tar_at_far_*": "share of matched pairs that pass where so small a share of the mismatched "
    "ones does; none where it would be less than one pair",
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


@dataclass
class IdentityBenchConfig(JudgingConfig):
    """Settings of ``facehall bench identity``."""

    dataset: str = "lfw"
    """Where the faces come from; it has to know who is on them."""
    protocol: str = "bicubic"
    """How the low resolution is made and what PSNR and SSIM look at."""
    seed: int = 0
    """Seed of the pairs that are drawn and of the random agent."""
    pairs: PairSource = "auto"
    """official: LFW's ten folds, of both halves of its split; drawn: of the test split, by the
    seed; auto: official for lfw, else drawn."""
    limit: int = 300
    """Matched pairs of each fold, and as many mismatched ones."""
    folds: int = 10
    """Folds of drawn pairs; nobody is in two of them."""
    recognisers: tuple[str, ...] = (embed.DLIB,)
    """Who judges: dlib, or NAME=PATH such as mobilefacenet=PATH. Take others than those that the
    networks were trained with."""
    against: Literal["restored", "truth"] = "restored"
    """What a restored face is compared with: another one that was restored likewise, or the truth
    (a photograph in an archive)."""
    landmarks: bool = False
    """Also find the landmarks on the restored faces, and measure how far they are off."""

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            ConfigurationError: If a number is too small or there is no recogniser.
        """
        self.check_counts("limit", "steps", "batch")
        if self.folds < 2:
            raise ConfigurationError(
                f"--folds {self.folds}: give 2 or more, for the threshold of one comes from the "
                "others."
            )
        if not self.recognisers:
            raise ConfigurationError("--recognisers is empty: give at least one, such as dlib.")
        names = [text.partition("=")[0] for text in self.recognisers]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"--recognisers {' '.join(names)}: give each one once.")
        if self.pairs not in get_args(PairSource):
            raise ConfigurationError(f"--pairs {self.pairs!r}: give auto, official or drawn.")

    @property
    def source(self) -> str:
        """``"official"`` or ``"drawn"``."""
        if self.pairs != "auto":
            return self.pairs
        return "official" if self.dataset == "lfw" else "drawn"

    @property
    def stem(self) -> str:
        """What the names of the results begin with."""
        return self.stem_of("identity")


@dataclass(frozen=True)
class Faces:
    """The images of the pairs.

    Attributes:
        images: (N, 3, H, W) uint8.
        keys: Their names in the dataset.
        people: Who is on them.
        pairs: The pairs, as numbers of these images.
        gallery: The first image of everyone.
        probes: All other images.
    """

    images: Tensor
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
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        rows: The table: one row for each recogniser and way of restoring.
        faces: What was restored.
        right: For each row, (P,) whether each pair is told rightly.
        alike: For each row, (N,) the cosine between each image's embedding and the truth's.
        by_fold: For each row, (F,) the balanced accuracy on all pairs of each fold's faces, NaN
            where these are not looked at.
        not_found: Names of the faces without landmarks in the truth.
        weights: What is known of the networks, by the rows' names.
    """

    config: IdentityBenchConfig
    rows: Sequence[Mapping[str, Any]]
    faces: Faces
    right: Sequence[NDArray[np.bool_]]
    alike: Sequence[NDArray[np.float64]]
    by_fold: Sequence[NDArray[np.float64]]
    not_found: Sequence[str]
    weights: Mapping[str, Any]

    @property
    def table(self) -> Table:
        """As text."""
        config = self.config
        title = (
            f"Identity: {config.dataset} {config.scale}x, protocol {config.protocol}, "
            f"{len(self.faces.pairs):,} {config.source} pairs"
        )
        return _table(self, title)


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
    config.check()
    setup = _setup(config)
    needed = config.align == "landmarks" or config.landmarks
    marker = (marker or DlibLandmarks()) if needed else None
    judges = [embed.make(text, config.align, config.device, marker) for text in config.recognisers]
    entries = embeddings.gather(config, setup)
    faces = _faces(config, setup.dataset)
    views = Views(config, setup, judges, marker, faces.images, landmark_errors=config.landmarks)
    shown = {entry.name: views.of(entry.contestant) for entry in entries} | {TRUTH: views.truth}
    judged = [
        (name, judge.name, _judge(config, faces, shown, name, judge.name))
        for judge in judges
        for name in shown
    ]
    results = Results(
        config,
        [{"model": name, "recogniser": judge, **said.row} for name, judge, said in judged],
        faces,
        right=[said.right for *_, said in judged],
        alike=[said.alike for *_, said in judged],
        by_fold=[said.by_fold for *_, said in judged],
        not_found=views.not_found(faces.keys),
        weights={entry.name: entry.provenance for entry in entries},
    )
    console = console or tables.terminal()
    console.print(results.table.rich())
    tables.say_written(console, *write(results, command))
    return results


def gallery_and_probes(people: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places of the first face of everyone, and those of all other faces.

    >>> gallery_and_probes(["ada", "bob", "ada", "ada"])
    ([0, 1], [2, 3])
    """
    gallery: dict[str, int] = {}
    for place, person in enumerate(people):
        gallery.setdefault(person, place)
    known = set(gallery.values())
    return sorted(known), [place for place in range(len(people)) if place not in known]


def write(results: Results, command: str) -> list[Path]:
    """Writes JSON and Markdown; returns their paths."""
    config, own, every = results.config, results.faces.pairs, results.faces.all_pairs
    content = {
        **header("identity", config, command, restoring.NOT_IN_THE_NUMBERS),
        "notes": NOTES,
        "pairs": {
            "source": config.source,
            "number": len(own),
            "all": None if every is None else len(every),
            "all_matched": None if every is None else int(every.same.sum()),
            "folds": own.folds,
            "images": len(results.faces.images),
            "people": len(set(results.faces.people)),
            "probes": len(results.faces.probes),
            "gallery": len(results.faces.gallery),
        },
        "not_found": results.not_found,
        "weights": results.weights,
        "rows": results.rows,
    }
    return write_results(config.out, config.stem, content, results.table)


def _setup(config: IdentityBenchConfig) -> Setup:
    """Dataset, protocol and a core that leaves faces as they start."""
    split = "all" if config.source == "official" else "test"
    return sr.still_setup(config.restoring(), config.open_dataset(split))


def _faces(config: IdentityBenchConfig, dataset: FaceDataset) -> Faces:
    """The images of the pairs, read."""
    if config.source == "official":
        chosen = pairs.official(dataset).first_of_each(config.limit)
    else:
        chosen = pairs.drawn(dataset, config.limit, config.folds, config.seed)
    numbers = chosen.faces
    progress = tqdm(numbers, desc=f"{'images':>12}", unit="image")
    images = torch.cat([dataset.batch([number]) for number in progress])
    people = pairs.who(dataset, numbers)
    gallery, probes = gallery_and_probes(people)
    return Faces(
        images=images,
        keys=[dataset.key(number) for number in numbers],
        people=people,
        pairs=Pairs(
            np.searchsorted(numbers, chosen.first),
            np.searchsorted(numbers, chosen.second),
            chosen.same,
            chosen.fold,
        ),
        gallery=gallery,
        probes=probes,
    )


class _Judged(NamedTuple):
    """What a recogniser says of a way of restoring; see `Results`."""

    row: dict[str, Any]
    right: NDArray[np.bool_]
    alike: NDArray[np.float64]
    by_fold: NDArray[np.float64]


def _judge(
    config: IdentityBenchConfig,
    faces: Faces,
    shown: Mapping[str, Mapping[str, Tensor]],
    name: str,
    judge: str,
) -> _Judged:
    own, truth = shown[name], shown[TRUTH]
    embedded = own[judge].numpy()
    other = (own if config.against == "restored" else truth)[judge].numpy()
    similarity = _similarity(embedded, other, faces.pairs)
    verified = verification.verification(similarity, faces.pairs.same, faces.pairs.fold)
    of_all = _on_all_pairs(faces, embedded, other)
    row: dict[str, Any] = {
        "images": len(faces.images),
        "accuracy": verified.accuracy,
        "accuracy_se": verified.standard_error,
        "accuracy_all": of_all.accuracy if of_all else math.nan,
        "accuracy_all_se": of_all.standard_error if of_all else math.nan,
    }
    mismatched = int((~faces.pairs.same).sum())
    for far in FARS:
        # Below one mismatched pair the rate cannot be told from zero.
        row[f"tar_at_far_{far:g}"] = (
            verification.tar_at_far(similarity, faces.pairs.same, far)
            if far * mismatched >= 1
            else math.nan
        )
    row["rank1"], row["rank1_ci"] = _rank_one(faces, embedded, other)
    alike = verification.cosine_similarity(embedded, truth[judge].numpy())
    row["cosine"], row["cosine_ci"] = mean_ci(alike)
    for score in ("psnr", "ssim"):
        # The truth is infinitely good.
        row[score], row[f"{score}_ci"] = NONE if name == TRUTH else mean_ci(own[score].numpy())
    if config.landmarks:
        landmarks = summarise(own["nme"].numpy())
        row |= {
            "nme": landmarks.nme,
            "auc": landmarks.auc,
            "landmark_failures": landmarks.failures,
            "landmarks_not_found": landmarks.not_found,
        }
    by_fold = of_all.accuracies if of_all else np.full(faces.pairs.folds, np.nan)
    return _Judged(row, verified.right, alike, by_fold)


def _on_all_pairs(
    faces: Faces, embedded: NDArray[np.float32], other: NDArray[np.float32]
) -> verification.Verification | None:
    every = faces.all_pairs
    if every is None:
        return None
    alike = _similarity(embedded, other, every)
    return verification.verification(alike, every.same, every.fold, balanced=True)


def _similarity(
    embedded: NDArray[np.float32], other: NDArray[np.float32], of: Pairs
) -> NDArray[np.float64]:
    """(P,) of one face's embedding and the other one's, of which there may be millions."""
    first, second = verification.directions(embedded), verification.directions(other)
    blocks = (slice(start, start + BLOCK) for start in range(0, len(of), BLOCK))
    products = [(first[of.first[b]] * second[of.second[b]]).sum(1) for b in blocks]
    cosines: NDArray[np.float64] = np.clip(np.concatenate(products), -1, 1)
    return cosines


def _rank_one(faces: Faces, embedded: NDArray[np.float32], other: NDArray[np.float32]) -> Estimate:
    known, asked = list(faces.gallery), list(faces.probes)
    if not asked:
        return NONE
    people = faces.people
    hits = verification.rank_one(
        embedded[asked], other[known], [people[i] for i in asked], [people[i] for i in known]
    )
    return mean_ci(hits)


def _table(results: Results, title: str) -> Table:
    config = results.config
    header = [
        "model",
        "recogniser",
        "PSNR",
        "SSIM",
        "accuracy %",
        "of all pairs %",
        *(f"TAR@FAR={far:g}" for far in FARS),
        "rank-1 %",
        "cosine to truth",
        *(("NME", "AUC", "failures") if config.landmarks else ()),
    ]
    lines = [
        [
            row["model"],
            row["recogniser"],
            tables.decibels(row["psnr"], row["psnr_ci"]),
            tables.number(row["ssim"], ".4f"),
            _percent(row["accuracy"], row["accuracy_se"]),
            _percent(row["accuracy_all"], row["accuracy_all_se"]),
            *(_percent(row[f"tar_at_far_{far:g}"]) for far in FARS),
            _percent(row["rank1"], row["rank1_ci"]),
            f"{row['cosine']:.3f} ± {row['cosine_ci']:.3f}",
            *(
                (f"{row['nme']:.4f}", f"{row['auc']:.3f}", _percent(row["landmark_failures"]))
                if config.landmarks
                else ()
            ),
        ]
        for row in results.rows
    ]
    names = [row["recogniser"] for row in results.rows]
    sections = [place for place in range(1, len(names)) if names[place] != names[place - 1]]
    return Table(title, header, lines, sections, _caption(results))


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
        f"people. {len(faces.images):,} images; restored faces are compared with "
        f"{'the truth' if config.against == 'truth' else 'others restored likewise'}."
        f"{embeddings.told_not_found(results.not_found)}"
    )


def _percent(value: float, interval: float | None = None) -> str:
    text, width = (tables.number(_times_100(number), ".2f") for number in (value, interval))
    return text if tables.NOTHING in (text, width) else f"{text} ± {width}"


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value
