"""Is it still the same person? Restored faces before recognisers: ``facehall bench identity``.

Every image of the verification pairs is restored once by every row and shown to all recognisers.
Faces are detected on the truth and cut out alike in all versions; see
`facehall_env.recognisers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env import data, metrics, recognisers
from facehall_env.benchmarks import sr, tables
from facehall_env.benchmarks.batches import Compute, Store, in_batches
from facehall_env.benchmarks.measure import Contestant, fingerprint, image_checksums
from facehall_env.benchmarks.results import header, write_json
from facehall_env.benchmarks.rows import NONE
from facehall_env.benchmarks.statistics import Estimate, mean_ci
from facehall_env.benchmarks.tables import Table
from facehall_env.build import BICUBIC, Setup
from facehall_env.core import Precision
from facehall_env.data import FaceDataset, pairs
from facehall_env.data.landmarks import DlibLandmarks, Landmarks, Marker
from facehall_env.data.pairs import Pairs
from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic
from facehall_env.metrics import identity
from facehall_env.metrics.landmarks import normalised_mean_error, summarise
from facehall_env.recognisers import Align, FaceRecogniser
from facehall_env.registry import parse_settings
from facehall_env.training.run import versions

TRUTH = "truth"
"""Name of the row of the true faces."""
FARS = (0.001, 0.01)
"""The false accept rates."""
PairSource = Literal["auto", "official", "drawn"]
NOT_IN_THE_NUMBERS = frozenset({"out", "fresh", "trust_pickle"})

NOTES = {
    "accuracy": "of verification, threshold from the other folds, mean over the folds; "
    "accuracy_se is its standard error over the folds",
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
class IdentityBenchConfig:
    """Settings of ``facehall bench identity``."""

    dataset: str = "lfw"
    """Where the faces come from; it has to know who is on them."""
    dataset_settings: tuple[str, ...] = ()
    """Options of the dataset as NAME=VALUE."""
    pairs: PairSource = "auto"
    """official: LFW's ten folds, of both halves of its split; drawn: of the test split, by the
    seed; auto: official for lfw, else drawn."""
    limit: int = 300
    """Matched pairs of each fold, and as many mismatched ones."""
    folds: int = 10
    """Folds of drawn pairs; nobody is in two of them."""
    scale: int = 8
    """Factor between low and high resolution."""
    protocol: str = "bicubic"
    """How the low resolution is made and what PSNR and SSIM look at."""
    models: tuple[str, ...] = (BICUBIC,)
    """Rows of networks that restore whole faces, as for `facehall bench sr`: NAME, NAME=PATH."""
    agents: tuple[str, ...] = ()
    """Rows of agents, as for `facehall bench sr`: ROW=ENHANCER,AGENT[,INITIAL]."""
    steps: int = 25
    """Patches of an agent, T."""
    recognisers: tuple[str, ...] = (recognisers.DLIB,)
    """Who judges: dlib, or NAME=PATH such as mobilefacenet=PATH. Take others than those that the
    networks were trained with."""
    align: Align = "landmarks"
    """landmarks: by dlib's points on the truth; none: the middle of the image, without dlib."""
    against: Literal["restored", "truth"] = "restored"
    """What a restored face is compared with: another one that was restored likewise, or the truth
    (a photograph in an archive)."""
    landmarks: bool = False
    """Also find the landmarks on the restored faces, and measure how far they are off."""
    batch: int = 32
    """Images that are restored at once."""
    seed: int = 0
    """Seed of the pairs that are drawn and of the random agent."""
    trust_pickle: bool = False
    """Read archives (.zip) of Stable-Baselines3 given as agents, though their pickles can run any
    code of whoever made them."""
    device: str = "cpu"
    """Where to compute."""
    precision: Precision = "fp32"
    """Of the restoring networks: fp32 or bf16."""
    out: Path = Path("benchmarks/results")
    """Folder for the results: JSON, Markdown, and the cache."""
    fresh: bool = False
    """Compute everything again, whatever an earlier run has left in the cache."""

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            ConfigurationError: If a number is too small or there is no recogniser.
        """
        for name in ("limit", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} {getattr(self, name)}: give 1 or more.")
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
        name = f"identity-{self.dataset}-x{self.scale}-{self.protocol}"
        return name if self.precision == "fp32" else f"{name}-{self.precision}"

    def restoring(self) -> sr.SRBenchConfig:
        """The settings of the rows that restore."""
        models = self.models if BICUBIC in self.models else (BICUBIC, *self.models)
        return sr.SRBenchConfig(
            dataset=self.dataset,
            scale=self.scale,
            protocol=self.protocol,
            models=models,
            agents=self.agents,
            steps=self.steps,
            batch=self.batch,
            seed=self.seed,
            trust_pickle=self.trust_pickle,
            device=self.device,
            precision=self.precision,
        )


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


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        rows: The table: one row for each recogniser and way of restoring.
        faces: What was restored.
        not_found: Names of the faces without landmarks in the truth.
        weights: What is known of the networks, by the rows' names.
    """

    config: IdentityBenchConfig
    rows: Sequence[Mapping[str, Any]]
    faces: Faces
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
    judges = [
        recognisers.make(text, config.align, config.device, marker) for text in config.recognisers
    ]
    entries = sr.gather(config.restoring(), setup)
    if TRUTH in [entry.name for entry in entries]:
        raise ConfigurationError(f"A row is called {TRUTH!r}, as the true faces are: rename it.")
    faces = _faces(config, setup.dataset)
    views = _Views(config, setup, judges, marker, faces.images)
    shown = {entry.name: views.of(entry.contestant) for entry in entries}
    shown[TRUTH] = views.truth
    rows = [
        {"model": name, "recogniser": judge.name, **_row(config, faces, shown, name, judge.name)}
        for judge in judges
        for name in shown
    ]
    results = Results(
        config,
        rows,
        faces,
        not_found=[] if marker is None else _names(faces, ~views.landmarks.found),
        weights={
            entry.name: (entry.contestant.core.initial or entry.contestant.core.enhancer).provenance
            for entry in entries
        },
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
    config, own = results.config, results.faces.pairs
    content = {
        **header("identity", config, command, NOT_IN_THE_NUMBERS),
        "notes": NOTES,
        "pairs": {
            "source": config.source,
            "number": len(own),
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
    paths = [config.out / f"{config.stem}{suffix}" for suffix in (".json", ".md")]
    write_json(paths[0], content)
    table = results.table
    write_text_atomic(paths[1], f"# {table.title}\n\n{table.markdown()}")
    return paths


class _Views:
    """What the recognisers see of each row, every image restored once.

    Args:
        config: The settings.
        setup: Protocol and device.
        judges: The recognisers.
        marker: Finds the landmarks; None if nobody needs any.
        images: (N, 3, H, W) uint8, the true faces.

    Attributes:
        landmarks: Of the true faces.
        truth: What the recognisers see of these.
    """

    def __init__(
        self,
        config: IdentityBenchConfig,
        setup: Setup,
        judges: Sequence[FaceRecogniser],
        marker: Marker | None,
        images: Tensor,
    ) -> None:
        self._config = config
        self._setup = setup
        self._judges = judges
        self._marker = marker
        self._images = images
        self._checksums = image_checksums(images)
        self._store = Store(config.out / ".cache", config.fresh)
        self.landmarks = recognisers.unmarked(len(images))
        if marker is not None:
            self.landmarks = self._found(marker)
        self.truth = self._compute(TRUTH, None, {"row": TRUTH})

    def of(self, contestant: Contestant) -> dict[str, Tensor]:
        """PSNR, SSIM and embeddings of the faces as someone restores them."""
        return self._compute(contestant.name, contestant, contestant.identity())

    def _found(self, marker: Marker) -> Landmarks:
        def find(rows: slice) -> dict[str, Tensor]:
            return {"points": torch.from_numpy(marker(self._images[rows].float() / 255).points)}

        settings = {"marker": fingerprint(marker), "versions": versions()}
        return Landmarks(self._batches(find, "landmarks", settings)["points"].numpy())

    def _compute(
        self, name: str, contestant: Contestant | None, settings: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The rows of all images; None leaves them as they are."""
        config = self._config
        judged = {
            "who": dict(settings),
            "judges": [fingerprint(judge) for judge in self._judges],
            "marker": None if self._marker is None else fingerprint(self._marker),
            "landmarks": config.landmarks,
            "protocol": asdict(self._setup.protocol),
            "scale": config.scale,
            "batch": config.batch,
            "versions": versions(),
        }
        return self._batches(partial(self._view, contestant), name, judged)

    def _batches(
        self, compute: Compute, name: str, settings: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        return in_batches(compute, self._checksums, self._config.batch, self._store, name, settings)

    def _view(self, contestant: Contestant | None, rows: slice) -> dict[str, Tensor]:
        images = self._images[rows].to(self._setup.core.device)
        truth = images.float() / 255
        restored = truth
        if contestant is not None:
            batch = self._setup.protocol.degrade(images, self._config.scale)
            restored = sr.restored(contestant, batch, rows.start)
        points = self.landmarks.rows(rows)
        seen = {judge.name: judge.embed(restored, points) for judge in self._judges}
        scores = metrics.score(
            restored, truth, self._setup.protocol, self._config.scale, ("psnr", "ssim")
        )
        view = {**seen, **{name: values.double().cpu() for name, values in scores.items()}}
        if self._config.landmarks and self._marker is not None:
            errors = normalised_mean_error(self._marker(restored), points)
            view["nme"] = torch.from_numpy(errors)
        return view


def _setup(config: IdentityBenchConfig) -> Setup:
    """Dataset, protocol and a core that leaves faces as they start."""
    split = "all" if config.source == "official" else "test"
    dataset = data.make(config.dataset, split=split, **parse_settings(config.dataset_settings))
    return sr.still_setup(config.restoring(), dataset)


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


def _names(faces: Faces, chosen: NDArray[np.bool_]) -> list[str]:
    return [faces.keys[place] for place in np.flatnonzero(chosen).tolist()]


def _row(
    config: IdentityBenchConfig,
    faces: Faces,
    shown: Mapping[str, Mapping[str, Tensor]],
    name: str,
    judge: str,
) -> dict[str, Any]:
    """All numbers of a way of restoring before a recogniser."""
    own, truth = shown[name], shown[TRUTH]
    embedded = own[judge].numpy()
    other = (own if config.against == "restored" else truth)[judge].numpy()
    similarity = identity.cosine_similarity(embedded[faces.pairs.first], other[faces.pairs.second])
    verified = identity.verification(similarity, faces.pairs.same, faces.pairs.fold)
    row: dict[str, Any] = {
        "images": len(faces.images),
        "accuracy": verified.accuracy,
        "accuracy_se": verified.standard_error,
    }
    mismatched = int((~faces.pairs.same).sum())
    for far in FARS:
        # Below one mismatched pair the rate cannot be told from zero.
        row[f"tar_at_far_{far:g}"] = (
            identity.tar_at_far(similarity, faces.pairs.same, far)
            if far * mismatched >= 1
            else math.nan
        )
    row["rank1"], row["rank1_ci"] = _rank_one(faces, embedded, other)
    alike = identity.cosine_similarity(embedded, truth[judge].numpy())
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
    return row


def _rank_one(faces: Faces, embedded: NDArray[np.float32], other: NDArray[np.float32]) -> Estimate:
    known, asked = list(faces.gallery), list(faces.probes)
    if not asked:
        return NONE
    people = faces.people
    hits = identity.rank_one(
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
    text = (
        f"Accuracy: mean over {faces.pairs.folds} folds ± its standard error; other ±: 95 % "
        f"interval over images. Rank-1: {len(faces.probes):,} probes among {len(faces.gallery):,} "
        f"people. {len(faces.images):,} images; restored faces are compared with "
        f"{'the truth' if config.against == 'truth' else 'others restored likewise'}."
    )
    if results.not_found:
        text += (
            f" Not found in the truth and cut out as a whole: {len(results.not_found)} (listed in "
            "the JSON)."
        )
    return text


def _percent(value: float, interval: float | None = None) -> str:
    text, width = (tables.number(_times_100(number), ".2f") for number in (value, interval))
    return text if tables.NOTHING in (text, width) else f"{text} ± {width}"


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value
