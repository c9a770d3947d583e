"""Does one still see who smiles? Attributes of restored faces: ``facehall bench attributes``.

A linear head on a recogniser's embedding is fitted to true training faces and applied to test
faces that every row restores, as IPFH (Table III) has a classifier do that it trained on CelebA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.cache import Cache
from facehall_env.benchmarks.embeddings import TRUTH, Views, missing_faces_note
from facehall_env.benchmarks.provenance import (
    NOT_IN_THE_NUMBERS,
    Row,
    file_stem,
    header,
    output_folder,
    write_results,
)
from facehall_env.benchmarks.quality.opening import NAMED, conditions, specifications
from facehall_env.benchmarks.quality.settings import AttributesBenchConfig
from facehall_env.benchmarks.restorers import Restorer, build
from facehall_env.benchmarks.scoring import TestFaces, fixed_order, read_images
from facehall_env.benchmarks.statistics import NONE, mean_ci, paired_difference_ci
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.data import Attributed, FaceDataset, Protocol
from facehall_env.errors import ConfigurationError
from facehall_env.metrics.attributes import AttributeHead
from facehall_env.photos.landmarks import DlibLandmarks, Marker
from facehall_env.recognition import embed
from facehall_env.recognition.embed import FaceRecogniser
from facehall_env.spec import BICUBIC

LEFT_OUT = NOT_IN_THE_NUMBERS | {"save_head"}
"""Settings that the numbers do not depend on."""

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


@dataclass(frozen=True)
class AttributeScore(Row):
    """How rightly an attribute is told.

    Attributes:
        balanced_accuracy: Mean of the shares of those with and without it that are told rightly.
        balanced_accuracy_ci: Half width of its interval.
    """

    balanced_accuracy: float
    balanced_accuracy_ci: float


@dataclass(frozen=True)
class AttributesRow(Row):
    """How rightly attributes are told from restored faces; see `NOTES`."""

    model: str
    images: int
    balanced_accuracy: float
    balanced_accuracy_ci: float
    minus_bicubic: float
    minus_bicubic_ci: float
    psnr: float
    psnr_ci: float
    attributes: Mapping[str, AttributeScore]


@dataclass(frozen=True)
class AttributedFaces:
    """Faces of a split, and what they look like.

    Attributes:
        split: ``"train"`` or ``"test"``.
        faces: N faces.
        keys: Their names in the dataset.
        names: Names of all A attributes.
        labels: (N, A) bool, which of these they have.
    """

    split: str
    faces: TestFaces
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
        fitting: How it came to be: its file, or on how many training faces.
        not_found: Names of the test faces without landmarks in the truth.
        weights: What is known about the networks, by the rows' names.
    """

    config: AttributesBenchConfig
    rows: Sequence[AttributesRow]
    faces: AttributedFaces
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
        """Share of the test faces that have each attribute of the head."""
        shares = self.faces.labels_of(self.head.names).double().mean(dim=0)
        return dict(zip(self.head.names, shares.tolist(), strict=True))

    @property
    def table(self) -> Table:
        """A column for each way of restoring, a line for each attribute."""
        faces = self.config.faces
        title = (
            f"Attributes: {faces.dataset} {faces.scale}x, protocol {faces.protocol}, "
            f"{len(self.faces.keys):,} test images"
        )
        return Table(title, columns(self.rows, self.shares), [3], _caption(self))


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
    folder, specs = output_folder(config.out, config.publish), specifications(config)
    dataset, protocol = config.faces.open("test"), config.faces.degradation
    attributed(dataset)
    marker = (marker or DlibLandmarks()) if config.align == "landmarks" else None
    judge = embed.make(config.recogniser, config.align, config.device, marker)
    restorers = build(specs, conditions(config, dataset))
    fitting: dict[str, Any]
    if config.head is not None:
        head, fitting = AttributeHead.load(config.head), {"file": str(config.head)}
    else:
        training = read(config.faces.open("train"), config.train_limit, protocol, config)
        views = _views(training, judge, config, marker)
        head = fitted(views.truth[judge.name], training)
        fitting = {"faces": len(training.keys), "not_found": views.not_found(training.keys)}
    if config.save_head is not None:
        head.save(config.save_head)
    faces = read(dataset, config.limit, protocol, config)
    results = evaluate(restorers, judge, head, faces, config, marker=marker, fitting=fitting)
    console = console or tables.terminal()
    console.print(results.table)
    words = config.words("attributes", config.recogniser.partition("=")[0])
    stem = file_stem(words, config, NAMED, LEFT_OUT)
    tables.say_written(console, *write(results, command, folder, stem))
    return results


def evaluate(
    restorers: Sequence[Restorer],
    judge: FaceRecogniser,
    head: AttributeHead,
    faces: AttributedFaces,
    config: AttributesBenchConfig,
    *,
    marker: Marker | None = None,
    fitting: Mapping[str, Any],
) -> Results:
    """Tells the attributes of faces as each restorer restores them and as they are.

    Args:
        restorers: The rows, one of them "bicubic".
        judge: Embeds the faces.
        head: Tells attributes from the embeddings.
        faces: The faces; see `read`.
        config: Further settings, and where the cache is.
        marker: Finds landmarks; None if they are not needed.
        fitting: How the head came to be.

    Raises:
        ConfigurationError: If the head does not fit the faces or the recogniser.
    """
    views = _views(faces, judge, config, marker)
    names = _tested(head, views.truth[judge.name], faces)
    shown = {who.name: views.of(who) for who in restorers} | {TRUTH: views.truth}
    return Results(
        config,
        table_rows(shown, judge.name, head, faces, names),
        faces,
        head,
        fitting,
        not_found=views.not_found(faces.keys),
        weights={who.name: who.provenance for who in restorers},
    )


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


def read(
    dataset: FaceDataset, limit: int, protocol: Protocol, config: AttributesBenchConfig
) -> AttributedFaces:
    """The first faces of a dataset in the fixed order, with their attributes.

    Args:
        dataset: A split of a dataset.
        limit: Number of faces.
        protocol: How they are degraded.
        config: Scale and device.

    Raises:
        ConfigurationError: If the dataset does not know attributes.
        DatasetError: If it came without them, or an image cannot be read.
    """
    known, order = attributed(dataset), fixed_order(len(dataset), limit)
    names = known.attribute_names
    found = [known.attributes(number) for number in order]
    images = read_images(dataset, order)
    return AttributedFaces(
        dataset.split,
        TestFaces(images, protocol, config.faces.scale, config.device),
        keys=[dataset.key(number) for number in order],
        names=names,
        labels=torch.tensor([[face[name] for name in names] for face in found]),
    )


def fitted(embeddings: Tensor, faces: AttributedFaces) -> AttributeHead:
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
    faces: AttributedFaces,
    names: list[str],
) -> list[AttributesRow]:
    """The table: one row for each way of restoring.

    Args:
        shown: What is seen of the faces as each way restores them, `BICUBIC` and `TRUTH` among
            them; see `Views.of`.
        judge: Name of the recogniser whose embeddings the head looks at.
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
        accuracy = mean_ci(mean)
        gain = NONE if name == BICUBIC else paired_difference_ci(mean, start)
        # The truth is infinitely good.
        psnr = NONE if name == TRUTH else mean_ci(own["psnr"])
        told = {
            attribute: AttributeScore(*mean_ci(column))
            for attribute, column in zip(names, scores[name].T, strict=True)
        }
        rows.append(AttributesRow(name, len(labels), *accuracy, *gain, *psnr, told))
    return rows


def write(results: Results, command: str, folder: Path, stem: str) -> list[Path]:
    """Writes JSON and Markdown; returns their paths."""
    content = {
        **header("attributes", results.config, command, LEFT_OUT),
        "notes": NOTES,
        "head": {**results.fitting, "attributes": results.head.names},
        "share": results.shares,
        "left_out": results.left_out,
        "untested": results.untested,
        "not_found": results.not_found,
        "weights": results.weights,
        "rows": [row.to_json() for row in results.rows],
    }
    return write_results(folder, stem, content, results.table)


def _views(
    faces: AttributedFaces,
    judge: FaceRecogniser,
    config: AttributesBenchConfig,
    marker: Marker | None,
) -> Views:
    cache = Cache(config.out / ".cache", config.fresh)
    split = f"attributes-{faces.split}"
    return Views(faces.faces, [judge], marker, cache, batch=config.batch, split=split)


def _tested(head: AttributeHead, embeddings: Tensor, faces: AttributedFaces) -> list[str]:
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


def columns(rows: Sequence[AttributesRow], shares: Mapping[str, float]) -> list[Column]:
    """The columns of the table: one for each way of restoring.

    Args:
        rows: The rows.
        shares: How many of the faces have each attribute.
    """
    names = list(rows[0].attributes)
    have = ["", "", "", *(tables.cell(shares[name], ".0%") for name in names)]
    shown = [
        Column("balanced accuracy", ["mean", f"minus {BICUBIC}", "PSNR, dB", *names]),
        Column("have it", have),
    ]
    for row in rows:
        told = [row.attributes[name] for name in names]
        cells = [
            tables.cell(row.balanced_accuracy, ".2%", row.balanced_accuracy_ci),
            tables.cell(row.minus_bicubic, "+.2%", row.minus_bicubic_ci),
            tables.cell(row.psnr, ".2f", row.psnr_ci),
            *(tables.cell(one.balanced_accuracy, ".2%", one.balanced_accuracy_ci) for one in told),
        ]
        shown.append(Column(row.model, cells))
    return shown


def _caption(results: Results) -> str:
    config, fitting = results.config, results.fitting
    source = (
        f"fitted to {fitting['faces']:,} true training faces"
        if config.head is None
        else f"read from {config.head.name}"
    )
    text = (
        f"Mean over {len(results.rows[0].attributes)} attributes, half being chance, ± 95 % "
        f"interval over images; head on {config.recogniser.partition('=')[0]}'s embeddings, "
        f"{source}."
    )
    for names, why in (
        (results.left_out, "Not known to the head"),
        (results.untested, "The same on all test faces"),
    ):
        if names:
            text += f" {why}: {', '.join(names)}."
    return text + missing_faces_note(results.not_found)
