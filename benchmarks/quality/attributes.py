"""Does one still see who smiles? Attributes of restored faces: ``facehall bench attributes``.

A linear head on a recogniser's embedding is fitted to true training faces and applied to test
faces that every row restores, as IPFH (Table III) has a classifier do that it trained on CelebA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from tqdm.auto import tqdm

from facehall_env.benchmarks import embeddings, restoring, tables
from facehall_env.benchmarks.embeddings import TRUTH, JudgingConfig, Views
from facehall_env.benchmarks.provenance import header
from facehall_env.benchmarks.quality import sr
from facehall_env.benchmarks.quality.patch_selection import fixed_order
from facehall_env.benchmarks.quality.patch_selection_table import NONE
from facehall_env.benchmarks.restoring import write_results
from facehall_env.benchmarks.statistics import Estimate, mean_ci, paired_difference_ci
from facehall_env.benchmarks.tables import Table
from facehall_env.data import Attributed, FaceDataset
from facehall_env.errors import ConfigurationError
from facehall_env.metrics.attributes import AttributeHead
from facehall_env.photos.landmarks import DlibLandmarks, Marker
from facehall_env.recognition import embed
from facehall_env.spec import BICUBIC

BENCHMARK = "attributes"
NOT_IN_THE_NUMBERS = restoring.NOT_IN_THE_NUMBERS | {"save_head"}

NOTES = {
    "balanced_accuracy": "the mean of the shares of those with and of those without an attribute "
    "told rightly, half being chance; of a row, its mean over the attributes",
    "*_ci": "half width of the 95 % interval over the restored images; the head stays what it is",
    "minus_bicubic": "paired over the images",
    "share": "of the test images that have the attribute; intervals are too narrow where it is "
    "only a few of them, or of the others",
    "left_out": "attributes that the head was not fitted to, being the same on all its faces",
    "untested": "attributes that are the same on all test images; they are in no mean",
    "not_found": "faces without landmarks in the truth: cut out as a whole in all rows",
    "images": "the first of the split in a fixed random order",
}
"""What the columns of a results file mean."""


@dataclass
class AttributesBenchConfig(JudgingConfig):
    """Settings of ``facehall bench attributes``."""

    dataset: str = "celeba"
    """Where the faces come from; it has to know their attributes: celeba, or synthetic to try."""
    protocol: str = "bicubic"
    """How the low resolution is made and what PSNR looks at."""
    train_limit: int = 5000
    """Number of true training faces that the head is fitted to."""
    limit: int = 1000
    """Number of test images that are restored, the first ones of a fixed random order."""
    recogniser: str = embed.DLIB
    """Whose embeddings the head looks at: dlib, or NAME=PATH such as mobilefacenet=PATH."""
    head: Path | None = None
    """A head that --save-head has written, instead of one that is fitted; give it the recogniser
    and the alignment that it was fitted with."""
    save_head: Path | None = None
    """Write the head that was fitted to this file."""

    def check(self) -> None:
        """Checks what can be checked before anything is loaded.

        Raises:
            ConfigurationError: If a number is too small, or a head is given and to be written, or
                to be written where a folder is.
        """
        self.check_counts("train_limit", "limit", "steps", "batch")
        if self.head and self.save_head:
            raise ConfigurationError(
                "--head takes a head that is there and --save-head writes one that was fitted: "
                "give one of them."
            )
        if self.save_head is not None and self.save_head.is_dir():
            raise ConfigurationError(
                f"--save-head {self.save_head} is a folder: name the file to write, such as "
                f"{self.save_head / 'head.safetensors'}."
            )

    @property
    def stem(self) -> str:
        """What the names of the results begin with."""
        return self.stem_of(BENCHMARK, self.recogniser.partition("=")[0])


@dataclass(frozen=True)
class Faces:
    """Faces of a split, and what they look like.

    Attributes:
        split: ``"train"`` or ``"test"``.
        images: (N, 3, H, W) uint8.
        keys: Their names in the dataset.
        names: Of all A attributes.
        labels: (N, A) bool, which of these they have.
    """

    split: str
    images: Tensor
    keys: Sequence[str]
    names: Sequence[str]
    labels: Tensor

    def labels_of(self, names: Sequence[str]) -> Tensor:
        """(N, len(names)) bool, some of the attributes in the order asked for."""
        return self.labels[:, [self.names.index(name) for name in names]]

    @property
    def varying(self) -> list[str]:
        """The attributes that some faces have and others do not."""
        varies = self.labels.any(dim=0) & ~self.labels.all(dim=0)
        return [name for name, own in zip(self.names, varies.tolist(), strict=True) if own]


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        config: The settings.
        rows: The table: one row for each way of restoring.
        faces: What was restored.
        head: What told the attributes.
        fitting: How it came to be: its file, or of how many training faces.
        not_found: Names of the test faces without landmarks in the truth.
        weights: What is known of the networks, by the rows' names.
    """

    config: AttributesBenchConfig
    rows: Sequence[Mapping[str, Any]]
    faces: Faces
    head: AttributeHead
    fitting: Mapping[str, Any]
    not_found: Sequence[str]
    weights: Mapping[str, Any]

    @property
    def left_out(self) -> list[str]:
        """Attributes that the head does not know."""
        return [name for name in self.faces.names if name not in self.head.names]

    @property
    def untested(self) -> list[str]:
        """Attributes of the head that are the same on all test faces."""
        return [name for name in self.head.names if name not in self.faces.varying]

    @property
    def shares(self) -> dict[str, float]:
        """Of the test faces that have each attribute of the head."""
        shares = self.faces.labels_of(self.head.names).double().mean(dim=0)
        return dict(zip(self.head.names, shares.tolist(), strict=True))

    @property
    def table(self) -> Table:
        """One column for each way of restoring, one line for each attribute, as text."""
        config, rows = self.config, self.rows
        title = (
            f"Attributes: {config.dataset} {config.scale}x, protocol {config.protocol}, "
            f"{len(self.faces.keys):,} test images"
        )
        lines = [
            ("mean", "", *(_percent(row, "balanced_accuracy") for row in rows)),
            (f"minus {BICUBIC}", "", *(_percent(row, "minus_bicubic", "+") for row in rows)),
            ("PSNR, dB", "", *(tables.decibels(row["psnr"], row["psnr_ci"]) for row in rows)),
        ]
        for name in rows[0]["attributes"]:
            told = (_percent(row["attributes"][name], "balanced_accuracy") for row in rows)
            lines.append((name, tables.share(self.shares[name]), *told))
        columns = ("balanced accuracy, %", "have it", *(row["model"] for row in rows))
        return Table(title, columns, lines, [3], _caption(self))


def run(
    config: AttributesBenchConfig,
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
    dataset = config.open_dataset("test")
    attributed(dataset)
    setup = sr.still_setup(config.restoring(), dataset)
    marker = (marker or DlibLandmarks()) if config.align == "landmarks" else None
    judge = embed.make(config.recogniser, config.align, config.device, marker)
    entries = embeddings.gather(config, setup)

    def see(faces: Faces) -> Views:
        folder = f"{BENCHMARK}-{faces.split}"
        return Views(config, setup, [judge], marker, faces.images, folder=folder)

    head, fitting = _head(config, see, judge.name)
    faces = read(dataset, config.limit)
    views = see(faces)
    names = _tested(head, views.truth[judge.name], faces)
    shown = {entry.name: views.of(entry.contestant) for entry in entries} | {TRUTH: views.truth}
    results = Results(
        config,
        table_rows(shown, judge.name, head, faces, names),
        faces,
        head,
        fitting,
        not_found=views.not_found(faces.keys),
        weights={entry.name: entry.provenance for entry in entries},
    )
    console = console or tables.terminal()
    console.print(results.table.rich())
    tables.say_written(console, *write(results, command))
    return results


def attributed(dataset: FaceDataset) -> Attributed:
    """The dataset itself, if it knows what its faces look like.

    Raises:
        ConfigurationError: Otherwise.
    """
    if not isinstance(dataset, Attributed):
        raise ConfigurationError(
            f"Dataset {dataset.name!r} does not know its faces' attributes: use one that does, "
            "such as celeba, or synthetic to try."
        )
    return dataset


def read(dataset: FaceDataset, limit: int) -> Faces:
    """The first faces of a dataset in the fixed order, with their attributes.

    Raises:
        ConfigurationError: If the dataset does not know them.
        DatasetError: If it came without them, or an image cannot be read.
    """
    known, order = attributed(dataset), fixed_order(len(dataset), limit)
    names = known.attribute_names
    faces = [known.attributes(number) for number in order]
    progress = tqdm(order, desc=f"{dataset.split:>12}", unit="image")
    return Faces(
        dataset.split,
        images=torch.cat([dataset.batch([number]) for number in progress]),
        keys=[dataset.key(number) for number in order],
        names=names,
        labels=torch.tensor([[face[name] for name in names] for face in faces]),
    )


def fitted(embeddings: Tensor, faces: Faces) -> AttributeHead:
    """A head for all attributes that differ among true faces.

    Args:
        embeddings: (N, D) of the faces.
        faces: N of them.

    Raises:
        ConfigurationError: If no attribute differs.
    """
    names = faces.varying
    if not names:
        raise ConfigurationError(
            f"All {len(faces.keys)} training faces have the same attributes, so that there is "
            "nothing to learn: raise --train-limit."
        )
    return AttributeHead(embeddings.shape[1], names).fit(embeddings, faces.labels_of(names))


def image_scores(predicted: Tensor, labels: Tensor) -> Tensor:
    """What each image adds to the balanced accuracies, so that there are intervals over images.

    A balanced accuracy is the mean of two ratios of means. By the delta method it varies, to first
    order, as the mean of these numbers does; their mean is the balanced accuracy itself.

    Args:
        predicted: (N, A) bool.
        labels: (N, A) bool.

    Returns:
        (N, A) float64; NaN for attributes that all faces or none have.

    Example:
        >>> labels = torch.tensor([[1], [1], [1], [0]]).bool()
        >>> scores = image_scores(torch.tensor([[1], [1], [0], [1]]).bool(), labels)
        >>> scores.mean(dim=0).round(decimals=3)
        tensor([0.3330], dtype=torch.float64)
    """
    right = (predicted == labels).double()
    scores = torch.zeros_like(right)
    for group in (labels.double(), (~labels).double()):
        rate = (right * group).sum(dim=0) / group.sum(dim=0)
        scores += (rate + group / group.mean(dim=0) * (right - rate)) / 2
    return scores


def table_rows(
    shown: Mapping[str, Mapping[str, Tensor]],
    judge: str,
    head: AttributeHead,
    faces: Faces,
    names: list[str],
) -> list[dict[str, Any]]:
    """The table: one row for each way of restoring.

    Args:
        shown: What is seen of the faces as each way restores them, `BICUBIC` and `TRUTH` among
            them; see `Views.of`.
        judge: Whose embeddings the head looks at.
        head: Tells the attributes.
        faces: The true faces.
        names: The attributes that are tested, all of which the head knows.
    """
    places = [head.names.index(name) for name in names]
    labels = faces.labels_of(names)
    scores = {
        name: image_scores(head.predict(own[judge])[:, places], labels)
        for name, own in shown.items()
    }
    start = scores[BICUBIC].mean(dim=1)
    rows = []
    for name, own in shown.items():
        mean = scores[name].mean(dim=1)
        row: dict[str, Any] = {"model": name, "images": len(labels)}
        _put(row, "balanced_accuracy", mean_ci(mean))
        _put(row, "minus_bicubic", NONE if name == BICUBIC else paired_difference_ci(mean, start))
        # The truth is infinitely good.
        _put(row, "psnr", NONE if name == TRUTH else mean_ci(own["psnr"]))
        row["attributes"] = {
            attribute: _put({}, "balanced_accuracy", mean_ci(column))
            for attribute, column in zip(names, scores[name].T, strict=True)
        }
        rows.append(row)
    return rows


def write(results: Results, command: str) -> list[Path]:
    """Writes JSON and Markdown; returns their paths."""
    config = results.config
    content = {
        **header(BENCHMARK, config, command, NOT_IN_THE_NUMBERS),
        "notes": NOTES,
        "head": {**results.fitting, "attributes": results.head.names},
        "share": results.shares,
        "left_out": results.left_out,
        "untested": results.untested,
        "not_found": results.not_found,
        "weights": results.weights,
        "rows": results.rows,
    }
    return write_results(config.out, config.stem, content, results.table)


def _head(
    config: AttributesBenchConfig, see: Callable[[Faces], Views], judge: str
) -> tuple[AttributeHead, dict[str, Any]]:
    """The head out of its file, or fitted to true training faces; and how it came to be."""
    if config.head is not None:
        return AttributeHead.load(config.head), {"file": str(config.head)}
    faces = read(config.open_dataset("train"), config.train_limit)
    views = see(faces)
    head = fitted(views.truth[judge], faces)
    if config.save_head is not None:
        head.save(config.save_head)
    return head, {"faces": len(faces.keys), "not_found": views.not_found(faces.keys)}


def _tested(head: AttributeHead, embeddings: Tensor, faces: Faces) -> list[str]:
    """The attributes of the head that differ among the test faces, if the head fits these."""
    unknown = [name for name in head.names if name not in faces.names]
    if unknown:
        raise ConfigurationError(
            f"The head tells {unknown[0]!r}, which the dataset does not know: use the one that was "
            "fitted to this dataset."
        )
    dimensions = head.linear.in_features
    if embeddings.shape[1] != dimensions:
        raise ConfigurationError(
            f"The head takes embeddings of {dimensions} numbers and the recogniser makes "
            f"{embeddings.shape[1]}: give the recogniser that the head was fitted with."
        )
    names = [name for name in head.names if name in faces.varying]
    if not names:
        raise ConfigurationError(
            f"Each attribute is the same on all {len(faces.keys)} test faces, so that nothing "
            "can be counted: raise --limit."
        )
    return names


def _put(row: dict[str, Any], name: str, estimate: Estimate) -> dict[str, Any]:
    row[name], row[f"{name}_ci"] = estimate
    return row


def _percent(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    value, interval = 100 * row[name], 100 * row[f"{name}_ci"]
    text = tables.number(value, f"{sign}.2f")
    return text if math.isnan(interval) else f"{text} ± {interval:.2f}"


def _caption(results: Results) -> str:
    config, fitting = results.config, results.fitting
    source = (
        f"fitted to {fitting['faces']:,} true training faces"
        if config.head is None
        else f"read from {config.head.name}"
    )
    text = (
        f"Mean over {len(results.rows[0]['attributes'])} attributes, half being chance, ± 95 % "
        f"interval over images; head on {config.recogniser.partition('=')[0]}'s embeddings, "
        f"{source}."
    )
    for names, why in (
        (results.left_out, "Not known to the head"),
        (results.untested, "The same on all test faces"),
    ):
        if names:
            text += f" {why}: {', '.join(names)}."
    return text + embeddings.told_not_found(results.not_found)
