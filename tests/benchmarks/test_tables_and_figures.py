"""Tables as text, and the figures' geometry."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from facehall_env.benchmarks import plots, tables
from facehall_env.benchmarks.tables import Column, Table
from facehall_env.errors import ConfigurationError

TABLE = Table.of_text("Title", ("name", "value"), [("a", "1"), ("b", "2")], caption="Note.")
WIDE = Table(
    "A wide table",
    [
        Column("agent", ["random", "oracle (first 200)"]),
        Column("T", [5, 25]),
        *(Column(f"minus baseline {n}", [n + 0.125, None], [0.5, None], "+.3f") for n in range(9)),
    ],
    [1],
    "± is the half width of the 95 % interval over images; differences are paired.",
    keys=2,
)


def test_markdown() -> None:
    assert TABLE.markdown() == ("| name | value |\n| --- | ---: |\n| a | 1 |\n| b | 2 |\n\nNote.\n")


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_nothing_is_cut_off_at_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(WIDE)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, printed.splitlines())) <= width
    assert "…" not in printed
    words = " ".join(printed.replace("│", " ").replace("┃", " ").split())
    for text in ("oracle (first 200)", *(f"+{n}.125 ± 0.500" for n in range(9))):
        assert text in words
    # Each block says which row it is about.
    blocks = printed.count("┏")
    assert blocks == {24: 0, 40: 0, 80: 4, 200: 1}[width] or blocks == words.count("oracle")


def test_columns_as_text() -> None:
    column = Column("ms", [1234.5, None, 2.0], [1.0, None, None], ",.1f", "lower")
    assert column.cells == ["1,234.5 ± 1.0", "–", "2.0"]
    with pytest.raises(ValueError, match="different lengths"):
        Table("Title", [Column("a", [1.0]), Column("b", [1.0, 2.0])])


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"a\n{tables.START}\nold\n{tables.END}\nz\n", encoding="utf-8")
    for _ in range(2):
        tables.insert_into(path, TABLE)
        expected = f"a\n{tables.START}\n{TABLE.markdown()}{tables.END}\nz\n"
        assert path.read_text("utf-8") == expected


@pytest.mark.parametrize("text", ["", "no table", f"{tables.END} {tables.START}"])
def test_a_file_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="put them where the table should stand"):
        tables.insert_into(path, TABLE)
    assert path.read_text("utf-8") == text


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(0.01, 10))
def test_labels_are_spread_in_order_around_their_values(values: list[float], gap: float) -> None:
    placed = plots.spread(values, gap)
    order = np.argsort(placed)
    assert (np.diff(np.array(placed)[order]) > gap * 0.999 - 1e-9).all()
    assert (np.diff(np.array(values)[order]) >= 0).all()
    assert np.mean(placed) == pytest.approx(np.mean(values), abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), unique=True, min_size=1, max_size=9))
def test_labels_with_room_stay(values: list[int]) -> None:
    assert plots.spread(values, 0.9) == pytest.approx(values)


def test_curves_have_the_colours_of_their_agents(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    curves = {
        "bicubic": np.array([30.0, 30.0, 30.0]),
        "rl": np.array([30.0, 31.0, 32.0]),
        "oracle": np.array([30.0, 32.0, 33.0]),
    }
    plots.plot_curves(curves, path, "title")
    picture = np.asarray(Image.open(path).convert("RGB"))
    middle = picture.shape[1] // 2
    for name in ("rl", "oracle"):
        colour = tuple(bytes.fromhex(plots.COLOURS[name][1:]))
        rows, columns = np.nonzero((picture == colour).all(2))
        # The curve rises to the right, where rows are smaller.
        assert rows[columns < middle].mean() > rows[columns > middle].mean()
