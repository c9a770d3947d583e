"""The columns of verification: what recognisers say about pairs of restored faces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facehall_env import data
from facehall_env.benchmarks.embeddings import TRUTH
from facehall_env.benchmarks.papers.found import Cell, Found
from facehall_env.benchmarks.papers.metrics import JUDGES, METRICS
from facehall_env.benchmarks.papers.tables import Condition
from facehall_env.benchmarks.quality import identity
from facehall_env.benchmarks.quality.identity import Judged
from facehall_env.benchmarks.quality.settings import IdentityBenchConfig
from facehall_env.benchmarks.restorers import Restorer
from facehall_env.benchmarks.statistics import student_t_quantile
from facehall_env.data import FaceDataset
from facehall_env.errors import FacehallError
from facehall_env.photos.landmarks import DlibLandmarks
from facehall_env.recognition import embed
from facehall_env.spec import FacesSpec


def verify(
    found: Found, condition: Condition, dataset: FaceDataset, restorers: Mapping[str, Restorer]
) -> None:
    """Fills the columns of verification under a condition, or notes what does not allow it.

    The restorers are named by their rows' keys; the true faces are always looked at.
    """
    judges = _judges(found, condition.key)
    rows = [row for row in found.table.rows if row.key in restorers or row.kind == "truth"]
    if not judges or not rows:
        return
    try:
        results = _evaluated(found, condition, restorers, set(judges.values()))
    except FacehallError as error:
        for row in rows:
            found.blame(row, condition.key, str(error), list(judges))
        return
    said = {(own.row.model, own.row.recogniser): own for own in results.judged}
    folds, images = results.faces.pairs.folds, len(results.faces.faces)
    wide = student_t_quantile(folds - 1, 0.95)
    for row in rows:
        name = TRUTH if row.kind == "truth" else row.key
        for metric in judges:
            own = said[name, JUDGES[metric]]
            _take(found, (row.key, condition.key, metric), own, wide, images)


def _evaluated(
    found: Found, condition: Condition, restorers: Mapping[str, Restorer], judges: set[str]
) -> identity.Results:
    measuring, source = found.table.measuring, found.sources[condition.key]
    config = IdentityBenchConfig(
        faces=FacesSpec(source.test.name, scale=condition.scale, protocol=found.table.protocol),
        limit=measuring.pairs_of_fold,
        batch=measuring.batch,
        seed=measuring.seed,
        device=found.config.device,
        out=found.config.out,
        fresh=found.config.fresh,
    )
    split = "all" if config.source == "official" else "test"
    dataset = data.make(source.test.name, split=split, **source.test.keywords)
    faces = identity.open_pairs(dataset, data.protocols.get(found.table.protocol), config)
    marker = DlibLandmarks()
    recognisers = [embed.make(name, config.align, config.device, marker) for name in sorted(judges)]
    return identity.evaluate(list(restorers.values()), recognisers, faces, config, marker)


def _judges(found: Found, key: str) -> dict[str, str]:
    """The recognisers of the columns of verification, as `embed.make` wants them."""
    judges: dict[str, str] = {}
    for metric in found.table.of(key):
        if METRICS[metric].source != "pairs":
            continue
        name, weights = JUDGES[metric], found.table.measuring.mobilefacenet
        problem = ""
        if name == embed.DLIB:
            judges[metric] = name
        elif weights is None:
            problem = "it needs --set mobilefacenet=WEIGHTS"
        elif Path(weights).is_file():
            judges[metric] = f"{name}={weights}"
        else:
            problem = (
                f"there is no file {weights} with the weights of {name}: put it there, or give "
                f"--set {name}=WEIGHTS"
            )
        for row in found.table.rows if problem else ():
            if row.kind != "paper-only":
                found.blame(row, key, problem, [metric])
    return judges


def _take(found: Found, place: tuple[str, str, str], own: Judged, wide: float, images: int) -> None:
    """Values of a cell, and their mean; ``wide`` is Student's quantile over the folds."""
    metric, row = place[2], own.row
    if metric == "cosine":
        found.values[place] = own.cosine
        found.cells[place] = Cell(row.cosine, row.cosine_ci, images)
        return
    every = metric == "accuracy-all"
    accuracy = row.accuracy_all if every else row.accuracy
    error = row.accuracy_all_se if every else row.accuracy_se
    if np.isnan(accuracy):
        reason = f"its folds' faces make more than {identity.MOST_PAIRS:,} pairs"
        found.cells[place] = Cell(reason=reason)
        return
    found.values[place] = 100 * (own.by_fold if every else own.right.astype(np.float64))
    found.cells[place] = Cell(100 * accuracy, 100 * wide * error, images)
