"""Tables of the report: numbers with their intervals, the best of each column marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from facehall_env.benchmarks.tables import NOTHING, number

Values = Sequence[float | None]


@dataclass(frozen=True)
class Column:
    """Numbers of one kind.

    Attributes:
        title: Above them.
        values: One for each row; None where there is none.
        form: How they are written, as in `format`.
        half_widths: Of their intervals, if they have some.
        better: Which are good ones; "neither" marks none.
        beside: What others have there, as text; empty where they have nothing.
    """

    title: str
    values: Values
    form: str = ".2f"
    half_widths: Values = ()
    better: Literal["higher", "lower", "neither"] = "neither"
    beside: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """A number as text.

    Attributes:
        text: The number.
        interval: Half width of its interval; empty if it has none.
        best: Whether no other number of its column that may be is better.
        beside: What others have there.
    """

    text: str
    interval: str = ""
    best: bool = False
    beside: str = ""


@dataclass(frozen=True)
class Line:
    """A row: its name, what is to be said of it, and its cells."""

    name: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: What it is about.
        corner: Title of the column of names.
        header: Titles of the other columns.
        lines: The rows.
        note: What one has to know to read it.
    """

    caption: str
    corner: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""

    @property
    def marks(self) -> bool:
        """Whether some number is marked as the best."""
        return any(cell.best for line in self.lines for cell in line.cells)


def grid(
    caption: str,
    corner: str,
    names: Sequence[str],
    columns: Sequence[Column],
    *,
    notes: Sequence[str] = (),
    competes: Sequence[bool] = (),
    note: str = "",
) -> Grid:
    """Builds a table from its columns.

    Args:
        caption: What it is about.
        corner: Title of the column of names.
        names: Of the rows.
        columns: As many numbers each as there are names.
        notes: What is to be said of each row, if anything.
        competes: Whether each row can be the best; all can by default.
        note: What one has to know to read the table.

    >>> lower = Column("ms", [3.0, 1.0, None], ".0f", better="lower")
    >>> [line.cells[0].best for line in grid("", "", "abc", [lower]).lines]
    [False, True, False]
    """
    columns = [column for column in columns if any((*column.beside, *map(_there, column.values)))]
    cells = [_cells(column, competes or [True] * len(names)) for column in columns]
    lines = [
        Line(name, own, tuple(row))
        for name, own, *row in zip(names, notes or [""] * len(names), *cells, strict=True)
    ]
    return Grid(caption, corner, tuple(column.title for column in columns), tuple(lines), note)


def _cells(column: Column, competes: Sequence[bool]) -> list[Cell]:
    texts = [written(value, column.form) for value in column.values]
    half_widths = column.half_widths or [None] * len(texts)
    intervals = [written(half, column.form.lstrip("+")) for half in half_widths]
    best = _best(column, competes)
    return [
        # What reads the same is as good: the digits that are not shown mean nothing.
        Cell(text, "" if NOTHING in (text, interval) else interval, able and text == best, beside)
        for text, interval, able, beside in zip(
            texts, intervals, competes, column.beside or [""] * len(texts), strict=True
        )
    ]


def _there(value: float | None) -> bool:
    return value is not None


def _best(column: Column, competes: Sequence[bool]) -> str | None:
    """The best number as text, if there are at least two to choose from."""
    pairs = zip(column.values, competes, strict=True)
    values = [value for value, able in pairs if able and value is not None]
    if column.better == "neither" or len(values) < 2:
        return None
    return written((max if column.better == "higher" else min)(values), column.form)


def written(value: float | None, form: str) -> str:
    r"""A number as the report writes it, or a dash where there is none.

    >>> written(0.716, ".0%"), written(-0.25, "+.2f"), written(1234567, ",.0f"), written(None, "d")
    ('72\xa0%', '−0.25', '1,234,567', '–')
    """
    # Spaces that do not break, and the sign that is as wide as the plus.
    return number(value, form).replace("%", "\N{NO-BREAK SPACE}%").replace("-", "\N{MINUS SIGN}")
