from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MADE = {
    "command": "facehall bench anything",
    "versions": {"torch": "2.0"},
    "machine": {"device": "cpu", "threads": 1},
}
CURVES = {
    "bicubic": [30.0, 30.0, 30.0],
    "random": [30.0, 31.0, 32.0],
    "even": [30.0, 31.5, 32.25],
    "rl": [30.0, 32.0, 33.0],
    "oracle": [30.0, 33.0, 34.0],
}


def selection_row(agent: str, steps: int) -> dict[str, Any]:
    curves, even = CURVES[agent], CURVES["even"]
    return {
        "agent": agent,
        "steps": steps,
        "images": 10,
        "enhancer": "tiny",
        "dataset": "tiny",
        "scale": 4,
        "protocol": "bicubic",
        "initial": "bicubic",
        "psnr": curves[steps],
        "psnr_ci": 0.1,
        "psnr_minus_start": curves[steps] - 30,
        "psnr_minus_start_ci": 0.1,
        "psnr_minus_even": None if agent == "even" else curves[steps] - even[steps],
        "psnr_minus_even_ci": None if agent == "even" else 0.05,
        "psnr_auc": sum(curves[1 : steps + 1]) / steps,
        "psnr_auc_ci": 0.1,
        "psnr_auc_minus_even": None,
        "psnr_auc_minus_even_ci": None,
        "ssim": 0.9,
        "fsim": None,
        "fsim_images": 0,
        "oracle_share": None if agent == "bicubic" else (curves[2] - 32) / 2,
        "oracle_share_ci": None if agent == "bicubic" else 0.04,
        "oracle_images": 10,
        "psnr_oracle_images": curves[steps],
        "ms_per_image": 5.0,
    }


def selection() -> dict[str, Any]:
    """Results of patch-selection, small but whole."""
    return {
        "benchmark": "patch-selection",
        **MADE,
        "settings": {"dataset": "tiny", "scale": 4, "protocol": "bicubic", "enhancer": "tiny"},
        "rows": [selection_row(agent, steps) for steps in (1, 2) for agent in CURVES],
        "curves": [
            {"agent": agent, "images": 10, "psnr": list(psnr)} for agent, psnr in CURVES.items()
        ],
    }


def whole_faces() -> dict[str, Any]:
    """Results of sr: a small network that is worse than a large one."""
    row = {
        "weights": "auto",
        "images": 10,
        "fsim_images": 0,
        "macs_per_face": 2_000_000_000,
        "time_ratio": 1.0,
        "peak_memory_mib": None,
        "psnr_ci": 0.1,
        "psnr_minus": None,
        "psnr_minus_ci": None,
        "ssim": 0.9,
        "ssim_ci": 0.01,
        "fsim": None,
        "fsim_ci": None,
    }
    return {
        "benchmark": "sr",
        **MADE,
        "settings": {"dataset": "tiny", "scale": 4, "protocol": "bicubic", "time_batch": 1},
        "relative_to": "small",
        "rows": [
            {**row, "model": "small", "parameters": 10, "ms_per_face": 1.0, "psnr": 30.0},
            {**row, "model": "large", "parameters": 90, "ms_per_face": 9.0, "psnr": 31.0},
        ],
    }


def paper_table() -> dict[str, Any]:
    """Results of a paper's table: two rows, whose order is that of the paper."""

    def cell(value: float, paper: str, minus: float | None) -> dict[str, Any]:
        return {
            "value": value,
            "ci": 0.2,
            "images": 10,
            "paper": paper,
            "minus": minus,
            "minus_ci": None if minus is None else 0.1,
            "reason": "",
        }

    row = {"kind": "agent", "series": "", "x": None, "weights": {}}
    return {
        "benchmark": "paper-table",
        "version": 2,
        **MADE,
        "name": "attention-fh-2",
        "experiment": {},
        "differences": [{"of": ["our"], "setting": "gamma", "ours": "0.9", "paper": "1"}],
        "paper": "attention-fh",
        "kind": "table",
        "number": "2",
        "title": "Numbers of steps",
        "caption": "Other faces.",
        "protocol": "afh",
        "reference": "t5",
        "settings": {},
        "budget": {"minutes": 1.0, "shares": 2.0, "each": 0.5},
        "notes": ["A row could not be made."],
        "conditions": [{"key": "x4", "title": "Tiny 4x", "scale": 4}],
        "columns": [
            {"condition": "x4", "metric": "psnr", "title": "PSNR", "digits": 2, "lower": False}
        ],
        "rows": [
            {**row, "key": "t5", "name": "T = 5", "cells": [cell(30.0, "28.89", None)]},
            {**row, "key": "t9", "name": "T = 9", "cells": [cell(31.0, "31.51", 1.0)]},
        ],
        "orderings": [
            {
                "condition": "Tiny 4x",
                "metric": "PSNR",
                "better": "T = 9",
                "worse": "T = 5",
                "paper": 2.62,
                "difference": 1.0,
                "ci": 0.1,
                "digits": 2,
                "verdict": "holds",
            }
        ],
    }


def identity() -> dict[str, Any]:
    row = {
        "recogniser": "judge",
        "images": 10,
        "accuracy_se": 0.01,
        "accuracy_all_se": 0.02,
        "tar": {"0.001": None, "0.01": 0.25},
        "rank1": 0.5,
        "rank1_ci": 0.1,
        "cosine": 0.7,
        "cosine_ci": 0.01,
        "psnr": 30.0,
        "psnr_ci": 0.1,
        "ssim": 0.9,
        "ssim_ci": 0.01,
    }
    return {
        "benchmark": "identity",
        **MADE,
        "settings": {"dataset": "tiny", "scale": 4, "protocol": "bicubic"},
        "pairs": {"source": "drawn", "number": 20, "images": 10, "people": 5},
        "rows": [
            {**row, "model": "bicubic", "accuracy": 0.7, "accuracy_all": 0.75},
            {**row, "model": "mine", "accuracy": 0.8, "accuracy_all": 0.7},
            {
                **row,
                "model": "truth",
                "accuracy": 0.9,
                "accuracy_all": 0.9,
                "psnr": None,
                "psnr_ci": None,
                "ssim": None,
                "ssim_ci": None,
            },
        ],
    }


def attributes() -> dict[str, Any]:
    """Results of attributes: what the network wins is in the beards alone."""

    def row(model: str, beard: float, **own: float | None) -> dict[str, Any]:
        told = {"Smiling": 0.75, "No_Beard": beard}
        return {
            "model": model,
            "images": 10,
            "balanced_accuracy": (0.75 + beard) / 2,
            "balanced_accuracy_ci": 0.02,
            "minus_bicubic": None,
            "minus_bicubic_ci": None,
            "psnr": None,
            "psnr_ci": None,
            **own,
            "attributes": {
                name: {"balanced_accuracy": value, "balanced_accuracy_ci": 0.04}
                for name, value in told.items()
            },
        }

    return {
        "benchmark": "attributes",
        **MADE,
        "settings": {"dataset": "tiny", "scale": 8, "protocol": "bicubic", "recogniser": "judge=a"},
        "share": {"Smiling": 0.5, "No_Beard": 0.9, "Bald": 0.0},
        "rows": [
            row("bicubic", 0.5, psnr=30.0, psnr_ci=0.1),
            row("mine", 0.625, psnr=31.0, psnr_ci=0.1, minus_bicubic=0.0625, minus_bicubic_ci=0.01),
            row("truth", 0.875, minus_bicubic=0.1875, minus_bicubic_ci=0.01),
        ],
    }


def profile() -> dict[str, Any]:
    return {
        "benchmark": "profile",
        **MADE,
        "settings": {"enhancer": "tiny", "batch": "2", "steps": "4", "policy": "conv"},
        "seconds_per_update": 1.5,
        "shares": {"policy": 0.25, "enhancer": 0.75},
        "largest_other": {"span": "other/rest", "share": 0.0},
        "spans": [{"span": "policy/forward", "seconds": 0.375, "share": 0.25}],
    }


def throughput() -> dict[str, Any]:
    row = {
        "enhancer": "tiny",
        "precision": "fp32",
        "environment": "batched",
        "ratio": 1.0,
        "network_share": 0.5,
        "peak_memory_mib": None,
    }
    return {
        "benchmark": "throughput",
        **MADE,
        "settings": {"scale": 4},
        "vector_env": [
            {**row, "num_envs": 1, "steps_per_second": 11.0},
            {**row, "num_envs": 32, "steps_per_second": 77.0},
        ],
        "enhancers": [
            {
                "enhancer": "tiny",
                "precision": "fp32",
                "batch": 1,
                "patches_per_second": 9.0,
                "ratio": 1.0,
                "ratio_to": "tiny",
            }
        ],
    }


def network() -> dict[str, Any]:
    row = {"form": "plain", "precision": "fp32", "convolutions": 7, "ms_per_image": 3.0}
    return {
        "benchmark": "network",
        **MADE,
        "settings": {"enhancer": "tiny", "image_size": [8, 6], "batch": 1, "repetitions": 3},
        "rows": [
            {**row, "layout": "contiguous", "convolutions_ms_per_image": 2.0, "ratio": 1.5},
            {**row, "layout": "channels_last", "convolutions_ms_per_image": 2.5, "ratio": 1.2},
        ],
    }


def training_memory() -> dict[str, Any]:
    return {
        "benchmark": "training-memory",
        **MADE,
        "settings": {"size": 64, "batch": 2},
        "rows": [
            {"features": "kept", "peak_memory_mib": 2345.6},
            {"features": "recomputed", "peak_memory_mib": 1234.5},
        ],
    }


CONTENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "patch-selection": selection,
    "sr": whole_faces,
    "paper-table": paper_table,
    "identity": identity,
    "attributes": attributes,
    "profile": profile,
    "throughput": throughput,
    "training-memory": training_memory,
    "network": network,
}


@pytest.fixture
def contents() -> dict[str, dict[str, Any]]:
    """Results of each kind, as a benchmark would write them."""
    return {name: make() for name, make in CONTENTS.items()}


@pytest.fixture
def results(tmp_path: Path, contents: dict[str, dict[str, Any]]) -> Path:
    """A folder with a file of each kind."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
