"""One table for all benchmarks: shown on a terminal, written as Markdown, put into a web page."""

from __future__ import annotations

import html
import math
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from facehall_env.errors import ConfigurationError
from facehall_env.files import write_text_atomic

START, END = "<!-- table:start -->", "<!-- table:end -->"
NOTHING = "–"
"""Stands where there is no value."""
WIDE = 160
"""Columns of an output that is no terminal."""
_BEST = ' class="best"'
_BETWEEN = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)

Value = float | str | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        values: One for each row: numbers, or texts, which are shown as they are; None and NaN are
            shown as a dash.
        half_widths: Half widths of the values' confidence intervals, NaN or None where there is
            none.
        format: How numbers are written, as for the function ``format``; with ``%`` they are shares.
        better: Which values are the better ones; None where that cannot be said.
        beside: Others' values as text, which stand in brackets behind; empty where there is none.
    """

    title: str
    values: Sequence[Value]
    half_widths: Sequence[float | None] | None = None
    format: str = ""
    better: Literal["higher", "lower"] | None = None
    beside: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        rows: Sequence[object],
        title: str,
        name: str,
        form: str = "",
        better: Literal["higher", "lower"] | None = None,
        widths: str | None = None,
    ) -> Column:
        """The field ``name`` of some rows, the field ``widths`` being its half widths."""
        half_widths = None if widths is None else [getattr(row, widths) for row in rows]
        return cls(title, [getattr(row, name) for row in rows], half_widths, form, better)

    @property
    def cells(self) -> list[str]:
        """The values as text.

        >>> Column("PSNR", [31.234, None], [0.0512, None], ".2f").cells
        ['31.23 ± 0.05', '–']
        >>> Column("PSNR", [31.234, None], format=".2f", beside=["30.1", "29.5"]).cells
        ['31.23 (30.1)', '(29.5)']
        """
        widths = self.half_widths or [None] * len(self.values)
        pairs = zip(self.values, widths, strict=True)
        own = [cell(value, self.format, width) for value, width in pairs]
        if not self.beside:
            return own
        return [
            f"{'' if text == NOTHING else text} ({other})".lstrip() if other else text
            for text, other in zip(own, self.beside, strict=True)
        ]

    def best(self, aside: Collection[int] = ()) -> set[int]:
        """Numbers of the rows whose value reads best, of two or more; those aside do not compete.

        >>> sorted(Column("ms", [1.04, 1.0, 3.0], format=".1f", better="lower").best())
        [0, 1]
        """
        known = {
            row: value
            for row, value in enumerate(self.values)
            if isinstance(value, int | float) and math.isfinite(value) and row not in aside
        }
        if self.better is None or len(known) < 2:
            return set()
        best = max(known.values()) if self.better == "higher" else min(known.values())
        # Digits that are not shown mean nothing.
        text = cell(best, self.format)
        return {row for row, value in known.items() if cell(value, self.format) == text}


@dataclass(frozen=True)
class Table:
    """Columns of equal length, with a title.

    ``rich.console.Console.print`` shows it so that nothing is cut off: where it is too wide, its
    columns are shown in several blocks, one below the other, each with the ``keys``; where not
    even that fits, each row is a list of its values.

    Attributes:
        title: What the table is about, in a line.
        columns: The columns.
        sections: Numbers of the rows before which a new section begins.
        caption: What one has to know to read it.
        keys: How many of the first columns say what a row is about.
        aside: Numbers of the rows that cannot be the best, since they know the truth.
    """

    title: str
    columns: Sequence[Column]
    sections: Sequence[int] = ()
    caption: str = ""
    keys: int = 1
    aside: Collection[int] = ()

    def __post_init__(self) -> None:
        """Refuses columns of different lengths."""
        if len({len(column.values) for column in self.columns}) > 1:
            raise ValueError(f"The columns of {self.title!r} have different lengths.")

    @classmethod
    def of_text(
        cls,
        title: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        sections: Sequence[int] = (),
        caption: str = "",
    ) -> Table:
        """A table of texts, given row by row."""
        columns = [Column(name, [row[n] for row in rows]) for n, name in enumerate(header)]
        return cls(title, columns, sections, caption)

    @property
    def header(self) -> list[str]:
        """Titles of the columns."""
        return [column.title for column in self.columns]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The values as text, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    def markdown(self) -> str:
        """As Markdown, first column left, the others right; ends with a line feed."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [
            "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"
            for row in (self.header, rule, *self.rows)
        ]
        note = f"\n{self.caption}\n" if self.caption else ""
        return "\n".join(lines) + "\n" + note

    def html(self, id_: str) -> str:
        """As HTML that can be moved sideways within its frame, the best of each column in bold.

        The title gets the identifier ``id_``, which has to be unique in the page.
        """
        columns = [column for column in self.columns if set(column.cells) != {NOTHING}]
        titles, values = columns[: self.keys], columns[self.keys :]
        best = [column.best(self.aside) for column in values]
        head = "".join(_th("col", column.title) for column in titles)
        head += "".join(_th("col", column.title, "") for column in values)
        lines = []
        for row in range(len(self.rows)):
            begins = ' class="section"' if row in self.sections else ""
            names = "".join(_th("row", column.cells[row]) for column in titles)
            cells = (_td(c.cells[row], row in own) for c, own in zip(values, best, strict=True))
            lines.append(f"<tr{begins}>{names}{''.join(cells)}</tr>\n")
        note = f"{self.caption} Bold: the best of its column." if any(best) else self.caption
        return (
            f'<section class="scroll" tabindex="0" aria-labelledby="{id_}">\n<table>\n'
            f'<caption><span id="{id_}">{html.escape(self.title)}</span></caption>\n'
            f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{''.join(lines)}</tbody>\n"
            "</table>\n</section>\n"
            + (f'<p class="note">{html.escape(note.strip())}</p>\n' if note else "")
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Shows it in as many blocks as the width needs."""
        yield Text(self.title, style="italic")
        blocks = self._blocks(options.max_width)
        if max(self._room(block) for block in blocks) > options.max_width:
            yield from self._lists()
        else:
            yield from (self._shown(block, options.max_width) for block in blocks)
        if self.caption:
            yield Text(self.caption, style="dim")

    def _shown(self, block: Sequence[int], width: int) -> RichTable:
        """Some of the columns, their titles wrapped if they do not fit otherwise."""
        shown = RichTable()
        wide = self._room(block, wrapped=False) <= width
        for place in block:
            column = self.columns[place]
            numbers = place and any(row[place][:1] in "0123456789+-" for row in self.rows)
            shown.add_column(
                Text(column.title),
                justify="right" if numbers else "left",
                width=_width(column, wrapped=not wide),
            )
        for number, row in enumerate(self.rows):
            ends = number + 1 in self.sections
            shown.add_row(*(Text(row[place]) for place in block), end_section=ends)
        return shown

    def _lists(self) -> Iterator[Text]:
        """A list of its values for each row."""
        for row in self.rows:
            for name, text in zip(self.header, row, strict=True):
                yield Text(f"{name}: {text}")
            yield Text()

    def _blocks(self, width: int) -> list[list[int]]:
        """Which columns are shown together; all blocks begin with the keys."""
        keys = list(range(min(self.keys, len(self.columns))))
        blocks = [list(keys)]
        for place in range(len(keys), len(self.columns)):
            if len(blocks[-1]) > len(keys) and self._room([*blocks[-1], place]) > width:
                blocks.append(list(keys))
            blocks[-1].append(place)
        return blocks

    def _room(self, block: Sequence[int], wrapped: bool = True) -> int:
        """Characters that some of the columns need: of each its text, two spaces and a line."""
        return 1 + sum(_width(self.columns[place], wrapped) + 3 for place in block)


def _th(scope: str, text: str, kind: str = ' class="key"') -> str:
    return f'<th scope="{scope}"{kind}>{html.escape(text)}</th>'


def _td(text: str, best: bool) -> str:
    # The sign that is as wide as the plus.
    text = re.sub(r"^-(?=\d)", "\N{MINUS SIGN}", text)
    own, bracket, other = html.escape(text).partition("(")
    value, sign, interval = own.rstrip().partition(" ± ")
    value = f"<strong>{value}</strong>" if best else value
    interval = f"<small> ± {interval}</small>" if sign else ""
    other = f'<small class="beside"> ({other}</small>' if bracket else ""
    return f"<td{_BEST if best else ''}>{value}{interval}{other}</td>"


def _width(column: Column, wrapped: bool = True) -> int:
    """Characters that a column needs; only its title may be wrapped."""
    titles = column.title.split() if wrapped else [column.title]
    return max(map(len, (*column.cells, *titles)), default=0)


def cell(value: Value, form: str = "", half_width: float | None = None) -> str:
    """A value as text, with its interval if there is one.

    >>> cell(32.127, ".2f"), cell(0.0512, "+.3f", 0.0123), cell(0.716, ".0%", 0.0312)
    ('32.13', '+0.051 ± 0.012', '72 ± 3 %')
    >>> cell(None), cell(float("nan"), ".3f"), cell("even"), cell(1234, ",")
    ('–', '–', 'even', '1,234')
    """
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return NOTHING
    text = format(value, form)
    if half_width is not None and not math.isnan(half_width):
        text = f"{text.rstrip('%')} ± {format(half_width, form.lstrip('+'))}"
    return text.replace("%", " %")


def terminal() -> Console:
    """The standard output; where it is no terminal, as wide as ``COLUMNS`` says, or 160."""
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isdecimal() and int(given) else WIDE
    return Console(width=None if sys.stdout.isatty() else width)


def say_written(console: Console, *paths: Path) -> None:
    """Names the files that were written."""
    for path in paths:
        console.print(f"written: {path}", soft_wrap=True, highlight=False, markup=False)


def section_starts(names: Sequence[object]) -> list[int]:
    """Numbers of the rows whose name differs from that of the row before.

    >>> section_starts(["a", "a", "b"])
    [2]
    """
    return [row for row in range(1, len(names)) if names[row] != names[row - 1]]


def insert_into(path: Path, table: Table) -> None:
    """Replaces what stands between the two marker lines of a Markdown file; see `check_markers`."""
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
