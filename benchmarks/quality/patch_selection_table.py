"""The rows of the patch-selection table, from what was measured, and the tables made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from facehall_env.benchmarks.provenance import Row
from facehall_env.benchmarks.scoring import Measurements
from facehall_env.benchmarks.statistics import (
    NONE,
    Estimate,
    area_under_curve,
    flat,
    mean_ci,
    oracle_share,
    paired_difference_ci,
)
from facehall_env.benchmarks.tables import Column, Table, section_starts
from facehall_env.spec import BICUBIC

START = BICUBIC
"""Name of the row for the starting image, which no agent has touched."""

NOTES = {
    "agent": "name of the row",
    "enhancer_weights": "auto for those that come with the project, a file, or none if untrained",
    "action_stride, action_offset": "spacing of the locations, and where in a cell patches are "
    "centred, in pixels",
    "psnr": "in dB under the protocol; so are its differences and areas",
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


@dataclass(frozen=True)
class PatchSelectionRow(Row):
    """What an agent reached with a number of patches; `NOTES` says what the fields mean."""

    agent: str
    steps: int
    images: int
    enhancer: str
    dataset: str
    scale: int
    protocol: str
    psnr: float
    psnr_ci: float
    psnr_minus_start: float
    psnr_minus_start_ci: float
    psnr_minus_even: float
    psnr_minus_even_ci: float
    psnr_auc: float
    psnr_auc_ci: float
    psnr_auc_minus_even: float
    psnr_auc_minus_even_ci: float
    ssim: float
    fsim: float
    fsim_images: int
    oracle_share: float
    oracle_share_ci: float
    oracle_images: int
    psnr_oracle_images: float
    ms_per_image: float
    enhancer_weights: str | None = None
    agent_weights: str | None = None
    action_stride: int = 1
    action_offset: int | None = None
    precision: str = "fp32"
    initial: str = BICUBIC

    @property
    def label(self) -> str:
        """The agent's name; "start" for the first image where a network made it."""
        return "start" if self.agent == START and self.initial != BICUBIC else self.agent


def table_rows(
    measured: Mapping[str, Measurements],
    steps: Sequence[int],
    about: Mapping[str, Mapping[str, Any]],
) -> list[PatchSelectionRow]:
    """One row for each agent and number of patches, for which SSIM and FSIM were taken.

    Differences and shares need "even", "random" and "oracle"; ``about`` has the other fields.
    """
    same = {name: own.over(steps[-1], len(steps)) for name, own in measured.items()}
    return [
        PatchSelectionRow(**{**_scores(name, own, same, step, place), **about[name]})
        for place, step in enumerate(steps)
        for name, own in same.items()
    ]


def _scores(
    name: str, own: Measurements, measured: Mapping[str, Measurements], step: int, place: int
) -> dict[str, Any]:
    fsim = own.fsim[:, place]
    scored = ~fsim.isnan()
    oracle = measured.get("oracle")
    estimates = {
        "psnr": mean_ci(own.psnr[:, step]),
        "psnr_minus_start": mean_ci(own.psnr[:, step] - own.psnr[:, 0]),
        "psnr_minus_even": NONE,
        "psnr_auc": mean_ci(area_under_curve(own.psnr[:, : step + 1])),
        "psnr_auc_minus_even": NONE,
        "oracle_share": _share(name, own, measured, step),
    }
    if name != "even" and (even := measured.get("even")) is not None:
        number = min(len(own), len(even))
        first, second = (who.psnr[:number, : step + 1] for who in (own, even))
        areas = area_under_curve(first), area_under_curve(second)
        estimates["psnr_minus_even"] = paired_difference_ci(first[:, -1], second[:, -1])
        estimates["psnr_auc_minus_even"] = paired_difference_ci(*areas)
    return {
        "agent": name,
        "steps": step,
        "images": len(own),
        **flat(estimates),
        "ssim": own.ssim[:, place].mean().item(),
        "fsim": fsim[scored].mean().item(),
        "fsim_images": int(scored.sum()),
        "oracle_images": 0 if oracle is None else min(len(own), len(oracle)),
        "psnr_oracle_images": (
            math.nan if oracle is None else own.psnr[: len(oracle), step].mean().item()
        ),
        "ms_per_image": 1000 * own.seconds[:, step].mean().item(),
    }


def _share(
    name: str, own: Measurements, measured: Mapping[str, Measurements], step: int
) -> Estimate:
    """Share of the gap between random and oracle; none for the start, which lies outside of it."""
    if name == START or not {"random", "oracle"} <= measured.keys():
        return NONE
    random, oracle = measured["random"], measured["oracle"]
    number = min(len(own), len(random), len(oracle))
    agent, low, high = (who.psnr[:number, step] for who in (own, random, oracle))
    return oracle_share(agent, low, high)


def summary(rows: Sequence[PatchSelectionRow], title: str) -> Table:
    """One line for each agent: PSNR after each number of patches, area, share and time."""
    steps = sorted({row.steps for row in rows})
    names = list(dict.fromkeys(row.agent for row in rows))
    by_step = {
        step: [next(r for r in rows if (r.agent, r.steps) == (name, step)) for name in names]
        for step in steps
    }
    last, images = by_step[steps[-1]], max(row.images for row in rows)
    fewer = (f" (first {row.images})" if row.images < images else "" for row in last)
    columns = [
        Column("agent", [row.label + text for row, text in zip(last, fewer, strict=True)]),
        *(Column.of(by_step[step], f"T={step}", "psnr", ".2f", "higher") for step in steps),
        Column.of(last, "area", "psnr_auc", ".2f", "higher"),
        *(
            Column.of(by_step[step], f"share T={step}", "oracle_share", ".0%")
            for step in sorted({steps[0], steps[-1]})
        ),
        Column.of(last, "ms/image", "ms_per_image", ".0f"),
    ]
    row = rows[0]
    started = "" if row.initial == BICUBIC else f" from faces restored by {row.initial}"
    caption = (
        f"PSNR in dB after T patches ({row.enhancer}{started}, {row.dataset} {row.scale}x, "
        f"protocol {row.protocol}, {images} test images); area: mean after 1 to {steps[-1]} patches"
    )
    if tried := next((row.oracle_images for row in rows if row.oracle_images), 0):
        on_them = "" if tried == images else f", on the first {tried} images"
        caption += f"; share: of the gap between random and the greedy oracle{on_them}"
    return Table(title, columns, caption=f"{caption}.")


def detail(rows: Sequence[PatchSelectionRow], title: str) -> Table:
    """One line for each agent and number of patches, with the 95 % intervals."""
    ordered = sorted(rows, key=lambda row: row.steps)

    column = partial(Column.of, ordered)
    columns = [
        column("agent", "label"),
        column("T", "steps"),
        column("images", "images"),
        column("PSNR", "psnr", ".2f", widths="psnr_ci"),
        column("minus start", "psnr_minus_start", "+.3f", widths="psnr_minus_start_ci"),
        column("minus even", "psnr_minus_even", "+.3f", widths="psnr_minus_even_ci"),
        column("area", "psnr_auc", ".2f", widths="psnr_auc_ci"),
        column("area minus even", "psnr_auc_minus_even", "+.3f", widths="psnr_auc_minus_even_ci"),
        column("SSIM", "ssim", ".4f"),
        column("FSIM", "fsim", ".4f"),
        column("share of oracle's gap", "oracle_share", ".0%", widths="oracle_share_ci"),
        column("ms/image", "ms_per_image", ".0f"),
    ]
    caption = "± is the half width of the 95 % interval over images; differences are paired."
    scored = max(row.fsim_images for row in rows)
    if 0 < scored < max(row.images for row in rows):
        caption += f" FSIM on the first {scored} images."
    starts = section_starts([row.steps for row in ordered])
    return Table(title, columns, starts, caption, keys=2)
