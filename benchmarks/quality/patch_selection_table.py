"""The rows of the patch-selection table, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
from numpy import float64
from torch import Tensor

from facehall_env.benchmarks.scoring import Measurements
from facehall_env.benchmarks.statistics import (
    Estimate,
    area_under_curve,
    mean_ci,
    oracle_share,
    paired_difference_ci,
)

START = "bicubic"
"""Name of the row for the starting image, which no agent has touched."""
NONE = Estimate(math.nan, math.nan)

NOTES = {
    "psnr_ci": "half width of the 95 % interval over images; so are the other *_ci",
    "psnr_auc": "mean of the PSNR after 1 to `steps` patches",
    "psnr_minus_start": "paired, against the face before the first patch",
    "psnr_minus_even": "paired over the images that both have; so is psnr_auc_minus_even",
    "oracle_share": "(agent - random) / (oracle - random), all three on the oracle's images",
    "psnr_oracle_images": "the agent's PSNR on the oracle's images",
    "ssim, fsim": "over `images` and `fsim_images` images",
    "ms_per_image": "time of all `steps` patches, in batches, divided by the images",
    "steps": "all come from one episode of the largest number of patches",
    "images": "the first of the test split in a fixed random order",
}
"""What the columns of a results file mean."""


def table_rows(measured: Mapping[str, Measurements], steps: Sequence[int]) -> list[dict[str, Any]]:
    """The table: one row for each agent and number of patches, without the settings.

    Args:
        measured: By the agents' names; intervals and shares need "even", "random" and "oracle".
        steps: The numbers of patches, for each of which SSIM and FSIM were taken.
    """
    return [
        _row(name, own, measured, step, place)
        for place, step in enumerate(steps)
        for name, own in measured.items()
    ]


def _row(
    name: str,
    own: Measurements,
    measured: Mapping[str, Measurements],
    step: int,
    place: int,
) -> dict[str, Any]:
    psnr = mean_ci(own.psnr[:, step])
    area = mean_ci(area_under_curve(own.psnr[:, : step + 1]))
    gained = mean_ci(own.psnr[:, step] - own.psnr[:, 0])
    even = measured.get("even") if name != "even" else None
    minus_even = _paired(own, even, lambda who: who.psnr[:, step])
    area_minus_even = _paired(own, even, lambda who: area_under_curve(who.psnr[:, : step + 1]))
    fsim = own.fsim[:, place]
    scored = ~fsim.isnan()
    oracle = measured.get("oracle")
    return {
        "agent": name,
        "steps": step,
        "images": len(own),
        "psnr": psnr.value,
        "psnr_ci": psnr.half_width,
        "psnr_minus_start": gained.value,
        "psnr_minus_start_ci": gained.half_width,
        "psnr_minus_even": minus_even.value,
        "psnr_minus_even_ci": minus_even.half_width,
        "psnr_auc": area.value,
        "psnr_auc_ci": area.half_width,
        "psnr_auc_minus_even": area_minus_even.value,
        "psnr_auc_minus_even_ci": area_minus_even.half_width,
        "ssim": own.ssim[:, place].mean().item(),
        "fsim": fsim[scored].mean().item(),
        "fsim_images": int(scored.sum()),
        **_share(name, own, measured, step),
        "oracle_images": 0 if oracle is None else min(len(own), len(oracle)),
        "psnr_oracle_images": None
        if oracle is None
        else own.psnr[: len(oracle), step].mean().item(),
        "ms_per_image": 1000 * own.seconds[:, step].mean().item(),
    }


def _paired(
    own: Measurements,
    even: Measurements | None,
    value: Callable[[Measurements], Tensor | npt.NDArray[float64]],
) -> Estimate:
    if even is None:
        return NONE
    number = min(len(own), len(even))
    return paired_difference_ci(value(own.first(number)), value(even.first(number)))


def _share(
    name: str, own: Measurements, measured: Mapping[str, Measurements], step: int
) -> dict[str, float]:
    """Of the gap between random and oracle; none for the start, which lies outside of it."""
    share = NONE
    if name != START and {"random", "oracle"} <= measured.keys():
        random, oracle = measured["random"], measured["oracle"]
        number = min(len(own), len(random), len(oracle))
        agent, low, high = (who.psnr[:number, step] for who in (own, random, oracle))
        share = oracle_share(agent, low, high)
    return {"oracle_share": share.value, "oracle_share_ci": share.half_width}
