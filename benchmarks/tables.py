"""The benchmark's rows as tables: for the terminal, for Markdown files and for the README."""

from __future__ import annotations

import math
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic
from facehall_env.spec import BICUBIC

Row = Mapping[str, Any]
START, END = "<!-- table:start -->", "<!-- table:end -->"
NOTHING = "–"
_BETWEEN = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: What the table is about, in a line.
        header: Of each column.
        rows: As many entries each as there are columns.
        sections: Numbers of the rows before which a new section begins.
        caption: What one has to know to read it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    sections: Sequence[int] = ()
    caption: str = ""

    def markdown(self) -> str:
        """As Markdown, first column left, the others right; ends with a line feed."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows)]
        note = f"\n{self.caption}\n" if self.caption else ""
        return "\n".join(lines) + "\n" + note

    def rich(self) -> RichTable:
        """For `rich.console.Console.print`."""
        table = RichTable(title=self.title, caption=self.caption or None, title_justify="left")
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for number, row in enumerate(self.rows):
            table.add_row(*row, end_section=number + 1 in self.sections)
        return table


def summary(rows: Sequence[Row], title: str) -> Table:
    """One line for each agent: PSNR after each number of patches, area, share and time."""
    steps = sorted({row["steps"] for row in rows})
    images = max(row["images"] for row in rows)
    few, many = steps[0], steps[-1]
    ends = [few] if few == many else [few, many]
    lines = []
    for name in dict.fromkeys(row["agent"] for row in rows):
        own = {row["steps"]: row for row in rows if row["agent"] == name}
        last = own[many]
        fewer = f" (first {last['images']})" if last["images"] < images else ""
        lines.append(
            [
                _label(last) + fewer,
                *(decibels(own[step]["psnr"]) for step in steps),
                decibels(last["psnr_auc"]),
                *(share(own[step]["oracle_share"]) for step in ends),
                f"{last['ms_per_image']:.0f}",
            ]
        )
    header = [
        "agent",
        *(f"T={step}" for step in steps),
        "area",
        *(f"share T={step}" for step in ends),
        "ms/image",
    ]
    return Table(title, header, lines, caption=_summary_caption(rows, images, many))


def detail(rows: Sequence[Row], title: str) -> Table:
    """One line for each agent and number of patches, with the 95 % intervals."""
    header = [
        "agent",
        "T",
        "images",
        "PSNR",
        "minus start",
        "minus even",
        "area",
        "area minus even",
        "SSIM",
        "FSIM",
        "share of oracle's gap",
        "ms/image",
    ]
    ordered = sorted(rows, key=lambda row: int(row["steps"]))
    lines = [
        [
            _label(row),
            str(row["steps"]),
            str(row["images"]),
            decibels(row["psnr"], row["psnr_ci"]),
            decibels(row["psnr_minus_start"], row["psnr_minus_start_ci"], signed=True),
            decibels(row["psnr_minus_even"], row["psnr_minus_even_ci"], signed=True),
            decibels(row["psnr_auc"], row["psnr_auc_ci"]),
            decibels(row["psnr_auc_minus_even"], row["psnr_auc_minus_even_ci"], signed=True),
            number(row["ssim"], ".4f"),
            number(row["fsim"], ".4f"),
            share(row["oracle_share"], row["oracle_share_ci"]),
            f"{row['ms_per_image']:.0f}",
        ]
        for row in ordered
    ]
    sections = [
        index
        for index in range(1, len(ordered))
        if ordered[index]["steps"] != ordered[index - 1]["steps"]
    ]
    return Table(title, header, lines, sections, _detail_caption(rows))


def terminal() -> Console:
    """The standard output; where it is no terminal, wide enough for the tables."""
    width = None if sys.stdout.isatty() else max(160, shutil.get_terminal_size().columns)
    return Console(width=width)


def say_written(console: Console, *paths: Path) -> None:
    """Names the files that were written."""
    for path in paths:
        console.print(f"written: {path}", soft_wrap=True, highlight=False, markup=False)


def number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none.

    >>> number(0.91234, ".3f"), number(float("nan"), ".3f"), number(None, ".3f")
    ('0.912', '–', '–')
    """
    return NOTHING if value is None or math.isnan(value) else format(value, form)


def decibels(value: float | None, half_width: float | None = None, signed: bool = False) -> str:
    """A PSNR or a difference of two, with its interval if there is one.

    >>> decibels(32.127), decibels(0.0512, 0.0123, signed=True)
    ('32.13', '+0.051 ± 0.012')
    """
    text = number(value, "+.3f" if signed else ".2f")
    interval = number(half_width, ".3f" if signed else ".2f")
    return text if NOTHING in (text, interval) else f"{text} ± {interval}"


def share(value: float | None, half_width: float | None = None) -> str:
    """A share in per cent.

    >>> share(0.716), share(0.716, 0.0312)
    ('72 %', '72 ± 3 %')
    """
    text, interval = number(value, ".0%"), number(half_width, ".0%")
    if NOTHING not in (text, interval):
        text = f"{text.rstrip('%')} ± {interval}"
    return text.replace("%", " %")


def insert_into(path: Path, table: Table) -> None:
    """Replaces what stands between the two marker lines of a Markdown file.

    Raises:
        ConfigurationError: If the file does not exist or lacks the markers.
    """
    text = check_markers(path)
    block = f"{START}\n{table.markdown()}{END}"
    write_text_atomic(path, _BETWEEN.sub(lambda _: block, text, count=1))


def check_markers(path: Path) -> str:
    """Content of a Markdown file that has the two marker lines.

    Raises:
        ConfigurationError: If it does not exist or lacks them.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not _BETWEEN.search(text):
        raise ConfigurationError(
            f"{path} has no lines {START} and {END}: put them where the table should stand."
        )
    return text


def _summary_caption(rows: Sequence[Row], images: int, steps: int) -> str:
    row = rows[0]
    started = (
        ""
        if row.get("initial", BICUBIC) == BICUBIC
        else f" from faces restored by {row['initial']}"
    )
    text = (
        f"PSNR in dB after T patches ({row['enhancer']}{started}, {row['dataset']} "
        f"{row['scale']}x, "
        f"protocol {row['protocol']}, {images} test images); area: mean after 1 to {steps} patches"
    )
    tried = next((row["oracle_images"] for row in rows if row["oracle_images"]), 0)
    if tried:
        on_them = "" if tried == images else f", on the first {tried} images"
        text += f"; share: of the gap between random and the greedy oracle{on_them}"
    return text + "."


def _label(row: Row) -> str:
    """The agent's name; for the starting image, what it is."""
    restored = row["agent"] == BICUBIC and row.get("initial", BICUBIC) != BICUBIC
    return "start" if restored else str(row["agent"])


def _detail_caption(rows: Sequence[Row]) -> str:
    text = "± is the half width of the 95 % interval over images; differences are paired."
    scored = {row["fsim_images"] for row in rows}
    if 0 < max(scored) < max(row["images"] for row in rows):
        text += f" FSIM on the first {max(scored)} images."
    return text
