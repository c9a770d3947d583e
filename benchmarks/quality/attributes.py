"""Does one still see who smiles? Attributes of restored faces: ``facehall bench attributes``.

A linear head on a recogniser's embedding is fitted to true training faces and applied to test
faces that every row restores, as IPFH (Table III) has a classifier do that it trained on CelebA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from facehall_env.benchmarks import tables
from facehall_env.benchmarks.cache import Cache
from facehall_env.benchmarks.embeddings import TRUTH, Views, missing_faces_note
from facehall_env.benchmarks.provenance import NOT_IN_THE_NUMBERS, Row
from facehall_env.benchmarks.quality import opening
from facehall_env.benchmarks.quality.settings import AttributesBenchConfig
from facehall_env.benchmarks.scoring import TestFaces, fixed_order, read_images
from facehall_env.benchmarks.statistics import NONE, mean_ci, paired_difference_ci
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.data import Attributed, FaceDataset
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
    """How rightly an attribute is told; see `NOTES`."""

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
    """N faces of the split ``split``, their keys in the dataset, and what they look like.

    Attributes:
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
        rows: The table: one row for each way of restoring.
        table: A column for each way of restoring, a line for each attribute.
        head: What told the attributes.
        left_out: Attributes that the head does not know.
        untested: Attributes of the head that are the same on all test faces.
        not_found: Names of the test faces without landmarks in the truth.
    """

    rows: Sequence[AttributesRow]
    table: Table
    head: AttributeHead
    left_out: Sequence[str]
    untested: Sequence[str]
    not_found: Sequence[str]


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
    dataset, restorers = opening.opened(config)
    faces = read(dataset, config.limit, config)
    marker = (marker or DlibLandmarks()) if config.align == "landmarks" else None
    judge = embed.make(config.recogniser, config.align, config.device, marker)
    fitting: dict[str, Any]
    if config.head is not None:
        head, fitting = AttributeHead.load(config.head), {"file": str(config.head)}
        source = f"read from {config.head.name}"
    else:
        training = read(config.faces.open("train"), config.train_limit, config)
        views = _views(training, judge, config, marker)
        head = _fitted(views.truth[judge.name], training)
        fitting = {"faces": len(training.keys), "not_found": views.not_found(training.keys)}
        source = f"fitted to {len(training.keys):,} true training faces"
    if config.save_head is not None:
        head.save(config.save_head)
    views = _views(faces, judge, config, marker)
    names = _tested(head, views.truth[judge.name], faces)
    left_out = [name for name in faces.names if name not in head.names]
    untested = [name for name in head.names if name not in names]
    not_found = views.not_found(faces.keys)
    shown = {who.name: views.of(who) for who in restorers} | {TRUTH: views.truth}
    rows = _rows(shown, judge.name, head, faces, names)
    have = faces.labels_of(head.names).double().mean(dim=0).tolist()
    share = dict(zip(head.names, have, strict=True))
    recogniser = config.recogniser.partition("=")[0]
    caption = (
        f"Mean over {len(names)} attributes, half being chance, ± 95 % interval over images; head "
        f"on {recogniser}'s embeddings, {source}."
        + (f" Not known to the head: {', '.join(left_out)}." if left_out else "")
        + (f" The same on all test faces: {', '.join(untested)}." if untested else "")
        + missing_faces_note(not_found)
    )
    title = f"Attributes: {config.faces_in_words}, {len(faces.keys):,} test images"
    table = Table(title, columns(rows, share), [3], caption)
    content = {
        "notes": NOTES,
        "head": {**fitting, "attributes": head.names},
        "share": share,
        "left_out": left_out,
        "untested": untested,
        "not_found": not_found,
        "weights": {who.name: who.provenance for who in restorers},
        "rows": [row.to_json() for row in rows],
    }
    console = console or tables.terminal()
    console.print(table)
    words = config.words("attributes", recogniser)
    written = opening.write(
        "attributes", config, words, command, content, table, leave_out=LEFT_OUT
    )
    tables.say_written(console, *written)
    return Results(rows, table, head, left_out, untested, not_found)


def read(dataset: FaceDataset, limit: int, config: AttributesBenchConfig) -> AttributedFaces:
    """The first ``limit`` faces of a split of a dataset in the fixed order, with their attributes.

    Raises:
        ConfigurationError: If the dataset does not know attributes.
        DatasetError: If it came without them, or an image cannot be read.
    """
    if not isinstance(dataset, Attributed):
        raise ConfigurationError(
            f"Dataset {dataset.name!r} does not know its faces' attributes: use one that does, "
            "such as celeba, or synthetic to try."
        )
    faces, order = config.faces, fixed_order(len(dataset), limit)
    names = dataset.attribute_names
    found = [dataset.attributes(number) for number in order]
    images = read_images(dataset, order)
    return AttributedFaces(
        dataset.split,
        TestFaces(images, faces.degradation, faces.scale, config.device),
        keys=[dataset.key(number) for number in order],
        names=names,
        labels=torch.tensor([[face[name] for name in names] for face in found]),
    )


def _fitted(embeddings: Tensor, faces: AttributedFaces) -> AttributeHead:
    """A head for all attributes that differ among N true faces with embeddings (N, D)."""
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


def _rows(
    shown: Mapping[str, Mapping[str, Tensor]],
    judge: str,
    head: AttributeHead,
    faces: AttributedFaces,
    names: list[str],
) -> list[AttributesRow]:
    """The table, from what is seen of the faces as each way restores them."""
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


def _views(
    faces: AttributedFaces,
    judge: FaceRecogniser,
    config: AttributesBenchConfig,
    marker: Marker | None,
) -> Views:
    cache, split = Cache(config.out / ".cache", config.fresh), f"attributes-{faces.split}"
    return Views(faces.faces, [judge], marker, cache, config.batch, split=split)


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
    """The columns of the table: the attributes, their shares, and one for each way of restoring."""
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
