"""The results on disk: which files hold some, and what is wrong with the others.

A results file says by its field ``benchmark`` what it holds, and by ``version`` in which form; the
first form of each benchmark has no such field. `KINDS` has what the report reads. Whatever else
stands in the folder, is of another version, has been cut off or was changed by hand so that its
numbers contradict one another is left out, with a sentence that says why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from facehall_env.benchmarks.report.forms import Form, mismatch
from facehall_env.errors import ConfigurationError

Content = Mapping[str, Any]
LARGEST = 32 * 2**20
"""Bytes; results files are far smaller."""
TOLERANCE = 1e-6
"""Within which numbers that say the same thing agree: of decibels, and of shares."""
NULLABLE = (float, None)


@dataclass(frozen=True)
class Result:
    """What one benchmark has found.

    Attributes:
        name: Of the file.
        kind: Name of the benchmark.
        content: Of the file, in the form that `KINDS` has for it.
    """

    name: str
    kind: str
    content: Content


@dataclass(frozen=True)
class LeftOut:
    """A file that the report does without.

    Attributes:
        name: Of the file.
        reason: A sentence that goes on where the name ends, without a full stop.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What there is in a folder of results.

    Attributes:
        results: In the order of their files' names.
        left_out: In the order of their names.
    """

    results: tuple[Result, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def of(self, kind: str) -> list[Result]:
        """The results of one benchmark."""
        return [result for result in self.results if result.kind == kind]


def _nothing(content: Content) -> str | None:
    return None


@dataclass(frozen=True)
class Kind:
    """How the results of a benchmark are recognised and checked.

    Attributes:
        command: What makes them anew.
        form: What has to be there.
        contradiction: Says where the numbers contradict one another; None if they do not.
        version: The one that is read.
    """

    command: str
    form: Form
    contradiction: Callable[[Content], str | None] = _nothing
    version: int = 1


def read_results(folder: Path) -> Found:
    """Reads the results files (``*.json``) of a folder.

    Raises:
        ConfigurationError: If there is no such folder, or nothing in it can be used; names what
            was there.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"There is no folder {folder}: give the one that benchmarks write to as --results."
        )
    results, left_out = [], []
    # Files whose names begin with a dot are being written.
    for path in sorted(path for path in folder.glob("*.json") if not path.name.startswith(".")):
        read = read_result(path)
        if isinstance(read, Result):
            results.append(read)
        else:
            left_out.append(read)
    if not results:
        there = "; ".join(f"{file.name} {file.reason}" for file in left_out)
        raise ConfigurationError(
            f"There are no results in {folder}{f' ({there})' if there else ''}: run `facehall "
            "bench patch-selection` first, or give another folder as --results."
        )
    return Found(tuple(results), tuple(left_out))


def read_result(path: Path) -> Result | LeftOut:
    """Reads one file, whatever it may hold."""
    try:
        content = _json(path)
    except OSError as error:
        return LeftOut(path.name, f"cannot be read ({error.strerror})")
    except (ValueError, RecursionError) as error:
        return LeftOut(path.name, f"is damaged: it is no JSON ({error})")
    name = content.get("benchmark") if isinstance(content, Mapping) else None
    if not isinstance(name, str):
        return LeftOut(path.name, 'holds no results: it has no field "benchmark"')
    kind = KINDS.get(name)
    if kind is None:
        known = ", ".join(KINDS)
        return LeftOut(path.name, f"is of a benchmark that is not known here ({name}, not {known})")
    problem = _problem(content, kind)
    return Result(path.name, name, content) if problem is None else LeftOut(path.name, problem)


def _problem(content: Content, kind: Kind) -> str | None:
    again = f"run `{kind.command}` again"
    version = content.get("version", 1)
    if version != kind.version:
        return f"is of version {version!r}, this report reads version {kind.version}: {again}"
    if problem := mismatch(content, COMMON | kind.form):
        return f"is of another version, or was changed by hand ({problem}): {again}"
    if problem := kind.contradiction(content):
        return f"was changed by hand, or is damaged ({problem}): {again}"
    return None


def _json(path: Path) -> Any:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST // 2**20} MiB")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("not text in UTF-8") from error
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _contradiction_of_patch_selection(content: Content) -> str | None:
    """The table and the curves are of the same episodes."""
    curves = {curve["agent"]: curve["psnr"] for curve in content["curves"]}
    seen = set()
    for row in content["rows"]:
        agent, steps = row["agent"], row["steps"]
        if (agent, steps) in seen:
            return f"two rows of {agent} after {steps} patches"
        seen.add((agent, steps))
        if agent not in curves:
            return f"a row of {agent}, but no curve"
        if not 0 < steps < len(curves[agent]):
            return f"a row of {agent} after {steps} patches, its curve has {len(curves[agent]) - 1}"
        if abs(row["psnr"] - curves[agent][steps]) > TOLERANCE:
            return (
                f"{agent} after {steps} patches: {row['psnr']:.3f} dB in the table, "
                f"{curves[agent][steps]:.3f} dB in the curve"
            )
    return None


def _contradiction_of_profile(content: Content) -> str | None:
    total = sum(content["shares"].values())
    return f"the shares sum to {total:.3f}" if abs(total - 1) > TOLERANCE else None


def _repeated(content: Content) -> str | None:
    names = [row["model"] for row in content["rows"]]
    return f"two rows of {max(names, key=names.count)}" if len(set(names)) < len(names) else None


def _contradiction_of_sr(content: Content) -> str | None:
    if content["relative_to"] not in [row["model"] for row in content["rows"]]:
        return f"relative to {content['relative_to']}, of which there is no row"
    return _repeated(content)


def _contradiction_of_attributes(content: Content) -> str | None:
    """All rows are of the same attributes, and what is said of all of these is their mean."""
    first, *_ = content["rows"]
    for row in content["rows"]:
        told = {name: own["balanced_accuracy"] for name, own in row["attributes"].items()}
        if not told:
            return f"{row['model']} is of no attribute"
        if different := set(told) ^ set(first["attributes"]):
            return f"{min(different)} is not told of {first['model']} and {row['model']} alike"
        if unknown := set(told) - set(content["share"]):
            return f"{min(unknown)} is told, but not how many have it"
        mean = sum(told.values()) / len(told)
        if abs(row["balanced_accuracy"] - mean) > TOLERANCE:
            return (
                f"{row['model']}: {row['balanced_accuracy']:.4f} in the table, {mean:.4f} is the "
                "mean over the attributes"
            )
    return _repeated(content)


def _contradiction_of_paper_table(content: Content) -> str | None:
    columns, keys = len(content["columns"]), [row["key"] for row in content["rows"]]
    conditions = [condition["key"] for condition in content["conditions"]]
    for column in content["columns"]:
        if column["condition"] not in conditions:
            return f"a column of {column['condition']}, of which nothing is said"
    for row in content["rows"]:
        if len(row["cells"]) != columns:
            return f"the row {row['key']} has {len(row['cells'])} cells for {columns} columns"
    if content["reference"] not in keys:
        return f"differences to {content['reference']}, of which there is no row"
    for line in content["orderings"]:
        if line["difference"] is None:
            continue
        within = line["ci"] is None or abs(line["difference"]) <= line["ci"]
        if within != (line["verdict"] == "undecided"):
            return f"{line['better']} before {line['worse']} is called {line['verdict']}"
    return None


COMMON: dict[str, Form] = {
    "command": str,
    "versions": {str: str},
    "machine": {"device": str, "threads": int},
}
"""What every results file says of how it came to be."""

_SETTINGS = {"dataset": str, "scale": int, "protocol": str}
_ESTIMATES = ("psnr", "psnr_minus_start", "psnr_minus_even", "psnr_auc", "psnr_auc_minus_even")

KINDS: dict[str, Kind] = {
    "patch-selection": Kind(
        "facehall bench patch-selection",
        {
            "settings": {**_SETTINGS, "enhancer": str},
            "rows": [
                {
                    "agent": str,
                    "steps": int,
                    "images": int,
                    "initial": str,
                    **{f"{name}{end}": NULLABLE for name in _ESTIMATES for end in ("", "_ci")},
                    "psnr": float,
                    "ssim": NULLABLE,
                    "fsim": NULLABLE,
                    "fsim_images": int,
                    "oracle_share": NULLABLE,
                    "oracle_share_ci": NULLABLE,
                    "oracle_images": int,
                    "ms_per_image": float,
                }
            ],
            "curves": [{"agent": str, "images": int, "psnr": [float]}],
        },
        _contradiction_of_patch_selection,
    ),
    "sr": Kind(
        "facehall bench sr",
        {
            "settings": {**_SETTINGS, "time_batch": int},
            "relative_to": str,
            "rows": [
                {
                    "model": str,
                    "weights": (str, None),
                    "parameters": int,
                    "images": int,
                    "macs_per_face": float,
                    "ms_per_face": float,
                    "time_ratio": float,
                    "peak_memory_mib": NULLABLE,
                    **{
                        f"{name}{end}": NULLABLE
                        for name in ("psnr", "psnr_minus", "ssim", "fsim")
                        for end in ("", "_ci")
                    },
                }
            ],
        },
        _contradiction_of_sr,
    ),
    "paper-table": Kind(
        "facehall bench PAPER --table NUMBER",
        {
            **{name: str for name in ("paper", "kind", "number", "title", "caption", "protocol")},
            "reference": str,
            "settings": {},
            "budget": {"minutes": NULLABLE, "shares": float, "each": NULLABLE},
            "conditions": [{"key": str, "title": str, "scale": int}],
            "columns": [
                {"condition": str, "metric": str, "title": str, "digits": int, "lower": bool}
            ],
            "rows": [
                {
                    "key": str,
                    "name": str,
                    "kind": str,
                    "cells": [
                        {
                            **{name: NULLABLE for name in ("value", "ci", "minus", "minus_ci")},
                            "paper": (str, None),
                            "images": int,
                            "reason": str,
                        }
                    ],
                }
            ],
            "orderings": [
                {
                    **{name: str for name in ("condition", "metric", "better", "worse", "verdict")},
                    "paper": float,
                    "difference": NULLABLE,
                    "ci": NULLABLE,
                    "digits": int,
                },
                ...,
            ],
            "notes": [str, ...],
        },
        _contradiction_of_paper_table,
    ),
    "identity": Kind(
        "facehall bench identity",
        {
            "settings": _SETTINGS,
            "pairs": {"source": str, "number": int, "images": int, "people": int},
            "rows": [
                {
                    "model": str,
                    "recogniser": str,
                    "accuracy": NULLABLE,
                    "accuracy_se": NULLABLE,
                    **{
                        f"{name}{end}": NULLABLE
                        for name in ("rank1", "cosine", "psnr")
                        for end in ("", "_ci")
                    },
                }
            ],
        },
    ),
    "attributes": Kind(
        "facehall bench attributes",
        {
            "settings": {**_SETTINGS, "recogniser": str},
            "share": {str: float},
            "rows": [
                {
                    "model": str,
                    "images": int,
                    "balanced_accuracy": float,
                    "balanced_accuracy_ci": NULLABLE,
                    **{
                        f"{name}{end}": NULLABLE
                        for name in ("minus_bicubic", "psnr")
                        for end in ("", "_ci")
                    },
                    "attributes": {
                        str: {"balanced_accuracy": float, "balanced_accuracy_ci": NULLABLE}
                    },
                }
            ],
        },
        _contradiction_of_attributes,
    ),
    "throughput": Kind(
        "facehall bench throughput",
        {
            "settings": {"scale": int},
            "vector_env": [
                {
                    "enhancer": str,
                    "precision": str,
                    "num_envs": int,
                    "environment": str,
                    "steps_per_second": float,
                    "ratio": float,
                    "network_share": NULLABLE,
                    "peak_memory_mib": NULLABLE,
                }
            ],
            "enhancers": [
                {
                    "enhancer": str,
                    "precision": str,
                    "batch": int,
                    "patches_per_second": float,
                    "ratio": float,
                    "ratio_to": str,
                }
            ],
        },
    ),
    "profile": Kind(
        "facehall bench profile",
        {
            "settings": {"enhancer": str, "batch": (str, int), "num_steps": (str, int)},
            "seconds_per_update": float,
            "shares": {str: float},
        },
        _contradiction_of_profile,
    ),
    "network": Kind(
        "facehall bench network",
        {
            "settings": {"enhancer": str, "batch": int},
            "rows": [
                {
                    "precision": str,
                    "form": str,
                    "layout": str,
                    "ms_per_image": float,
                    "convolutions_ms_per_image": float,
                    "ratio": float,
                }
            ],
        },
    ),
    "training-memory": Kind(
        "facehall bench training-memory",
        {
            "settings": {"size": int, "batch": int},
            "rows": [{"features": str, "peak_memory_mib": NULLABLE}],
        },
    ),
}
"""The benchmarks that the report knows, by the ``benchmark`` field of their results."""
